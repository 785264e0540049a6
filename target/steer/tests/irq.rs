//! Interrupts on sample machines: where they belong, moving them, and taking them back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod machine;

use machine::Machine;
use stampede_steer::irq::{Moved, SAVED_FILE, Step, StepState, balancer, plan};
use stampede_steer::placement::{CoreItem, Numa, Wanted, place};
use stampede_steer::topology::Topology;

fn steps(machine: &Machine, cores: &[CoreItem]) -> Vec<Step> {
    let topology = Topology::read(machine.root()).unwrap();
    let listen = ["192.0.2.1".parse().unwrap()];
    let wanted = Wanted { cores, control: None, numa: &Numa::Auto, listen: &listen };
    plan(&topology, &place(&topology, &wanted).unwrap())
}

fn targets(steps: &[Step]) -> Vec<(u32, u16)> {
    steps.iter().map(|step| (step.irq, step.to)).collect()
}

/// A machine that has booted, and a state directory.
fn booted(name: &str) -> (Machine, tempfile::TempDir) {
    let machine = Machine::sample(name);
    machine.write("proc/sys/kernel/random/boot_id", "first");
    (machine, tempfile::tempdir().unwrap())
}

fn affinity(machine: &Machine, irq: u32) -> String {
    machine.read(&format!("proc/irq/{irq}/smp_affinity_list"))
}

#[test]
fn queues_are_dealt_out_to_shards_nearest_first() {
    use CoreItem::{Cpu, Node, Range};
    let machine = Machine::sample("one-socket");
    let four = [Range(2, 5)];
    assert_eq!(targets(&steps(&machine, &four)), [(51, 2), (52, 3), (53, 4), (54, 5)], "50 is no queue's");
    let two = [Cpu(6), Cpu(1)];
    assert_eq!(targets(&steps(&machine, &two)), [(51, 6), (52, 1), (53, 6), (54, 1)], "in turn");
    let machine = Machine::sample("smt");
    let pairs = targets(&steps(&machine, &[Cpu(1), Cpu(2)]));
    assert_eq!(pairs, [(38, 1), (39, 1), (40, 2), (41, 2)], "a transmit queue goes with its receive queue");
    let machine = Machine::sample("two-by-two");
    let far_and_near = targets(&steps(&machine, &[Node(0), Node(2)]));
    let cores: Vec<u16> = far_and_near.iter().map(|(_, core)| *core).collect();
    assert_eq!(cores, [8, 9, 10, 11, 0, 1, 2, 3], "the card is on node 2; the other card is not listened on");
    let machine = Machine::sample("big-128");
    let cores: Vec<u16> = steps(&machine, &[Node(1)]).iter().map(|step| step.to).collect();
    assert_eq!(cores, (64..128).collect::<Vec<_>>());
}

#[test]
fn interrupts_go_there_and_back() {
    let (machine, state) = booted("one-socket");
    let moved = Moved::new(machine.root(), state.path());
    machine.write("proc/irq/52/smp_affinity_list", "6");
    let mut steps = steps(&machine, &[CoreItem::Range(5, 6)]);
    assert_eq!(steps[1].state, StepState::There);
    moved.apply(&mut steps).unwrap();
    let states: Vec<_> = steps.iter().map(|step| &step.state).collect();
    assert_eq!(states, [&StepState::Moved, &StepState::There, &StepState::Moved, &StepState::Moved]);
    assert_eq!([51, 52, 53, 54].map(|irq| affinity(&machine, irq)), ["5", "6", "5", "6"]);
    assert_eq!(affinity(&machine, 50), "0-7", "the link's interrupt stays");
    let undone = moved.restore().unwrap();
    assert_eq!((undone.restored, undone.left), (3, vec![]));
    assert_eq!([51, 52, 53, 54].map(|irq| affinity(&machine, irq)), ["0-7", "6", "0-7", "0-7"]);
    assert!(!state.path().join(SAVED_FILE).exists());
    assert!(moved.restore().unwrap().is_empty(), "once");
}

