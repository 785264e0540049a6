//! The order in which tasks leave for the engine, while the data of some is still out (SAM-5 8.6).

use std::collections::BTreeMap;

use proptest::prelude::*;
use stampede_session::{Disposition, TaskKey, Transfer};
use stampede_wire::{
    Lun, Sn,
    pdu::{
        ReadyToTransfer, ScsiCommand, TaskAttribute, TaskManagementFunction, TaskManagementRequest, status,
    },
};

use crate::support::{Event, Harness, Sent};

const UNITS: u16 = 2;

fn start(harness: &mut Harness, itt: u32, unit: u16, attribute: TaskAttribute, write: bool) {
    let sns = harness.take_sns();
    let pdu = ScsiCommand::new(itt, Lun::encode(unit).unwrap(), attribute, &[0; 16], sns);
    let pdu = if write { pdu.writing(512, false) } else { pdu.reading(512) };
    harness.feed(&pdu, &[]).unwrap();
}

fn answer(harness: &mut Harness, r2t: &ReadyToTransfer) -> Disposition {
    let (itt, tag) = (r2t.initiator_task_tag(), r2t.target_transfer_tag());
    harness.data_out(itt, Some(tag), 0, 0, 512, true).unwrap()
}

fn abort(harness: &mut Harness, itt: u32) {
    let pdu = TaskManagementRequest::new(TaskManagementFunction::AbortTask, 0xaaaa, Lun::ZERO, harness.sns());
    harness.feed(&pdu.with_reference(itt, Sn(0)).into_immediate(), &[]).unwrap();
}

/// The tags of what was handed over since the last call.
fn handed_over(harness: &mut Harness) -> Vec<u32> {
    let tags = harness.commands().iter().map(|task| harness.connection.task(*task).unwrap().itt()).collect();
    harness.take();
    tags
}

#[test]
fn an_ordered_task_waits_for_older_data_and_younger_ones_wait_for_it() {
    let mut harness = Harness::session("");
    start(&mut harness, 1, 0, TaskAttribute::Simple, true);
    start(&mut harness, 2, 0, TaskAttribute::Ordered, true);
    let r2ts = harness.r2ts();
    start(&mut harness, 3, 0, TaskAttribute::Simple, false);
    start(&mut harness, 4, 0, TaskAttribute::Ordered, false);
    start(&mut harness, 5, 1, TaskAttribute::Simple, false);
    start(&mut harness, 6, 0, TaskAttribute::HeadOfQueue, false);
    assert_eq!(handed_over(&mut harness), [5, 6], "another unit, and one that never waits");
    answer(&mut harness, &r2ts[1]);
    assert_eq!(handed_over(&mut harness), []);
    answer(&mut harness, &r2ts[0]);
    assert_eq!(handed_over(&mut harness), [1, 2, 3, 4]);
    start(&mut harness, 7, 0, TaskAttribute::Simple, false);
    assert_eq!(handed_over(&mut harness), [7], "nothing is left to wait for");
}

#[test]
fn what_is_killed_is_not_waited_for() {
    let mut harness = Harness::session("");
    start(&mut harness, 1, 0, TaskAttribute::Ordered, true);
    start(&mut harness, 2, 0, TaskAttribute::Simple, false);
    start(&mut harness, 3, 1, TaskAttribute::Ordered, true);
    start(&mut harness, 4, 1, TaskAttribute::Simple, false);
    assert_eq!(handed_over(&mut harness), []);
    harness.connection.kill(Some(Lun::ZERO), &mut harness.out);
    assert_eq!((harness.released().len(), handed_over(&mut harness)), (2, vec![]));
    harness.connection.disconnect(&mut harness.out);
    assert_eq!((harness.released().len(), harness.commands()), (2, vec![]));
    assert_eq!(harness.connection.tasks_len(), 0);
}

#[test]
fn the_aca_attribute_is_refused_by_sense() {
    let mut harness = Harness::session("");
    for (itt, write) in [(1, false), (2, true)] {
        start(&mut harness, itt, 0, TaskAttribute::Aca, write);
        let Some(Event::Send(_, Sent::Bytes(sense))) = harness.out.0.last() else { panic!("sense data") };
        assert_eq!((sense[4], sense[14], sense[15]), (5, 0x49, 0));
        assert_eq!((harness.responses()[0].status(), harness.commands()), (status::CHECK_CONDITION, vec![]));
        harness.take();
    }
    assert_eq!(harness.connection.tasks_len(), 0);
}

/// A task of the model.
#[derive(Clone, Copy, Debug)]
struct Task {
    unit: u16,
    attribute: TaskAttribute,
}

#[derive(Clone, Debug)]
enum Step {
    Start { unit: u16, attribute: TaskAttribute, write: bool },
    Answer(usize),
    Abort(usize),
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let attribute = prop::sample::select(vec![
        TaskAttribute::Simple,
        TaskAttribute::Simple,
        TaskAttribute::Ordered,
        TaskAttribute::HeadOfQueue,
    ]);
    prop_oneof![
        4 => (0..UNITS, attribute, any::<bool>())
            .prop_map(|(unit, attribute, write)| Step::Start { unit, attribute, write }),
        3 => (0usize..64).prop_map(Step::Answer),
        1 => (0usize..64).prop_map(Step::Abort),
        2 => (0usize..64).prop_map(Step::Finish),
    ]
}

/// Judges what was handed over against what is older and was not.
fn judge(harness: &mut Harness, pending: &mut BTreeMap<u32, Task>, running: &mut Vec<TaskKey>) {
    for task in harness.commands() {
        let itt = harness.connection.task(task).unwrap().itt();
        let Task { unit, attribute } = pending.remove(&itt).expect("handed over once");
        let older = || pending.range(..itt).filter(|(_, other)| other.unit == unit);
        match attribute {
            TaskAttribute::HeadOfQueue => {}
            TaskAttribute::Ordered => assert_eq!(older().count(), 0, "before ORDERED {itt}"),
            _ => assert!(older().all(|(_, other)| other.attribute != TaskAttribute::Ordered), "before {itt}"),
        }
        running.push(task);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the order of data, aborts and ends: nothing overtakes, and nothing is left behind.
    #[test]
    fn tasks_leave_in_their_order(steps in prop::collection::vec(step(), 0..120)) {
        let mut harness = Harness::session("");
        let (mut pending, mut running, mut r2ts) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut itt = 0;
        for step in steps {
            match step {
                Step::Start { unit, attribute, write } => {
                    itt += 1;
                    pending.insert(itt, Task { unit, attribute });
                    start(&mut harness, itt, unit, attribute, write);
                    r2ts.extend(harness.r2ts());
                }
                Step::Answer(which) if !r2ts.is_empty() => {
                    let r2t = r2ts.remove(which % r2ts.len());
                    answer(&mut harness, &r2t);
                }
                Step::Abort(which) if !pending.is_empty() => {
                    let tag = *pending.keys().nth(which % pending.len()).unwrap();
                    abort(&mut harness, tag);
                    prop_assert!(harness.managed().is_empty(), "the engine has not got it");
                    pending.remove(&tag);
                }
                Step::Finish(which) if !running.is_empty() => {
                    let task = running.remove(which % running.len());
                    harness.respond(task, status::GOOD, &[], Transfer::In { available: 512 });
                }
                _ => {}
            }
            judge(&mut harness, &mut pending, &mut running);
            harness.take();
        }
        for r2t in r2ts {
            answer(&mut harness, &r2t);
            judge(&mut harness, &mut pending, &mut running);
            harness.take();
        }
        prop_assert!(pending.is_empty(), "{pending:?} is left");
    }
}
