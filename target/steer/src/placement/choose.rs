//! Choosing the CPUs.

use super::error::{PlacementError, Refusal};
use super::{ControlPlace, CoreItem, Numa, SHARDS_MAX, ShardPlace, Wanted, check_named};
use crate::topology::{CpuList, CpuState, Nic, Topology};
use std::collections::BTreeMap;

/// The shards' CPUs in the order of their numbers, each with the reason.
pub(super) fn choose(
    topology: &Topology,
    wanted: &Wanted<'_>,
    nics: &[&Nic],
) -> Result<Vec<(u16, String)>, PlacementError> {
    let by_rule = Rule::new(topology, wanted, nics);
    if wanted.cores.is_empty() {
        let mut chosen = by_rule.take(|_| true);
        chosen.truncate(SHARDS_MAX);
        return match chosen.is_empty() {
            true => Err(no_cpu(topology)),
            false => Ok(chosen),
        };
    }
    let mut chosen: Vec<(u16, String)> = Vec::new();
    for item in wanted.cores {
        match *item {
            CoreItem::Cpu(cpu) => add_listed(topology, wanted.numa, cpu, &mut chosen)?,
            CoreItem::Range(first, last) => {
                for cpu in first..=last {
                    add_listed(topology, wanted.numa, cpu, &mut chosen)?;
                }
            }
            CoreItem::Node(node) => add_node(topology, wanted, &by_rule, node, &mut chosen)?,
        }
    }
    Ok(chosen)
}

fn no_cpu(topology: &Topology) -> PlacementError {
    let limits = &topology.limits;
    let list = |list: &Option<CpuList>| list.as_ref().map_or("all".to_owned(), ToString::to_string);
    PlacementError::new(
        "cores",
        Refusal::NoCpu,
        format!(
            "no CPU is left: the affinity allows {}, the cgroup {}, and these have none in common that is online",
            list(&limits.affinity),
            list(&limits.cpuset)
        ),
        "widen one of them".to_owned(),
    )
}

fn add_listed(
    topology: &Topology,
    numa: &Numa,
    cpu: u16,
    chosen: &mut Vec<(u16, String)>,
) -> Result<(), PlacementError> {
    check_named("cores", cpu, topology)?;
    let node = topology.node_of(cpu);
    if !numa.allows(node) {
        let what = format!("CPU {cpu} is on NUMA node {node}, which `numa` leaves out");
        let help = "list cores of the nodes in `numa`, or add the node to it".to_owned();
        return Err(PlacementError::new("cores", Refusal::OtherNode, what, help));
    }
    if chosen.iter().any(|(other, _)| *other == cpu) {
        let what = format!("CPU {cpu} is listed twice");
        let help = "list each once; numaN already holds one CPU of each core of its node".to_owned();
        return Err(PlacementError::new("cores", Refusal::Twice, what, help));
    }
    let isolated = topology.cpu(cpu).is_some_and(|cpu| cpu.state == CpuState::Isolated);
    let why = if isolated { "listed; isolated by the kernel" } else { "listed" };
    chosen.push((cpu, why.to_owned()));
    Ok(())
}

fn add_node(
    topology: &Topology,
    wanted: &Wanted<'_>,
    by_rule: &Rule<'_>,
    node: u16,
    chosen: &mut Vec<(u16, String)>,
) -> Result<(), PlacementError> {
    if !wanted.numa.allows(node) {
        let what = format!("numa{node} is asked for, but `numa` leaves node {node} out");
        let help = "name the same nodes in both, or leave `numa` away".to_owned();
        return Err(PlacementError::new("cores", Refusal::OtherNode, what, help));
    }
    let cpus = by_rule.take(|cpu| topology.node_of(cpu) == node);
    if cpus.is_empty() {
        return Err(PlacementError::node("cores", node, topology));
    }
    for (cpu, why) in cpus {
        if !chosen.iter().any(|(other, _)| *other == cpu) {
            chosen.push((cpu, format!("numa{node}: {why}")));
        }
    }
    Ok(())
}

/// The rule of `auto` on one machine.
struct Rule<'a> {
    topology: &'a Topology,
    numa: &'a Numa,
    /// CPUs whose physical core is the control thread's.
    control: CpuList,
    /// Whether an operator named that core.
    control_named: bool,
    /// The nodes in the order in which their cores are taken.
    nodes: Vec<u16>,
    /// The network cards on each node.
    nics: BTreeMap<u16, Vec<&'a str>>,
}

