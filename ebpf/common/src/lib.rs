//! What the eBPF programs and their loader (`target/steer`) agree on: the names of programs and maps, what a map's values
//! mean, and the rule by which a shard is chosen. No std, no I/O: the kernel's side and ours compile the same source.

#![no_std]
#![forbid(unsafe_code)]

pub mod reuseport;
