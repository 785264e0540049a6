//! Commands of block devices that go beyond READ and WRITE: atomic writes, and CDBs of 32 bytes (SBC-3, SBC-4).

use super::sense::segment;
use crate::conn::{Cmd, Conn, Done, cdb};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::BLOCK;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;

pub(super) const TESTS: &[Test] = &[
    test!(
        atomic_writes_are_offered_within_their_limits,
        "SBC-4 5.48, 6.6.4",
        "WRITE ATOMIC(16) of the length that the Block Limits page names is taken and read back; a longer one, one with \
         a boundary, and one that is not aligned are refused, and the field pointer says why",
        "scsi/src/block/transfer.rs#write_atomic"
    )
    .broken_by(Mutation::new("an unaligned atomic write ends well", all_good)),
    test!(
        lba_status_of_a_file_tells_its_holes,
        "SBC-3 5.5, 4.7.3",
        "GET LBA STATUS tells blocks that were never written or are unmapped as deallocated, and they read as zeros; \
         written ones are mapped; the first descriptor begins at the address asked for and none leaves a gap",
        "engine/src/lun/lba_status.rs#of_stretches"
    )
    .broken_by(Mutation::new("deallocated blocks are told as mapped", all_mapped)),
    test!(
        write_same_has_a_long_form,
        "SBC-3 5.48, SPC-4 4.2.3, RFC 7143 11.2.2.3",
        "WRITE SAME(32) writes its block to each block of its range; what is wrong in it is pointed at where it stands \
         in 32 bytes",
        "scsi/src/cdb/long.rs#condensed"
    )
    .broken_by(Mutation::new("field pointers are those of the 16-byte form", points_at_short_form)),
    test!(
        bitmaps_have_generations,
        "SBC-4 4.27, 5.11",
        "ORWRITE(32) sets bits, or clears bits and changes the generation; a command of another generation is done, dropped or \
         refused with 05h/2Ch/0Ch as the policy says, and ORWRITE(16) is one of generation 0",
        "scsi/src/bitmap.rs#fate"
    )
    .broken_by(Mutation::new("another generation is taken", any_generation)),
    test!(
        long_forms_for_type_2_protection_are_unknown,
        "SBC-3 5.15, 5.37, 5.42, 5.46",
        "READ, VERIFY, WRITE, WRITE AND VERIFY and WRITE ATOMIC of 32 bytes are for units with type 2 protection: here \
         they are unknown operation codes; other service actions, and another length, are invalid fields",
        "scsi/src/cdb/long.rs#TypeTwoOnly"
    ),
    test!(
        long_commands_are_reported_with_their_service_action,
        "SPC-4 6.35",
        "REPORT SUPPORTED OPERATION CODES tells of operation code 7Fh by service action, with 32 bytes of usage data, \
         and tells of none that is refused",
        "scsi/src/report/opcodes.rs#one"
    ),
];

