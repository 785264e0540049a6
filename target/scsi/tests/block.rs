//! Block commands: ranges, limits, flags, data-out that is too short or too long (SBC-3 5).

mod common;

use common::*;
use stampede_scsi::{
    Blocks, DeviceConfig, Identity, LbaState, LbaStatusDescriptor, Media, MediaError, Pattern, Status,
    VerifyMode, lba_status_reply, media_failed,
};

fn ten(opcode: u8, flags: u8, lba: u32, count: u16) -> Vec<u8> {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = count.to_be_bytes();
    vec![opcode, flags, a, b, c, d, 0, high, low, 0]
}

fn sixteen(opcode: u8, flags: u8, lba: u64, count: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.extend_from_slice(&count.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

const GOOD: Status = Status::Good;

#[test]
fn reads_and_writes_of_every_length_become_ranges() {
    let mut device = unit();
    let range = Blocks { lba: 7, count: 3 };
    for cdb in [
        vec![0x08, 0, 0, 7, 3, 0],
        ten(0x28, 0x18, 7, 3),
        vec![0xA8, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0],
        sixteen(0x88, 0x18, 7, 3),
    ] {
        assert_eq!(media(start(&mut device, &cdb)), Media::Read { range });
    }
    assert_eq!(media(start(&mut device, &[0x0A, 0, 0, 7, 3, 0])), Media::Write { range, fua: false });
    assert_eq!(media(start(&mut device, &ten(0x2A, 0x00, 7, 3))), Media::Write { range, fua: false });
    assert_eq!(media(start(&mut device, &ten(0x2A, 0x08, 7, 3))), Media::Write { range, fua: true });
    assert_eq!(media(start(&mut device, &sixteen(0x8A, 0x18, 7, 3))), Media::Write { range, fua: true });
    assert_eq!(media(start(&mut device, &sixteen(0x8B, 0, 7, 3))), Media::OrWrite { range, fua: false });
}

#[test]
fn a_read6_of_zero_blocks_is_256_and_others_are_nothing() {
    let mut device = unit();
    let range = Blocks { lba: 0, count: 256 };
    assert_eq!(media(start(&mut device, &[0x08, 0, 0, 0, 0, 0])), Media::Read { range });
    for cdb in [ten(0x28, 0, 0, 0), ten(0x2A, 0, 0, 0), sixteen(0x8F, 0x02, 0, 0), sixteen(0x89, 0, 0, 0)] {
        assert_eq!(done(start(&mut device, &cdb)).status, GOOD);
    }
}

#[test]
fn addresses_beyond_the_end_are_refused_without_overflow() {
    let mut device = unit();
    let last = BLOCKS as u32 - 1;
    assert!(matches!(start(&mut device, &ten(0x28, 0, last, 1)), stampede_scsi::Step::Media(_)));
    for cdb in [
        ten(0x28, 0, last, 2),
        ten(0x2A, 0, last + 1, 1),
        ten(0x2F, 0, last + 2, 0),
        ten(0x41, 0, last, 2),
        sixteen(0x88, 0, u64::MAX, 1),
        sixteen(0x88, 0, u64::MAX, u32::MAX),
        sixteen(0x93, 0, 1 << 63, 1),
        sixteen(0x91, 0, BLOCKS + 1, 0),
        sixteen(0x90, 0, BLOCKS, 1),
        sixteen(0x9E, 0x12, BLOCKS, 24),
    ] {
        assert_eq!(codes(&done(start(&mut device, &cdb))), (0x05, 0x21, 0x00), "{cdb:02x?}");
    }
    // A range of no blocks right behind the end is no error.
    assert_eq!(done(start(&mut device, &ten(0x28, 0, last + 1, 0))).status, GOOD);
}

#[test]
fn protection_and_length_limits_point_at_their_fields() {
    let mut config = config();
    config.max_transfer_blocks = 16;
    let mut device = unit_of(config);
    for cdb in
        [ten(0x28, 0x20, 0, 1), ten(0x2A, 0x40, 0, 1), sixteen(0x8F, 0xE0, 0, 1), sixteen(0x93, 0x20, 0, 1)]
    {
        assert_eq!(cdb_field(&done(start(&mut device, &cdb))), (1, Some(7)));
    }
    assert_eq!(cdb_field(&done(start(&mut device, &ten(0x28, 0, 0, 17)))), (7, None));
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x8A, 0, 0, 17)))), (10, None));
    assert_eq!(cdb_field(&done(start(&mut device, &[0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0]))), (6, None));
    assert_eq!(cdb_field(&done(start(&mut device, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04]))), (9, Some(2)));
}

