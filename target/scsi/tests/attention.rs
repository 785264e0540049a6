//! Unit attentions: who hears what, once, and which commands do not mind (SAM-5 5.14).

mod common;

use common::*;
use stampede_scsi::{Device, NexusId, Status};

const TUR: [u8; 6] = [0; 6];

fn hears(device: &mut Device, nexus: NexusId) -> Option<(u8, u8)> {
    let reply = send(device, nexus, &TUR);
    (reply.status != Status::Good).then(|| {
        let (key, asc, ascq) = codes(&reply);
        assert_eq!(key, 0x06);
        (asc, ascq)
    })
}

#[test]
fn inquiry_and_report_luns_do_not_mind_and_do_not_clear() {
    let mut device = Device::new(config());
    device.attach(A, port(1));
    assert_eq!(send(&mut device, A, &[0x12, 0, 0, 0, 96, 0]).status, Status::Good);
    assert_eq!(send(&mut device, A, &[0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).status, Status::Good);
    assert_eq!(hears(&mut device, A), Some((0x29, 0x00)));
    assert_eq!(hears(&mut device, A), None);
}

#[test]
fn request_sense_returns_and_clears() {
    let mut device = unit();
    device.resize(BLOCKS + 1);
    let reply = send(&mut device, A, &[0x03, 0, 0, 0, 252, 0]);
    assert_eq!(reply.status, Status::Good);
    assert_eq!((reply.data[0], reply.data[2], reply.data[12], reply.data[13]), (0x70, 0x06, 0x2A, 0x09));
    assert_eq!(hears(&mut device, A), None);
    let nothing = send(&mut device, A, &[0x03, 1, 0, 0, 252, 0]);
    assert_eq!(nothing.data, [0x72, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(hears(&mut device, B), Some((0x2A, 0x09)));
}

#[test]
fn an_unknown_operation_code_hears_the_attention_first() {
    let mut device = unit();
    device.reset();
    assert_eq!(codes(&send(&mut device, A, &[0xFF])), (0x06, 0x29, 0x02));
    let reply = send(&mut device, A, &[0xFF]);
    assert_eq!(codes(&reply), (0x05, 0x20, 0x00));
}

#[test]
fn a_query_tells_what_is_pending_and_leaves_it() {
    let mut device = unit();
    assert_eq!(device.pending_event(A), None);
    device.resize(BLOCKS + 1);
    assert_eq!(device.pending_event(A), Some([0x16, 0x2A, 0x09]), "one");
    device.nexus_lost(A);
    for _ in 0..2 {
        assert_eq!(device.pending_event(A), Some([0x26, 0x29, 0x07]), "the most urgent of several");
    }
    assert_eq!(device.pending_event(NexusId(99)), None);
    assert_eq!(hears(&mut device, A), Some((0x29, 0x07)));
    assert_eq!(device.pending_event(A), Some([0x16, 0x2A, 0x09]));
}

#[test]
fn a_power_on_is_told_as_one() {
    let mut device = unit();
    device.power_on_reset();
    assert_eq!(hears(&mut device, A), Some((0x29, 0x01)));
    assert_eq!(hears(&mut device, B), Some((0x29, 0x01)));
}

#[test]
fn resets_tell_everybody() {
    let mut device = unit();
    device.reset_by(A);
    assert_eq!(hears(&mut device, A), Some((0x29, 0x03)));
    assert_eq!(hears(&mut device, B), Some((0x29, 0x03)));
    assert_eq!(hears(&mut device, A), None);
}

#[test]
fn each_event_reaches_the_right_nexus() {
    let mut device = unit();
    device.tasks_cleared_by(A, &[A, B]);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (None, Some((0x2F, 0x00))));
    device.nexus_lost(A);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (Some((0x29, 0x07)), None));
    device.luns_changed(A);
    device.luns_changed(B);
    device.luns_reported(B);
    assert_eq!((hears(&mut device, A), hears(&mut device, B)), (Some((0x3F, 0x0E)), None));
    device.resize(BLOCKS);
    assert_eq!(hears(&mut device, A), None);
    device.detach(B);
    device.resize(BLOCKS * 2);
    device.attach(B, port(2));
    assert_eq!((hears(&mut device, B), hears(&mut device, B)), (Some((0x29, 0x00)), None));
    assert_eq!(device.config().blocks, BLOCKS * 2);
}

#[test]
fn a_repeated_event_is_told_once() {
    let mut device = unit();
    for blocks in 1..1000 {
        device.resize(blocks);
    }
    assert_eq!((hears(&mut device, A), hears(&mut device, A)), (Some((0x2A, 0x09)), None));
}
