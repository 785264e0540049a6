//! What outlives the target: registrations with APTPL, saved mode pages (SPC-4 5.13.5.2 and 6.9).
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail like a test")]

mod common;

use common::*;
use proptest::prelude::*;
use stampede_scsi::{Device, DeviceConfig, NexusId, Reply, SavedState, SavedStateError, Status, Step};

const GOOD: Status = Status::Good;
const CONFLICT: Status = Status::ReservationConflict;

fn durable() -> DeviceConfig {
    DeviceConfig { durable: true, ..config() }
}

/// A store: what it has, and whether it takes more.
struct Store {
    bytes: Vec<u8>,
    works: bool,
}

impl Store {
    fn new() -> Self {
        Self { bytes: Vec::new(), works: true }
    }

    /// Runs a command to its reply.
    fn run(&mut self, device: &mut Device, nexus: NexusId, cdb: &[u8], param: &[u8]) -> Reply {
        let mut step = device.start(nexus, &padded(cdb), param.len() as u32, param);
        if let Step::Save(bytes) = step {
            if self.works {
                self.bytes = bytes;
            }
            step = device.saved(self.works);
        }
        done(step)
    }

    fn prout(
        &mut self,
        device: &mut Device,
        nexus: NexusId,
        action: u8,
        kind: u8,
        keys: [u64; 2],
        aptpl: bool,
    ) -> Reply {
        let mut list = [keys[0].to_be_bytes(), keys[1].to_be_bytes(), [0; 8]].concat();
        list[20] = u8::from(aptpl);
        self.run(device, nexus, &[0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
    }

    /// The unit after the target was started again.
    fn restart(&self) -> Device {
        let mut device = Device::restored(durable(), SavedState::decode(&self.bytes).unwrap());
        attach_all(&mut device);
        device
    }
}

const NEXUSES: [NexusId; 4] = [A, B, NexusId(3), NexusId(4)];

fn attach_all(device: &mut Device) {
    for nexus in NEXUSES {
        device.attach(nexus, port(nexus.0 as u8));
        assert_eq!(codes(&send(device, nexus, &[0])), (0x06, 0x29, 0x00));
    }
}

/// Registrants, their keys and what they hold (READ FULL STATUS without PRGENERATION).
fn full_status(device: &mut Device) -> Vec<u8> {
    let reply = send(device, A, &[0x5E, 3, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0]);
    assert_eq!(reply.status, GOOD);
    reply.data[4..].to_vec()
}

fn capabilities(device: &mut Device) -> (u8, u8) {
    let data = send(device, A, &[0x5E, 2, 0, 0, 0, 0, 0, 0, 8, 0]).data;
    (data[2] & 1, data[3] & 1)
}

#[test]
fn every_type_of_reservation_survives_with_aptpl() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let (mut store, mut device) = (Store::new(), Device::new(durable()));
        attach_all(&mut device);
        assert_eq!(capabilities(&mut device), (1, 0));
        for (nexus, key) in [(A, 0xA), (B, 0xB)] {
            assert_eq!(store.prout(&mut device, nexus, 6, 0, [0, key], true).status, GOOD);
        }
        assert_eq!(capabilities(&mut device), (1, 1));
        assert_eq!(store.prout(&mut device, B, 1, kind, [0xB, 0], false).status, GOOD);
        let before = full_status(&mut device);
        let mut device = store.restart();
        assert_eq!(full_status(&mut device), before, "type {kind}");
        assert_eq!(capabilities(&mut device), (1, 1));
        let generation = send(&mut device, A, &[0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0]).data;
        assert_eq!(generation[..4], [0; 4], "PRGENERATION starts anew at power on");
        // The stranger is still kept out, and the holder can release what it held before.
        let write = device.start(NexusId(3), &padded(&[0x2A, 0, 0, 0, 0, 0, 0, 0, 1]), 512, &[]);
        assert_eq!(done(write).status, CONFLICT);
        assert_eq!(store.prout(&mut device, B, 2, kind, [0xB, 0], false).status, GOOD);
        let mut device = store.restart();
        assert!(matches!(
            device.start(NexusId(3), &padded(&[0x2A, 0, 0, 0, 0, 0, 0, 0, 1]), 512, &[]),
            Step::Media(_)
        ));
    }
}