#[test]
fn short_data_out_cuts_writes_to_whole_blocks() {
    let mut device = unit();
    let cdb = padded(&ten(0x2A, 0, 0, 2));
    let cut = |count| Media::Write { range: Blocks { lba: 0, count }, fua: false };
    assert_eq!(media(device.start(A, &cdb, 2000, &[])), cut(2));
    assert_eq!(media(device.start(A, &cdb, 1023, &[])), cut(1));
    assert_eq!(done(device.start(A, &cdb, 511, &[])).status, GOOD);
    assert_eq!(done(device.start(A, &cdb, 0, &[])).status, GOOD);
}

#[test]
fn verify_modes_follow_bytchk() {
    let mut device = unit();
    let range = Blocks { lba: 4, count: 2 };
    for (flags, mode) in
        [(0, VerifyMode::MediumOnly), (2, VerifyMode::Compare), (6, VerifyMode::CompareOneBlock)]
    {
        assert_eq!(media(start(&mut device, &ten(0x2F, flags | 0x10, 4, 2))), Media::Verify { range, mode });
    }
    assert_eq!(cdb_field(&done(start(&mut device, &ten(0x2F, 4, 4, 2)))), (1, Some(2)));
    let write = Media::WriteVerify { range, mode: VerifyMode::Compare };
    assert_eq!(media(start(&mut device, &sixteen(0x8E, 2, 4, 2))), write);
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x8E, 6, 4, 2)))), (1, Some(2)));
}

#[test]
fn compare_and_write_needs_exactly_twice_its_blocks() {
    let mut device = unit();
    let cdb = |count: u8| padded(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, count, 0, 0]);
    let range = Blocks { lba: 9, count: 2 };
    assert_eq!(media(device.start(A, &cdb(2), 2048, &[])), Media::CompareWrite { range, fua: false });
    for bytes in [1024, 2047, 4096] {
        assert_eq!(codes(&done(device.start(A, &cdb(2), bytes, &[]))), (0x05, 0x0E, 0x03));
    }
    // 256 blocks of an initiator that did not look at the limit: the field says none, the data says otherwise.
    assert_eq!(cdb_field(&done(device.start(A, &cdb(0), 2 * 256 * 512, &[]))), (13, None));
    assert_eq!(done(device.start(A, &cdb(0), 0, &[])).status, GOOD);
    let mut small = config();
    small.max_compare_write_blocks = 1;
    let mut device = unit_of(small);
    assert_eq!(cdb_field(&done(device.start(A, &cdb(2), 2048, &[]))), (13, None));
    let mut none = config();
    none.max_compare_write_blocks = 0;
    let mut device = unit_of(none);
    assert_eq!(codes(&done(device.start(A, &cdb(2), 2048, &[]))), (0x05, 0x20, 0x00));
}

