//! Network cards: their node, their queues, and the interrupts of those.

use super::CpuList;
use super::files::{Root, names, numbered, text};
use serde::Serialize;
use std::path::{Path, PathBuf};

const INTERFACES: &str = "sys/class/net";
/// How many interfaces may lie on top of one another (VLAN on bond on bridge ...).
const UPPERS_DEEP: usize = 4;

/// A network card: an interface with a device behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// The interface's name.
    pub name: String,
    /// Whether it is up and has a link.
    pub up: bool,
    /// Its NUMA node; `None` when the platform does not say, as on most machines with one node.
    pub node: Option<u16>,
    /// Its driver; empty when unknown.
    pub driver: String,
    /// Receive queues.
    pub rx_queues: usize,
    /// Transmit queues.
    pub tx_queues: usize,
    /// Interfaces on top of it: bonds, bridges, VLANs.
    pub uppers: Vec<String>,
    /// Its interrupts, ascending.
    pub interrupts: Vec<Interrupt>,
}

/// One interrupt of a network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its number.
    pub irq: u32,
    /// What the driver calls it; empty when nobody handles it.
    pub name: String,
    /// The queue it is for; `None` when it is for something else, such as the link's state.
    pub queue: Option<Queue>,
    /// The CPUs that may handle it.
    pub affinity: CpuList,
    /// The CPUs that do.
    pub effective: CpuList,
}

/// A queue of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Queue {
    /// Its number.
    pub number: u16,
    /// What it carries.
    pub kind: QueueKind,
}

/// What a queue carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueKind {
    /// Received packets.
    Rx,
    /// Sent packets.
    Tx,
    /// Both.
    Both,
}

impl std::fmt::Display for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            QueueKind::Rx => "rx",
            QueueKind::Tx => "tx",
            QueueKind::Both => "rx+tx",
        };
        write!(f, "{kind} {}", self.number)
    }
}

/// Words in the names of queues' interrupts, as drivers choose them, and what the queue carries. The first that
/// occurs counts.
const WORDS: &[(&str, QueueKind)] = &[
    ("txrx", QueueKind::Both),
    ("rxtx", QueueKind::Both),
    ("tx-rx", QueueKind::Both),
    ("rx-tx", QueueKind::Both),
    ("comp", QueueKind::Both),
    ("queue", QueueKind::Both),
    ("ntfy", QueueKind::Both),
    ("-fp-", QueueKind::Both),
    ("mlx4-", QueueKind::Both),
    ("input", QueueKind::Rx),
    ("output", QueueKind::Tx),
    ("rx", QueueKind::Rx),
    ("tx", QueueKind::Tx),
];

impl Queue {
    /// Which queue an interrupt's name speaks of: `eth0-TxRx-3`, `mlx5_comp3@pci:0000:3b:00.0`, `virtio2-input.3`,
    /// `eth0 (queue 3)`, `eth0-3`. `None` for `virtio2-config`, `mlx5_async0@...` and the like.
    #[must_use]
    pub fn of_name(name: &str, nic: &str) -> Option<Self> {
        let own = name.split('@').next().unwrap_or(name).to_ascii_lowercase();
        let own = own.trim_end_matches(')');
        let digits = own.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (before, digits) = own.split_at(own.len() - digits);
        let number = digits.parse().ok()?;
        if before.strip_suffix('-').is_some_and(|before| before == nic.to_ascii_lowercase()) {
            return Some(Self { number, kind: QueueKind::Both });
        }
        let kind = WORDS.iter().find(|(word, _)| before.contains(word))?.1;
        Some(Self { number, kind })
    }

    /// Whether received packets come in by it.
    #[must_use]
    pub fn receives(self) -> bool {
        self.kind != QueueKind::Tx
    }
}

/// All network cards, by name.
pub(super) fn read(root: Root<'_>) -> Vec<Nic> {
    let one = |name: String| {
        let folder = root.path(INTERFACES).join(&name);
        let device = folder.join("device").canonicalize().ok()?;
        let queues = names(&folder.join("queues"));
        let mut nic = Nic {
            up: text(&folder.join("operstate")).is_some_and(|state| state == "up"),
            node: above(root, &device, |at| text(&at.join("numa_node"))).and_then(|node| node.parse().ok()),
            driver: driver(root, &device).unwrap_or_default(),
            rx_queues: numbered(&queues, "rx-").len(),
            tx_queues: numbered(&queues, "tx-").len(),
            uppers: uppers(root, &name, UPPERS_DEEP),
            interrupts: Vec::new(),
            name,
        };
        nic.interrupts = interrupts(root, &device, &nic.name);
        Some(nic)
    };
    root.names(INTERFACES).into_iter().filter_map(one).collect()
}

