//! Write data that is not what was asked for (RFC 7143 11.7, 11.4.7.2, 7.6).

use crate::conn::{Cmd, Conn, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{DataOut, ReadyToTransfer, ScsiCommand};
use stampede_wire::{Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        data_for_no_transfer_is_rejected_and_ends_the_session,
        "RFC 7143 11.7, 11.17.1, 7.6",
        "a Data-Out whose tags name no transfer is invalid: rejected, and the connection is dropped",
        "session/src/full_feature/data_out.rs#begin_data_out"
    )
    .must(&[11])
    .broken_by(Mutation::stays_open("the connection stays open")),
    test!(
        wrong_offset_fails_the_command,
        "RFC 7143 11.7.4, 13.18, 11.4.7.2",
        "a Data-Out at another offset than comes next ends its command with ABORTED COMMAND; nothing is written and the \
         session goes on",
        "session/src/full_feature/collection.rs#begin"
    )
    .must(&[11])
    .broken_by(Mutation::new("the command ends well", all_good)),
    test!(
        too_much_data_fails_the_command,
        "RFC 7143 11.7, 11.4.7.2",
        "more data than an R2T asked for ends the command with ABORTED COMMAND, and all of it is taken off the wire",
        "session/src/full_feature/collection.rs#begin"
    )
    .must(&[11])
    .broken_by(Mutation::new("the command ends well", all_good)),
    test!(
        early_final_bit_fails_the_command,
        "RFC 7143 11.7.1, 11.4.7.2",
        "F ends the burst: with less data than the R2T asked for the command ends with ABORTED COMMAND",
        "session/src/full_feature/collection.rs#end"
    )
    .must(&[11])
    .broken_by(Mutation::new("the command ends well", all_good)),
    test!(
        missing_final_bit_fails_the_command,
        "RFC 7143 11.7.1",
        "an R2T's last Data-Out has F: where it lacks, the command ends with ABORTED COMMAND",
        "session/src/full_feature/collection.rs#end"
    )
    .must(&[11]),
    test!(
        wrong_data_sn_fails_the_command,
        "RFC 7143 7.9, 11.7.5",
        "a Data-Out with another DataSN than is next means that one was lost: the command ends with ABORTED COMMAND",
        "session/src/full_feature/collection.rs#begin"
    )
    .must(&[8, 11])
    .broken_by(Mutation::new("the command ends well", all_good)),
];

fn all_good(middle: &mut Middle, mut pdu: Raw) {
    let data_went = middle.last_sent(Opcode::DataOut).is_some();
    if pdu.opcode() == Some(Opcode::ScsiResponse) && data_went {
        pdu.set_byte(3, 0);
        pdu.set_data(Vec::new());
    }
    middle.pass(pdu);
}

/// Starts a write of two blocks; its R2T asks for all.
fn started(conn: &mut Conn) -> Outcome<(ScsiCommand, ReadyToTransfer)> {
    let header = conn.start(&Cmd::write(30, &[0xaa; 1024]));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    ensure_eq!(r2t.desired_data_transfer_length(), 1024, "what the R2T asks for");
    Ok((header, r2t))
}

fn data_out(conn: &Conn, r2t: &ReadyToTransfer, data_sn: u32, offset: u32, last: bool) -> DataOut {
    let (tag, transfer) = (r2t.initiator_task_tag(), r2t.target_transfer_tag());
    DataOut::solicited(tag, r2t.lun(), transfer, Sn(conn.exp_stat_sn())).at(data_sn, offset, last)
}

/// One PDU: DataSN, offset, F, bytes.
type Piece = (u32, u32, bool, usize);

/// A write whose data comes in these pieces fails, writes nothing, and the session goes on.
fn fails(lab: &mut Lab, pieces: &[Piece]) -> Outcome {
    let mut conn = lab.plain()?;
    let before = conn.run(&Cmd::read(30, 2))?.good()?.data;
    let (header, r2t) = started(&mut conn)?;
    for (data_sn, offset, last, len) in pieces {
        let pdu = data_out(&conn, &r2t, *data_sn, *offset, *last);
        conn.send(pdu, &vec![0xaa; *len]);
    }
    let done = conn.finish(&header, &[])?;
    ensure_eq!((done.status, done.sense_code().0), (2, 0xb), "status and sense key of {pieces:?}");
    let after = conn.run(&Cmd::read(30, 2))?.good()?.data;
    ensure!(after == before, "a write that failed wrote");
    Ok(())
}

fn data_for_no_transfer_is_rejected_and_ends_the_session(lab: &mut Lab) -> Outcome {
    for (task, transfer) in [(0x7777, 0x1234), (0x7777, u32::MAX)] {
        let mut conn = lab.plain()?;
        let pdu = DataOut::solicited(task, crate::conn::lun(0), transfer, Sn(conn.exp_stat_sn()));
        conn.send(pdu.at(0, 0, true), &[1; 512]);
        let heard = conn.until_closed()?;
        ensure!(heard.len() == 1 && heard[0].opcode() == Some(Opcode::Reject), "{heard:?} came");
        ensure_eq!(heard[0].byte(2), 9, "the reason of the Reject");
    }
    // The right task, and a transfer tag that is none of its.
    let mut conn = lab.plain()?;
    let (_, r2t) = started(&mut conn)?;
    let wrong = r2t.target_transfer_tag() ^ 1;
    let pdu = DataOut::solicited(r2t.initiator_task_tag(), r2t.lun(), wrong, Sn(conn.exp_stat_sn()));
    conn.send(pdu.at(0, 0, true), &[1; 1024]);
    conn.until_closed().map(drop)
}

fn wrong_offset_fails_the_command(lab: &mut Lab) -> Outcome {
    fails(lab, &[(0, 512, true, 512)])?;
    fails(lab, &[(0, 0, false, 512), (1, 0, true, 512)])?;
    fails(lab, &[(0, 0x8000_0000, true, 1024)])
}

fn too_much_data_fails_the_command(lab: &mut Lab) -> Outcome {
    fails(lab, &[(0, 0, true, 1536)])?;
    fails(lab, &[(0, 0, false, 512), (1, 512, true, 1024)])
}

fn early_final_bit_fails_the_command(lab: &mut Lab) -> Outcome {
    fails(lab, &[(0, 0, true, 512)])?;
    fails(lab, &[(0, 0, true, 0)])
}

fn missing_final_bit_fails_the_command(lab: &mut Lab) -> Outcome {
    fails(lab, &[(0, 0, false, 1024)])
}

fn wrong_data_sn_fails_the_command(lab: &mut Lab) -> Outcome {
    fails(lab, &[(1, 0, true, 1024)])?;
    fails(lab, &[(0, 0, false, 512), (2, 512, true, 512)])?;
    // One that a reinstated session leaves behind is no use to the next.
    lab.ready(&LoginText::plain())?.run(&Cmd::read(0, 1))?.good().map(drop)
}
