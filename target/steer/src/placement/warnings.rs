//! Placements that are possible but unwise.

use super::{ControlPlace, ShardPlace, Wanted};
use crate::topology::{CpuList, Nic, Topology};
use serde::Serialize;

/// Something that is possible but unwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Which, for scripts.
    pub kind: WarningKind,
    /// Who is concerned, what it costs, and what to do.
    pub text: String,
}

/// Which unwise thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// Shards that are threads of one physical core.
    SmtSiblings,
    /// Shards on another node than the network card.
    FarFromNic,
    /// The control thread on a shard's CPU or physical core.
    ControlShares,
    /// Queue interrupts on CPUs without a shard.
    StrayInterrupts,
}

/// All of them.
pub(super) fn of(
    topology: &Topology,
    wanted: &Wanted<'_>,
    nics: &[&Nic],
    shards: &[ShardPlace],
    control: &ControlPlace,
) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut warn = |kind, text: Option<String>| all.extend(text.map(|text| Warning { kind, text }));
    warn(WarningKind::SmtSiblings, smt_siblings(topology, shards));
    if *wanted.numa != super::Numa::Off {
        for nic in nics {
            warn(WarningKind::FarFromNic, far_from(nic, shards));
        }
    }
    warn(WarningKind::ControlShares, control_shares(topology, shards, control));
    for nic in nics {
        warn(WarningKind::StrayInterrupts, stray_interrupts(nic, shards));
    }
    all
}

fn smt_siblings(topology: &Topology, shards: &[ShardPlace]) -> Option<String> {
    let cores: CpuList = shards.iter().map(|shard| shard.core).collect();
    let mut groups: Vec<CpuList> = Vec::new();
    for cpu in topology.cpus.iter().filter(|cpu| cores.contains(cpu.cpu)) {
        let group = cpu.siblings.and(&cores);
        if group.len() > 1 && !groups.contains(&group) {
            groups.push(group);
        }
    }
    let groups: Vec<String> = groups.iter().map(|group| format!("({group})")).collect();
    (!groups.is_empty()).then(|| {
        format!(
            "shards share physical cores: CPUs {}; each such shard gets about half a core. List one thread of each core",
            groups.join(" ")
        )
    })
}

fn far_from(nic: &Nic, shards: &[ShardPlace]) -> Option<String> {
    let node = nic.node?;
    let far: CpuList = shards.iter().filter(|shard| shard.node != node).map(|shard| shard.shard).collect();
    (!far.is_empty()).then(|| {
        format!(
            "shards {far} are not on node {node}, where {} is: their packets cross between nodes. `numa{node}` in \
             `cores` keeps to its node",
            nic.name
        )
    })
}

fn control_shares(topology: &Topology, shards: &[ShardPlace], control: &ControlPlace) -> Option<String> {
    let Some(core) = control.core else {
        return Some(
            "every CPU has a shard, so the control thread shares one: logins and status take time from it. Leave a \
             CPU out of `cores`"
                .to_owned(),
        );
    };
    let same = shards.iter().find(|shard| shard.core == core);
    let sibling = || shards.iter().find(|shard| topology.are_siblings(shard.core, core));
    match (same, sibling()) {
        (Some(shard), _) => Some(format!(
            "the control thread is on CPU {core}, as is shard {}: logins and status take time from it. Give \
             `control-core` a CPU without a shard",
            shard.shard
        )),
        (None, Some(shard)) => Some(format!(
            "the control thread's CPU {core} and shard {}'s CPU {} are threads of one physical core: they slow each \
             other down. Leave a physical core out of `cores`",
            shard.shard, shard.core
        )),
        (None, None) => None,
    }
}

fn stray_interrupts(nic: &Nic, shards: &[ShardPlace]) -> Option<String> {
    let receiving = |queue: &crate::topology::Queue| queue.receives();
    let mut queues = CpuList::default();
    let mut cpus = CpuList::default();
    for interrupt in &nic.interrupts {
        let Some(queue) = interrupt.queue.filter(receiving) else { continue };
        for cpu in interrupt.effective.iter().filter(|cpu| shards.iter().all(|shard| shard.core != *cpu)) {
            queues.insert(queue.number);
            cpus.insert(cpu);
        }
    }
    (!queues.is_empty()).then(|| {
        format!(
            "receive queues {queues} of {} interrupt CPUs {cpus}, which have no shard: their packets are handed over \
             between CPUs. `irq-affinity = \"set\"` moves them to the shards",
            nic.name
        )
    })
}
