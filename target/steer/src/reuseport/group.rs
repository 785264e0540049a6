//! One portal: its listeners, one a shard, and the program that chooses among them.

use super::{Chosen, Portal, SteerError};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, ReusePortSockArray};
use aya::programs::SkReuseport;
use aya::{Ebpf, EbpfLoader};
use stampede_ebpf_common::reuseport as names;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Cargo builds this crate only when `scripts/guests` has built the program.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("STAMPEDE_REUSEPORT"));

/// A program attached to the listeners of one address.
pub(super) struct Group {
    address: SocketAddr,
    program_id: u32,
    /// The program's own counts; they stay readable when it is detached.
    chosen: PerCpuArray<MapData, u64>,
    /// One socket of the group, through which the program is taken off.
    handle: Option<OwnedFd>,
}

impl Group {
    /// Loads the program for one portal, tells it the shards' cores and sockets, and attaches it. `cores` are the CPU
    /// numbers of the shards, in their order, as the portal's listeners are.
    pub(super) fn attach(cores: &[u16], portal: &Portal<'_>) -> Result<Self, SteerError> {
        let mut program = load(cores)?;
        fill(&mut program, cores, portal)?;
        let at = |what: &'static str| {
            move |error: &(dyn std::error::Error + 'static)| SteerError::at(what, portal.address, error)
        };
        let missing = || SteerError::missing(names::PROGRAM);
        let choose: &mut SkReuseport = program
            .program_mut(names::PROGRAM)
            .ok_or_else(missing)?
            .try_into()
            .map_err(|error| at("cannot use the program")(&error))?;
        choose.load().map_err(|error| SteerError::new("the kernel refuses the steering program", &error))?;
        let program_id = choose.info().map_err(|error| at("cannot look at the program")(&error))?.id();
        let first = portal.listeners.first().ok_or_else(|| SteerError::missing(names::LISTENERS))?;
        let handle = first.try_clone_to_owned().map_err(|error| at("cannot keep a socket")(&error))?;
        choose.attach(first).map_err(|error| at("cannot attach the program to the listeners")(&error))?;
        let chosen = program.take_map(names::CHOSEN).ok_or_else(|| SteerError::missing(names::CHOSEN))?;
        let chosen = chosen.try_into().map_err(|error| at("cannot read the counts")(&error))?;
        Ok(Self { address: portal.address, program_id, chosen, handle: Some(handle) })
    }

    /// Takes the program off the listeners; the kernel's own hash chooses from then on. Once is enough.
    pub(super) fn detach(&mut self) -> Result<(), SteerError> {
        let Some(socket) = self.handle.take() else { return Ok(()) };
        SkReuseport::detach(&socket).map_err(|error| {
            SteerError::at("cannot detach the program from the listeners", self.address, &error)
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn program_id(&self) -> u32 {
        self.program_id
    }

    /// What the program counted, over all CPUs.
    pub(super) fn chosen(&self) -> Option<Chosen> {
        let count = |choice: names::Choice| -> Option<u64> {
            let by_cpu = self.chosen.get(&(choice as u32), 0).ok()?;
            Some(by_cpu.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)))
        };
        Some(Chosen {
            by_cpu: count(names::Choice::Cpu)?,
            by_hash: count(names::Choice::Hash)?,
            by_kernel: count(names::Choice::Kernel)?,
        })
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("address", &self.address).field("program_id", &self.program_id).finish()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The listeners end with the process, and the program with them; this is for whoever drops it before.
        let _ = self.detach();
    }
}

/// Creates the maps, as large as these shards need.
fn load(cores: &[u16]) -> Result<Ebpf, SteerError> {
    let shards = u32::try_from(cores.len()).unwrap_or(u32::MAX);
    let cpus = cores.iter().max().map_or(1, |core| u32::from(*core) + 1);
    EbpfLoader::new()
        .map_max_entries(names::LISTENERS, shards)
        .map_max_entries(names::SHARD_OF_CPU, cpus)
        .load(OBJECT)
        .map_err(|error| SteerError::new("cannot load the steering program", &error))
}

fn fill(program: &mut Ebpf, cores: &[u16], portal: &Portal<'_>) -> Result<(), SteerError> {
    let at = |error: MapError| SteerError::at("cannot tell the kernel the listeners", portal.address, &error);
    let mut listeners: ReusePortSockArray<_> = map(program, names::LISTENERS)?.try_into().map_err(at)?;
    for (shard, listener) in (0u32..).zip(portal.listeners) {
        listeners.set(shard, listener, 0).map_err(at)?;
    }
    let mut shard_of_cpu: Array<_, u32> = map(program, names::SHARD_OF_CPU)?.try_into().map_err(at)?;
    for (shard, core) in (0u16..).zip(cores) {
        shard_of_cpu.set(u32::from(*core), names::entry(Some(shard)), 0).map_err(at)?;
    }
    let mut shards: Array<_, u32> = map(program, names::SHARDS)?.try_into().map_err(at)?;
    shards.set(0, u32::try_from(cores.len()).unwrap_or(u32::MAX), 0).map_err(at)
}

/// A map of the program. It stays the program's own: a map that is taken out before the program is loaded would be closed.
fn map<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, SteerError> {
    program.map_mut(name).ok_or_else(|| SteerError::missing(name))
}
