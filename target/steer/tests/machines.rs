//! Topologies and placements on sample machines, and properties of placements on all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod machine;

use machine::Machine;
use proptest::prelude::*;
use stampede_steer::placement::{
    CoreItem, Numa, Placement, PlacementError, Refusal, Wanted, WarningKind, place,
};
use stampede_steer::topology::{CpuList, CpuState, QueueKind, Topology};
use std::net::IpAddr;
use std::path::Path;

const SAMPLES: [&str; 6] = ["one-socket", "smt", "two-by-two", "big-128", "cpuset-3", "offline"];

fn read(name: &str) -> Topology {
    Topology::read(Machine::sample(name).root()).unwrap()
}

fn list(text: &str) -> CpuList {
    CpuList::parse(text).unwrap()
}

/// What is asked for, in the words of the command line.
struct Ask {
    cores: Vec<CoreItem>,
    control: Option<u16>,
    numa: Numa,
    listen: Vec<IpAddr>,
}

fn ask(cores: &[CoreItem]) -> Ask {
    Ask { cores: cores.to_vec(), control: None, numa: Numa::Auto, listen: vec!["192.0.2.1".parse().unwrap()] }
}

impl Ask {
    fn numa(mut self, nodes: &str) -> Self {
        self.numa = Numa::Nodes(list(nodes));
        self
    }

    fn control(mut self, core: u16) -> Self {
        self.control = Some(core);
        self
    }

    fn on(&self, topology: &Topology) -> Result<Placement, PlacementError> {
        let Self { cores, control, numa, listen } = self;
        place(topology, &Wanted { cores, control: *control, numa, listen })
    }

    fn cores_on(&self, topology: &Topology) -> Vec<u16> {
        self.on(topology).unwrap().cores()
    }

    fn refused_on(&self, topology: &Topology) -> (&'static str, Refusal) {
        let error = self.on(topology).unwrap_err();
        assert!(!error.what.is_empty() && !error.help.is_empty());
        (error.setting, error.refusal)
    }
}

fn kinds(placement: &Placement) -> Vec<WarningKind> {
    placement.warnings.iter().map(|warning| warning.kind).collect()
}

use CoreItem::{Cpu, Node, Range};

#[test]
fn one_socket() {
    let topology = read("one-socket");
    assert_eq!(topology.usable(), list("0-7"));
    assert!(topology.cpus.iter().all(|cpu| cpu.siblings.len() == 1 && cpu.socket == Some(0)));
    let nic = &topology.nics[0];
    assert_eq!((nic.name.as_str(), nic.up, nic.node, nic.driver.as_str()), ("eth0", true, None, "igb"));
    assert_eq!((nic.rx_queues, nic.tx_queues, nic.interrupts.len()), (4, 4, 5));
    assert_eq!(nic.interrupts[0].queue, None, "the link's");
    assert_eq!(nic.interrupts[4].queue.unwrap().number, 3);
    let placement = ask(&[]).on(&topology).unwrap();
    assert_eq!(placement.cores(), (1..8).collect::<Vec<_>>());
    assert_eq!(placement.control.core, Some(0));
    assert_eq!(placement.nics, ["eth0"]);
    assert_eq!(kinds(&placement), [WarningKind::StrayInterrupts], "queue 0 interrupts CPU 0");
    assert!(placement.shards.iter().all(|shard| shard.memory_node.is_none()), "one node: nothing to choose");
    assert_eq!(ask(&[]).control(5).cores_on(&topology), [0, 1, 2, 3, 4, 6, 7]);
    assert_eq!(ask(&[Cpu(7), Range(2, 3)]).cores_on(&topology), [7, 2, 3], "the order of the list");
    assert_eq!(ask(&[Node(0)]).cores_on(&topology), (1..8).collect::<Vec<_>>());
    assert_eq!(ask(&[Range(6, 9)]).refused_on(&topology), ("cores", Refusal::NoSuchCpu));
    assert_eq!(ask(&[Cpu(1), Range(0, 2)]).refused_on(&topology), ("cores", Refusal::Twice));
    assert_eq!(ask(&[Node(1)]).refused_on(&topology), ("cores", Refusal::NoSuchNode));
    assert_eq!(ask(&[]).control(8).refused_on(&topology), ("control-core", Refusal::NoSuchCpu));
    assert_eq!(ask(&[]).numa("0,3").refused_on(&topology), ("numa", Refusal::NoSuchNode));
}