fn all_good(middle: &mut Middle, mut pdu: Raw) {
    let atomic = middle.last_sent(Opcode::ScsiCommand).is_some_and(|bhs| bhs.0[32] == 0x9c);
    if atomic && pdu.opcode() == Some(Opcode::ScsiResponse) {
        pdu.set_byte(3, 0);
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

fn points_at_short_form(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) && pdu.data.len() >= 20 && pdu.data[17] & 0x80 != 0 {
        let mut sense = pdu.data.clone();
        sense[19] = match sense[19] {
            10 => 1,
            12 => 2,
            other => other,
        };
        pdu.set_data(sense);
    }
    middle.pass(pdu);
}

fn any_generation(middle: &mut Middle, mut pdu: Raw) {
    let mismatch = pdu.data.get(14..16).is_some_and(|code| code == [0x2c, 0x0c]);
    if mismatch && pdu.opcode() == Some(Opcode::ScsiResponse) {
        pdu.set_byte(3, 0);
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

/// The byte that the sense's field pointer names; `None` without one.
fn field(done: &Done) -> Option<u16> {
    let valid = done.sense.get(15).is_some_and(|byte| byte & 0x80 != 0);
    valid.then(|| u16::from_be_bytes([done.sense[16], done.sense[17]]))
}

fn write_atomic(lba: u64, boundary: u16, blocks: u16) -> [u8; 16] {
    let mut cdb = cdb::of(&[0x9c]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn atomic_writes_are_offered_within_their_limits(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let limits = conn.run(&Cmd::reading(cdb::inquiry_page(0xb0, 64), 64))?.good()?.data;
    let word = |at: usize| u32::from_be_bytes([limits[at], limits[at + 1], limits[at + 2], limits[at + 3]]);
    let (longest, alignment, granularity) = (word(44) as u16, word(48), word(52));
    ensure!(longest > 0, "the longest atomic write is {longest} blocks");
    ensure_eq!((alignment, granularity), (8, 8), "alignment and granularity");
    let data: Vec<u8> = (0..usize::from(longest) * BLOCK).map(|at| (at / 7) as u8).collect();
    conn.run(&Cmd::writing(write_atomic(64, 0, longest), &data))?.good()?;
    let read = conn.run(&Cmd::read(64, longest))?.good()?;
    ensure!(read.data == data, "an atomic write is read back as something else");
    let longer = vec![0; data.len() + 8 * BLOCK];
    for (cdb, data, byte) in [
        (write_atomic(64, 0, longest + 8), &longer[..], 12),
        (write_atomic(64, 8, 8), &data[..8 * BLOCK], 10),
        (write_atomic(65, 0, 8), &data[..8 * BLOCK], 2),
        (write_atomic(64, 0, 7), &data[..7 * BLOCK], 12),
    ] {
        let done = conn.run(&Cmd::writing(cdb, data))?.check_condition((5, 0x24, 0))?;
        ensure_eq!(field(&done), Some(byte), "the field that is wrong");
    }
    let read = conn.run(&Cmd::read(64, longest))?.good()?;
    ensure!(read.data == data, "a refused atomic write was done");
    Ok(())
}

fn all_mapped(middle: &mut Middle, mut pdu: Raw) {
    let status = middle.last_sent(Opcode::ScsiCommand).is_some_and(|bhs| bhs.0[32..34] == [0x9e, 0x12]);
    if status && pdu.opcode() == Some(Opcode::DataIn) {
        let mut data = pdu.data.clone();
        data.chunks_exact_mut(8).skip(2).step_by(2).for_each(|chunk| chunk[4] = 0);
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

/// Address, blocks and state of each descriptor of GET LBA STATUS.
fn lba_status(conn: &mut Conn, lba: u64, allocation: u32) -> Outcome<Vec<(u64, u32, u8)>> {
    let mut cdb = cdb::of(&[0x9e, 0x12]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    let data = conn.run(&Cmd::reading(cdb, allocation))?.good()?.data;
    ensure!(data.len() >= 24, "{} bytes of LBA status", data.len());
    let (mut descriptors, mut at) = (Vec::new(), lba);
    for one in data[8..].chunks_exact(16) {
        let word = |at: usize| u32::from_be_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
        let start = u64::from(word(0)) << 32 | u64::from(word(4));
        ensure_eq!(start, at, "where a descriptor begins");
        ensure!(word(8) > 0, "a descriptor of no blocks");
        at += u64::from(word(8));
        descriptors.push((start, word(8), one[12] & 0x0f));
    }
    Ok(descriptors)
}

fn lba_status_of_a_file_tells_its_holes(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    const LBA: u32 = 4096;
    let state = |conn: &mut Conn| Ok::<_, crate::failure::Failure>(lba_status(conn, LBA.into(), 1024)?[0].2);
    ensure_eq!(state(&mut conn)?, 1, "the state of what was never written");
    conn.run(&Cmd::write(LBA, &[9; 16 * BLOCK]))?.good()?;
    let written = lba_status(&mut conn, LBA.into(), 1024)?;
    ensure_eq!((written[0].1, written[0].2), (16, 0), "blocks and state of what was written");
    ensure_eq!(written[1].2, 1, "the state behind it");
    ensure_eq!(lba_status(&mut conn, LBA.into(), 24)?.len(), 1, "descriptors in 24 bytes");
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&u64::from(LBA).to_be_bytes());
    list.extend_from_slice(&[0, 0, 0, 16, 0, 0, 0, 0]);
    conn.run(&Cmd::writing(cdb::of(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24]), &list))?.good()?;
    ensure_eq!(state(&mut conn)?, 1, "the state of what was unmapped");
    let read = conn.run(&Cmd::read(LBA, 16))?.good()?;
    ensure!(read.data.iter().all(|byte| *byte == 0), "deallocated blocks are not zeros");
    Ok(())
}

/// A CDB of 32 bytes.
fn long(action: u16, additional: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[10]) = (0x7f, additional, flags);
    cdb[8..10].copy_from_slice(&action.to_be_bytes());
    cdb[12..20].copy_from_slice(&lba.to_be_bytes());
    // Expectations about protection information that there is not.
    cdb[20..28].fill(0x5a);
    cdb[28..].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn run_long(conn: &mut Conn, cdb: &[u8; 32], data: &[u8]) -> Outcome<Done> {
    let mut head = [0; 16];
    head.copy_from_slice(&cdb[..16]);
    let header = conn.header(&if data.is_empty() { Cmd::new(head) } else { Cmd::writing(head, data) });
    let content = [&[0], &cdb[16..]].concat();
    conn.send_with_ahs(header, &segment(1, &content), &[]);
    conn.finish(&header, data)
}

fn write_same_has_a_long_form(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let block = [0xa7; BLOCK];
    conn.run(&Cmd::write(100, &[1; 12 * BLOCK]))?.good()?;
    run_long(&mut conn, &long(0x0d, 24, 0, 101, 10), &block)?.good()?;
    let read = conn.run(&Cmd::read(100, 12))?.good()?.data;
    ensure!(
        read[..BLOCK] == [1; BLOCK] && read[11 * BLOCK..] == [1; BLOCK],
        "blocks beside the range changed"
    );
    ensure!(read[BLOCK..11 * BLOCK].chunks(BLOCK).all(|one| one == block), "the range has something else");
    // NDOB: zeros, and no data.
    run_long(&mut conn, &long(0x0d, 24, 0x01, 101, 2), &[])?.good()?;
    let read = conn.run(&Cmd::read(101, 2))?.good()?.data;
    ensure!(read.iter().all(|byte| *byte == 0), "NDOB wrote something");
    for (cdb, code, byte) in [
        (long(0x0d, 24, 0x10, 101, 10), (5, 0x24, 0), 10),
        (long(0x0d, 24, 0x20, 101, 10), (5, 0x24, 0), 10),
        (long(0x0d, 24, 0, 1 << 40, 10), (5, 0x21, 0), 12),
    ] {
        let done = run_long(&mut conn, &cdb, &block)?.check_condition(code)?;
        ensure_eq!(field(&done), Some(byte), "the field that is wrong");
    }
    Ok(())
}

/// ORWRITE(32) of one block.
fn orwrite(bmop: u8, policy: u8, expected: u32, new: u32) -> [u8; 32] {
    let mut cdb = long(0x0e, 24, 0, 200, 1);
    (cdb[2], cdb[3]) = (bmop, policy);
    cdb[20..24].copy_from_slice(&expected.to_be_bytes());
    cdb[24..28].copy_from_slice(&new.to_be_bytes());
    cdb
}

fn bitmaps_have_generations(lab: &mut Lab) -> Outcome {
    const MISMATCH: (u8, u8, u8) = (5, 0x2c, 0x0c);
    let mut conn = lab.plain()?;
    conn.run(&Cmd::write(200, &[0b1100_0000; BLOCK]))?.good()?;
    let is = |conn: &mut Conn, bits: u8| {
        let read = conn.run(&Cmd::read(200, 1))?.good()?.data;
        ensure!(read == [bits; BLOCK], "the bitmap is {:08b} and should be {bits:08b}", read[0]);
        Ok::<_, crate::failure::Failure>(())
    };
    run_long(&mut conn, &orwrite(0, 0, 0, 0), &[0b0000_0011; BLOCK])?.good()?;
    is(&mut conn, 0b1100_0011)?;
    run_long(&mut conn, &orwrite(0, 0, 7, 0), &[0xff; BLOCK])?.check_condition(MISMATCH)?;
    // Policy 2: the previous generation is dropped.
    run_long(&mut conn, &orwrite(1, 2, 0, 0x8000_0001), &[0b0110_0001; BLOCK])?.good()?;
    is(&mut conn, 0b0100_0001)?;
    run_long(&mut conn, &orwrite(0, 0, 0, 0), &[0xff; BLOCK])?.good()?;
    let sixteen = cdb::of(&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 1]);
    conn.run(&Cmd::writing(sixteen, &[0xff; BLOCK]))?.good()?;
    is(&mut conn, 0b0100_0001)?;
    run_long(&mut conn, &orwrite(1, 2, 0, 9), &[0; BLOCK])?.check_condition(MISMATCH)?;
    run_long(&mut conn, &orwrite(0, 0, 0x8000_0001, 0), &[0b1000_0000; BLOCK])?.good()?;
    is(&mut conn, 0b1100_0001)?;
    run_long(&mut conn, &orwrite(1, 3, 0x8000_0001, 9), &[0xff; BLOCK])?.good()?;
    conn.run(&Cmd::writing(sixteen, &[0b0001_0000; BLOCK]))?.good()?;
    is(&mut conn, 0b1101_0001)?;
    let done = run_long(&mut conn, &orwrite(3, 0, 0, 0), &[0; BLOCK])?.check_condition((5, 0x24, 0))?;
    ensure_eq!(field(&done), Some(2), "the field that is wrong");
    Ok(())
}

fn long_forms_for_type_2_protection_are_unknown(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for action in [0x09, 0x0a, 0x0b, 0x0c, 0x0f] {
        run_long(&mut conn, &long(action, 24, 0, 0, 1), &[])?.check_condition((5, 0x20, 0))?;
    }
    for (cdb, byte) in
        [(long(0x07, 24, 0, 0, 1), 8), (long(0x1801, 24, 0, 0, 1), 8), (long(0x0d, 20, 0, 0, 1), 7)]
    {
        let done = run_long(&mut conn, &cdb, &[])?.check_condition((5, 0x24, 0))?;
        ensure_eq!(field(&done), Some(byte), "the field that is wrong");
    }
    // 16 bytes alone are no long CDB, whatever they look like.
    let alone = cdb::of(&[0x7f, 0x0d, 0, 0, 0, 0, 0, 24, 0, 0x0d]);
    conn.run(&Cmd::new(alone))?.check_condition((5, 0x24, 0))?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn long_commands_are_reported_with_their_service_action(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let one = |action: u8| cdb::of(&[0xa3, 0x0c, 3, 0x7f, 0, action, 0, 0, 1, 0]);
    let done = conn.run(&Cmd::reading(one(0x0d), 256))?.good()?;
    ensure_eq!((done.data[1] & 7, done.data.len()), (3, 36), "support and length of WRITE SAME(32)");
    ensure_eq!(done.data[4..14], [0x7f, 4, 0, 0, 0, 0, 0, 0x18, 0, 0x0d], "the head of its usage data");
    let done = conn.run(&Cmd::reading(one(0x0e), 256))?.good()?;
    ensure_eq!(
        done.data[4..16],
        [0x7f, 4, 7, 0x0f, 0, 0, 0, 0x18, 0, 0x0e, 0xf8, 0],
        "the usage data of ORWRITE(32)"
    );
    for action in [0x09, 0x0b, 0x0f] {
        let done = conn.run(&Cmd::reading(one(action), 256))?.good()?;
        ensure_eq!(done.data[1] & 7, 1, "the support of a command for type 2 protection");
    }
    Ok(())
}