/// What a device or the closest one that it hangs on has: a virtio card's node and interrupts are its PCI device's.
fn above<T>(root: Root<'_>, device: &Path, find: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let top = root.path("sys/devices").canonicalize().ok()?;
    device.ancestors().take_while(|at| at.starts_with(&top) && *at != top).find_map(find)
}

/// The driver of the hardware: of virtio's own level it is only `virtio_net`, which says enough.
fn driver(root: Root<'_>, device: &Path) -> Option<String> {
    let link = above(root, device, |at| std::fs::read_link(at.join("driver")).ok())?;
    Some(link.file_name()?.to_str()?.to_owned())
}

fn uppers(root: Root<'_>, name: &str, deep: usize) -> Vec<String> {
    if deep == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in root.names(&format!("{INTERFACES}/{name}")) {
        if let Some(upper) = entry.strip_prefix("upper_") {
            found.push(upper.to_owned());
            found.extend(uppers(root, upper, deep - 1));
        }
    }
    found
}

fn interrupts(root: Root<'_>, device: &Path, nic: &str) -> Vec<Interrupt> {
    let of_device = |at: &Path| {
        let irqs: Vec<u32> =
            names(&at.join("msi_irqs")).iter().filter_map(|name| name.parse().ok()).collect();
        let wire = || text(&at.join("irq"))?.parse().ok().filter(|irq| *irq > 0).map(|irq| vec![irq]);
        Some(irqs).filter(|irqs| !irqs.is_empty()).or_else(wire)
    };
    let mut irqs = above(root, device, of_device).unwrap_or_default();
    irqs.sort_unstable();
    let mut all: Vec<Interrupt> = irqs.into_iter().filter_map(|irq| interrupt(root, irq, nic)).collect();
    // A card with one interrupt for everything, whatever it is called.
    if let [only] = all.as_mut_slice() {
        only.queue.get_or_insert(Queue { number: 0, kind: QueueKind::Both });
    }
    all
}

/// One interrupt; `None` when the kernel does not know of it (any more).
fn interrupt(root: Root<'_>, irq: u32, nic: &str) -> Option<Interrupt> {
    let folder: PathBuf = root.path(&format!("proc/irq/{irq}"));
    let list = |file: &str| text(&folder.join(file)).and_then(|text| CpuList::parse(&text));
    let affinity = list("smp_affinity_list")?;
    // Each handler has a folder of its name.
    let name = names(&folder).into_iter().find(|name| folder.join(name).is_dir()).unwrap_or_default();
    Some(Interrupt {
        irq,
        queue: Queue::of_name(&name, nic),
        name,
        effective: list("effective_affinity_list").unwrap_or_else(|| affinity.clone()),
        affinity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_known_by_their_interrupts_names() {
        use QueueKind::{Both, Rx, Tx};
        for (name, number, kind) in [
            ("eth0-TxRx-3", 3, Both),
            ("i40e-eth0-TxRx-11", 11, Both),
            ("iavf-eth0-TxRx-0", 0, Both),
            ("ena-Tx-Rx-7", 7, Both),
            ("eth0-Tx-Rx-7", 7, Both),
            ("mlx5_comp12@pci:0000:3b:00.0", 12, Both),
            ("gve-ntfy-blk4@pci:0000:00:04.0", 4, Both),
            ("virtio2-input.1", 1, Rx),
            ("virtio2-output.1", 1, Tx),
            ("eth0-rx-0", 0, Rx),
            ("eth0-tx-2", 2, Tx),
            ("eth0-fp-5", 5, Both),
            ("eth0 (queue 6)", 6, Both),
            ("eth0-2", 2, Both),
            ("eth0-rxtx-9", 9, Both),
            ("mlx4-3@0000:04:00.0", 3, Both),
        ] {
            assert_eq!(Queue::of_name(name, "eth0"), Some(Queue { number, kind }), "{name}");
        }
        for name in [
            "eth0",
            "virtio2-config",
            "mlx5_async0@pci:0000:3b:00.0",
            "ena-mgmnt@pci:0000:00:05.0",
            "ice-0000:17:00.0:misc",
            "",
        ] {
            assert_eq!(Queue::of_name(name, "eth0"), None, "{name}");
        }
    }
}
