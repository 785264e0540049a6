//! SANITIZE (SBC-4 4.11, 5.30): all data goes, and whatever happens meanwhile, the operation goes on.

use crate::conn::{Cmd, Conn, Done, LoginText, cdb};
use crate::failure::{Outcome, fail};
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::run::Side;
use crate::site::{BLOCK, BLOCKS, CLONE, DATA, Site};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{TaskManagementFunction as Function, TaskManagementRequest};

/// A pass over the disk takes a second.
const SLOW: Site = Site { sanitize_rate: 4 << 20, ..Site::PLAIN };
const IN_PROGRESS: (u8, u8, u8) = (2, 4, 0x1b);
const SANITIZE: u8 = 0x48;
const IMMED: u8 = 0x80;

pub(super) const TESTS: &[Test] = &[
    test!(
        sanitize_overwrites_every_block,
        "SBC-4 5.30.2.2",
        "OVERWRITE writes its pattern, from the start of each block, as often as its count says; with INVERT every other \
         pass writes the complement, and the last one the pattern",
        "scsi/src/sanitize.rs#fill"
    )
    .broken_by(Mutation::new("the last block reads as if nothing had been written", last_block_is_zero)),
    test!(
        nothing_but_questions_is_answered_during_a_sanitize_operation,
        "SBC-4 4.11.2",
        "while it goes on, INQUIRY, REPORT LUNS and REQUEST SENSE are answered, and all else, of any I_T nexus, ends with \
         02h/04h/1Bh and how far it has come",
        "scsi/src/cdb/table.rs#runs_while_sanitizing"
    )
    .on(SLOW)
    .broken_by(Mutation::new("the progress is left out", no_progress)),
    test!(
        no_reset_ends_a_sanitize_operation,
        "SBC-4 4.11.2, SAM-5 7",
        "ABORT TASK SET and LOGICAL UNIT RESET are answered at once, the command's session may end, and the operation \
         goes on to its end",
        "engine/src/lun/sanitize.rs#forsake_sanitize"
    )
    .on(SLOW)
    .broken_by(Mutation::new("a reset ends it", ended_by_reset)),
    test!(
        sanitize_parameters_are_checked,
        "SBC-4 5.30.1, 5.30.2",
        "reserved fields, service actions that are not offered, lengths that do not fit, a count of 0 and a pattern longer \
         than a block are refused, and nothing is destroyed",
        "scsi/src/block/sanitize.rs#check_reserved"
    )
    .broken_by(Mutation::new("what is wrong is taken", taken)),
    test!(
        erased_clone_reads_as_zeros,
        "SBC-4 5.30.2.3, 4.11.3, 6.5.2",
        "after BLOCK ERASE a clone reads as zeros without error, as WABEREQ says, and no block of it is mapped",
        "engine/src/lun/sanitize.rs#wipe"
    )
    .broken_by(Mutation::new("WABEREQ is 00b", no_wabereq)),
    test!(
        cryptographic_erase_destroys_the_key,
        "SBC-4 4.11, 5.30.2.4",
        "after CRYPTOGRAPHIC ERASE nothing that was written can be read, by the target or with the key that there was, and the \
         unit takes writes as before; what its file holds is never what initiators wrote",
        "engine/src/lun/sanitize.rs#rekeyed"
    )
    .on(Site { encrypted: true, ..Site::PLAIN })
    .only(Side::Tcp, "the twin's control thread has no keys; engine/tests/twin/encrypted.rs kills it at every moment")
    .broken_by(Mutation::new("what was written is still read", still_there)),
];

