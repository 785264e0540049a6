//! LUNs that come and go while a session uses their target (SPC-4 6.33, SAM-5 5.14).

use super::sanitize::good;
use crate::conn::{Cmd, Conn, LoginText, cdb};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::run::Side;
use crate::site::{BLOCK, DATA};
use crate::{ensure_eq, test};
use stampede_wire::Opcode;

const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);

pub(super) const TESTS: &[Test] = &[test!(
    luns_come_and_go_in_a_session,
    "SPC-4 6.33, SAM-5 5.14",
    "when a LUN is added or removed every session hears 3Fh/0Eh on those that it keeps, REPORT LUNS names what there is, a new \
     unit begins with 29h/00h, and one that is gone is 05h/25h/00h",
    "engine/src/shard/luns.rs#set_luns"
)
.only(Side::Tcp, "the twin has no operator; engine/tests/twin/units.rs adds and removes units there")
.broken_by(Mutation::new("3Fh/0Eh is left out", not_told))];

fn not_told(middle: &mut Middle, mut pdu: Raw) {
    let at = |place: usize| pdu.data.get(place).copied().unwrap_or(0);
    if pdu.opcode() == Some(Opcode::ScsiResponse) && (at(4) & 15, at(14), at(15)) == LUNS_CHANGED {
        good(&mut pdu);
    }
    middle.pass(pdu);
}

/// The numbers that REPORT LUNS names.
fn luns(conn: &mut Conn) -> Outcome<Vec<u8>> {
    let data = conn.run(&Cmd::reading(cdb::report_luns(256), 256))?.good()?.data;
    Ok(data[8..].chunks_exact(8).map(|lun| lun[1]).collect())
}

fn luns_come_and_go_in_a_session(lab: &mut Lab) -> Outcome {
    const LUN: u16 = 5;
    let mut conn = lab.plain()?;
    let mut other = lab.ready(&LoginText::normal(DATA, 2))?;
    ensure_eq!(luns(&mut conn)?, [0], "the LUNs at first");
    let image = lab.path("more")?;
    std::fs::File::create(&image)?.set_len(1 << 20)?;
    let entry = format!("more={},lun={LUN}", image.display());
    lab.operate(&["lun", "add", "data", &entry])?;
    for conn in [&mut conn, &mut other] {
        conn.run(&Cmd::test_unit_ready())?.check_condition(LUNS_CHANGED)?;
        ensure_eq!(luns(conn)?, [0, 5], "the LUNs when one was added");
        conn.run(&Cmd::test_unit_ready().at(LUN))?.check_condition((6, 0x29, 0))?;
    }
    conn.run(&Cmd::write(3, &[0x42; BLOCK]).at(LUN))?.good()?;
    ensure_eq!(other.run(&Cmd::read(3, 1).at(LUN))?.good()?.data, [0x42; BLOCK], "what was written to it");
    lab.operate(&["lun", "remove", "more"])?;
    for conn in [&mut conn, &mut other] {
        conn.run(&Cmd::read(3, 1).at(LUN))?.check_condition((5, 0x25, 0))?;
        conn.run(&Cmd::test_unit_ready())?.check_condition(LUNS_CHANGED)?;
        ensure_eq!(luns(conn)?, [0], "the LUNs when it was removed");
        conn.run(&Cmd::test_unit_ready())?.good()?;
    }
    Ok(())
}
