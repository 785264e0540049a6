//! A unit under test with one or two nexuses, and short ways to send it commands.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::panic, reason = "a helper of tests fails like a test")]

use stampede_scsi::{
    Device, DeviceConfig, Identity, Media, NexusId, Reply, Sense, Status, Step, TransportId,
};

/// The first and the second initiator.
pub(crate) const A: NexusId = NexusId(1);
pub(crate) const B: NexusId = NexusId(2);

/// Blocks of the unit under test.
pub(crate) const BLOCKS: u64 = 0x1_0000;

pub(crate) fn config() -> DeviceConfig {
    DeviceConfig::new(Identity::default(), BLOCKS)
}

pub(crate) fn port(n: u8) -> TransportId {
    TransportId { initiator_name: format!("iqn.2026-11.test:host{n}"), isid: [0x80, 0, 0, 0, 0, n] }
}

/// A unit whose two nexuses have heard of the power on.
pub(crate) fn unit() -> Device {
    unit_of(config())
}

pub(crate) fn unit_of(config: DeviceConfig) -> Device {
    let mut device = Device::new(config);
    for (nexus, n) in [(A, 1), (B, 2)] {
        device.attach(nexus, port(n));
        assert_eq!(codes(&send(&mut device, nexus, &[0])), (0x06, 0x29, 0x00));
    }
    device
}

pub(crate) fn padded(cdb: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..cdb.len()].copy_from_slice(cdb);
    padded
}

/// Sends a command without data-out that must be done at once.
pub(crate) fn send(device: &mut Device, nexus: NexusId, cdb: &[u8]) -> Reply {
    done(device.start(nexus, &padded(cdb), 0, &[]))
}

/// Sends a command with a parameter list that must be done at once.
pub(crate) fn send_param(device: &mut Device, nexus: NexusId, cdb: &[u8], param: &[u8]) -> Reply {
    done(device.start(nexus, &padded(cdb), param.len() as u32, param))
}

/// Starts a block command with as much data-out as its CDB asks for.
pub(crate) fn start(device: &mut Device, cdb: &[u8]) -> Step {
    let cdb = padded(cdb);
    let out = match stampede_scsi::cdb::data_direction_and_len(&cdb, device.config().block_size) {
        stampede_scsi::cdb::Transfer::Out(bytes) => u32::try_from(bytes).unwrap_or(u32::MAX),
        _ => 0,
    };
    device.start(A, &cdb, out, &[])
}

/// The reply of a command that needs neither medium nor store.
pub(crate) fn done(step: Step) -> Reply {
    match step {
        Step::Done(reply) => reply,
        Step::Fence(fence) => fence.reply,
        other => panic!("not done: {other:?}"),
    }
}

pub(crate) fn media(step: Step) -> Media {
    match step {
        Step::Media(media) => media,
        other => panic!("no medium work: {other:?}"),
    }
}

pub(crate) fn sense(reply: &Reply) -> Sense {
    assert_eq!(reply.status, Status::CheckCondition, "{reply:?}");
    reply.sense.expect("sense data")
}

/// Sense key, ASC and ASCQ of a CHECK CONDITION.
pub(crate) fn codes(reply: &Reply) -> (u8, u8, u8) {
    let sense = sense(reply);
    (sense.key as u8, sense.asc, sense.ascq)
}

/// Byte and bit an INVALID FIELD IN CDB points at.
pub(crate) fn cdb_field(reply: &Reply) -> (u16, Option<u8>) {
    assert_eq!(codes(reply), (0x05, 0x24, 0x00));
    let field = sense(reply).field.expect("field pointer");
    assert!(field.in_cdb);
    (field.byte, field.bit)
}

/// Byte and bit an INVALID FIELD IN PARAMETER LIST points at.
pub(crate) fn parameter_field(reply: &Reply) -> (u16, Option<u8>) {
    assert_eq!(codes(reply), (0x05, 0x26, 0x00));
    let field = sense(reply).field.expect("field pointer");
    assert!(!field.in_cdb);
    (field.byte, field.bit)
}
