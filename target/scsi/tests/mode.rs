//! MODE SENSE and MODE SELECT (SPC-4 7.5).

mod common;

use common::*;
use stampede_scsi::{Device, Media, Reply, SenseFormat, Status};

fn sense6(device: &mut Device, dbd: u8, page: u8, subpage: u8) -> Reply {
    send(device, A, &[0x1A, dbd, page, subpage, 255, 0])
}

/// A MODE SELECT(6) list of one page.
fn list6(page: &[u8]) -> Vec<u8> {
    let mut list = vec![0; 4];
    list.extend_from_slice(page);
    list
}

fn select6(device: &mut Device, page: &[u8]) -> Reply {
    let list = list6(page);
    send_param(device, A, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

fn control_page(device: &mut Device) -> Vec<u8> {
    sense6(device, 8, 0x0A, 0).data[4..].to_vec()
}

#[test]
fn headers_and_block_descriptors() {
    let mut device = unit();
    let data = sense6(&mut device, 0, 0x0A, 0).data;
    assert_eq!(data[..12], [23, 0, 0x10, 8, 0, 1, 0, 0, 0, 0, 2, 0]);
    assert_eq!(data[12..14], [0x0A, 10]);
    let data = sense6(&mut device, 8, 0x0A, 0).data;
    assert_eq!(data[..6], [15, 0, 0x10, 0, 0x0A, 10]);
    let ten = send(&mut device, A, &[0x5A, 0x10, 0x0A, 0, 0, 0, 0, 0, 255, 0]).data;
    assert_eq!(ten[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(ten[8..24], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    assert_eq!(send(&mut device, A, &[0x1A, 0, 0x3F, 0, 4, 0]).data.len(), 4);
}

#[test]
fn all_pages_ascend_and_fit_a_mode_sense_6() {
    let mut device = unit();
    for (subpage, expected) in [
        (0, vec![(0x01, 0), (0x02, 0), (0x07, 0), (0x08, 0), (0x0A, 0), (0x10, 0), (0x1A, 0), (0x1C, 0)]),
        (
            0xFF,
            vec![
                (0x01, 0),
                (0x02, 0),
                (0x07, 0),
                (0x08, 0),
                (0x0A, 0),
                (0x0A, 1),
                (0x10, 0),
                (0x1A, 0),
                (0x1C, 0),
                (0x1C, 2),
            ],
        ),
    ] {
        let data = sense6(&mut device, 8, 0x3F, subpage).data;
        assert_eq!(usize::from(data[0]) + 1, data.len());
        let mut rest = &data[4..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let sub = rest[0] & 0x40 != 0;
            found.push((rest[0] & 0x3F, if sub { rest[1] } else { 0 }));
            let length = if sub { 4 + usize::from(rest[3]) } else { 2 + usize::from(rest[1]) };
            rest = &rest[length..];
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn unknown_pages_and_saved_values_are_refused() {
    let mut device = unit();
    assert_eq!(cdb_field(&sense6(&mut device, 0, 0x05, 0)), (2, Some(5)));
    assert_eq!(cdb_field(&sense6(&mut device, 0, 0x08, 1)), (3, Some(7)));
    assert_eq!(cdb_field(&sense6(&mut device, 0, 0x3F, 1)), (3, Some(7)));
    assert_eq!(codes(&sense6(&mut device, 0, 0xC8, 0)), (0x05, 0x39, 0x00));
}

#[test]
fn page_control_tells_changeable_and_default_values() {
    let mut device = unit();
    assert_eq!(sense6(&mut device, 8, 0x08, 0).data[6], 0x04);
    assert_eq!(sense6(&mut device, 8, 0x48, 0).data[6], 0x04);
    let mask = sense6(&mut device, 8, 0x4A, 0).data;
    assert_eq!((mask[6], mask[8]), (0x04, 0x08));
    let mut page = control_page(&mut device);
    page[2] |= 0x04;
    assert_eq!(select6(&mut device, &page).status, Status::Good);
    assert_eq!(sense6(&mut device, 8, 0x0A, 0).data[6] & 4, 4);
    assert_eq!(sense6(&mut device, 8, 0x8A, 0).data[6] & 4, 0);
}

#[test]
fn d_sense_changes_the_format_of_all_sense_data() {
    let mut device = unit();
    let mut page = control_page(&mut device);
    page[2] |= 0x04;
    assert_eq!(select6(&mut device, &page).status, Status::Good);
    let reply = send(&mut device, A, &[0x28, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 1, 0]);
    assert_eq!(sense(&reply).format, SenseFormat::Descriptor);
    let bytes = sense(&reply).encode();
    assert_eq!(bytes[..8], [0x72, 0x05, 0x21, 0x00, 0, 0, 0, 8]);
    assert_eq!(bytes[8..], [0x02, 0x06, 0, 0, 0xC0, 0, 2, 0]);
    let read = Media::Read { range: stampede_scsi::Blocks { lba: 1 << 40, count: 1 } };
    let failed = device.media_failed(&stampede_scsi::MediaError::Unrecovered { lba: None }, &read);
    assert_eq!(sense(&failed).encode()[8..12], [0x00, 0x0A, 0x80, 0]);
    // A reset brings the defaults back, for everybody to hear.
    device.reset();
    assert_eq!(device.sense_format(), SenseFormat::Fixed);
}

#[test]
fn swp_write_protects() {
    let mut device = unit();
    let mut page = control_page(&mut device);
    page[4] |= 0x08;
    assert_eq!(select6(&mut device, &page).status, Status::Good);
    assert_eq!(sense6(&mut device, 8, 0x0A, 0).data[2], 0x90);
    let write = [0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(codes(&done(start(&mut device, &write))), (0x07, 0x27, 0x02));
    page[4] &= !0x08;
    // The other initiator must hear of each change first.
    assert_eq!(codes(&send(&mut device, B, &[0x00])), (0x06, 0x2A, 0x01));
    assert_eq!(select6(&mut device, &page).status, Status::Good);
    assert!(matches!(media(start(&mut device, &write)), Media::Write { .. }));
    assert_eq!(send(&mut device, A, &[0x00]).status, Status::Good);
    assert_eq!(codes(&send(&mut device, B, &[0x00])), (0x06, 0x2A, 0x01));
}

#[test]
fn switching_the_write_cache_off_flushes_and_makes_writes_durable() {
    let mut device = unit();
    let mut page = sense6(&mut device, 8, 0x08, 0).data[4..].to_vec();
    page[2] &= !0x04;
    let list = list6(&page);
    let step = device.start(A, &padded(&[0x15, 0x10, 0, 0, list.len() as u8]), list.len() as u32, &list);
    assert_eq!(media(step), Media::Flush { range: None, immediate: false });
    assert!(!device.write_cache_enabled());
    let Media::Write { fua, .. } = media(start(&mut device, &[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])) else {
        panic!("no write")
    };
    assert!(fua);
    let mut none = config();
    none.write_cache = false;
    let mut device = unit_of(none);
    page[2] |= 0x04;
    assert_eq!(parameter_field(&select6(&mut device, &page)), (6, Some(2)));
}

#[test]
fn what_was_sensed_can_be_selected() {
    let mut device = unit();
    let mut data = sense6(&mut device, 0, 0x3F, 0xFF).data;
    data[0] = 0;
    let reply = send_param(&mut device, A, &[0x15, 0x10, 0, 0, data.len() as u8, 0], &data);
    assert_eq!(reply.status, Status::Good);
    let mut data = send(&mut device, A, &[0x5A, 0x10, 0x3F, 0xFF, 0, 0, 0, 4, 0, 0]).data;
    data[..2].fill(0);
    let reply = send_param(&mut device, A, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, data.len() as u8, 0], &data);
    assert_eq!(reply.status, Status::Good);
    // Nothing changed, so nobody hears of a change.
    assert_eq!(send(&mut device, B, &[0x00]).status, Status::Good);
}

#[test]
fn wrong_lists_change_nothing() {
    let mut device = unit();
    let good = control_page(&mut device);
    let with = |index: usize, value: u8| {
        let mut page = good.clone();
        page[index] = value;
        page
    };
    assert_eq!(parameter_field(&select6(&mut device, &with(3, 0))), (7, Some(4)));
    assert_eq!(parameter_field(&select6(&mut device, &with(1, 11))), (5, None));
    assert_eq!(parameter_field(&select6(&mut device, &with(0, 0x05))), (4, Some(5)));
    assert_eq!(codes(&select6(&mut device, &good[..8])), (0x05, 0x1A, 0x00));
    // A good page before a bad one is not taken over either.
    let mut both = with(2, 0x04);
    both.extend_from_slice(&[0x05, 0]);
    assert_eq!(parameter_field(&select6(&mut device, &both)), (16, Some(5)));
    assert_eq!(control_page(&mut device), good);
    let cdb = |flags| [0x15, flags, 0, 0, 0, 0];
    assert_eq!(send(&mut device, A, &cdb(0x10)).status, Status::Good);
    assert_eq!(cdb_field(&send(&mut device, A, &cdb(0x00))), (1, Some(4)));
    assert_eq!(cdb_field(&send(&mut device, A, &cdb(0x11))), (1, Some(0)));
    let mut descriptor = vec![0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 2, 0];
    let cdb = [0x15, 0x10, 0, 0, 12, 0];
    assert_eq!(parameter_field(&send_param(&mut device, A, &cdb, &descriptor)), (4, None));
    descriptor[7] = 0;
    assert_eq!(send_param(&mut device, A, &cdb, &descriptor).status, Status::Good);
    descriptor[10] = 4;
    assert_eq!(parameter_field(&send_param(&mut device, A, &cdb, &descriptor)), (9, None));
    assert_eq!(
        codes(&send_param(&mut device, A, &[0x15, 0x10, 0, 0, 13, 0], &descriptor)),
        (0x05, 0x1A, 0x00)
    );
}

#[test]
fn selecting_one_page_leaves_the_others_alone() {
    let mut device = unit();
    let mut caching = sense6(&mut device, 8, 0x08, 0).data[4..].to_vec();
    caching[2] &= !0x04;
    let list = list6(&caching);
    let _ = device.start(A, &padded(&[0x15, 0x10, 0, 0, list.len() as u8]), list.len() as u32, &list);
    let mut control = control_page(&mut device);
    control[2] |= 0x04;
    assert_eq!(select6(&mut device, &control).status, Status::Good);
    assert!(!device.write_cache_enabled());
    assert_eq!(device.sense_format(), SenseFormat::Descriptor);
}
