//! Residuals: what was moved against what was expected (RFC 7143 11.4.5).

use crate::conn::{Cmd, Done, cdb};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::Residual;

pub(super) const TESTS: &[Test] = &[
    test!(
        short_reads_are_told_as_underflow,
        "RFC 7143 11.4.5.1, 11.7.3",
        "fewer bytes than expected: U and the difference, also where the status goes with the data",
        "session/src/full_feature/respond.rs#outcome"
    )
    .must(&[13])
    .broken_by(Mutation::new("U is cleared", no_underflow)),
    test!(
        long_reads_are_cut_and_told_as_overflow,
        "RFC 7143 11.4.5.1",
        "more bytes than expected: those expected come, and O and the difference say how many did not",
        "session/src/full_feature/respond.rs#outcome"
    )
    .must(&[13])
    .broken_by(Mutation::new("O is cleared", no_overflow)),
    test!(
        writes_have_residuals_too,
        "RFC 7143 11.4.5.1",
        "a write that takes fewer bytes than announced has an underflow, one that wants more an overflow",
        "session/src/full_feature/respond.rs#outcome"
    )
    .must(&[13])
    .broken_by(Mutation::new("a write's residual count is 0", no_count)),
    test!(
        failed_commands_leave_all_as_residual,
        "RFC 7143 11.4.5.1",
        "a command that moved nothing has all that was expected as underflow",
        "session/src/full_feature/respond.rs#outcome"
    )
    .must(&[13]),
    test!(
        exact_transfers_have_no_residual,
        "RFC 7143 11.4.5.1",
        "as many bytes as expected: neither U nor O, and no count",
        "session/src/full_feature/respond.rs#outcome"
    )
    .must(&[13]),
];

fn answers(pdu: &Raw) -> bool {
    matches!(pdu.opcode(), Some(Opcode::ScsiResponse | Opcode::DataIn))
}

fn no_underflow(middle: &mut Middle, mut pdu: Raw) {
    if answers(&pdu) {
        pdu.set_byte(1, pdu.byte(1) & !2);
    }
    middle.pass(pdu);
}

fn no_overflow(middle: &mut Middle, mut pdu: Raw) {
    if answers(&pdu) {
        pdu.set_byte(1, pdu.byte(1) & !4);
    }
    middle.pass(pdu);
}

fn no_count(middle: &mut Middle, mut pdu: Raw) {
    if answers(&pdu) {
        pdu.set_word(44, 0);
    }
    middle.pass(pdu);
}

fn residual(done: &Done, wanted: Residual) -> Outcome {
    ensure_eq!(done.residual, wanted, "the residual");
    ensure!(done.last.byte(1) & 6 != 6, "U and O both");
    Ok(())
}

fn short_reads_are_told_as_underflow(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    // Standard INQUIRY data is shorter than 255 bytes; the same for MODE SENSE.
    for cmd in [Cmd::reading(cdb::inquiry(255), 255), Cmd::reading(cdb::mode_sense_6(255), 255)] {
        let done = conn.run(&cmd)?.good()?;
        ensure!(done.data.len() < 255, "{} bytes", done.data.len());
        residual(&done, Residual::Underflow(255 - done.data.len() as u32))?;
    }
    // A CDB that asks for less than was announced.
    let done = conn.run(&Cmd::reading(cdb::read_10(0, 2), 4096))?.good()?;
    ensure_eq!(done.data.len(), 1024, "bytes of two blocks");
    residual(&done, Residual::Underflow(3072))
}

fn long_reads_are_cut_and_told_as_overflow(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for expected in [512u32, 1000, 1] {
        let done = conn.run(&Cmd::reading(cdb::read_10(0, 4), expected))?.good()?;
        ensure_eq!(done.data.len(), expected as usize, "bytes where {expected} were expected");
        residual(&done, Residual::Overflow(2048 - expected))?;
    }
    // Nothing expected at all.
    let done = conn.run(&Cmd::reading(cdb::read_10(0, 4), 0))?.good()?;
    ensure!(done.data.is_empty(), "{} bytes where none were expected", done.data.len());
    residual(&done, Residual::Overflow(2048))
}

fn writes_have_residuals_too(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let done = conn.run(&Cmd::writing(cdb::write_10(0, 2), &[5; 4096]))?.good()?;
    residual(&done, Residual::Underflow(3072))?;
    let done = conn.run(&Cmd::writing(cdb::write_10(0, 8), &[6; 1024]))?;
    residual(&done, Residual::Overflow(3072))
}

fn failed_commands_leave_all_as_residual(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let done = conn.run(&Cmd::read(u32::MAX - 8, 4))?;
    ensure_eq!(done.status, 2, "the status of a read beyond the end");
    residual(&done, Residual::Underflow(2048))
}

fn exact_transfers_have_no_residual(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for cmd in [Cmd::read(0, 8), Cmd::write(0, &[1; 4096]), Cmd::test_unit_ready()] {
        let done = conn.run(&cmd)?.good()?;
        residual(&done, Residual::None)?;
        ensure_eq!(done.last.word(44), 0, "the residual count");
    }
    Ok(())
}
