//! Which shard's listener gets a new connection: two steps of the steering ladder.
//!
//! ```text
//!   reuseport by CPU   an sk_reuseport program gives each SYN to the shard on whose CPU it was processed
//!        │ the kernel refuses (no CAP_BPF)
//!        ▼
//!   plain reuseport    the kernel spreads connections over the listeners by a hash
//! ```
//!
//! The program lives with the listeners, not with what loaded it: it stays attached while one of them is open, and is gone
//! with the last one, however the process ended.

mod error;
mod group;

pub use error::SteerError;

use group::Group;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How new connections find their shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// There is one shard, so there is nothing to choose.
    #[default]
    OneShard,
    /// By the kernel's own hash (SO_REUSEPORT alone).
    PlainReuseport,
    /// By the CPU that processed the SYN, through an sk_reuseport program.
    ReuseportByCpu,
}

/// One address, with a listening socket of each shard in the order of the shards' numbers. The sockets share the address
/// by SO_REUSEPORT, and listen already.
#[derive(Clone, Copy, Debug)]
pub struct Portal<'a> {
    /// The address.
    pub address: SocketAddr,
    /// The sockets.
    pub listeners: &'a [BorrowedFd<'a>],
}

/// Connections that the program has placed, since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// To the shard of the CPU that processed their SYN.
    pub by_cpu: u64,
    /// By a hash, since that CPU has no shard.
    pub by_hash: u64,
    /// By the kernel, since the chosen shard does not listen any more.
    pub by_kernel: u64,
}

/// What steering does for one portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortalReport {
    /// The address.
    pub address: SocketAddr,
    /// The kernel's number of the program (`bpftool prog show id N`).
    pub program_id: u32,
    /// What it did; `None` when the kernel does not say.
    pub chosen: Option<Chosen>,
}

/// How new connections find their shard, and what keeps it so.
#[derive(Debug, Default)]
pub struct Steering {
    step: Step,
    reason: String,
    /// Taken by whoever asks for a report or ends it, never by a shard.
    groups: Mutex<Vec<Group>>,
}

impl Steering {
    /// Nothing to choose.
    #[must_use]
    pub fn one_shard() -> Self {
        Self { reason: "there is one shard".to_owned(), ..Self::default() }
    }

    /// The kernel's hash chooses. The reason is for the operator.
    #[must_use]
    pub fn plain(reason: impl Into<String>) -> Self {
        Self { step: Step::PlainReuseport, reason: reason.into(), ..Self::default() }
    }

    /// Attaches the program to every portal. `cores` are the CPU numbers of the shards in the order of their numbers.
    ///
    /// # Errors
    /// What the kernel refused and why; nothing is left attached then.
    pub fn by_cpu(cores: &[u16], portals: &[Portal<'_>]) -> Result<Self, SteerError> {
        // When one fails, those before it are dropped, and that detaches them.
        let groups =
            portals.iter().map(|portal| Group::attach(cores, portal)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { step: Step::ReuseportByCpu, reason: String::new(), groups: Mutex::new(groups) })
    }

    /// The step of the ladder.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Why it is not a better one; empty when it is the best.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What it did so far, by portal; empty without a program.
    #[must_use]
    pub fn portals(&self) -> Vec<PortalReport> {
        let report = |group: &Group| PortalReport {
            address: group.address(),
            program_id: group.program_id(),
            chosen: group.chosen(),
        };
        self.groups().iter().map(report).collect()
    }

    /// Takes the programs off the listeners, which it keeps open until then: call it before listeners are closed. The
    /// counts can be read on.
    ///
    /// # Errors
    /// What the kernel said first; the others are taken off all the same.
    pub fn detach(&self) -> Result<(), SteerError> {
        let results: Vec<_> = self.groups().iter_mut().map(Group::detach).collect();
        results.into_iter().collect()
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Group>> {
        // The groups are right at any moment, so one who panicked with them has broken nothing.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the kernel has a program of this number, as [`PortalReport::program_id`] gives it. Takes CAP_SYS_ADMIN.
///
/// # Errors
/// What the kernel refused.
pub fn is_loaded(program_id: u32) -> Result<bool, SteerError> {
    for program in aya::programs::loaded_programs() {
        match program {
            Ok(program) if program.id() == program_id => return Ok(true),
            Ok(_) => {}
            Err(error) => {
                let error = SteerError::new("cannot list the kernel's programs", &error);
                // One that went while we looked was not worth a look.
                if !error.is_gone() {
                    return Err(error);
                }
            }
        }
    }
    Ok(false)
}