#[test]
fn atomic_writes_are_whole_and_aligned() {
    let mut config = config();
    config.max_atomic_blocks = 256;
    let mut device = unit_of(config);
    let cdb = |lba: u8, boundary: u8, count: u16| {
        let [high, low] = count.to_be_bytes();
        padded(&[0x9C, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, boundary, high, low])
    };
    let range = Blocks { lba: 8, count: 16 };
    let atomic = Media::WriteAtomic { range, fua: false };
    assert_eq!(media(device.start(A, &cdb(8, 0, 16), 16 * 512, &[])), atomic);
    assert_eq!(done(device.start(A, &cdb(8, 0, 0), 0, &[])).status, GOOD);
    for (cdb, field) in [(cdb(8, 8, 16), 10), (cdb(1, 0, 8), 2), (cdb(0, 0, 7), 12), (cdb(0, 0, 264), 12)] {
        assert_eq!(cdb_field(&done(start(&mut device, &cdb))), (field, None), "{cdb:02x?}");
    }
    assert_eq!(codes(&done(device.start(A, &cdb(8, 0, 16), 15 * 512, &[]))), (0x05, 0x0E, 0x03));
    let limits = send(&mut device, A, &[0x12, 1, 0xB0, 0, 64]).data;
    assert_eq!(limits[44..64], [0, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Where it is not offered, it is unknown and has no limits.
    let mut device = unit();
    assert_eq!(codes(&done(device.start(A, &cdb(8, 0, 16), 16 * 512, &[]))), (0x05, 0x20, 0x00));
    assert_eq!(send(&mut device, A, &[0x12, 1, 0xB0, 0, 64]).data[44..64], [0; 20]);
}

#[test]
fn write_same_has_one_block_or_none() {
    let mut device = unit();
    let range = Blocks { lba: 8, count: 64 };
    let same = |unmap, pattern| Media::WriteSame { range, unmap, pattern, fua: false };
    assert_eq!(media(start(&mut device, &ten(0x41, 0x08, 8, 64))), same(true, Pattern::DataOut));
    assert_eq!(media(start(&mut device, &sixteen(0x93, 0x00, 8, 64))), same(false, Pattern::DataOut));
    assert_eq!(media(start(&mut device, &sixteen(0x93, 0x09, 8, 64))), same(true, Pattern::Zero));
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x93, 0x18, 8, 64)))), (1, Some(4)));
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x93, 0, 8, 0)))), (10, None));
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x93, 0, 0, 0x8001)))), (10, None));
    let mut thick = config();
    thick.thin = false;
    thick.max_write_same_blocks = 0;
    let mut thick = unit_of(thick);
    let to_end = Media::WriteSame {
        range: Blocks { lba: 8, count: BLOCKS as u32 - 8 },
        unmap: false,
        pattern: Pattern::DataOut,
        fua: false,
    };
    assert_eq!(media(start(&mut thick, &sixteen(0x93, 0, 8, 0))), to_end);
    assert_eq!(done(thick.start(A, &padded(&sixteen(0x93, 0, BLOCKS, 0)), 512, &[])).status, GOOD);
    let mut limited = config();
    limited.thin = false;
    limited.max_write_same_blocks = 0x8000;
    let mut limited = unit_of(limited);
    assert_eq!(cdb_field(&done(start(&mut limited, &sixteen(0x93, 0, 8, 0)))), (10, None));
    assert_eq!(cdb_field(&done(start(&mut limited, &sixteen(0x93, 0, 0, 0x8001)))), (10, None));
    for bytes in [0, 256, 1024] {
        let reply = done(device.start(A, &padded(&ten(0x41, 0, 8, 1)), bytes, &[]));
        assert_eq!(codes(&reply), (0x05, 0x0E, 0x03));
    }
    let mut thick = config();
    thick.thin = false;
    assert_eq!(cdb_field(&done(start(&mut unit_of(thick), &ten(0x41, 0x08, 8, 1)))), (1, Some(3)));
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let bytes = 16 * ranges.len() as u16;
    let mut list = (bytes + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, count) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap_cdb(list: &[u8]) -> [u8; 16] {
    padded(&ten(0x42, 0, 0, list.len() as u16))
}

#[test]
fn unmap_takes_its_list() {
    let mut device = unit();
    let list = unmap_list(&[(0, 8), (5, 0), (64, 1)]);
    let Media::Unmap { ranges } = media(device.start(A, &unmap_cdb(&list), list.len() as u32, &list)) else {
        panic!("no unmap")
    };
    assert_eq!(ranges[..], [Blocks { lba: 0, count: 8 }, Blocks { lba: 64, count: 1 }]);
    // An incomplete last descriptor is left out.
    let mut odd = list.clone();
    odd[3] -= 8;
    let media = media(device.start(A, &unmap_cdb(&odd), odd.len() as u32, &odd));
    assert_eq!(media, Media::Unmap { ranges: [Blocks { lba: 0, count: 8 }].into_iter().collect() });
}

