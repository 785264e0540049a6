//! Sample machines: one short text each, expanded into the files that Linux shows of such a machine.
//!
//! ```text
//!   present 0-15                  CPUs that are there; `online`, `isolated`, `affinity` likewise, all of them unless said
//!   cgroup2 /a/b 0-2              the process's cgroup and its cpuset (or `cgroup1`)
//!   socket 0 node 0 threads 0-3 8-11     four cores of two threads each: CPUs 0 and 8 are the first
//!   node 0 memory 16G distances 10 20
//!   nic eth0 node 0 driver ice pci 0000:17:00.0 queues 4      `node -1`: the platform does not say
//!   nic eth0 virtio 2 ...         hangs on a virtio device below the PCI one
//!   irqs 100 eth0-TxRx-%d count 4 of eth0 affinity 0-15 effective 0,1,2,3     interrupt 100 + n, queue n
//!   irq 99 eth0 of eth0 affinity 0-15 effective 0
//!   upper eth0 bond0              bond0 lies on eth0
//!   route eth0 192.0.2.0/24       a network behind an interface
//! ```

use stampede_steer::topology::CpuList;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A sample machine's files.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

/// What all lines say together, before files are made of it.
#[derive(Default)]
struct Sheet {
    present: CpuList,
    online: Option<CpuList>,
    isolated: CpuList,
    affinity: Option<CpuList>,
    /// Socket, node, and the threads of each core.
    cores: Vec<(u16, u16, Vec<u16>)>,
}

impl Machine {
    /// Expands the sample of this name.
    pub(crate) fn sample(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap();
        let path = path.join("steer/tests/machines").join(format!("{name}.txt"));
        Self::expand(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Expands a text.
    pub(crate) fn expand(text: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        let mut sheet = Sheet::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            machine.line(&mut sheet, &words).unwrap_or_else(|| panic!("a sample's line: {line}"));
        }
        machine.cpus(&sheet);
        machine
    }

    /// Its root folder.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }

    /// Reads a file below the root.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap().trim_end().to_owned()
    }