#[test]
fn smt_gives_one_thread_of_each_core() {
    let topology = read("smt");
    assert_eq!(topology.cpu(1).unwrap().siblings, list("1,5"));
    let nic = &topology.nics[0];
    assert_eq!(nic.driver, "virtio_net");
    let queues: Vec<_> =
        nic.interrupts.iter().map(|irq| irq.queue.map(|queue| (queue.number, queue.kind))).collect();
    let (rx, tx) = (QueueKind::Rx, QueueKind::Tx);
    assert_eq!(queues, [None, Some((0, rx)), Some((0, tx)), Some((1, rx)), Some((1, tx))]);
    let placement = ask(&[]).on(&topology).unwrap();
    assert_eq!((placement.cores(), placement.control.core), (vec![1, 2, 3], Some(0)));
    assert!(placement.shards[0].why.contains("first usable thread"), "{placement:?}");
    let placement = ask(&[Range(0, 7)]).on(&topology).unwrap();
    assert_eq!(placement.cores().len(), 8);
    assert_eq!(kinds(&placement), [WarningKind::SmtSiblings, WarningKind::ControlShares]);
    assert!(placement.warnings[0].text.contains("(0,4) (1,5) (2,6) (3,7)"), "{placement:?}");
    assert_eq!(placement.control.core, None);
    let placement = ask(&[Range(0, 3)]).on(&topology).unwrap();
    assert_eq!(placement.control.core, Some(4), "a sibling is better than a shard's own thread");
    assert!(placement.warnings[0].text.contains("threads of one physical core"), "{placement:?}");
    let placement = ask(&[Cpu(1)]).control(1).on(&topology).unwrap();
    assert_eq!(kinds(&placement), [WarningKind::ControlShares, WarningKind::StrayInterrupts]);
    assert_eq!(ask(&[]).control(6).cores_on(&topology), [0, 1, 3], "CPU 6 is the second thread of core 2");
}

