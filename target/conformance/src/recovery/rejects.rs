//! What is rejected, and for which reason (RFC 7143 11.17.1), and what ends the connection.
//!
//! The reasons that have no test here: SNACK reject (03), invalid data ACK (08) belong to ErrorRecoveryLevel 1 and
//! above; long operation reject (0a), negotiation reset (0b, deprecated) and waiting for logout (0c) are the target's
//! to choose, and it never does.

use crate::conn::{Cmd, LoginText, cdb, with_byte, with_opcode, with_word};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{LogoutRequest, NopOut, ReadyToTransfer, RejectReason, SnackKind, SnackRequest};
use stampede_wire::{Bhs, Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        reject_04_for_a_snack,
        "RFC 7143 11.16, 11.17.1",
        "SNACK belongs to ErrorRecoveryLevel 1 and above: at level 0 it is a protocol error",
        "session/src/full_feature/mod.rs#SnackRequest"
    )
    .broken_by(Mutation::new("the Reject is withheld", no_reject)),
    test!(
        reject_05_for_an_unknown_opcode,
        "RFC 7143 11.17.1, 7.6",
        "an opcode that is not defined, or a target's own, is a command that is not supported; the session goes on",
        "session/src/full_feature/mod.rs#CommandNotSupported"
    )
    .broken_by(Mutation::new("the reason is another", other_reason)),
    test!(
        reject_05_for_commands_of_a_discovery_session,
        "RFC 7143 4.3, 11.17.1",
        "a discovery session takes text, NOP-Out and logout, and rejects SCSI commands and task management",
        "session/src/full_feature/mod.rs#CommandNotSupported"
    ),
    test!(
        reject_07_for_a_task_tag_in_use,
        "RFC 7143 11.2.1.8, 11.17.1",
        "a command with the tag of a live task is rejected: task in progress; the task goes on",
        "session/src/full_feature/command.rs#TaskInProgress"
    )
    .broken_by(Mutation::new("the Reject is withheld", no_reject)),
    test!(
        reject_09_for_a_command_with_the_reserved_tag,
        "RFC 7143 11.2.1.8, 11.17.1",
        "ffffffff is no tag for a task: the PDU is invalid",
        "session/src/full_feature/command.rs#begin_command"
    ),
    test!(
        reject_shows_the_whole_header,
        "RFC 7143 11.17.4",
        "a Reject brings the header of the PDU that it rejects, and its tag is ffffffff",
        "session/src/full_feature/reject.rs#reject"
    )
    .broken_by(Mutation::new("the header is left out", without_header)),
    test!(
        rejected_commands_use_up_their_cmd_sn,
        "RFC 7143 4.2.2.1, 7.6",
        "a command that is rejected, though its digests were right, counts: the next CmdSN is expected",
        "session/src/full_feature/mod.rs#begin"
    )
    .must(&[1]),
    test!(
        gap_in_cmd_sn_ends_the_connection,
        "RFC 7143 7.9, 4.2.2.1",
        "with one connection and ErrorRecoveryLevel 0 nothing can bring a command that is missing: the connection is \
         dropped, so that nothing runs out of order",
        "session/src/full_feature/window.rs#Gap"
    )
    .must(&[5])
    .broken_by(Mutation::stays_open("the connection stays open after a gap")),
    test!(
        segment_longer_than_declared_ends_the_connection,
        "RFC 7143 13.12, 7.6",
        "a data segment longer than the target's MaxRecvDataSegmentLength is a protocol error, and the connection is \
         dropped",
        "wire/src/frame.rs#DataSegmentTooLong"
    )
    .must(&[12])
    .broken_by(Mutation::stays_open("the connection stays open")),
    test!(
        session_after_a_broken_one_is_as_new,
        "RFC 7143 7.1, 6.3.5",
        "after a connection broke in the middle of a write the same port logs in again; the write has not happened, or \
         as a whole",
        "control/src/registrar/login.rs#replace"
    ),
    test!(
        half_a_pdu_is_waited_for,
        "RFC 7143 11.1",
        "a PDU may come in any pieces",
        "wire/src/frame.rs#next"
    ),
];

fn no_reject(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn other_reason(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) {
        pdu.set_byte(2, 9);
    }
    middle.pass(pdu);
}

