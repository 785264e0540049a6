//! What must hold for any bytes. The fuzz targets run these, and so do the property tests of the normal suite.

mod copies;
mod modes;

pub(crate) use copies::copies;
pub(crate) use modes::{modes, saved};

use stampede_scsi::cdb::takes_parameter_list;
use stampede_scsi::copy::{Answered, CopyStep, Moment, Next, TokenKey};
use stampede_scsi::{
    Alua, Device, DeviceConfig, Identity, NexusId, Reply, SavedState, Status, Step, TransportId,
};

/// Initiator ports of the unit under test.
const NEXUSES: u64 = 4;

fn config() -> DeviceConfig {
    DeviceConfig { durable: true, alua: Alua::Explicit, ..DeviceConfig::new(Identity::default(), 4096) }
}

fn attach_all(device: &mut Device) {
    for n in 0..NEXUSES {
        let isid = [0x80, 0, 0, 0, 0, n as u8];
        device.attach(NexusId(n), TransportId { initiator_name: format!("iqn.2026-11.test:h{n}"), isid });
    }
}

/// A unit and its store.
struct Unit {
    device: Device,
    stored: Vec<u8>,
}

impl Unit {
    fn new() -> Self {
        let mut device = Device::new(config());
        attach_all(&mut device);
        Self { device, stored: Vec::new() }
    }

    /// Runs a command until it needs the medium, or is done.
    fn run(&mut self, nexus: u64, cdb: &[u8; 16], param: &[u8], stores: bool) -> Option<Reply> {
        let mut step = self.device.start(NexusId(nexus), cdb, param.len() as u32, param);
        if let Step::Save(state) = step {
            if stores {
                self.stored = state;
            }
            step = self.device.saved(stores);
        }
        match step {
            Step::Done(reply) => Some(reply),
            Step::Fence(fence) => {
                let sender = NexusId(nexus);
                assert!(!fence.aborted.contains(&sender) && !fence.awaited.contains(&sender));
                Some(fence.reply)
            }
            Step::Media(_) => None,
            Step::Sanitize { .. } => {
                let mut step = self.device.sanitize_ended(!param.len().is_multiple_of(3));
                if let Step::Save(state) = step {
                    assert!(SavedState::decode(&state).is_ok());
                    step = self.device.saved(!param.len().is_multiple_of(5));
                }
                let Step::Done(reply) = step else { panic!("the end is saved or done") };
                Some(reply)
            }
            Step::Copy => self.copy(NexusId(nexus), cdb, param),
            Step::Save(_) | Step::Wait => panic!("nothing is being saved"),
        }
    }

    /// A third-party copy command, to its end: whatever a copier asks for fails, so it asks little.
    fn copy(&mut self, nexus: NexusId, cdb: &[u8; 16], param: &[u8]) -> Option<Reply> {
        let key = TokenKey::new([7; 32]);
        let moment = Moment { now_ns: 0, key: &key, others: 2, changing: &|_| false };
        let mut copier = match self.device.third_party(nexus, cdb, param, &moment) {
            CopyStep::Done(reply) | CopyStep::Abort(_, reply) => return Some(reply),
            CopyStep::Copy(copier) => copier,
        };
        let mut answer = None;
        for _ in 0..64 {
            match copier.next(answer) {
                Next::Ask(_) => answer = Some(Answered { status: None, data: &[], len: 0 }),
                Next::Done(reply) => {
                    self.device.copy_ended(&copier, Some(reply.status), &[]);
                    return Some(reply);
                }
                Next::Forward => return None,
            }
        }
        panic!("a copy whose commands fail goes on")
    }

    /// Registrants, their keys and what they hold, as an initiator that never registers sees it.
    fn full_status(device: &mut Device) -> Vec<u8> {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[7], cdb[8]) = (0x5E, 3, 0xFF, 0xFF);
        loop {
            match device.start(NexusId(NEXUSES - 1), &cdb, 0, &[]) {
                Step::Done(reply) if reply.status == Status::Good => return reply.data[4..].to_vec(),
                // A unit attention, which is told once.
                Step::Done(reply) if reply.sense.is_some_and(|sense| sense.key as u8 == 6) => {}
                // In some access states (ALUA) it cannot be asked.
                Step::Done(reply)
                    if reply.sense.is_some_and(|sense| (sense.key as u8, sense.asc) == (2, 4)) =>
                {
                    return Vec::new();
                }
                // Under another's RESERVE nothing can be asked.
                Step::Done(reply) if reply.status == Status::ReservationConflict => return Vec::new(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The unit after the target was started again.
    fn restarted(&self) -> Device {
        let state = SavedState::decode(&self.stored).expect("what was stored can be read");
        let mut device = Device::restored(config(), state);
        attach_all(&mut device);
        device
    }
}

fn check(reply: &Reply) {
    assert_eq!(reply.sense.is_some(), reply.status == Status::CheckCondition);
    if let Some(sense) = reply.sense {
        assert!(sense.encode_fixed().len() == 18 && sense.encode_descriptor().len() <= 40);
    }
}

/// Commands with parameter data: `nexus and store (1) | length (1) | CDB (16) | parameter list` each.
pub(crate) fn commands(mut bytes: &[u8]) {
    let mut unit = Unit::new();
    while let Some((&[head, length], rest)) = bytes.split_first_chunk::<2>() {
        let Some((cdb, rest)) = rest.split_first_chunk::<16>() else { return };
        let (param, rest) = rest.split_at(usize::from(length).min(rest.len()));
        let param = if takes_parameter_list(cdb) { param } else { &[] };
        if let Some(reply) = unit.run(u64::from(head & 3), cdb, param, head & 0x80 == 0) {
            check(&reply);
        }
        let mut again = unit.restarted();
        let _ = Unit::full_status(&mut again);
        bytes = rest;
    }
}

/// PERSISTENT RESERVE OUT, with lists that are mostly right: `nexus, action (1) | type, store (1) | keys (1) |
/// flags (1) | tail length (1) | tail` each. What fails changes nothing, and what APTPL keeps comes back.
pub(crate) fn reservations(mut bytes: &[u8]) {
    let mut unit = Unit::new();
    while let Some((&[who, kind, keys, flags, length], rest)) = bytes.split_first_chunk::<5>() {
        let (tail, rest) = rest.split_at(usize::from(length & 0x3F).min(rest.len()));
        let action = who >> 2 & 0x0F;
        let mut list = vec![0; 24];
        (list[7], list[15], list[20]) = (keys & 3, keys >> 2 & 3, flags & 0x0D);
        if action == 7 {
            (list[17], list[19], list[20]) = (flags & 3, 1, 0);
            list[23] = tail.len() as u8;
        } else if flags & 8 != 0 {
            list.extend_from_slice(&(tail.len() as u32).to_be_bytes());
        }
        list.extend_from_slice(tail);
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5F, action, kind & 0x0F, list.len() as u8);
        let before = Unit::full_status(&mut unit.device);
        let reply = unit.run(u64::from(who & 3), &cdb, &list, kind & 0x80 == 0);
        let reply = reply.expect("a reservation needs no medium");
        check(&reply);
        let after = Unit::full_status(&mut unit.device);
        assert!(reply.status == Status::Good || before == after, "{reply:?}");
        let kept = Unit::full_status(&mut unit.restarted());
        assert!(kept == after || kept == [0; 4], "{kept:02x?} is not {after:02x?}");
        bytes = rest;
    }
}
