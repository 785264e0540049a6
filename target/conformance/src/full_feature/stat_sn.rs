//! StatSN and what uses it up (RFC 7143 4.2.2.2).

use crate::conn::{Cmd, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{DataIn, ReadyToTransfer, ScsiResponse};

pub(super) const TESTS: &[Test] = &[
    test!(
        each_status_takes_the_next_stat_sn,
        "RFC 7143 4.2.2.2",
        "StatSN goes up by one with every PDU that carries a status: response, NOP-In, text, task management, Reject",
        "session/src/full_feature/numbers.rs#status"
    )
    .must(&[6])
    .broken_by(Mutation::new("StatSN is not advanced by a SCSI Response", not_advanced)),
    test!(
        r2t_and_plain_data_in_take_no_stat_sn,
        "RFC 7143 4.2.2.2, 11.7, 11.8",
        "an R2T carries the next StatSN and does not use it up, and a Data-In without S does not either",
        "session/src/full_feature/numbers.rs#current"
    )
    .must(&[6])
    .broken_by(Mutation::new("an R2T uses up a StatSN", r2t_counts)),
];

fn not_advanced(middle: &mut Middle, mut pdu: Raw) {
    pdu.set_word(24, pdu.stat_sn().wrapping_sub(middle.memory));
    if pdu.opcode() == Some(Opcode::ScsiResponse) {
        middle.memory += 1;
    }
    middle.pass(pdu);
}

fn r2t_counts(middle: &mut Middle, mut pdu: Raw) {
    pdu.set_word(24, pdu.stat_sn().wrapping_add(middle.memory));
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) {
        middle.memory += 1;
    }
    middle.pass(pdu);
}

fn each_status_takes_the_next_stat_sn(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let mut expected = conn.exp_stat_sn();
    let mut next = |found: u32, what: &str| {
        ensure_eq!(found, expected, "StatSN of {what}");
        expected = expected.wrapping_add(1);
        Ok(())
    };
    next(conn.run(&Cmd::test_unit_ready())?.good()?.last.stat_sn(), "a SCSI Response")?;
    next(conn.expect_quiet()?.stat_sn().0, "a NOP-In")?;
    next(conn.run(&Cmd::read(0, 4))?.good()?.last.stat_sn(), "a Data-In with status")?;
    next(conn.run(&Cmd::write(0, &[1; 2048]))?.good()?.last.stat_sn(), "the response to a write")?;
    conn.send_text(&[("X-com.example", "1")]);
    next(conn.expect::<stampede_wire::pdu::TextResponse>()?.stat_sn(), "a Text Response")?;
    let header = conn.header(&Cmd::test_unit_ready());
    conn.send(crate::conn::with_opcode(header, 0x1c), &[]);
    next(conn.expect::<stampede_wire::pdu::Reject>()?.stat_sn(), "a Reject")?;
    next(conn.run(&Cmd::test_unit_ready())?.good()?.last.stat_sn(), "a SCSI Response")
}

fn r2t_and_plain_data_in_take_no_stat_sn(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with("MaxBurstLength", "1024").with("MaxRecvDataSegmentLength", "512");
    let mut conn = lab.ready(&text)?;
    let before = conn.exp_stat_sn();
    let done = conn.run(&Cmd::write(0, &[3; 4096]))?.good()?;
    ensure_eq!(done.r2ts, 4, "R2Ts of 4096 bytes with bursts of 1024");
    ensure_eq!(done.last.stat_sn(), before, "StatSN after four R2Ts");
    ensure!(done.last.is::<ScsiResponse>(), "a write that ends with {:?}", done.last);
    let done = conn.run(&Cmd::read(0, 8))?.good()?;
    ensure_eq!(done.data_ins.len(), 8, "Data-In PDUs of 512 bytes");
    ensure_eq!(done.last.stat_sn(), before.wrapping_add(1), "StatSN after seven Data-In without status");
    // An R2T tells the one that comes next.
    let header = conn.start(&Cmd::write(0, &[3; 512]));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    ensure_eq!(r2t.stat_sn().0, before.wrapping_add(2), "StatSN in an R2T");
    conn.answer_r2t(&r2t, &[3; 512])?;
    let done = conn.finish(&header, &[3; 512])?.good()?;
    ensure!(!done.last.is::<DataIn>(), "a Data-In for a write");
    Ok(())
}