#[test]
fn two_sockets_of_two_nodes() {
    let topology = read("two-by-two");
    assert_eq!((topology.cpu(30).unwrap().socket, topology.node_of(30)), (Some(1), 3));
    assert_eq!((topology.distance(2, 3), topology.distance(2, 0)), (12, 32));
    let eth0 = topology.nics.iter().find(|nic| nic.name == "eth0").unwrap();
    assert_eq!((eth0.node, eth0.driver.as_str()), (Some(2), "mlx5_core"));
    assert_eq!(eth0.uppers, ["bond0", "bond0.7"]);
    let placement = ask(&[]).on(&topology).unwrap();
    assert_eq!(placement.nics, ["eth0"], "its address is on a VLAN of a bond of eth0");
    let nodes: Vec<u16> = placement.shards.iter().map(|shard| shard.node).collect();
    assert_eq!(
        nodes,
        [2, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0, 1, 1, 1, 1],
        "the card's node, its neighbour, the others"
    );
    assert_eq!(placement.cores(), [8, 9, 10, 11, 12, 13, 14, 15, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(placement.control.core, Some(0));
    assert!(placement.shards[0].why.contains("on the node of eth0"), "{placement:?}");
    assert!(placement.shards.iter().all(|shard| shard.memory_node == Some(shard.node)));
    assert_eq!(kinds(&placement), [WarningKind::FarFromNic, WarningKind::StrayInterrupts]);
    assert!(placement.warnings[0].text.contains("shards 4-14 are not on node 2"), "{placement:?}");
    let placement = ask(&[Node(2)]).on(&topology).unwrap();
    assert_eq!((placement.cores(), placement.control.core), (vec![8, 9, 10, 11], Some(0)));
    assert_eq!(
        kinds(&placement),
        [WarningKind::StrayInterrupts],
        "queues 4 to 7 interrupt the second threads"
    );
    assert!(placement.warnings[0].text.contains("queues 4-7 of eth0 interrupt CPUs 24-27"), "{placement:?}");
    assert_eq!(ask(&[Node(2), Cpu(12)]).cores_on(&topology), [8, 9, 10, 11, 12]);
    assert_eq!(ask(&[]).numa("1,3").cores_on(&topology), [12, 13, 14, 15, 4, 5, 6, 7], "nearest first");
    assert_eq!(ask(&[Cpu(0)]).numa("2").refused_on(&topology), ("cores", Refusal::OtherNode));
    assert_eq!(ask(&[Node(1)]).numa("2").refused_on(&topology), ("cores", Refusal::OtherNode));
    assert_eq!(ask(&[Node(1)]).control(20).cores_on(&topology), [5, 6, 7], "CPU 20 shares CPU 4's core");
    let mut off = ask(&[]);
    off.numa = Numa::Off;
    let placement = off.on(&topology).unwrap();
    assert_eq!(placement.cores(), (1..16).collect::<Vec<_>>());
    assert!(placement.shards.iter().all(|shard| shard.memory_node.is_none()));
    let mut everywhere = ask(&[]);
    everywhere.listen = vec!["0.0.0.0".parse().unwrap()];
    assert_eq!(everywhere.on(&topology).unwrap().nics, ["eth0"], "eth1 has no link");
    everywhere.listen = vec!["127.0.0.1".parse().unwrap(), "198.51.100.7".parse().unwrap()];
    let placement = everywhere.on(&topology).unwrap();
    assert_eq!((placement.nics, placement.shards[0].node), (vec!["eth1".to_owned()], 0));
}

#[test]
fn a_hundred_and_twenty_eight_cores() {
    let topology = read("big-128");
    assert_eq!((topology.cpus.len(), topology.usable().len()), (256, 256));
    let placement = ask(&[]).on(&topology).unwrap();
    assert_eq!(placement.shards.len(), 127);
    assert_eq!(placement.cores()[..64], (64..128).collect::<Vec<_>>()[..], "the card's node first");
    assert_eq!(placement.cores()[64..], (1..64).collect::<Vec<_>>()[..]);
    assert_eq!(kinds(&placement), [WarningKind::FarFromNic]);
    assert_eq!(placement.shards[100].memory_node, Some(0), "not the node that is memory only");
    let placement = ask(&[Node(1)]).on(&topology).unwrap();
    assert_eq!((placement.shards.len(), placement.warnings), (64, vec![]));
    assert_eq!(ask(&[Node(2)]).refused_on(&topology), ("cores", Refusal::EmptyNode));
    assert_eq!(ask(&[]).numa("2").refused_on(&topology), ("numa", Refusal::EmptyNode));
    assert_eq!(ask(&[Range(0, 255)]).on(&topology).unwrap().shards.len(), 256);
    assert_eq!(topology.memory_node(2), 2);
}

#[test]
fn a_node_without_memory_borrows_from_the_nearest() {
    let machine = Machine::expand(
        "present 0-2\nnode 0 memory 0G distances 10 30 20\nnode 1 memory 8G distances 30 10 20\n\
         node 2 memory 8G distances 20 20 10\nsocket 0 node 0 threads 0\nsocket 0 node 1 threads 1\n\
         socket 0 node 2 threads 2",
    );
    let topology = Topology::read(machine.root()).unwrap();
    let placement = ask(&[Range(0, 2)]).on(&topology).unwrap();
    let memory: Vec<_> = placement.shards.iter().map(|shard| shard.memory_node).collect();
    assert_eq!(memory, [Some(2), Some(1), Some(2)]);
}

#[test]
fn a_container_of_three_cpus() {
    let topology = read("cpuset-3");
    assert_eq!(topology.usable(), list("5-6,13"));
    assert_eq!(topology.cpu(0).unwrap().state, CpuState::OutsideCpuset);
    let placement = ask(&[]).on(&topology).unwrap();
    assert_eq!(
        (placement.cores(), placement.control.core),
        (vec![6], Some(5)),
        "two physical cores, one is control's"
    );
    let placement = ask(&[]).control(6).on(&topology).unwrap();
    assert_eq!((placement.cores(), placement.control.core), (vec![5], Some(6)));
    assert_eq!(kinds(&placement), [WarningKind::FarFromNic, WarningKind::StrayInterrupts]);
    assert_eq!(ask(&[Cpu(13), Cpu(5), Cpu(6)]).cores_on(&topology), [13, 5, 6]);
    let error = ask(&[Range(4, 6)]).on(&topology).unwrap_err();
    assert_eq!(error.refusal, Refusal::Unusable(CpuState::OutsideCpuset));
    assert_eq!(
        error.to_string(),
        "cores: the cgroup of this process does not include CPU 4: widen it (`--cpuset-cpus` of the container, \
         AllowedCPUs= of the unit), or choose among CPUs 5-6,13, which this process may use"
    );
    assert_eq!(ask(&[Node(0)]).refused_on(&topology), ("cores", Refusal::EmptyNode));
}

#[test]
fn cgroups_of_either_version_and_above_count() {
    let base = "present 0-3\nsocket 0 node 0 threads 0-3\n";
    for (lines, usable) in [
        ("cgroup1 /docker/x 1-2", "1-2"),
        ("cgroup2 / 1,3", "1,3"),
        ("cgroup2 /a/b 0-1\naffinity 1-3", "1"),
        ("affinity 2-3", "2-3"),
        ("", "0-3"),
    ] {
        let machine = Machine::expand(&format!("{base}{lines}"));
        assert_eq!(Topology::read(machine.root()).unwrap().usable(), list(usable), "{lines}");
    }
    let machine = Machine::expand(&format!("{base}cgroup2 /pod 2-3"));
    machine.write("proc/self/cgroup", "0::/pod/of/containers");
    let topology = Topology::read(machine.root()).unwrap();
    assert_eq!(topology.usable(), list("2-3"), "the closest group above that has a cpuset");
    assert_eq!(topology.cpus[0].node, Some(0), "a kernel without nodes is one node");
}

#[test]
fn affinity_and_cpuset_without_anything_in_common() {
    let machine = Machine::expand("present 0-3\nsocket 0 node 0 threads 0-3\naffinity 0-1\ncgroup2 / 2-3");
    let topology = Topology::read(machine.root()).unwrap();
    let error = ask(&[]).on(&topology).unwrap_err();
    assert_eq!(error.refusal, Refusal::NoCpu);
    assert!(error.what.contains("the affinity allows 0-1, the cgroup 2-3"), "{error}");
}

#[test]
fn offline_and_isolated_cpus() {
    let topology = read("offline");
    assert_eq!(topology.usable(), list("0,2-5,7,10-13,15"));
    assert_eq!(topology.cpu(1).unwrap().state, CpuState::Offline);
    assert_eq!(topology.cpu(8).unwrap().state, CpuState::Offline);
    assert_eq!(topology.cpu(6).unwrap().state, CpuState::Isolated);
    assert_eq!(topology.cpu(0).unwrap().siblings, list("0"), "its sibling is off");
    assert_eq!(ask(&[]).cores_on(&topology), [2, 3, 4, 5, 7]);
    let placement = ask(&[Cpu(6), Cpu(2)]).on(&topology).unwrap();
    assert_eq!(placement.cores(), [6, 2]);
    assert_eq!(placement.shards[0].why, "listed; isolated by the kernel");
    let error = ask(&[Cpu(8)]).on(&topology).unwrap_err();
    assert_eq!(error.refusal, Refusal::Unusable(CpuState::Offline));
    assert!(error.to_string().contains("echo 1 > /sys/devices/system/cpu/cpu8/online"), "{error}");
    let gone = ask(&[Cpu(16)]).on(&topology).unwrap_err();
    assert!(gone.to_string().contains("has no CPU 16: choose among CPUs 0,2-5"), "{gone}");
}

#[test]
fn a_container_without_sys_has_its_affinity() {
    let machine = Machine::expand("present 0-3\nsocket 0 node 0 threads 0-3\naffinity 1-3");
    std::fs::remove_dir_all(machine.root().join("sys")).unwrap();
    let topology = Topology::read(machine.root()).unwrap();
    assert_eq!(ask(&[]).cores_on(&topology), [2, 3]);
    std::fs::remove_dir_all(machine.root().join("proc")).unwrap();
    let error = Topology::read(machine.root()).unwrap_err();
    assert!(error.to_string().contains("mount /sys and /proc"), "{error}");
}

#[test]
fn this_machine_is_read_as_the_kernel_answers() {
    let topology = Topology::read(Path::new("/")).unwrap();
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let allowed: CpuList = (0..1024).filter(|cpu| set.is_set(usize::from(*cpu))).collect();
    assert_eq!(topology.usable(), allowed);
    let placement = ask(&[]).on(&topology).unwrap();
    assert!(placement.cores().iter().all(|core| allowed.contains(*core)));
}

fn items() -> impl Strategy<Value = Vec<CoreItem>> {
    let item = prop_oneof![
        3 => (0u16..40).prop_map(Cpu),
        2 => (0u16..40, 0u16..12).prop_map(|(first, more)| Range(first, first + more)),
        2 => (0u16..4).prop_map(Node),
    ];
    proptest::collection::vec(item, 0..4)
}

/// A machine of random shape: cores of 1 to 4 threads dealt out to nodes, some offline, some not allowed.
fn random_machine() -> impl Strategy<Value = String> {
    let masks = (any::<u64>(), any::<u64>(), any::<u64>());
    (1u16..12, 1u16..5, 1u16..4, masks, 0u16..4).prop_map(|(cores, threads, nodes, masks, nic)| {
        let all = cores * threads;
        let bits = |mask: u64| -> CpuList { (0..all).filter(|cpu| mask >> cpu & 1 == 1).collect() };
        let (offline, affinity, cpuset) = (bits(masks.0), bits(masks.1), bits(masks.2));
        let online: CpuList = (0..all).filter(|cpu| *cpu == 0 || !offline.contains(*cpu)).collect();
        let mut text = format!("present 0-{}\nonline {online}\n", all - 1);
        if !affinity.is_empty() {
            text += &format!("affinity {affinity}\n");
        }
        if !cpuset.is_empty() {
            text += &format!("cgroup2 /x {cpuset}\n");
        }
        for node in 0..nodes {
            text +=
                &format!("node {node} memory {}G distances {}\n", node % 2, "10 ".repeat(usize::from(nodes)));
        }
        for core in 0..cores {
            let list: CpuList = (0..threads).map(|thread| core + thread * cores).collect();
            let threads: Vec<String> = list.iter().map(|cpu| cpu.to_string()).collect();
            text += &format!("socket 0 node {} threads {}\n", core % nodes, threads.join(" "));
        }
        text + &format!(
            "nic eth0 node {} driver x pci 0000:01:00.0 queues 1\nroute eth0 192.0.2.0/24",
            nic % nodes
        )
    })
}

/// What holds of every placement that is not refused.
fn holds(topology: &Topology, ask: &Ask) -> Result<(), TestCaseError> {
    let Ok(placement) = ask.on(topology) else { return Ok(()) };
    let cores = placement.cores();
    prop_assert!(!cores.is_empty());
    let distinct: CpuList = cores.iter().copied().collect();
    prop_assert_eq!(distinct.len(), cores.len(), "two shards on one core: {:?}", cores);
    let may = |cpu: u16| {
        matches!(topology.cpu(cpu).map(|cpu| cpu.state), Some(CpuState::Usable | CpuState::Isolated))
    };
    prop_assert!(cores.iter().chain(placement.control.core.iter()).all(|cpu| may(*cpu)));
    prop_assert!(cores.iter().all(|cpu| ask.numa.allows(topology.node_of(*cpu))));
    for shard in &placement.shards {
        prop_assert_eq!(shard.node, topology.node_of(shard.core));
        prop_assert!(shard.memory_node.is_none_or(|node| topology.node_numbers().contains(&node)));
    }
    if ask.cores.is_empty() {
        let siblings = cores.iter().any(|a| cores.iter().any(|b| topology.are_siblings(*a, *b)));
        prop_assert!(!siblings, "auto gave two threads of one core: {:?}", cores);
        prop_assert!(cores.iter().all(|cpu| topology.usable().contains(*cpu)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn no_core_twice_and_none_that_is_not_allowed(
        text in random_machine(),
        cores in items(),
        control in proptest::option::of(0u16..40),
        numa in prop_oneof![Just("auto"), Just("off"), Just("0"), Just("0-1")],
    ) {
        let machine = Machine::expand(&text);
        let topology = Topology::read(machine.root()).unwrap();
        let mut ask = ask(&cores);
        ask.control = control;
        ask.numa = match numa { "auto" => Numa::Auto, "off" => Numa::Off, nodes => Numa::Nodes(list(nodes)) };
        holds(&topology, &ask)?;
    }
}

#[test]
fn the_same_holds_on_every_sample() {
    for name in SAMPLES {
        let topology = read(name);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = (items(), proptest::option::of(0u16..40));
        let result = runner.run(&strategy, |(cores, control)| {
            let mut ask = ask(&cores);
            ask.control = control;
            holds(&topology, &ask)
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
