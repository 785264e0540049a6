//! Logical block provisioning thresholds (SBC-4 4.7.3.7): initiators hear when space runs low, or is used.

use super::sanitize::good;
use crate::conn::{Cmd, Conn, LoginText, cdb};
use crate::failure::{Outcome, fail};
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{BLOCK, BLOCKS, CLONE, DATA};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;

const REACHED: (u8, u8, u8) = (6, 0x38, 7);
const MODE_CHANGED: (u8, u8, u8) = (6, 0x2a, 1);

pub(super) const TESTS: &[Test] = &[
    test!(
        low_space_is_told_to_every_initiator,
        "SBC-4 4.7.3.7.6, 6.5.9",
        "with less available than a threshold says, every initiator hears 38h/07h once, with the place of the threshold's \
         descriptor in its mode page",
        "scsi/src/thresholds.rs#tell_thresholds"
    )
    .broken_by(Mutation::new("INFORMATION is left out", no_information)),
    test!(
        use_of_a_clone_is_told,
        "SBC-4 4.7.3.7.5, 6.4.5.3",
        "an initiator that writes more to its clone than its threshold says hears 38h/07h, and the log page counts what \
         is used",
        "engine/src/lun/space.rs#look_at_space"
    )
    .broken_by(Mutation::new("the unit attention is left out", not_told)),
];

fn reached(pdu: &Raw) -> bool {
    let at = |place: usize| pdu.data.get(place).copied().unwrap_or(0);
    pdu.opcode() == Some(Opcode::ScsiResponse) && (at(4) & 15, at(14), at(15)) == REACHED
}

fn no_information(middle: &mut Middle, mut pdu: Raw) {
    if reached(&pdu) {
        let mut data = pdu.data.clone();
        data[2] &= 0x7f;
        data[5..9].fill(0);
        pdu.set_data(data);
    }
    middle.pass(pdu);
}

fn not_told(middle: &mut Middle, mut pdu: Raw) {
    if reached(&pdu) {
        good(&mut pdu);
    }
    middle.pass(pdu);
}

/// MODE SELECT(10) of the page, with a threshold on what is available, or on what is used.
fn set(low: Option<u32>, used: Option<u32>) -> Cmd {
    let mut list = vec![0; 8 + 32];
    list[8..12].copy_from_slice(&[0x5c, 2, 0, 28]);
    for (at, kind, count) in [(24, [0, 1], low), (32, [1, 2], used)] {
        list[at..at + 2].copy_from_slice(&kind);
        if let Some(count) = count {
            list[at] |= 0x80;
            list[at + 4..at + 8].copy_from_slice(&count.to_be_bytes());
        }
    }
    Cmd::writing(cdb::of(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8]), &list)
}

/// RESOURCE COUNT of what is available and of what is used.
fn counts(conn: &mut Conn) -> Outcome<[u32; 2]> {
    let log = cdb::of(&[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64]);
    let page = conn.run(&Cmd::reading(log, 64))?.good()?.data;
    ensure_eq!((page.len(), page[0], page[5], page[17]), (28, 0x8c, 1, 2), "the page and its parameters");
    let count = |at: usize| u32::from_be_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    Ok([count(8), count(20)])
}

/// Runs TEST UNIT READY until it is told that a threshold was reached: INFORMATION.
fn await_reached(conn: &mut Conn) -> Outcome<u32> {
    for _ in 0..1_000_000 {
        let done = conn.run(&Cmd::test_unit_ready())?;
        match done.sense_code() {
            (0, 0, 0) | MODE_CHANGED => {}
            REACHED => {
                ensure!(done.sense[0] & 0x80 != 0, "INFORMATION is not valid");
                let field = &done.sense[3..7];
                return Ok(u32::from_be_bytes([field[0], field[1], field[2], field[3]]));
            }
            (key, asc, ascq) => return fail(format!("sense {key:x}/{asc:02x}/{ascq:02x}")),
        }
    }
    fail("it is never told")
}

fn low_space_is_told_to_every_initiator(lab: &mut Lab) -> Outcome {
    let mut one = lab.plain()?;
    let mut two = lab.ready(&LoginText::normal(DATA, 2))?;
    let page = one.run(&Cmd::reading(cdb::inquiry_page(0xb2, 64), 64))?.good()?.data;
    ensure_eq!(page[4], 11, "THRESHOLD EXPONENT");
    one.run(&set(Some(u32::MAX), None))?.good()?;
    ensure_eq!(await_reached(&mut one)?, 16, "where the descriptor is");
    ensure_eq!(await_reached(&mut two)?, 16, "where the descriptor is");
    one.run(&Cmd::test_unit_ready())?.good()?;
    let mut later = lab.session(&LoginText::normal(DATA, 3))?;
    later.run(&Cmd::test_unit_ready())?.check_condition((6, 0x29, 0))?;
    ensure_eq!(await_reached(&mut later)?, 16, "where the descriptor is");
    one.run(&set(None, None))?.good()?;
    one.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn use_of_a_clone_is_told(lab: &mut Lab) -> Outcome {
    const AT_ONCE: usize = 128;
    let mut conn = lab.ready(&LoginText::normal(CLONE, 1))?;
    let before = counts(&mut conn)?;
    ensure!(before[0] > 0 && before[1] == 0, "a clone that was never written has {before:?}");
    conn.run(&set(None, Some(1)))?.good()?;
    conn.run(&Cmd::test_unit_ready())?.good()?;
    for lba in (0..BLOCKS as u32 / 2).step_by(AT_ONCE) {
        match conn.run(&Cmd::write(lba, &[0x5a; AT_ONCE * BLOCK]))? {
            done if done.sense_code() == REACHED => {
                return ensure_after(&mut conn);
            }
            done => done.good().map(drop)?,
        }
    }
    ensure_eq!(await_reached(&mut conn)?, 24, "where the descriptor is");
    ensure_after(&mut conn)
}

/// More is used than a threshold set.
fn ensure_after(conn: &mut Conn) -> Outcome {
    let [_, used] = counts(conn)?;
    ensure!(used >= 2, "{used} threshold sets are used");
    Ok(())
}
