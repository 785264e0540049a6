//! INQUIRY, READ CAPACITY and the reports: bytes as the standards lay them out.

mod common;

use common::*;
use stampede_scsi::cdb::{Transfer, data_direction_and_len};
use stampede_scsi::{DeviceConfig, Identity};

fn page(device: &mut stampede_scsi::Device, code: u8) -> Vec<u8> {
    let data = send(device, A, &[0x12, 1, code, 0xFF, 0xFF, 0]).data;
    assert_eq!((data[0], data[1]), (0, code));
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
    data
}

#[test]
fn standard_data() {
    let mut device = unit();
    let data = send(&mut device, A, &[0x12, 0, 0, 0, 255, 0]).data;
    assert_eq!(data.len(), usize::from(data[4]) + 5);
    assert_eq!(data[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x18, 0, 0x02]);
    assert_eq!(&data[8..16], b"STAMPEDE");
    let versions: Vec<u16> = data[58..74].chunks(2).map(|v| u16::from_be_bytes([v[0], v[1]])).collect();
    assert!(versions.contains(&0x0460) && versions.contains(&0x04C0) && versions.contains(&0x0960));
    assert_eq!(send(&mut device, A, &[0x12, 0, 0, 0, 5, 0]).data, data[..5]);
    assert!(send(&mut device, A, &[0x12, 0, 0, 0, 0, 0]).data.is_empty());
    assert_eq!(cdb_field(&send(&mut device, A, &[0x12, 0, 1, 0, 255, 0])).0, 2);
    assert_eq!(cdb_field(&send(&mut device, A, &[0x12, 1, 0xC0, 0, 255, 0])).0, 2);
    assert_eq!(cdb_field(&send(&mut device, A, &[0x12, 2, 0, 0, 255, 0])), (1, Some(1)));
}

