//! Which core each shard gets, which one the control thread, on which node their memory is, and why.
//!
//! The rule of `auto`, in this order:
//! 1. one thread of each physical core that this process may use, the lowest-numbered one;
//! 2. the nodes of the network cards that are listened on first, then the nodes nearest to them;
//! 3. the control thread's physical core is left out where there is another: the one that `control-core` names, or,
//!    when every physical core would get a shard, the one of the lowest-numbered CPU (the kernel's own work tends to
//!    be there).
//!
//! `numaN` in a list stands for what this rule gives for the node alone. CPUs that are listed by number are taken as
//! they are.

mod choose;
mod error;
mod memory;
mod wanted;
mod warnings;

pub use error::{PlacementError, Refusal};
pub use memory::stray_memory;
pub use wanted::{CoreItem, Numa, Wanted};
pub use warnings::{Warning, WarningKind};

use crate::topology::{CpuState, Topology};
use serde::Serialize;

/// The most shards that one process runs.
pub const SHARDS_MAX: usize = 256;

/// Where everything goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The shards, by number.
    pub shards: Vec<ShardPlace>,
    /// The control thread.
    pub control: ControlPlace,
    /// The network cards that are listened on.
    pub nics: Vec<String>,
    /// What is possible but unwise.
    pub warnings: Vec<Warning>,
}

/// Where a shard goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardPlace {
    /// Its number.
    pub shard: u16,
    /// Its CPU.
    pub core: u16,
    /// That CPU's node.
    pub node: u16,
    /// The node that its memory is taken from; `None` leaves that to the policy the process was started with.
    pub memory_node: Option<u16>,
    /// Why there.
    pub why: String,
}

/// Where the control thread goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlPlace {
    /// Its CPU; `None` leaves it to the scheduler.
    pub core: Option<u16>,
    /// Why there.
    pub why: String,
}

impl Placement {
    /// The shards' CPUs, by shard.
    #[must_use]
    pub fn cores(&self) -> Vec<u16> {
        self.shards.iter().map(|shard| shard.core).collect()
    }
}

/// Places shards and control thread on a machine.
///
/// # Errors
/// What was asked for cannot be; see [`Refusal`].
pub fn place(topology: &Topology, wanted: &Wanted<'_>) -> Result<Placement, PlacementError> {
    check_control(topology, wanted)?;
    check_nodes(topology, wanted.numa)?;
    let nics = topology.nics_of(wanted.listen);
    let chosen = choose::choose(topology, wanted, &nics)?;
    if chosen.len() > SHARDS_MAX {
        return Err(PlacementError::new(
            "cores",
            Refusal::TooMany,
            format!("{} cores are too many", chosen.len()),
            format!("list at most {SHARDS_MAX}"),
        ));
    }
    let has_memory_rule = *wanted.numa != Numa::Off && topology.nodes.len() > 1;
    let shard = |(shard, (core, why)): (u16, (u16, String))| {
        let node = topology.node_of(core);
        let memory_node = has_memory_rule.then(|| topology.memory_node(node));
        ShardPlace { shard, core, node, memory_node, why }
    };
    let shards: Vec<ShardPlace> = (0..).zip(chosen).map(shard).collect();
    let control = choose::control(topology, wanted, &shards);
    let warnings = warnings::of(topology, wanted, &nics, &shards, &control);
    Ok(Placement { shards, control, nics: nics.iter().map(|nic| nic.name.clone()).collect(), warnings })
}

/// A CPU that an operator named must be there and usable. One that the kernel keeps isolated is: naming it asks for it.
fn check_named(setting: &'static str, cpu: u16, topology: &Topology) -> Result<(), PlacementError> {
    match topology.cpu(cpu).map(|cpu| cpu.state) {
        Some(CpuState::Usable | CpuState::Isolated) => Ok(()),
        Some(state) => Err(PlacementError::unusable(setting, cpu, state, topology)),
        None => Err(PlacementError::no_such_cpu(setting, cpu, topology)),
    }
}

fn check_control(topology: &Topology, wanted: &Wanted<'_>) -> Result<(), PlacementError> {
    wanted.control.map_or(Ok(()), |cpu| check_named("control-core", cpu, topology))
}

fn check_nodes(topology: &Topology, numa: &Numa) -> Result<(), PlacementError> {
    let Numa::Nodes(nodes) = numa else { return Ok(()) };
    for node in nodes.iter() {
        let used = |cpu: u16| topology.node_of(cpu) == node;
        if !topology.node_numbers().contains(&node) || !topology.usable().iter().any(used) {
            return Err(PlacementError::node("numa", node, topology));
        }
    }
    Ok(())
}
