//! The process or the power ends between any two operations of the store on its file.

use super::{Medium, Store, UnitState};
use redb::StorageBackend;
use stampede_scsi::SavedState;
use std::io;
use std::sync::{Arc, Mutex};

/// One change of the file.
#[derive(Clone, Debug)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length as usize, 0),
            Self::Write(at, data) => bytes[*at as usize..][..data.len()].copy_from_slice(data),
        }
    }
}

/// A file that remembers each change, and which of them are synced.
#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    log: Vec<Change>,
    /// For each sync, how many changes came before it.
    synced: Vec<usize>,
    /// There is no space for any change.
    full: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Logged(Arc<Mutex<File>>);

impl Logged {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut file = self.0.lock().unwrap();
        if file.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change.apply(&mut file.bytes);
        file.log.push(change);
        Ok(())
    }
}

impl StorageBackend for Logged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.0.lock().unwrap();
        let bytes = file.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut file = self.0.lock().unwrap();
        let changes = file.log.len();
        file.synced.push(changes);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}

fn open(backend: Logged) -> Store {
    Store::begin(Medium::Test(backend)).unwrap()
}

/// The access state that LUN 0 has in a store of these bytes.
fn found(bytes: Vec<u8>) -> SavedState {
    let file = File { bytes, ..File::default() };
    open(Logged(Arc::new(Mutex::new(file)))).unit_state("iqn.t", 0).unwrap()
}

fn put(store: &mut Store, code: u8) {
    store.put_units(&[UnitState { target: "iqn.t".to_owned(), lun: 0, state: state(code) }]).unwrap();
}

fn state(code: u8) -> Vec<u8> {
    vec![1, 3, 0, 0, 0, 1, code]
}

/// The file before a change, what the change did to it, and how many operations each sync came after.
fn recorded() -> (Vec<u8>, Vec<Change>, Vec<usize>) {
    let file = Logged::default();
    let mut store = open(file.clone());
    put(&mut store, 1);
    let before = {
        let mut file = file.0.lock().unwrap();
        file.log.clear();
        file.synced.clear();
        file.bytes.clone()
    };
    put(&mut store, 2);
    let recorded = file.0.lock().unwrap();
    (before, recorded.log.clone(), recorded.synced.clone())
}

/// kill -9: what was written stays, in order.
#[test]
fn a_process_that_dies_between_two_writes_leaves_the_old_state_or_the_new_one() {
    let (before, log, _) = recorded();
    assert!(log.len() > 1, "{log:?}");
    let (old, new) = (SavedState::decode(&state(1)).unwrap(), SavedState::decode(&state(2)).unwrap());
    let mut bytes = before.clone();
    assert_eq!(found(bytes.clone()), old);
    let mut seen = Vec::new();
    for change in &log {
        change.apply(&mut bytes);
        let state = found(bytes.clone());
        assert!(state == old || state == new);
        seen.push(state == new);
    }
    assert_eq!(seen.last(), Some(&true), "what was answered is there");
    assert!(seen.is_sorted(), "the new state went away again: {seen:?}");
}

/// Power loss: of what was not synced any part may be missing.
#[test]
fn power_loss_leaves_the_old_state_or_the_new_one() {
    let (before, log, synced) = recorded();
    let (old, new) = (SavedState::decode(&state(1)).unwrap(), SavedState::decode(&state(2)).unwrap());
    let mut rng = fastrand::Rng::with_seed(7);
    let mut durable = before;
    let mut at = 0;
    for sync in synced.into_iter().chain([log.len()]) {
        for _ in 0..50 {
            let mut bytes = durable.clone();
            for change in &log[at..sync] {
                if rng.bool() || matches!(change, Change::Length(_)) {
                    change.apply(&mut bytes);
                }
            }
            let state = found(bytes);
            assert!(state == old || state == new);
        }
        log[at..sync].iter().for_each(|change| change.apply(&mut durable));
        at = sync;
    }
    assert_eq!(found(durable), new);
}

/// The disk is full for a while: what was asked for meanwhile fails, what is asked for then does not.
#[test]
fn a_full_disk_that_has_room_again_is_written_to_again() {
    let file = Logged::default();
    let mut store = open(file.clone());
    put(&mut store, 1);
    let unit = |code| [UnitState { target: "iqn.t".to_owned(), lun: 0, state: state(code) }];
    file.0.lock().unwrap().full = true;
    for _ in 0..3 {
        let error = store.put_units(&unit(2)).unwrap_err().to_string();
        assert!(error.contains("state"), "{error}");
    }
    file.0.lock().unwrap().full = false;
    put(&mut store, 3);
    let (bytes, expected) = (file.0.lock().unwrap().bytes.clone(), SavedState::decode(&state(3)).unwrap());
    assert_eq!(store.unit_state("iqn.t", 0).unwrap(), expected);
    assert_eq!(found(bytes), expected);
}
