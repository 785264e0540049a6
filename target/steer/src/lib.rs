//! Where things run, and how each connection gets there.
//!
//! [`topology`] reads what the machine is made of, [`placement`] decides which core each shard gets and says why,
//! [`reuseport`] has the kernel give each connection to the shard of the core that it came in on.
//! [`irq`] takes network cards' interrupts to those cores and back.

#![forbid(unsafe_code)]

pub mod irq;
pub mod placement;
pub mod reuseport;
pub mod topology;