fn last_block_is_zero(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::DataIn) && pdu.data.len() >= BLOCK {
        let mut data = pdu.data.clone();
        let at = data.len() - BLOCK;
        data[at..].fill(0);
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

/// Whether a response says 02h/04h/1Bh.
fn says_in_progress(pdu: &Raw) -> bool {
    let at = |place: usize| pdu.data.get(place).copied().unwrap_or(0);
    pdu.opcode() == Some(Opcode::ScsiResponse) && (at(4) & 15, at(14), at(15)) == IN_PROGRESS
}

fn no_progress(middle: &mut Middle, mut pdu: Raw) {
    if says_in_progress(&pdu) {
        let mut data = pdu.data.clone();
        data[17..20].fill(0);
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

fn ended_by_reset(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TaskManagementResponse) {
        middle.memory = 1;
    } else if middle.memory == 1 && says_in_progress(&pdu) {
        good(&mut pdu);
    }
    middle.pass(pdu);
}

fn taken(middle: &mut Middle, mut pdu: Raw) {
    let asked = middle.last_sent(Opcode::ScsiCommand).is_some_and(|bhs| bhs.0[32] == SANITIZE);
    if asked && pdu.opcode() == Some(Opcode::ScsiResponse) {
        good(&mut pdu);
    }
    middle.pass(pdu);
}

pub(super) fn good(pdu: &mut Raw) {
    pdu.set_data(Vec::new());
    pdu.set_byte(3, 0);
}

fn no_wabereq(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::DataIn) && pdu.data.get(1) == Some(&0xb1) {
        let mut data = pdu.data.clone();
        data[7] = 0;
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

fn still_there(middle: &mut Middle, mut pdu: Raw) {
    let read = middle.last_sent(Opcode::ScsiCommand).is_some_and(|bhs| bhs.0[32] == 0x28);
    if read && pdu.opcode() == Some(Opcode::DataIn) {
        let len = pdu.data.len();
        pdu.set_data(vec![0x77; len]);
    }
    middle.pass(pdu);
}

/// OVERWRITE with flags in the CDB, a first byte of its list, and a pattern.
fn overwrite(flags: u8, first: u8, pattern: &[u8]) -> Cmd {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    let list = [&[first, 0, high, low], pattern].concat();
    let [list_high, list_low] = (list.len() as u16).to_be_bytes();
    let head = [SANITIZE, flags | 1, 0, 0, 0, 0, 0, list_high, list_low];
    Cmd::writing(cdb::of(&head), &list)
}

fn block_erase() -> Cmd {
    Cmd::new(cdb::of(&[SANITIZE, 2]))
}

/// The progress in sense data that says 02h/04h/1Bh.
fn progress(done: Done) -> Outcome<u16> {
    let done = done.check_condition(IN_PROGRESS)?;
    ensure!(done.sense.len() >= 18 && done.sense[15] & 0x80 != 0, "no progress indication");
    Ok(u16::from_be_bytes([done.sense[16], done.sense[17]]))
}

/// Runs TEST UNIT READY until the medium is to be had again.
fn await_end(conn: &mut Conn) -> Outcome {
    for _ in 0..1_000_000 {
        let done = conn.run(&Cmd::test_unit_ready())?;
        match done.sense_code() {
            (0, 0, 0) => return done.good().map(drop),
            IN_PROGRESS | (6, ..) => {}
            (key, asc, ascq) => return fail(format!("sense {key:x}/{asc:02x}/{ascq:02x}")),
        }
    }
    fail("it goes on for ever")
}

/// Every block of the disk is this.
fn all_blocks_are(conn: &mut Conn, block: &[u8]) -> Outcome {
    const AT_ONCE: u16 = 512;
    for lba in (0..BLOCKS as u32).step_by(usize::from(AT_ONCE)) {
        let read = conn.run(&Cmd::read(lba, AT_ONCE))?.good()?.data;
        let wrong = read.chunks(BLOCK).position(|found| found != block);
        ensure!(
            wrong.is_none(),
            "block {} is not what it was overwritten with",
            lba as usize + wrong.unwrap_or(0)
        );
    }
    Ok(())
}

fn sanitize_overwrites_every_block(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for (first, pattern) in [(0x82, vec![0xa5, 0x5a, 0xc3]), (1, vec![7; BLOCK]), (3, vec![0])] {
        conn.run(&Cmd::write(8, &[0x11; 4 * BLOCK]))?.good()?;
        conn.run(&overwrite(0, first, &pattern))?.good()?;
        let block: Vec<u8> = pattern.iter().copied().cycle().take(BLOCK).collect();
        all_blocks_are(&mut conn, &block)?;
    }
    Ok(())
}

fn nothing_but_questions_is_answered_during_a_sanitize_operation(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let mut two = lab.ready(&LoginText::normal(DATA, 2))?;
    one.run(&overwrite(IMMED, 1, &[9]))?.good()?;
    let first = progress(two.run(&Cmd::test_unit_ready())?)?;
    for conn in [&mut one, &mut two] {
        progress(conn.run(&Cmd::read(0, 1))?)?;
        progress(conn.run(&Cmd::write(0, &[1; BLOCK]))?)?;
        progress(conn.run(&Cmd::reading(cdb::mode_sense_6(64), 64))?)?;
        progress(conn.run(&Cmd::new(cdb::of(&[0x35])))?)?;
        progress(conn.run(&Cmd::new(cdb::of(&[0x1b, 0, 0, 0, 1])))?)?;
        progress(conn.run(&overwrite(0, 1, &[1]))?)?;
        conn.run(&Cmd::reading(cdb::inquiry(36), 36))?.good()?;
        conn.run(&Cmd::reading(cdb::report_luns(64), 64))?.good()?;
        let sense = conn.run(&Cmd::reading(cdb::of(&[3, 0, 0, 0, 18]), 18))?.good()?.data;
        ensure_eq!((sense[2] & 15, sense[12], sense[13]), IN_PROGRESS, "the sense of REQUEST SENSE");
    }
    let last = progress(one.run(&Cmd::test_unit_ready().ordered())?)?;
    ensure!(first <= last, "the progress went back from {first} to {last}");
    await_end(&mut two)?;
    all_blocks_are(&mut one, &[9; BLOCK])
}

fn no_reset_ends_a_sanitize_operation(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let mut witness = lab.ready(&LoginText::normal(DATA, 3))?;
    let sanitize = overwrite(0, 1, &[3]);
    let list = sanitize.write.clone().unwrap_or_default();
    one.start(&sanitize.with_immediate_data(list.len()));
    // A function that came with it would end it before it began.
    while witness.run(&Cmd::test_unit_ready())?.status == 0 {}
    for function in [Function::AbortTaskSet, Function::LogicalUnitReset] {
        let tag = one.new_tag();
        let request = TaskManagementRequest::new(function, tag, crate::conn::lun(0), one.sns());
        one.send(request.into_immediate(), &[]);
        let response = one.expect::<stampede_wire::pdu::TaskManagementResponse>()?;
        ensure_eq!((response.word(16), response.byte(2)), (tag, 0), "the tag and the code of the response");
    }
    let done = one.run(&Cmd::test_unit_ready())?;
    ensure_eq!((done.sense_code().0, done.sense_code().1), (6, 0x29), "the sense after a reset");
    progress(one.run(&Cmd::test_unit_ready())?)?;
    one.vanish();
    let mut two = lab.session(&LoginText::normal(DATA, 2))?;
    two.run(&Cmd::test_unit_ready())?;
    progress(two.run(&Cmd::test_unit_ready())?)?;
    await_end(&mut two)?;
    all_blocks_are(&mut two, &[3; BLOCK])
}

fn sanitize_parameters_are_checked(lab: &mut Lab) -> Outcome {
    const IN_CDB: (u8, u8, u8) = (5, 0x24, 0);
    const IN_LIST: (u8, u8, u8) = (5, 0x26, 0);
    let mut conn = lab.plain()?;
    conn.run(&Cmd::write(0, &[0x77; BLOCK]))?.good()?;
    // CRYPTOGRAPHIC ERASE is not offered; no service action has these numbers.
    for action in [0, 3, 4, 0x1e] {
        conn.run(&Cmd::new(cdb::of(&[SANITIZE, action])))?.check_condition(IN_CDB)?;
    }
    for byte in 2..7 {
        let mut cmd = overwrite(0, 1, &[1]);
        cmd.cdb[byte] = 1;
        conn.run(&cmd)?.check_condition(IN_CDB)?;
    }
    conn.run(&overwrite(0x40, 1, &[1]))?.check_condition(IN_CDB)?;
    conn.run(&overwrite(0, 1, &[]))?.check_condition(IN_CDB)?;
    conn.run(&overwrite(0, 1, &[1; BLOCK + 1]))?.check_condition(IN_CDB)?;
    conn.run(&overwrite(0, 0, &[1]))?.check_condition(IN_LIST)?;
    conn.run(&overwrite(0, 0x21, &[1]))?.check_condition(IN_LIST)?;
    let mut long = overwrite(0, 1, &[1]);
    if let Some(list) = &mut long.write {
        list[2] = 0x40;
    }
    conn.run(&long)?.check_condition(IN_LIST)?;
    let mut exit = Cmd::writing(cdb::of(&[SANITIZE, 0x1f, 0, 0, 0, 0, 0, 0, 8]), &[0; 8]);
    conn.run(&exit)?.check_condition(IN_CDB)?;
    exit = Cmd::new(cdb::of(&[SANITIZE, 0x1f]));
    conn.run(&exit)?.good()?;
    let read = conn.run(&Cmd::read(0, 1))?.good()?.data;
    ensure!(read == [0x77; BLOCK], "data was destroyed by a command that was refused");
    Ok(())
}

fn erased_clone_reads_as_zeros(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::normal(CLONE, 1))?;
    let page = conn.run(&Cmd::reading(cdb::inquiry_page(0xb1, 64), 64))?.good()?.data;
    ensure_eq!(page[7] >> 4, 0b0100, "WABEREQ and WACEREQ");
    conn.run(&Cmd::write(0, &[0x77; 16 * BLOCK]))?.good()?;
    conn.run(&Cmd::write(BLOCKS as u32 - 3, &[0x78; 3 * BLOCK]))?.good()?;
    conn.run(&block_erase())?.good()?;
    all_blocks_are(&mut conn, &[0; BLOCK])?;
    let status = cdb::of(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24]);
    let status = conn.run(&Cmd::reading(status, 24))?.good()?.data;
    ensure_eq!(status[16..21], [0, 0, (BLOCKS >> 8) as u8, BLOCKS as u8, 1], "all blocks are deallocated");
    conn.run(&Cmd::write(5, &[0x79; BLOCK]))?.good()?;
    ensure!(conn.run(&Cmd::read(5, 1))?.good()?.data == [0x79; BLOCK], "a write behind it is lost");
    Ok(())
}

/// All there is in the folder of keys.
fn keys(lab: &Lab) -> Outcome<String> {
    let files = std::fs::read_dir(lab.path("state/keys")?)?;
    let texts = files.map(|file| std::fs::read_to_string(file?.path()));
    Ok(texts.collect::<std::io::Result<Vec<_>>>()?.concat())
}

/// The one key in this text.
fn key(text: &str) -> Outcome<&str> {
    let mut lines = text.lines().filter(|line| line.starts_with("key = "));
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        _ => fail("there is not one key"),
    }
}

