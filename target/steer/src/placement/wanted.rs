//! What an operator may ask for.

use crate::topology::CpuList;
use std::fmt;
use std::net::IpAddr;

/// One item of a list of cores, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreItem {
    /// One CPU.
    Cpu(u16),
    /// All CPUs from the first to the last.
    Range(u16, u16),
    /// One thread of each physical core of a NUMA node.
    Node(u16),
}

impl fmt::Display for CoreItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(cpu) => write!(f, "{cpu}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Node(node) => write!(f, "numa{node}"),
        }
    }
}

/// What NUMA nodes mean for cores and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Numa {
    /// Cores of the network cards' node first; each shard's memory on its own node.
    #[default]
    Auto,
    /// Nodes mean nothing: cores in the order of their numbers, memory by the policy that the process was started
    /// with.
    Off,
    /// As `Auto`, and only cores of these nodes.
    Nodes(CpuList),
}

impl Numa {
    /// Whether cores of this node may be used.
    #[must_use]
    pub fn allows(&self, node: u16) -> bool {
        match self {
            Self::Nodes(nodes) => nodes.contains(node),
            Self::Auto | Self::Off => true,
        }
    }
}

/// Everything that decides a placement, besides the machine.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The cores with a shard each; none for `auto`.
    pub cores: &'a [CoreItem],
    /// The control thread's core.
    pub control: Option<u16>,
    /// What nodes mean.
    pub numa: &'a Numa,
    /// The addresses listened on: they tell which network cards matter.
    pub listen: &'a [IpAddr],
}
