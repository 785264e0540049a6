//! Clones that outlive the process: when they are entered, given up and found.

use super::*;
use stampede_engine::messages::KeptClone;
use stampede_image::ledger::{CloneNumber, Ledger, Parts, Words};
use stampede_ring::file::Identity;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

fn identity(modified_ns: i128) -> Identity {
    Identity { device: 1, inode: 2, modified_ns, len_bytes: 3 }
}

fn ledger(clones: usize) -> Arc<Ledger> {
    let words = |count: usize| -> Box<dyn Words> {
        let words: Box<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        Box::new(words)
    };
    let parts = Parts { clones: words(16 * clones), arena: words(0), scratch: words(0), runs: words(0) };
    Arc::new(Ledger::new(parts))
}

fn keeper(ledger: &Arc<Ledger>) -> Keeper {
    Keeper::new(Arc::clone(ledger), std::iter::once((GOLDEN, identity(0))))
}

fn numbers(ledger: &Ledger) -> Vec<CloneNumber> {
    ledger.clones().into_keys().collect()
}

#[test]
fn a_clone_is_entered_before_its_record_and_given_up_before_it_is_dropped() {
    let ledger = ledger(4);
    let mut w = World::new();
    w.registrar.keep(keeper(&ledger));
    let session = w.login(&OS);
    // What is to be made durable is still in the outbox.
    let [Change::PutEpoch(record)] = &w.out.changes[..] else { panic!() };
    let record = record.clone();
    let facts = keeper(&ledger).facts(&record, 0, &targets()[0].luns[0].backing).unwrap();
    assert_eq!(ledger.clones().into_values().collect::<Vec<_>>(), [facts]);
    w.admitted(session);
    w.end(session, SessionEnd::Dropped);
    w.messages();
    assert_eq!(numbers(&ledger).len(), 1, "it is held");
    w.reset("iqn.i", None);
    assert!(numbers(&ledger).is_empty(), "before anything of it is gone");
    let again = w.login(&OS);
    w.admitted(again);
    assert_ne!(w.registrar.clones.owners().count(), 0);
    let second = numbers(&ledger);
    w.receive(ToControl::CloneDropped { lun: LunId(10) });
    assert_eq!(numbers(&ledger), second);
    // The first one's place can be had again.
    let third = w.login(&Login { initiator: "iqn.j", address: 2, ..OS });
    w.admitted(third);
    assert_eq!(numbers(&ledger).len(), 2);
    assert!(numbers(&ledger)[0] < second[0]);
}

#[test]
fn a_ledger_without_room_is_no_obstacle() {
    let ledger = ledger(1);
    let mut w = World::new();
    w.registrar.keep(keeper(&ledger));
    for (address, initiator) in [(1, "iqn.i"), (2, "iqn.j")] {
        let session = w.login(&Login { initiator, address, ..OS });
        w.admitted(session);
    }
    assert_eq!(numbers(&ledger).len(), 1);
}

#[test]
fn a_clone_that_was_found_is_held_for_its_machine() {
    let record = |epoch| EpochRecord {
        target: CLONED.to_owned(),
        initiator: "iqn.i".to_owned(),
        epoch,
        stage: EpochStage::Os,
        firmware: true,
    };
    let ledger = ledger(4);
    let survivor = |epoch| {
        let facts = keeper(&ledger).facts(&record(epoch), 0, &targets()[0].luns[0].backing).unwrap();
        let kept = KeptClone::empty(Arc::clone(&ledger), ledger.enter(&facts).unwrap());
        Survivor { record: record(epoch), luns: BTreeMap::from([(0, kept)]) }
    };
    let mut w = World::restored(vec![record(7)]);
    w.registrar.keep(keeper(&ledger));
    let first = w.registrar.adopt(vec![survivor(7)], w.now);
    let [(owner, FromControl::CreateClone { lun, kept: Some(_), .. })] = &first[..] else {
        panic!("{first:?}")
    };
    assert_eq!((*owner, *lun), (ShardId(0), LunId(10)));
    let session = w.login(&OS);
    w.receive(ToControl::Moved { session, from: ShardId(1), to: ShardId(0), luns: Vec::new() });
    assert_eq!(w.admitted(session).1[0], (0, LunId(10)));
    // Of an epoch that is over nothing is taken up.
    let mut w = World::restored(vec![record(8)]);
    assert!(w.registrar.adopt(vec![survivor(7)], w.now).is_empty());
    let session = w.login(&OS);
    assert_eq!(w.answer(session), Some(Err(LoginStatus::AuthorizationFailure)));
}

#[test]
fn a_golden_that_was_changed_is_another() {
    let of = |modified_ns| {
        let keeper = Keeper::new(ledger(1), std::iter::once((GOLDEN, identity(modified_ns))));
        let record = EpochRecord {
            target: CLONED.to_owned(),
            initiator: "iqn.i".to_owned(),
            epoch: 1,
            stage: EpochStage::Os,
            firmware: false,
        };
        keeper.facts(&record, 0, &targets()[0].luns[0].backing).unwrap()
    };
    assert_eq!(of(5), of(5));
    assert_ne!(of(5).golden, of(6).golden);
}
