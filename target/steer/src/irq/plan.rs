//! Which interrupts go where.

use crate::placement::Placement;
use crate::topology::files::Root;
use crate::topology::{CpuList, Nic, Queue, Topology};
use serde::Serialize;
use std::path::Path;

/// One queue's interrupt, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The interrupt's number.
    pub irq: u32,
    /// What the driver calls it.
    pub name: String,
    /// Its network card.
    pub nic: String,
    /// Its queue.
    pub queue: Queue,
    /// The CPUs that may handle it now.
    pub from: CpuList,
    /// The CPU that should.
    pub to: u16,
    /// The shard on that CPU.
    pub shard: u16,
    /// Whether it goes there.
    pub state: StepState,
}

/// Whether an interrupt goes where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It did from the start.
    There,
    /// It does not.
    Elsewhere,
    /// It does since it was moved.
    Moved,
    /// It could not be moved: the kernel's reason.
    Refused(String),
}

/// Where each queue's interrupt of the cards that are listened on belongs: the queues of a card are dealt out to the
/// shards in turn, first to the shards on the card's node, in the order of both their numbers. A transmit queue
/// goes where the receive queue of its number goes. Other interrupts of a card stay where they are.
#[must_use]
pub fn plan(topology: &Topology, placement: &Placement) -> Vec<Step> {
    let used = |nic: &&Nic| placement.nics.contains(&nic.name);
    topology.nics.iter().filter(used).flat_map(|nic| of_nic(nic, placement)).collect()
}

fn of_nic(nic: &Nic, placement: &Placement) -> Vec<Step> {
    let far = |node: u16| nic.node.is_some_and(|of_nic| of_nic != node);
    let mut shards: Vec<_> = placement.shards.iter().collect();
    shards.sort_by_key(|shard| (far(shard.node), shard.shard));
    let mut numbers: Vec<u16> =
        nic.interrupts.iter().filter_map(|irq| irq.queue).map(|queue| queue.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut steps = Vec::new();
    for irq in &nic.interrupts {
        let Some(queue) = irq.queue else { continue };
        let turn = numbers.binary_search(&queue.number).unwrap_or(0);
        let Some(shard) = shards.get(turn % shards.len().max(1)) else { continue };
        let there = irq.affinity.len() == 1 && irq.affinity.contains(shard.core);
        steps.push(Step {
            irq: irq.irq,
            name: irq.name.clone(),
            nic: nic.name.clone(),
            queue,
            from: irq.affinity.clone(),
            to: shard.core,
            shard: shard.shard,
            state: if there { StepState::There } else { StepState::Elsewhere },
        });
    }
    steps
}

/// Whether a daemon runs that moves interrupts about by itself and would undo what is set: its name.
#[must_use]
pub fn balancer(root: &Path) -> Option<String> {
    let root = Root(root);
    let processes =
        root.names("proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.filter_map(|pid| root.text(&format!("proc/{pid}/comm"))).find(|comm| comm == "irqbalance")
}
