//! LOG SENSE, READ DEFECT DATA, and where errors point.

mod common;

use common::*;
use stampede_scsi::Device;

fn log(device: &mut Device, code: u8, subpage: u8) -> Vec<u8> {
    let data = send(device, A, &[0x4D, 0, 0x40 | code, subpage, 0, 0, 0, 0xFF, 0xFF, 0]).data;
    assert_eq!(data[0] & 0x3F, code);
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
    data
}

#[test]
fn every_supported_log_page_is_readable() {
    let mut device = unit();
    let list = log(&mut device, 0, 0);
    assert_eq!(list, [0x80, 0, 0, 6, 0x00, 0x0C, 0x0D, 0x0E, 0x11, 0x2F]);
    let with_subpages = log(&mut device, 0, 0xFF);
    assert_eq!(with_subpages[..2], [0xC0, 0xFF]);
    assert_eq!(with_subpages[4..], [0, 0, 0, 0xFF, 0x0C, 0, 0x0D, 0, 0x0E, 0, 0x11, 0, 0x2F, 0]);
    for code in [0x0C, 0x0D, 0x0E, 0x11, 0x2F] {
        let data = log(&mut device, code, 0);
        let (mut rest, mut codes) = (&data[4..], Vec::new());
        while !rest.is_empty() {
            codes.push(u16::from_be_bytes([rest[0], rest[1]]));
            rest = &rest[4 + usize::from(rest[3])..];
        }
        assert!(!codes.is_empty() && codes.is_sorted(), "{code:02x}: {codes:?}");
    }
    assert_eq!(log(&mut device, 0x0D, 0)[4..10], [0, 0, 0x03, 2, 0, 0xFF]);
    assert_eq!(log(&mut device, 0x11, 0)[4..], [0, 1, 0x03, 4, 0, 0, 0, 0]);
}

#[test]
fn the_parameter_pointer_leaves_earlier_parameters_out() {
    let mut device = unit();
    let from =
        |device: &mut Device, pointer: u8| send(device, A, &[0x4D, 0, 0x4E, 0, 0, 0, pointer, 1, 0, 0]);
    assert_eq!(from(&mut device, 3).data[4..6], [0, 3]);
    assert_eq!(from(&mut device, 4).data.len(), 4 + 8);
    assert_eq!(cdb_field(&from(&mut device, 5)), (5, Some(7)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0x4D, 1, 0x4D, 0, 0, 0, 0, 1, 0, 0])), (1, Some(0)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0x4D, 0, 0x43, 0, 0, 0, 0, 1, 0, 0])), (2, Some(5)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0x4D, 0, 0x4D, 1, 0, 0, 0, 1, 0, 0])), (3, Some(7)));
    assert_eq!(send(&mut device, A, &[0x4D, 0, 0x4D, 0, 0, 0, 0, 0, 6, 0]).data.len(), 6);
}

#[test]
fn there_are_no_defects() {
    let mut device = unit();
    for format in [0, 3, 4, 5] {
        let ten = send(&mut device, A, &[0x37, 0, 0x18 | format, 0, 0, 0, 0, 0, 64, 0]);
        assert_eq!(ten.data, [0, 0x18 | format, 0, 0]);
        let twelve = send(&mut device, A, &[0xB7, 0x08 | format, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0]);
        assert_eq!(twelve.data, [0, 0x08 | format, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(cdb_field(&send(&mut device, A, &[0x37, 0, 0x19, 0, 0, 0, 0, 0, 64, 0])), (2, Some(2)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0xB7, 0x1E, 0, 0, 0, 0, 0, 0, 0, 64])), (1, Some(2)));
}

#[test]
fn a_list_of_the_wrong_length_points_at_the_cdbs_field() {
    let mut device = unit();
    for (cdb, at) in [
        (&[0x15, 0x10, 0, 0, 2, 0][..], 4),
        (&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 2, 0], 7),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 2, 0], 7),
        (&[0x5F, 0, 0, 0, 0, 0, 0, 0, 2, 0], 5),
    ] {
        let reply = send_param(&mut device, A, cdb, &[0, 0]);
        assert_eq!(codes(&reply), (0x05, 0x1A, 0x00), "{cdb:02x?}");
        let field = sense(&reply).field.expect("field pointer");
        assert_eq!((field.in_cdb, field.byte), (true, at), "{cdb:02x?}");
    }
}