impl<'a> Rule<'a> {
    fn new(topology: &'a Topology, wanted: &Wanted<'a>, nics: &[&'a Nic]) -> Self {
        let mut by_node: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for nic in nics.iter().filter(|_| *wanted.numa != Numa::Off) {
            if let Some(node) = nic.node {
                by_node.entry(node).or_default().push(&nic.name);
            }
        }
        let named = wanted.control.or_else(|| topology.usable().first());
        let control = named.and_then(|cpu| topology.cpu(cpu)).map(|cpu| cpu.siblings.clone());
        Self {
            nodes: node_order(topology, &by_node),
            control: control.unwrap_or_default(),
            control_named: wanted.control.is_some(),
            nics: by_node,
            topology,
            numa: wanted.numa,
        }
    }

    /// One thread of each physical core with a CPU that `is_wanted`, in the rule's order.
    fn take(&self, is_wanted: impl Fn(u16) -> bool) -> Vec<(u16, String)> {
        let topology = self.topology;
        let usable = topology.usable();
        let first_thread = |cpu: &u16| {
            topology.cpu(*cpu).and_then(|c| c.siblings.and(&usable).first()).is_none_or(|first| first == *cpu)
        };
        let cores: Vec<u16> = usable.iter().filter(first_thread).collect();
        let wanted = |cpu: &&u16| is_wanted(**cpu) && self.numa.allows(topology.node_of(**cpu));
        let mut chosen: Vec<u16> = cores.iter().filter(wanted).copied().collect();
        // A core for the control thread: one that was named in any case, any other only if none would be left for it.
        if (self.control_named || chosen.len() == cores.len())
            && chosen.iter().any(|cpu| !self.control.contains(*cpu))
        {
            chosen.retain(|cpu| !self.control.contains(*cpu));
        }
        if *self.numa != Numa::Off {
            let rank = |cpu: &u16| self.nodes.iter().position(|node| *node == topology.node_of(*cpu));
            chosen.sort_by_key(|cpu| (rank(cpu), *cpu));
        }
        chosen.into_iter().map(|cpu| (cpu, self.why(cpu))).collect()
    }

    fn why(&self, cpu: u16) -> String {
        let threads = self.topology.cpu(cpu).map_or(1, |cpu| cpu.siblings.len());
        let core = if threads > 1 { "first usable thread of its core" } else { "a core of its own" };
        let node = self.topology.node_of(cpu);
        if self.topology.nodes.len() < 2 || *self.numa == Numa::Off {
            return core.to_owned();
        }
        match self.nics.get(&node) {
            Some(nics) => format!("{core}, on the node of {}", nics.join(", ")),
            None if self.nics.is_empty() => format!("{core}, on node {node}"),
            None => format!("{core}, on node {node}, farther from the network card"),
        }
    }
}

/// Nodes with network cards first, most cards first; then by the distance to the first of them.
fn node_order(topology: &Topology, nics: &BTreeMap<u16, Vec<&str>>) -> Vec<u16> {
    let count = |node: &u16| nics.get(node).map_or(0, Vec::len);
    let mut nodes = topology.node_numbers();
    let best = nodes.iter().copied().max_by_key(|node| (count(node), std::cmp::Reverse(*node))).unwrap_or(0);
    let from = if count(&best) > 0 { Some(best) } else { None };
    nodes.sort_by_key(|node| {
        let far = from.map_or(0, |from| topology.distance(from, *node));
        (std::cmp::Reverse(count(node)), far, *node)
    });
    nodes
}

/// The control thread's CPU: the one asked for, else one away from the shards' physical cores, else one away from the
/// shards.
pub(super) fn control(topology: &Topology, wanted: &Wanted<'_>, shards: &[ShardPlace]) -> ControlPlace {
    if let Some(core) = wanted.control {
        return ControlPlace { core: Some(core), why: "listed".to_owned() };
    }
    let usable = topology.usable();
    let free = |cpu: &u16| shards.iter().all(|shard| shard.core != *cpu);
    let apart = |cpu: &u16| free(cpu) && shards.iter().all(|shard| !topology.are_siblings(shard.core, *cpu));
    if let Some(core) = usable.iter().find(apart) {
        return ControlPlace { core: Some(core), why: "the first core without a shard".to_owned() };
    }
    if let Some(core) = usable.iter().find(free) {
        let why = "every physical core has a shard: the first thread without one".to_owned();
        return ControlPlace { core: Some(core), why };
    }
    ControlPlace { core: None, why: "every CPU has a shard: the scheduler decides".to_owned() }
}
