//! CPUs, their cores and nodes, and which of them this process may use.

use super::files::{Root, numbered};
use super::{Cpu, CpuList, CpuState, Limits, Node, TopologyError};

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// Which CPUs this process may use, by what limits it.
pub(super) fn limits(root: Root<'_>) -> Limits {
    let status = root.text("proc/self/status").unwrap_or_default();
    let affinity = status.lines().find_map(|line| CpuList::parse(line.strip_prefix("Cpus_allowed_list:")?));
    let isolated = root.list(&format!("{CPUS}/isolated")).unwrap_or_default();
    Limits { affinity, cpuset: cpuset(root), isolated }
}

/// What the cgroup allows: its own file or that of the closest group above it which has one. Version 2 first, then
/// version 1; a container often sees its own group as the top one.
fn cpuset(root: Root<'_>) -> Option<CpuList> {
    let groups = root.text("proc/self/cgroup")?;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let found = match controllers.split(',').any(|controller| controller == "cpuset") {
            true => closest(root, "sys/fs/cgroup/cpuset", path, "cpuset.effective_cpus"),
            false if controllers.is_empty() => closest(root, "sys/fs/cgroup", path, "cpuset.cpus.effective")
                .or_else(|| closest(root, "sys/fs/cgroup/unified", path, "cpuset.cpus.effective")),
            false => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn closest(root: Root<'_>, mount: &str, path: &str, file: &str) -> Option<CpuList> {
    let mut path = path.trim_matches('/');
    loop {
        let folder = if path.is_empty() { mount.to_owned() } else { format!("{mount}/{path}") };
        if let Some(list) = root.list(&format!("{folder}/{file}")).filter(|list| !list.is_empty()) {
            return Some(list);
        }
        if path.is_empty() {
            return None;
        }
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

/// The NUMA nodes, ascending. A kernel without NUMA has none: then everything is on node 0.
pub(super) fn nodes(root: Root<'_>) -> Vec<Node> {
    let read = |node: u16| {
        let folder = format!("{NODES}/node{node}");
        let meminfo = root.text(&format!("{folder}/meminfo")).unwrap_or_default();
        let memory_kib = meminfo.lines().find_map(|line| {
            line.split_once("MemTotal:")?.1.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        let distances = root.text(&format!("{folder}/distance")).unwrap_or_default();
        Node {
            node,
            cpus: root.list(&format!("{folder}/cpulist")).unwrap_or_default(),
            memory_bytes: memory_kib.unwrap_or(0).saturating_mul(1024),
            distances: distances.split_whitespace().filter_map(|text| text.parse().ok()).collect(),
        }
    };
    numbered(&root.names(NODES), "node").into_iter().map(read).collect()
}

/// All CPUs that are present, ascending.
pub(super) fn cpus(root: Root<'_>, nodes: &[Node], limits: &Limits) -> Result<Vec<Cpu>, TopologyError> {
    let from_affinity = || limits.affinity.clone();
    let online = root.list(&format!("{CPUS}/online"));
    let online = online.or_else(from_affinity).filter(|list| !list.is_empty());
    let online = online.ok_or_else(|| TopologyError { root: root.0.to_owned() })?;
    let present = root.list(&format!("{CPUS}/present")).unwrap_or_default();
    let all: CpuList = present.iter().chain(online.iter()).collect();
    Ok(all.iter().map(|cpu| one(root, cpu, &online, nodes, limits)).collect())
}

fn one(root: Root<'_>, cpu: u16, online: &CpuList, nodes: &[Node], limits: &Limits) -> Cpu {
    let folder = format!("{CPUS}/cpu{cpu}/topology");
    // ARM writes -1 where it does not know, which is no u16.
    let number = |file: &str| root.number::<u16>(&format!("{folder}/{file}"));
    let siblings = ["thread_siblings_list", "core_cpus_list"]
        .iter()
        .find_map(|file| root.list(&format!("{folder}/{file}")))
        .filter(|list| list.contains(cpu));
    let node = nodes.iter().find(|node| node.cpus.contains(cpu)).map(|node| node.node);
    Cpu {
        cpu,
        state: state(cpu, online, limits),
        socket: number("physical_package_id"),
        core: number("core_id"),
        node: node.or_else(|| nodes.is_empty().then_some(0)),
        siblings: siblings.unwrap_or_else(|| std::iter::once(cpu).collect()),
    }
}

fn state(cpu: u16, online: &CpuList, limits: &Limits) -> CpuState {
    let outside = |list: &Option<CpuList>| list.as_ref().is_some_and(|list| !list.contains(cpu));
    if !online.contains(cpu) {
        CpuState::Offline
    } else if outside(&limits.cpuset) {
        CpuState::OutsideCpuset
    } else if outside(&limits.affinity) {
        // The kernel keeps isolated CPUs out of every process's affinity until the process asks for them.
        if limits.isolated.contains(cpu) { CpuState::Isolated } else { CpuState::OutsideAffinity }
    } else {
        CpuState::Usable
    }
}
