//! What the machine is made of: sockets, nodes, cores, threads, network cards with their queues and interrupts, and
//! which CPUs this process may use.
//!
//! Everything is read from `/sys` and `/proc` below a root folder, so that the same code reads a copy of another
//! machine's files. Reading changes nothing.

mod cpu;
pub(crate) mod files;
mod list;
mod network;
mod nic;

pub use list::CpuList;
pub use network::Network;
pub use nic::{Interrupt, Nic, Queue, QueueKind};

use files::Root;
use serde::Serialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A machine, as one process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The NUMA nodes, ascending; none when the kernel knows of none.
    pub nodes: Vec<Node>,
    /// The CPUs that are present, ascending.
    pub cpus: Vec<Cpu>,
    /// The network cards, by name: what has a device behind it, not loopback, bridges and the like.
    pub nics: Vec<Nic>,
    /// Which of this host's networks is behind which interface.
    #[serde(skip)]
    pub networks: Vec<Network>,
    /// What keeps this process from using all CPUs.
    pub limits: Limits,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub node: u16,
    /// Its CPUs that are online.
    pub cpus: CpuList,
    /// Its memory in bytes; 0 for a node without any.
    pub memory_bytes: u64,
    /// How far each node is, by the nodes' order; 10 is itself.
    pub distances: Vec<u16>,
}

/// A logical CPU: one hardware thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: u16,
    /// Whether this process may use it.
    pub state: CpuState,
    /// Its socket; `None` when it is offline or the platform does not say.
    pub socket: Option<u16>,
    /// The number of its physical core within the socket; `None` as above.
    pub core: Option<u16>,
    /// Its NUMA node; `None` when it is offline.
    pub node: Option<u16>,
    /// The online threads of its physical core, itself among them.
    pub siblings: CpuList,
}

/// Whether this process may use a CPU, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuState {
    /// It may.
    Usable,
    /// It is switched off.
    Offline,
    /// The cgroup (container, slice) does not include it.
    OutsideCpuset,
    /// The process's affinity (taskset, CPUAffinity=) does not include it.
    OutsideAffinity,
    /// It is isolated (isolcpus=): used only when named.
    Isolated,
}

/// What keeps a process from using all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The affinity that the process was started with; `None` when it cannot be read.
    pub affinity: Option<CpuList>,
    /// What its cgroup allows; `None` without such a limit.
    pub cpuset: Option<CpuList>,
    /// CPUs that the kernel keeps free of everything that does not ask for them.
    pub isolated: CpuList,
}

/// The machine's CPUs cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell which CPUs there are: neither sys/devices/system/cpu/online nor proc/self/status below {} is \
     readable; mount /sys and /proc there, or give another folder",
    root.display()
)]
pub struct TopologyError {
    /// The root folder.
    pub root: PathBuf,
}

impl Topology {
    /// Reads the machine whose `sys` and `proc` are below this folder: `/` for this one.
    ///
    /// # Errors
    /// Neither `/sys` nor `/proc` says which CPUs there are. Everything else may be missing: a machine without NUMA is
    /// one node, one without `/sys` has cores of one thread and no network cards.
    pub fn read(root: &Path) -> Result<Self, TopologyError> {
        let root = Root(root);
        let limits = cpu::limits(root);
        let nodes = cpu::nodes(root);
        let cpus = cpu::cpus(root, &nodes, &limits)?;
        Ok(Self { nics: nic::read(root), networks: network::read(root), nodes, cpus, limits })
    }

    /// A CPU by its number.
    #[must_use]
    pub fn cpu(&self, number: u16) -> Option<&Cpu> {
        let at = self.cpus.binary_search_by_key(&number, |cpu| cpu.cpu).ok()?;
        self.cpus.get(at)
    }

    /// The CPUs that this process may use without asking for them by number.
    #[must_use]
    pub fn usable(&self) -> CpuList {
        self.cpus.iter().filter(|cpu| cpu.state == CpuState::Usable).map(|cpu| cpu.cpu).collect()
    }

    /// The node of a CPU; 0 where nothing is known.
    #[must_use]
    pub fn node_of(&self, cpu: u16) -> u16 {
        self.cpu(cpu).and_then(|cpu| cpu.node).unwrap_or(0)
    }

    /// Whether two CPUs are threads of one physical core.
    #[must_use]
    pub fn are_siblings(&self, a: u16, b: u16) -> bool {
        a != b && self.cpu(a).is_some_and(|cpu| cpu.siblings.contains(b))
    }

    /// The numbers of all nodes, ascending; node 0 when the kernel knows of none.
    #[must_use]
    pub fn node_numbers(&self) -> Vec<u16> {
        match self.nodes.is_empty() {
            true => vec![0],
            false => self.nodes.iter().map(|node| node.node).collect(),
        }
    }

    /// How far two nodes are from one another: 10 is the same one. Where nothing is said, other nodes are 20 away.
    #[must_use]
    pub fn distance(&self, from: u16, to: u16) -> u16 {
        let column = self.nodes.iter().position(|node| node.node == to);
        let row = self.nodes.iter().find(|node| node.node == from);
        let said = row.zip(column).and_then(|(row, column)| row.distances.get(column)).copied();
        said.unwrap_or(if from == to { 10 } else { 20 })
    }

    /// The node whose memory is nearest to a node's CPUs: itself, unless it has none.
    #[must_use]
    pub fn memory_node(&self, node: u16) -> u16 {
        let with_memory = self.nodes.iter().filter(|other| other.memory_bytes > 0).map(|other| other.node);
        with_memory.min_by_key(|other| (self.distance(node, *other), *other)).unwrap_or(node)
    }

    /// The network cards that carry connections to these addresses. An unspecified address means every card that is
    /// up; loopback means none.
    #[must_use]
    pub fn nics_of(&self, addresses: &[IpAddr]) -> Vec<&Nic> {
        let carries = |nic: &&Nic| {
            addresses.iter().any(|address| match address.is_unspecified() {
                true => nic.up,
                false => network::device_of(&self.networks, *address).is_some_and(|device| {
                    device == nic.name || nic.uppers.iter().any(|upper| upper == device)
                }),
            })
        };
        self.nics.iter().filter(carries).collect()
    }
}