#[test]
fn without_aptpl_nothing_is_stored_and_aptpl_zero_forgets() {
    let (mut store, mut device) = (Store::new(), Device::new(durable()));
    attach_all(&mut device);
    assert_eq!(store.prout(&mut device, B, 6, 0, [0, 0xB], false).status, GOOD);
    assert!(store.bytes.is_empty());
    assert_eq!(store.prout(&mut device, B, 6, 0, [0, 0xC], true).status, GOOD);
    assert!(!store.bytes.is_empty());
    // The last APTPL of any registrant counts (SPC-4 5.13.5.2).
    assert_eq!(store.prout(&mut device, NexusId(3), 6, 0, [0, 0xD], false).status, GOOD);
    assert!(store.bytes.is_empty());
    assert_eq!(full_status(&mut store.restart())[..4], [0; 4]);
}

#[test]
fn without_a_store_aptpl_and_sp_are_refused() {
    let (mut store, mut device) = (Store::new(), unit());
    assert_eq!(capabilities(&mut device), (0, 0));
    assert_eq!(parameter_field(&store.prout(&mut device, A, 0, 0, [0, 1], true)), (20, Some(0)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0x15, 0x11, 0, 0, 0, 0])), (1, Some(0)));
}

#[test]
fn what_is_not_stored_never_happened() {
    let (mut store, mut device) = (Store::new(), Device::new(durable()));
    attach_all(&mut device);
    for (nexus, key) in [(A, 0xA), (B, 0xB)] {
        assert_eq!(store.prout(&mut device, nexus, 6, 0, [0, key], true).status, GOOD);
    }
    let before = full_status(&mut device);
    store.works = false;
    assert_eq!(codes(&store.prout(&mut device, NexusId(3), 0, 0, [0, 3], true)), (0x05, 0x55, 0x04));
    assert_eq!(codes(&store.prout(&mut device, A, 1, 3, [0xA, 0], false)), (0x04, 0x44, 0x00));
    assert_eq!(codes(&store.prout(&mut device, A, 4, 3, [0xA, 0xB], false)), (0x04, 0x44, 0x00));
    assert_eq!(codes(&store.prout(&mut device, A, 3, 0, [0xA, 0], false)), (0x04, 0x44, 0x00));
    assert_eq!(full_status(&mut device), before);
    for nexus in NEXUSES {
        assert_eq!(send(&mut device, nexus, &[0]).status, GOOD, "nobody heard of what did not happen");
    }
}

#[test]
fn one_change_at_a_time() {
    let mut device = Device::new(durable());
    attach_all(&mut device);
    let mut list = [0u8; 24];
    (list[15], list[20]) = (0xA, 1);
    let register = padded(&[0x5F, 6, 0, 0, 0, 0, 0, 0, 24]);
    assert!(matches!(device.start(A, &register, 24, &list), Step::Save(_)));
    assert_eq!(device.start(B, &register, 24, &list), Step::Wait);
    assert_eq!(device.start(B, &padded(&[0x15, 0x10]), 0, &[]), Step::Wait);
    assert_eq!(device.start(B, &padded(&[0x16]), 0, &[]), Step::Wait);
    assert!(matches!(device.start(B, &padded(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), 0, &[]), Step::Media(_)));
    assert_eq!(done(device.saved(true)).status, GOOD);
    assert!(matches!(device.start(B, &register, 24, &list), Step::Save(_)));
}

#[test]
fn saved_mode_pages_come_back_after_reset_and_restart() {
    let (mut store, mut device) = (Store::new(), Device::new(durable()));
    attach_all(&mut device);
    let sense =
        |device: &mut Device, control: u8| send(device, A, &[0x1A, 8, control << 6 | 0x0A, 0, 255, 0]).data;
    assert_eq!(sense(&mut device, 0)[4], 0x8A, "PS");
    let mut list = sense(&mut device, 0);
    list[0] = 0;
    list[4 + 4] |= 0x08;
    // In use, not saved: a reset brings the saved values back.
    assert_eq!(store.run(&mut device, A, &[0x15, 0x10, 0, 0, 16, 0], &list).status, GOOD);
    assert!(device.write_protected() && store.bytes.is_empty());
    assert_eq!((sense(&mut device, 0)[8], sense(&mut device, 3)[8]), (0x08, 0));
    device.reset();
    assert!(!device.write_protected());
    let _ = send(&mut device, A, &[0]);
    // Saved.
    assert_eq!(store.run(&mut device, A, &[0x15, 0x11, 0, 0, 16, 0], &list).status, GOOD);
    assert_eq!(
        (sense(&mut device, 0)[8], sense(&mut device, 3)[8], sense(&mut device, 2)[8]),
        (0x08, 0x08, 0)
    );
    device.reset();
    assert!(device.write_protected());
    let mut device = store.restart();
    assert!(device.write_protected());
    // Back to the defaults: nothing is left to keep.
    list[8] &= !0x08;
    assert_eq!(store.run(&mut device, A, &[0x15, 0x11, 0, 0, 16, 0], &list).status, GOOD);
    assert!(store.bytes.is_empty());
    assert_eq!(codes(&send(&mut device, B, &[0])), (0x06, 0x2A, 0x01));
}

