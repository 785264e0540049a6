//! What the unit says about third-party copy.

use crate::common::*;
use crate::desk::*;

/// The descriptors of VPD page 8Fh: type and body.
fn descriptors(page: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let be16 = |at: usize| u16::from_be_bytes([page[at], page[at + 1]]);
    let (mut at, mut all) = (4, Vec::new());
    assert_eq!(usize::from(be16(2)) + 4, page.len());
    while at < page.len() {
        let length = usize::from(be16(at + 2));
        assert!(length.is_multiple_of(4));
        all.push((be16(at), page[at + 4..at + 4 + length].to_vec()));
        at += 4 + length;
    }
    all
}

#[test]
fn the_page_tells_the_limits_and_the_commands() {
    let mut device = unit();
    let page = send(&mut device, A, &[0x12, 1, 0x8F, 0x10, 0, 0]).data;
    let all = descriptors(&page);
    let kinds: Vec<u16> = all.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x0000, 0x0001, 0x0004, 0x0008, 0x000C, 0x0106, 0x0108, 0x8001]);
    let lengths: Vec<usize> = all.iter().map(|(_, body)| body.len()).collect();
    assert_eq!((lengths[0], lengths[2], lengths[5], lengths[7]), (32, 28, 44 + 48, 32));
    let commands = &all[1].1;
    assert_eq!(commands[..9], [16, 0x83, 5, 0x00, 0x01, 0x10, 0x11, 0x1C, 0x84]);
    assert_eq!(commands[9..17], [7, 0x00, 0x01, 0x03, 0x04, 0x05, 0x07, 0x08]);
    assert_eq!(all[3].1, [3, 0x02, 0x07, 0xE4]);
    assert_eq!(all[6].1.len(), 4 + 3 * 64);
}

#[test]
fn operating_parameters_agree_with_the_page() {
    let mut desk = Desk::new(&[4096]);
    let data = desk.send(0, A, &cdb(0x84, 0x03, (2, 0), 1024), &[]).data;
    assert_eq!(usize::from(data[3]) + 4, data.len());
    assert_eq!((data[4], data[9], data[11], data[36]), (1, 16, 64, 16));
    assert_eq!(data[43..], [3, 0x02, 0x07, 0xE4]);
    let page = send(&mut desk.units[0].0, A, &[0x12, 1, 0x8F, 0x10, 0, 0]).data;
    assert_eq!(descriptors(&page)[2].1[4..12], data[8..16]);
    assert_eq!(descriptors(&page)[7].1[8..12], data[16..20]);
}