    fn append(&self, path: &str, line: &str, heading: &str) {
        let before = fs::read_to_string(self.root().join(path)).unwrap_or_else(|_| format!("{heading}\n"));
        self.write(path, &format!("{before}{line}"));
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn line(&self, sheet: &mut Sheet, words: &[&str]) -> Option<()> {
        match words {
            ["present", list] => sheet.present = CpuList::parse(list)?,
            ["online", list] => sheet.online = Some(CpuList::parse(list)?),
            ["isolated", list] => sheet.isolated = CpuList::parse(list)?,
            ["affinity", list] => sheet.affinity = Some(CpuList::parse(list)?),
            ["cgroup2", path, list] => {
                self.write("proc/self/cgroup", &format!("0::{path}"));
                self.write(&format!("sys/fs/cgroup{path}/cpuset.cpus.effective"), list);
            }
            ["cgroup1", path, list] => {
                self.write("proc/self/cgroup", &format!("4:memory:/x\n3:cpuset:{path}\n0::/"));
                self.write(&format!("sys/fs/cgroup/cpuset{path}/cpuset.effective_cpus"), list);
            }
            ["socket", socket, "node", node, "threads", lists @ ..] => {
                let lists: Vec<CpuList> =
                    lists.iter().map(|list| CpuList::parse(list)).collect::<Option<_>>()?;
                for core in 0..lists.first()?.len() {
                    let threads = lists.iter().filter_map(|list| list.iter().nth(core)).collect();
                    sheet.cores.push((socket.parse().ok()?, node.parse().ok()?, threads));
                }
            }
            ["node", node, "memory", gib, "distances", distances @ ..] => {
                let kib = gib.strip_suffix('G')?.parse::<u64>().ok()? << 20;
                let folder = format!("sys/devices/system/node/node{node}");
                self.write(
                    &format!("{folder}/meminfo"),
                    &format!("Node {node} MemTotal:       {kib} kB\nNode {node} MemFree:        1024 kB"),
                );
                self.write(&format!("{folder}/distance"), &distances.join(" "));
                self.write(&format!("{folder}/cpulist"), "");
            }
            ["nic", name, rest @ ..] => self.nic(name, rest)?,
            [
                "irqs",
                first,
                pattern,
                "count",
                count,
                "of",
                nic,
                "affinity",
                affinity,
                "effective",
                effective,
            ] => {
                let effective = CpuList::parse(effective)?;
                for n in 0..count.parse::<u32>().ok()? {
                    let name = pattern.replace("%d", &n.to_string());
                    let cpu = effective.iter().nth(n as usize % effective.len())?;
                    self.interrupt(first.parse::<u32>().ok()? + n, &name, nic, affinity, &cpu.to_string());
                }
            }
            ["irq", number, name, "of", nic, "affinity", affinity, "effective", effective] => {
                self.interrupt(number.parse().ok()?, name, nic, affinity, effective);
            }
            ["upper", lower, upper] => {
                self.link(&format!("sys/class/net/{lower}/upper_{upper}"), &format!("../{upper}"));
                self.write(&format!("sys/class/net/{upper}/operstate"), "up");
            }
            ["route", device, network] => {
                let (address, bits) = network.split_once('/')?;
                let address = u32::from(address.parse::<std::net::Ipv4Addr>().ok()?).swap_bytes();
                let mask = (u32::MAX << (32 - bits.parse::<u32>().ok()?)).swap_bytes();
                let line = format!("{device}\t{address:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0");
                self.append("proc/net/route", &line, "Iface\tDestination\tGateway\tFlags\tMask");
            }
            _ => return None,
        }
        Some(())
    }

    fn nic(&self, name: &str, words: &[&str]) -> Option<()> {
        let value = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1));
        let pci = format!("sys/devices/pci0000:00/{}", value("pci")?);
        let device = value("virtio").map_or(pci.clone(), |number| format!("{pci}/virtio{number}"));
        self.write(&format!("{pci}/numa_node"), value("node")?);
        self.link(&format!("{device}/driver"), &format!("../../../bus/drivers/{}", value("driver")?));
        let folder = format!("{device}/net/{name}");
        self.write(&format!("{folder}/operstate"), if words.contains(&"down") { "down" } else { "up" });
        for queue in 0..value("queues")?.parse::<u16>().ok()? {
            self.write(&format!("{folder}/queues/rx-{queue}/rps_cpus"), "0");
            self.write(&format!("{folder}/queues/tx-{queue}/xps_cpus"), "0");
        }
        self.link(&format!("{folder}/device"), &format!("../../../{}", device.rsplit('/').next()?));
        self.link(
            &format!("sys/class/net/{name}"),
            &format!("../../{}", folder.strip_prefix("sys/").unwrap()),
        );
        Some(())
    }

    fn interrupt(&self, number: u32, name: &str, nic: &str, affinity: &str, effective: &str) {
        let device = self.root().join(format!("sys/class/net/{nic}/device")).canonicalize().unwrap();
        let has_parent = device.file_name().unwrap().to_str().unwrap().starts_with("virtio");
        let device = if has_parent { device.parent().unwrap().to_owned() } else { device };
        fs::create_dir_all(device.join("msi_irqs")).unwrap();
        fs::write(device.join("msi_irqs").join(number.to_string()), "msix\n").unwrap();
        let folder = format!("proc/irq/{number}");
        self.write(&format!("{folder}/smp_affinity_list"), affinity);
        self.write(&format!("{folder}/effective_affinity_list"), effective);
        fs::create_dir_all(self.root().join(&folder).join(name)).unwrap();
    }

    /// The CPUs' files, once everything about them is known.
    fn cpus(&self, sheet: &Sheet) {
        let cpus = "sys/devices/system/cpu";
        let online = sheet.online.clone().unwrap_or_else(|| sheet.present.clone());
        self.write(&format!("{cpus}/present"), &sheet.present.to_string());
        self.write(&format!("{cpus}/online"), &online.to_string());
        self.write(&format!("{cpus}/isolated"), &sheet.isolated.to_string());
        let affinity = sheet.affinity.clone().unwrap_or_else(|| sheet.present.clone());
        self.write(
            "proc/self/status",
            &format!("Name:\tstampede\nCpus_allowed:\tff\nCpus_allowed_list:\t{affinity}"),
        );
        for (id, (socket, node, threads)) in sheet.cores.iter().enumerate() {
            let siblings: CpuList = threads.iter().copied().filter(|cpu| online.contains(*cpu)).collect();
            for cpu in siblings.iter() {
                let folder = format!("{cpus}/cpu{cpu}/topology");
                self.write(&format!("{folder}/physical_package_id"), &socket.to_string());
                self.write(&format!("{folder}/core_id"), &id.to_string());
                self.write(&format!("{folder}/thread_siblings_list"), &siblings.to_string());
                let list = format!("sys/devices/system/node/node{node}/cpulist");
                if self.root().join(&list).exists() {
                    let mut of_node = CpuList::parse(&self.read(&list)).unwrap();
                    of_node.insert(cpu);
                    self.write(&list, &of_node.to_string());
                }
            }
        }
    }
}