#[test]
fn a_saved_page_that_may_not_change_any_more_is_left_out() {
    let (mut store, mut device) = (Store::new(), Device::new(durable()));
    attach_all(&mut device);
    let list = [vec![0; 4], send(&mut device, A, &[0x1A, 8, 0x08, 0, 255, 0]).data[4..].to_vec()].concat();
    let mut off = list.clone();
    off[6] &= !0x04;
    let cdb = [0x15, 0x11, 0, 0, list.len() as u8, 0];
    let Step::Save(bytes) = device.start(A, &padded(&cdb), list.len() as u32, &off) else {
        panic!("no save")
    };
    // What the cache holds is flushed once the change is durable.
    assert!(matches!(device.saved(true), Step::Media(_)));
    store.bytes = bytes;
    assert!(!store.restart().write_cache_enabled());
    let never = DeviceConfig { write_cache: false, ..durable() };
    assert!(!Device::restored(never, SavedState::decode(&store.bytes).unwrap()).write_cache_enabled());
}

#[test]
fn damaged_and_newer_states_are_refused() {
    let (mut store, mut device) = (Store::new(), Device::new(durable()));
    attach_all(&mut device);
    assert_eq!(store.prout(&mut device, A, 6, 0, [0, 0xA], true).status, GOOD);
    for cut in 1..store.bytes.len() {
        let cut = SavedState::decode(&store.bytes[..cut]);
        assert!(
            cut == Err(SavedStateError::Damaged(1))
                || cut.is_ok_and(|state| state == SavedState::decode(&[1]).unwrap())
        );
    }
    let mut newer = store.bytes.clone();
    newer[0] = 2;
    assert_eq!(SavedState::decode(&newer), Err(SavedStateError::Version(2)));
    newer[0] = 1;
    newer[1] = 77;
    assert_eq!(SavedState::decode(&newer), Err(SavedStateError::Damaged(77)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// After any commands, of which some could not be stored, the next life has what the last one had if its last
    /// APTPL was one, and nothing else.
    #[test]
    fn a_restart_keeps_what_aptpl_promises(
        commands in prop::collection::vec(
            (0usize..4, 0u8..7, prop::sample::select(vec![1u8, 3, 5, 6, 7, 8]), 0u64..3, 0u64..3, any::<bool>(), 0u8..10),
            1..40),
    ) {
        let (mut store, mut device) = (Store::new(), Device::new(durable()));
        attach_all(&mut device);
        for (nexus, action, kind, key, service_key, aptpl, luck) in commands {
            store.works = luck > 0;
            let before = full_status(&mut device);
            let reply = store.prout(&mut device, NEXUSES[nexus], action, kind, [key, service_key], aptpl);
            if reply.status != GOOD {
                prop_assert_eq!(full_status(&mut device), before);
            }
            for nexus in NEXUSES {
                while send(&mut device, nexus, &[0]).status != GOOD {}
            }
            let kept = full_status(&mut store.restart());
            if capabilities(&mut device).1 == 1 {
                prop_assert_eq!(kept, full_status(&mut device));
            } else {
                prop_assert_eq!(&kept[..4], &[0; 4]);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_state_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), tag in 1u8..4) {
        let _ = SavedState::decode(&bytes);
        let length = (bytes.len() as u32).to_be_bytes();
        let framed = [&[1, tag][..], &length, &bytes].concat();
        if let Ok(state) = SavedState::decode(&framed) {
            let _ = Device::restored(durable(), state);
        }
    }
}