#[test]
fn unmap_lists_are_checked() {
    let mut device = unit();
    let mut reply = |list: &[u8]| send_param(&mut device, A, &unmap_cdb(list)[..10], list);
    assert_eq!(reply(&[]).status, GOOD);
    assert_eq!(reply(&unmap_list(&[])).status, GOOD);
    assert_eq!(reply(&unmap_list(&[(3, 0)])).status, GOOD);
    assert_eq!(codes(&reply(&[0; 7])), (0x05, 0x1A, 0x00));
    assert_eq!(codes(&reply(&unmap_list(&[(BLOCKS, 1)]))), (0x05, 0x21, 0x00));
    assert_eq!(codes(&reply(&unmap_list(&[(u64::MAX, u32::MAX)]))), (0x05, 0x21, 0x00));
    assert_eq!(codes(&reply(&unmap_list(&[(0, 8)])[..20])), (0x05, 0x1A, 0x00));
    assert_eq!(parameter_field(&reply(&unmap_list(&vec![(0, 1); 257]))), (2, None));
    // The list says more than the CDB lets the initiator send.
    let list = unmap_list(&[(0, 8)]);
    let short = done(device.start(A, &unmap_cdb(&list), 10, &list[..10]));
    assert_eq!(codes(&short), (0x05, 0x1A, 0x00));
    let anchor = done(device.start(A, &padded(&ten(0x42, 1, 0, 24)), 24, &list));
    assert_eq!(cdb_field(&anchor), (1, Some(0)));
}

#[test]
fn unmap_sums_its_blocks() {
    let mut config = config();
    config.max_unmap_blocks = 100;
    let mut device = unit_of(config);
    let list = unmap_list(&[(0, 60), (100, 41)]);
    let reply = send_param(&mut device, A, &unmap_cdb(&list)[..10], &list);
    assert_eq!(parameter_field(&reply), (32, None));
}

#[test]
fn thick_units_have_no_unmap() {
    let mut config = config();
    config.thin = false;
    let mut device = unit_of(config);
    assert_eq!(codes(&send(&mut device, A, &[0x42])), (0x05, 0x20, 0x00));
    // READ CAPACITY(16) shares its operation code: only the service action is wrong.
    assert_eq!(cdb_field(&done(start(&mut device, &sixteen(0x9E, 0x12, 0, 24)))), (1, Some(4)));
}

#[test]
fn flush_and_prefetch() {
    let mut device = unit();
    let all = |immediate| Media::Flush { range: None, immediate };
    assert_eq!(media(start(&mut device, &ten(0x35, 0, 0, 0))), all(false));
    assert_eq!(media(start(&mut device, &sixteen(0x91, 2, 5, 0))), all(true));
    let range = Blocks { lba: 5, count: 9 };
    let some = Media::Flush { range: Some(range), immediate: false };
    assert_eq!(media(start(&mut device, &sixteen(0x91, 0, 5, 9))), some);
    let fetch = Media::Prefetch { range, immediate: true };
    assert_eq!(media(start(&mut device, &ten(0x34, 2, 5, 9))), fetch);
    // To the end, but no more than the limit: it is a hint.
    let range = Blocks { lba: 0, count: 8192 };
    assert_eq!(media(start(&mut device, &ten(0x34, 0, 0, 0))), Media::Prefetch { range, immediate: false });
    assert_eq!(done(start(&mut device, &ten(0x34, 0, BLOCKS as u32, 0))).status, GOOD);
}

#[test]
fn read_only_units_refuse_every_write() {
    let mut config = config();
    config.read_only = true;
    let mut device = unit_of(config);
    let list = unmap_list(&[(0, 8)]);
    for cdb in [
        vec![0x0A, 0, 0, 0, 1, 0],
        ten(0x2A, 0, 0, 1),
        ten(0x2E, 0, 0, 1),
        ten(0x41, 0, 0, 1),
        ten(0x42, 0, 0, list.len() as u16),
        sixteen(0x89, 0, 0, 1),
        sixteen(0x8A, 0, 0, 1),
        sixteen(0x8B, 0, 0, 1),
        sixteen(0x93, 9, 0, 1),
    ] {
        assert_eq!(codes(&done(start(&mut device, &cdb))), (0x07, 0x27, 0x00), "{cdb:02x?}");
    }
    assert_eq!(done(start(&mut device, &ten(0x35, 0, 0, 0))).status, GOOD);
    assert!(matches!(start(&mut device, &ten(0x28, 0, 0, 1)), stampede_scsi::Step::Media(_)));
}

