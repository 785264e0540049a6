//! Placements that cannot be: what, and what to do.

use crate::topology::{CpuState, Topology};

/// A placement that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}: {help}")]
pub struct PlacementError {
    /// The setting at fault, as the configuration calls it.
    pub setting: &'static str,
    /// Why it cannot be, for matching.
    pub refusal: Refusal,
    /// Why it cannot be, for people.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// Why a placement cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The machine has no such CPU.
    NoSuchCpu,
    /// The process may not use this CPU.
    Unusable(CpuState),
    /// A CPU is listed twice.
    Twice,
    /// The machine has no such node.
    NoSuchNode,
    /// The process may use no CPU of a node.
    EmptyNode,
    /// A CPU is not on the nodes that were asked for.
    OtherNode,
    /// More shards than one process runs.
    TooMany,
    /// The process may use no CPU at all.
    NoCpu,
}

impl PlacementError {
    pub(super) fn new(setting: &'static str, refusal: Refusal, what: String, help: String) -> Self {
        Self { setting, refusal, what, help }
    }

    /// The machine has no such CPU.
    pub(super) fn no_such_cpu(setting: &'static str, cpu: u16, topology: &Topology) -> Self {
        let what = format!("this machine has no CPU {cpu}");
        Self::new(setting, Refusal::NoSuchCpu, what, choose(topology))
    }

    /// The process may not use a CPU.
    pub(super) fn unusable(setting: &'static str, cpu: u16, state: CpuState, topology: &Topology) -> Self {
        let (what, remedy) = match state {
            CpuState::Offline => (
                format!("CPU {cpu} is offline"),
                format!("bring it up with `echo 1 > /sys/devices/system/cpu/cpu{cpu}/online`"),
            ),
            CpuState::OutsideCpuset => (
                format!("the cgroup of this process does not include CPU {cpu}"),
                "widen it (`--cpuset-cpus` of the container, AllowedCPUs= of the unit)".to_owned(),
            ),
            CpuState::OutsideAffinity | CpuState::Isolated | CpuState::Usable => (
                format!("this process was started without CPU {cpu} in its affinity"),
                "widen it (`taskset`, CPUAffinity= of the unit)".to_owned(),
            ),
        };
        Self::new(setting, Refusal::Unusable(state), what, format!("{remedy}, or {}", choose(topology)))
    }

    /// The machine has no such node, or none whose CPUs may be used.
    pub(super) fn node(setting: &'static str, node: u16, topology: &Topology) -> Self {
        let numbers = topology.node_numbers();
        let list: crate::topology::CpuList = numbers.iter().copied().collect();
        if !numbers.contains(&node) {
            let what = format!("this machine has no NUMA node {node}");
            return Self::new(setting, Refusal::NoSuchNode, what, format!("its nodes are {list}"));
        }
        let what = format!("this process may use no CPU of NUMA node {node}");
        Self::new(setting, Refusal::EmptyNode, what, choose(topology))
    }
}

fn choose(topology: &Topology) -> String {
    format!("choose among CPUs {}, which this process may use", topology.usable())
}