fn without_header(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) {
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

fn reject_04_for_a_snack(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for kind in [SnackKind::DataOrR2t, SnackKind::Status] {
        let tag = conn.new_tag();
        let snack = SnackRequest::new(kind, tag, u32::MAX, 0, 1, Sn(conn.exp_stat_sn()));
        conn.send(snack, &[]);
        conn.expect_reject(RejectReason::ProtocolError, &snack.into())?;
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn reject_05_for_an_unknown_opcode(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for code in [0x07, 0x1c, 0x1e, 0x12] {
        let bad = with_opcode(conn.header(&Cmd::test_unit_ready()), code);
        conn.send(bad, &[]);
        conn.expect_reject(RejectReason::CommandNotSupported, &bad)?;
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn reject_05_for_commands_of_a_discovery_session(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::discovery())?;
    let header = conn.start(&Cmd::test_unit_ready());
    conn.expect_reject(RejectReason::CommandNotSupported, &header.into())?;
    let bad = with_opcode(conn.header(&Cmd::test_unit_ready()), 2);
    conn.send(bad, &[]);
    conn.expect_reject(RejectReason::CommandNotSupported, &bad)?;
    conn.expect_quiet()?;
    conn.log_out()
}

fn reject_07_for_a_task_tag_in_use(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = [0x11; 512];
    let live = conn.start(&Cmd::write(0, &data));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    let bad = with_word(conn.header(&Cmd::test_unit_ready()), 16, live.initiator_task_tag());
    conn.send(bad, &[]);
    conn.expect_reject(RejectReason::TaskInProgress, &bad)?;
    conn.answer_r2t(&r2t, &data)?;
    conn.finish(&live, &data)?.good()?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn reject_09_for_a_command_with_the_reserved_tag(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let bad = with_word(conn.header(&Cmd::test_unit_ready()), 16, u32::MAX);
    conn.send(bad, &[]);
    conn.expect_reject(RejectReason::InvalidPduField, &bad)?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn reject_shows_the_whole_header(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let tag = conn.new_tag();
    let logout = LogoutRequest::close_session(tag, conn.next_sns());
    let bad: Bhs = with_byte(logout, 1, 0x80 | 0x55);
    conn.send(bad, &[]);
    conn.expect_reject(RejectReason::InvalidPduField, &bad)
}

fn rejected_commands_use_up_their_cmd_sn(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for _ in 0..3 {
        let bad = with_word(conn.header(&Cmd::test_unit_ready()), 16, u32::MAX);
        conn.send(bad, &[]);
        conn.expect_reject(RejectReason::InvalidPduField, &bad)?;
    }
    ensure_eq!(conn.expect_quiet()?.exp_cmd_sn(), Sn(conn.cmd_sn), "ExpCmdSN after three Rejects");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn gap_in_cmd_sn_ends_the_connection(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    conn.next_sns();
    conn.start(&Cmd::write(0, &[1; 512]).with_immediate_data(512));
    let heard = conn.until_closed()?;
    ensure!(heard.is_empty(), "{heard:?} came for a command whose turn it was not");
    Ok(())
}

fn segment_longer_than_declared_ends_the_connection(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = vec![0; conn.target_segment as usize + 4];
    let ping = NopOut::ping(77, conn.sns()).into_immediate();
    conn.send(ping, &data);
    conn.until_closed().map(drop)
}

fn session_after_a_broken_one_is_as_new(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    conn.run(&Cmd::write(60, &[0x10; 4096]))?.good()?;
    conn.start(&Cmd::write(60, &[0x20; 4096]));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    ensure_eq!(r2t.desired_data_transfer_length(), 4096, "what the R2T asks for");
    conn.vanish();
    let mut conn = lab.plain()?;
    let done = conn.run(&Cmd::read(60, 8))?.good()?;
    ensure!(done.data == [0x10; 4096], "a write whose data never came has happened");
    Ok(())
}

fn half_a_pdu_is_waited_for(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let header = conn.header(&Cmd::reading(cdb::inquiry(36), 36));
    let bytes = Raw::new(header.into(), &[], conn.digests()).to_bytes();
    for piece in bytes.chunks(5) {
        conn.send_bytes(piece);
    }
    conn.finish(&header, &[])?.good().map(drop)
}