#[test]
fn failures_become_sense_data() {
    let read = Media::Read { range: Blocks { lba: 1000, count: 8 } };
    let reply = media_failed(&MediaError::Unrecovered { lba: Some(1003) }, &read);
    assert_eq!((codes(&reply), sense(&reply).information), ((0x03, 0x11, 0x00), Some(1003)));
    let reply = media_failed(&MediaError::Unrecovered { lba: None }, &read);
    assert_eq!(sense(&reply).information, Some(1000));
    let write = Media::Write { range: Blocks { lba: 5, count: 1 }, fua: false };
    assert_eq!(codes(&media_failed(&MediaError::NoSpace, &write)), (0x07, 0x27, 0x07));
    assert_eq!(codes(&media_failed(&MediaError::Hardware, &write)), (0x04, 0x44, 0x00));
    let reply = media_failed(&MediaError::Miscompare { offset: 77 }, &write);
    assert_eq!((codes(&reply), sense(&reply).information), ((0x0E, 0x1D, 0x00), Some(77)));
    assert_eq!(media_failed(&MediaError::Busy, &write).status, Status::Busy);
}

/// SBC-3 4.18, SPC-4 4.5.2.2 and 4.5.3: fixed format has room for 32 bits, and says by VALID whether they are the address.
#[test]
fn information_is_the_first_bad_block_of_the_command() {
    use stampede_scsi::SenseFormat::{Descriptor, Fixed};
    for block_size in [512, 4096] {
        let device = unit_of(DeviceConfig::with_block_size(Identity::default(), block_size, 4096, 1 << 40));
        for lba in [1003, u64::from(u32::MAX), 1 << 32, 5 << 32 | 7] {
            let range = Blocks { lba: lba - 3, count: 8 };
            for (media, bad) in [
                (Media::Read { range }, MediaError::Unrecovered { lba: Some(lba) }),
                (Media::Write { range, fua: false }, MediaError::WriteFault { lba: Some(lba) }),
            ] {
                let sense = sense(&device.media_failed(&bad, &media));
                let fixed = sense.with_format(Fixed).encode();
                match u32::try_from(lba) {
                    Ok(lba) => assert_eq!((fixed[0], &fixed[3..7]), (0xF0, &lba.to_be_bytes()[..])),
                    Err(_) => assert_eq!((fixed[0], &fixed[3..7]), (0x70, &[0; 4][..])),
                }
                let descriptor = sense.with_format(Descriptor).encode();
                assert_eq!(descriptor[8..12], [0x00, 0x0A, 0x80, 0]);
                assert_eq!(descriptor[12..20], lba.to_be_bytes());
            }
        }
    }
    // The device's block begins before the command's, or ends behind it.
    let read = Media::Read { range: Blocks { lba: 1001, count: 2 } };
    for (bad, told) in [(1000, 1001), (1002, 1002), (1003, 1002)] {
        let reply = media_failed(&MediaError::Unrecovered { lba: Some(bad) }, &read);
        assert_eq!(sense(&reply).information, Some(told));
    }
    // A miscompare tells a byte of data-out, not an address (SBC-3 5.3).
    let compare = sense(&media_failed(&MediaError::Miscompare { offset: 4097 }, &read));
    assert_eq!(compare.with_format(Fixed).encode()[..7], [0xF0, 0, 0x0E, 0, 0, 0x10, 0x01]);
}

#[test]
fn lba_status_is_listed_and_cut() {
    let mut device = unit();
    let work = media(start(&mut device, &sixteen(0x9E, 0x12, 16, 40)));
    assert_eq!(work, Media::LbaStatus { lba: 16, allocation_length: 40 });
    assert_eq!(Media::lba_status_descriptors_max(40), 2);
    let descriptor = |lba, state| LbaStatusDescriptor { lba, count: 8, state };
    let list = [
        descriptor(16, LbaState::Mapped),
        descriptor(24, LbaState::Deallocated),
        descriptor(32, LbaState::Mapped),
    ];
    let reply = lba_status_reply(&list, 40);
    assert_eq!(reply.data.len(), 40);
    assert_eq!(reply.data[..8], [0, 0, 0, 36, 0, 0, 0, 0]);
    assert_eq!(reply.data[24..40], [0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 8, 1, 0, 0, 0]);
    assert_eq!(lba_status_reply(&list, 3).data.len(), 3);
}