#[test]
fn every_supported_page_is_readable() {
    let mut device = unit();
    let list = page(&mut device, 0x00)[4..].to_vec();
    assert_eq!(list, [0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x8F, 0xB0, 0xB1, 0xB2]);
    for code in list {
        page(&mut device, code);
    }
    assert!(page(&mut device, 0x85)[4..].is_empty(), "no management address is told");
    assert_eq!(page(&mut device, 0x87)[4..], [0x3F, 0xFF, 0, 0], "all mode pages are shared");
    let ports = page(&mut device, 0x88);
    assert_eq!(ports[4..14], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(usize::from(u16::from_be_bytes([ports[14], ports[15]])), ports.len() - 16);
    assert_eq!(ports[16..18], [0x53, 0x98], "the port by its name");
    assert!(ports[20..].starts_with(b"iqn.2026-11.io.stampede:disk,t,0x0001\0"));
}

#[test]
fn identification_names_unit_port_and_target() {
    let mut config = config();
    config.identity = Identity {
        serial: "SN\u{e9}123".into(),
        naa: [0x01, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        target_name: "iqn.2026-11.io.stampede:debian".into(),
        ..Identity::default()
    };
    let mut device = unit_of(config);
    assert_eq!(&page(&mut device, 0x80)[4..], b"SN??123");
    let data = page(&mut device, 0x83);
    let mut rest = &data[4..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(rest[3]);
        found.push((rest[0], rest[1], rest[4..4 + length].to_vec()));
        rest = &rest[4 + length..];
    }
    assert_eq!(found[0], (0x01, 0x03, vec![0x61, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    assert_eq!(found[1], (0x02, 0x01, b"STAMPEDESN??123".to_vec()));
    assert_eq!(found[2], (0x51, 0x94, vec![0, 0, 0, 1]));
    assert_eq!(found[3], (0x51, 0x95, vec![0, 0, 0, 1]));
    for (_, _, name) in &found[4..] {
        assert_eq!(name.len() % 4, 0);
        assert_eq!(name.last(), Some(&0));
    }
    assert!(found[4].2.starts_with(b"iqn.2026-11.io.stampede:debian,t,0x0001\0"));
    assert!(found[5].2.starts_with(b"iqn.2026-11.io.stampede:debian\0"));
}

#[test]
fn block_pages_tell_the_limits() {
    let mut device = unit();
    let limits = page(&mut device, 0xB0);
    assert_eq!(limits[3], 0x3C);
    assert_eq!((limits[4], limits[5]), (1, 255));
    assert_eq!(limits[6..16], [0, 8, 0, 0, 0x20, 0, 0, 0, 0x08, 0]);
    assert_eq!(limits[20..28], [0, 0x10, 0, 0, 0, 0, 1, 0]);
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 0, 0x80, 0]);
    assert_eq!(page(&mut device, 0xB1)[4..6], [0, 1]);
    assert_eq!(page(&mut device, 0xB2), [0, 0xB2, 0, 4, 11, 0xE4, 2, 0]);
    let mut thick = config();
    thick.thin = false;
    let mut device = unit_of(thick);
    assert_eq!(page(&mut device, 0xB2)[4..], [0; 4]);
    assert_eq!(page(&mut device, 0xB0)[20..36], [0; 16]);
}

#[test]
fn capacity() {
    let mut device = unit();
    assert_eq!(send(&mut device, A, &[0x25]).data, [0, 0, 0xFF, 0xFF, 0, 0, 2, 0]);
    let mut cdb = [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    let data = send(&mut device, A, &cdb).data;
    assert_eq!(data.len(), 32);
    assert_eq!(data[..16], [0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 2, 0, 0, 3, 0xC0, 0]);
    for length in 0..16 {
        cdb[13] = length;
        assert_eq!(send(&mut device, A, &cdb).data, data[..usize::from(length)]);
    }
    let big = DeviceConfig { blocks: 1 << 33, block_size: 4096, physical_exponent: 0, ..config() };
    assert_eq!(send(&mut unit_of(big), A, &[0x25]).data, [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0x10, 0]);
}

fn operation_codes(
    device: &mut stampede_scsi::Device,
    options: u8,
    opcode: u8,
    action: u8,
) -> stampede_scsi::Reply {
    send(device, A, &[0xA3, 0x0C, options, opcode, 0, action, 0, 0, 0xFF, 0xFF, 0, 0])
}

#[test]
fn operation_codes_agree_with_each_other() {
    let mut device = unit();
    let all = operation_codes(&mut device, 0, 0, 0).data;
    let count = (all.len() - 4) / 8;
    assert_eq!(u32::from_be_bytes([all[0], all[1], all[2], all[3]]) as usize, all.len() - 4);
    assert!(count > 50);
    for descriptor in all[4..].chunks(8) {
        let (opcode, action, servactv) = (descriptor[0], descriptor[3], descriptor[5] & 1 != 0);
        assert!(servactv || action == 0);
        assert_eq!(descriptor[5] & 2, 0);
        let (right, wrong) = if servactv { (2, 1) } else { (1, 2) };
        assert_eq!(cdb_field(&operation_codes(&mut device, wrong, opcode, action)).0, 2);
        let one = operation_codes(&mut device, right, opcode, action).data;
        assert_eq!(one[..4], [0, 3, 0, descriptor[7]]);
        assert_eq!(one[4], opcode);
        assert_eq!(operation_codes(&mut device, 3, opcode, action).data, one);
        // What is listed is known to the transfer table, too.
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[opcode, action]);
        assert_ne!(data_direction_and_len(&cdb, 512), Transfer::Unknown);
    }
    let timed = operation_codes(&mut device, 0x80, 0, 0).data;
    assert_eq!(timed.len(), 4 + count * 20);
    for descriptor in timed[4..].chunks(20) {
        assert_eq!(descriptor[5] & 2, 2);
        assert_eq!(descriptor[8..10], [0, 0x0A]);
    }
}

#[test]
fn what_is_not_offered_is_not_listed() {
    let mut device = unit();
    assert_eq!(operation_codes(&mut device, 1, 0x42, 0).data[1], 3);
    assert_eq!(operation_codes(&mut device, 1, 0xC1, 0).data, [0, 1, 0, 0]);
    assert_eq!(operation_codes(&mut device, 2, 0x9E, 0x11).data, [0, 1, 0, 0]);
    let mut thick = config();
    thick.thin = false;
    let mut device = unit_of(thick);
    assert_eq!(operation_codes(&mut device, 1, 0x42, 0).data, [0, 1, 0, 0]);
    assert_eq!(operation_codes(&mut device, 2, 0x9E, 0x12).data, [0, 1, 0, 0]);
}

#[test]
fn task_management_functions() {
    let mut device = unit();
    let cdb = |options, length| [0xA3, 0x0D, options, 0, 0, 0, 0, 0, 0, length, 0, 0];
    assert_eq!(send(&mut device, A, &cdb(0, 255)).data, [0xD8, 0, 0, 0]);
    assert_eq!(send(&mut device, A, &cdb(0x80, 255)).data.len(), 16);
    assert_eq!(cdb_field(&send(&mut device, A, &cdb(0, 3))).0, 6);
    device.carry_queries(A);
    assert_eq!(send(&mut device, A, &cdb(0, 255)).data, [0xDC, 0x07, 0, 0]);
    assert_eq!(
        send(&mut device, B, &cdb(0, 255)).data,
        [0xD8, 0, 0, 0],
        "another nexus has its own transport"
    );
}

#[test]
fn stopping_flushes_and_keeps_the_unit_ready() {
    let mut device = unit();
    assert!(matches!(
        start(&mut device, &[0x1B, 0, 0, 0, 0, 0]),
        stampede_scsi::Step::Media(stampede_scsi::Media::Flush { range: None, immediate: false })
    ));
    for cdb in
        [[0x1B, 0, 0, 0, 0x04, 0], [0x1B, 0, 0, 0, 0x01, 0], [0x00, 0, 0, 0, 0, 0], [0x1E, 0, 0, 0, 1, 0]]
    {
        assert_eq!(send(&mut device, A, &cdb).status, stampede_scsi::Status::Good);
    }
    assert_eq!(cdb_field(&send(&mut device, A, &[0x1B, 0, 0, 0, 0x02, 0])), (4, Some(1)));
    assert_eq!(cdb_field(&send(&mut device, A, &[0x1B, 0, 0, 0, 0xF0, 0])), (4, Some(7)));
}