fn cryptographic_erase_destroys_the_key(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let page = conn.run(&Cmd::reading(cdb::inquiry_page(0xb1, 64), 64))?.good()?.data;
    ensure_eq!(page[7] >> 4 & 3, 0b01, "WACEREQ");
    let written = [0x77; 16 * BLOCK];
    conn.run(&Cmd::write(100, &written))?.good()?;
    conn.run(&Cmd::new(cdb::of(&[0x35])))?.good()?;
    ensure!(conn.run(&Cmd::read(100, 16))?.good()?.data == written, "it is read back as something else");
    let file = std::fs::read(lab.path("data")?)?;
    ensure!(!file.windows(64).any(|bytes| bytes == [0x77; 64]), "it is in the file as it was written");
    let before = keys(lab)?;
    conn.run(&Cmd::new(cdb::of(&[SANITIZE, IMMED | 3])))?.good()?;
    await_end(&mut conn)?;
    let after = keys(lab)?;
    ensure!(key(&before)? != key(&after)? && !after.contains(key(&before)?), "the key is what it was");
    let read = conn.run(&Cmd::read(100, 16))?.good()?.data;
    ensure!(read != written, "what was written is still read");
    all_blocks_are(&mut conn, &[0; BLOCK])?;
    conn.run(&Cmd::write(100, &[0x78; BLOCK]))?.good()?;
    ensure!(conn.run(&Cmd::read(100, 1))?.good()?.data == [0x78; BLOCK], "a write behind it is lost");
    Ok(())
}