#[test]
fn a_killed_process_is_cleaned_up_after() {
    let (machine, state) = booted("one-socket");
    let mut steps = steps(&machine, &[CoreItem::Cpu(3)]);
    Moved::new(machine.root(), state.path()).apply(&mut steps).unwrap();
    // Killed here. Meanwhile somebody moved one, and another one's driver was loaded again.
    machine.write("proc/irq/52/smp_affinity_list", "1");
    std::fs::remove_dir(machine.root().join("proc/irq/53/eth0-TxRx-2")).unwrap();
    let undone = Moved::new(machine.root(), state.path()).restore().unwrap();
    assert_eq!(undone.restored, 2);
    let left: Vec<u32> = undone.left.iter().map(|(irq, _)| *irq).collect();
    assert_eq!(left, [52, 53]);
    assert!(undone.left[0].1.contains("somebody else has moved it to 1"), "{undone:?}");
    assert!(undone.left[1].1.contains("does not belong to eth0-TxRx-2"), "{undone:?}");
    assert_eq!([51, 52, 53, 54].map(|irq| affinity(&machine, irq)), ["0-7", "1", "3", "0-7"]);
}

#[test]
fn killed_between_saving_and_moving_there_is_nothing_to_undo() {
    let (machine, state) = booted("one-socket");
    let mut steps = steps(&machine, &[CoreItem::Cpu(3)]);
    let moved = Moved::new(machine.root(), state.path());
    moved.apply(&mut steps).unwrap();
    machine.write("proc/irq/51/smp_affinity_list", "0-7");
    let undone = moved.restore().unwrap();
    assert_eq!((undone.restored, undone.left.len()), (3, 0));
}

#[test]
fn after_a_reboot_nothing_is_taken_back() {
    let (machine, state) = booted("one-socket");
    let mut steps = steps(&machine, &[CoreItem::Cpu(3)]);
    let moved = Moved::new(machine.root(), state.path());
    moved.apply(&mut steps).unwrap();
    machine.write("proc/sys/kernel/random/boot_id", "second");
    assert!(moved.restore().unwrap().is_empty());
    assert_eq!(affinity(&machine, 51), "3", "whatever it is after the reboot, it is not ours");
    assert!(!state.path().join(SAVED_FILE).exists());
}

#[test]
fn what_the_kernel_refuses_is_said() {
    let (machine, state) = booted("one-socket");
    let mut steps = steps(&machine, &[CoreItem::Cpu(3)]);
    let file = machine.root().join("proc/irq/52/smp_affinity_list");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let moved = Moved::new(machine.root(), state.path());
    moved.apply(&mut steps).unwrap();
    assert!(matches!(&steps[1].state, StepState::Refused(why) if !why.is_empty()), "{:?}", steps[1]);
    assert_eq!(steps[2].state, StepState::Moved);
    let undone = moved.restore().unwrap();
    assert_eq!((undone.restored, undone.left.len()), (3, 1));
}

#[test]
fn nothing_moves_when_what_was_before_cannot_be_saved() {
    let (machine, state) = booted("one-socket");
    let mut steps = steps(&machine, &[CoreItem::Cpu(3)]);
    let moved = Moved::new(machine.root(), &state.path().join("nowhere"));
    let error = moved.apply(&mut steps).unwrap_err();
    assert!(error.to_string().contains("cannot save"), "{error}");
    assert_eq!(affinity(&machine, 51), "0-7");
    std::fs::write(state.path().join(SAVED_FILE), "not json").unwrap();
    let error = Moved::new(machine.root(), state.path()).restore().unwrap_err();
    assert!(error.to_string().contains("smp_affinity_list"), "{error}");
}

#[test]
fn a_balancer_is_noticed() {
    let machine = Machine::sample("one-socket");
    machine.write("proc/17/comm", "sshd");
    assert_eq!(balancer(machine.root()), None);
    machine.write("proc/18/comm", "irqbalance");
    assert_eq!(balancer(machine.root()).as_deref(), Some("irqbalance"));
}
