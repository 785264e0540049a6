//! The store over closing and opening, damage, and strangers.

use super::*;

fn record(initiator: &str, epoch: u64) -> EpochRecord {
    let (target, initiator) = ("iqn.t".to_owned(), initiator.to_owned());
    EpochRecord { target, initiator, epoch, stage: LoginStage::Os, firmware: epoch.is_multiple_of(2) }
}

#[test]
fn what_is_applied_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("a/b")).unwrap();
    assert_eq!(store.run(), 1);
    store.apply(&[Change::PutEpoch(record("i1", 1)), Change::PutEpoch(record("i2", 2))]).unwrap();
    store.apply(&[Change::PutEpoch(record("i1", 3)), Change::DeleteEpoch(record("i2", 2).key())]).unwrap();
    let first = LunIdentity::derive("iqn.t", 0);
    assert_eq!(store.identity("iqn.t", 0, first.clone()).unwrap(), first);
    drop(store);
    let store = Store::open(&dir.path().join("a/b")).unwrap();
    assert_eq!(store.run(), 2);
    assert_eq!(store.epochs().unwrap(), [record("i1", 3)]);
    let kept = store.identity("iqn.t", 0, LunIdentity::derive("other", 7)).unwrap();
    assert_eq!(kept, first, "the stored identity wins");
}

#[test]
fn a_second_instance_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--state-dir"));
}

#[test]
fn a_foreign_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for content in [vec![], vec![7; 100], vec![0; 100_000], b"[target]\n".repeat(1000)] {
        std::fs::write(dir.path().join(FILE_NAME), content).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
        assert!(error.to_string().contains("state.redb"), "{error}");
    }
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_but_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let records: Vec<_> = (0..40).map(|i| Change::PutEpoch(record(&format!("i{i}"), i))).collect();
    store.apply(&records).unwrap();
    drop(store);
    let path = dir.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        let end = (at + 512).min(bad.len());
        bad[at..end].fill(0xa5);
        std::fs::write(&path, &bad).unwrap();
        match Store::open(dir.path()) {
            Ok(store) => assert_eq!(store.epochs().unwrap().len(), 40),
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let database = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 9).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 9, .. }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Store::open(&dir.path().join("file/state")).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
}

#[test]
fn in_memory_works_the_same() {
    let mut store = Store::in_memory().unwrap();
    store.apply(&[Change::PutEpoch(record("i1", 1))]).unwrap();
    assert_eq!(store.epochs().unwrap(), [record("i1", 1)]);
    assert_eq!(store.path(), None);
}

fn unit(lun: u16, state: &[u8]) -> UnitState {
    UnitState { target: "iqn.t".to_owned(), lun, state: state.to_vec() }
}

/// A state with the access state `code` (see `stampede_scsi::SavedState`).
fn state(code: u8) -> Vec<u8> {
    vec![1, 3, 0, 0, 0, 1, code]
}

#[test]
fn units_states_are_there_after_reopening_and_go_when_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.unit_state("iqn.t", 0).unwrap(), SavedState::default());
    store.put_units(&[unit(0, &state(1)), unit(1, &state(2))]).unwrap();
    store.put_units(&[unit(0, &state(3)), unit(1, &[])]).unwrap();
    drop(store);
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.unit_state("iqn.t", 0).unwrap(), SavedState::decode(&state(3)).unwrap());
    assert_eq!(store.unit_state("iqn.t", 1).unwrap(), SavedState::default());
    store.put_units(&[unit(0, &[1, 99])]).unwrap();
    let error = store.unit_state("iqn.t", 0).unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
    assert!(error.to_string().contains("iqn.t LUN 0"), "{error}");
}

#[test]
fn a_store_of_format_1_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(dir.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 1).unwrap();
    let value = br#"{"epoch":7,"os":true,"firmware":false}"#.as_slice();
    transaction.open_table(EPOCHS).unwrap().insert(("iqn.t", "i"), value).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.epochs().unwrap(), [record("i", 7)]);
    store.put_units(&[unit(0, &state(1))]).unwrap();
    drop(store);
    assert_eq!(
        Store::open(dir.path()).unwrap().unit_state("iqn.t", 0).unwrap(),
        SavedState::decode(&state(1)).unwrap()
    );
}
