//! Digests, right and wrong (RFC 7143 7.7, 7.8, 11.2.3).

use crate::conn::{Cmd, Conn, LoginText, cdb};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{DataOut, LoginResponse, NopOut, ReadyToTransfer, RejectReason};
use stampede_wire::{Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        wrong_header_digest_ends_the_connection,
        "RFC 7143 7.7",
        "after a header digest error nothing of the header can be trusted, not even its length: at \
         ErrorRecoveryLevel 0 the connection is dropped",
        "wire/src/frame.rs#HeaderDigest"
    )
    .must(&[28])
    .broken_by(Mutation::stays_open("the connection stays open after a wrong header digest")),
    test!(
        wrong_data_digest_of_data_out_is_rejected,
        "RFC 7143 7.8, 11.17.1",
        "write data with a wrong digest is rejected for that reason and discarded; its command ends with sense \
         0B/47/05 once its data is through, and the session goes on",
        "session/src/full_feature/mod.rs#end_damaged"
    )
    .must(&[28])
    .broken_by(Mutation::new("the Reject of damaged data is withheld", no_reject)),
    test!(
        wrong_data_digest_of_a_command_ends_the_session,
        "RFC 7143 7.8",
        "a request that used up a CmdSN and whose data is damaged is rejected; at ErrorRecoveryLevel 0 only a new \
         session fills the hole",
        "session/src/full_feature/mod.rs#end_damaged"
    )
    .must(&[28]),
    test!(
        wrong_data_digest_of_an_immediate_ping_is_rejected,
        "RFC 7143 7.8, 11.17.1",
        "an immediate NOP-Out with damaged data leaves no hole: it is rejected, and the session goes on",
        "session/src/full_feature/mod.rs#end_damaged"
    )
    .must(&[28]),
    test!(
        digests_are_crc32c_of_everything_covered,
        "RFC 7143 11.2.3, 13.1",
        "with both digests each PDU of both directions has them: of the header with its segments, of the data with its \
         padding, and none where there is no data",
        "wire/src/digest.rs#crc32c"
    )
    .must(&[28])
    .broken_by(Mutation::new("the bytes of a data digest come in the other order", other_byte_order)),
    test!(
        digests_begin_with_the_full_feature_phase,
        "RFC 7143 7.4.2, 13.1",
        "no PDU of a login has a digest, whatever is agreed in it; from the first PDU after it each has",
        "session/src/connection.rs#enter"
    )
    .must(&[28]),
];

fn no_reject(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn other_byte_order(middle: &mut Middle, mut pdu: Raw) {
    if let Some(digest) = &mut pdu.data_digest {
        digest.reverse();
    }
    middle.pass(pdu);
}

fn both(lab: &mut Lab) -> Outcome<Conn> {
    lab.ready(&LoginText::plain().with_all(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]))
}

fn flip(digest: Option<[u8; 4]>) -> Option<[u8; 4]> {
    digest.map(|[first, second, third, fourth]| [first ^ 1, second, third, fourth])
}

fn wrong_header_digest_ends_the_connection(lab: &mut Lab) -> Outcome {
    let mut conn = both(lab)?;
    conn.run(&Cmd::read(0, 8))?.good()?;
    let header = conn.header(&Cmd::test_unit_ready());
    let mut raw = Raw::new(header.into(), &[], conn.digests());
    raw.header_digest = flip(raw.header_digest);
    conn.send_raw(&raw);
    conn.expect_closed()
}

fn wrong_data_digest_of_data_out_is_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = both(lab)?;
    let before = conn.run(&Cmd::read(20, 2))?.good()?.data;
    let header = conn.start(&Cmd::write(20, &[0x3c; 1024]));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    let data_out = |conn: &Conn, data_sn, offset, last| {
        let pdu = DataOut::solicited(
            r2t.initiator_task_tag(),
            r2t.lun(),
            r2t.target_transfer_tag(),
            Sn(conn.exp_stat_sn()),
        );
        Raw::new(pdu.at(data_sn, offset, last).into(), &[0x3c; 512], conn.digests())
    };
    let mut bad = data_out(&conn, 0, 0, false);
    bad.data_digest = flip(bad.data_digest);
    conn.send_raw(&bad);
    conn.expect_reject(RejectReason::DataDigestError, &bad.bhs)?;
    // The rest comes, and then the command ends.
    let rest = data_out(&conn, 1, 512, true);
    conn.send_raw(&rest);
    conn.finish(&header, &[])?.check_condition((0xb, 0x47, 5))?;
    let after = conn.run(&Cmd::read(20, 2))?.good()?.data;
    ensure!(after == before, "data with a wrong digest was written");
    Ok(())
}

fn wrong_data_digest_of_a_command_ends_the_session(lab: &mut Lab) -> Outcome {
    let mut conn = both(lab)?;
    let header = conn.header(&Cmd::write(20, &[0x3c; 512]));
    let mut bad = Raw::new(header.into(), &[0x3c; 512], conn.digests());
    bad.data_digest = flip(bad.data_digest);
    conn.send_raw(&bad);
    conn.expect_reject(RejectReason::DataDigestError, &bad.bhs)?;
    conn.expect_closed()
}

fn wrong_data_digest_of_an_immediate_ping_is_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = both(lab)?;
    let tag = conn.new_tag();
    let ping = NopOut::ping(tag, conn.sns()).into_immediate();
    let mut bad = Raw::new(ping.into(), b"damaged", conn.digests());
    bad.data_digest = flip(bad.data_digest);
    conn.send_raw(&bad);
    conn.expect_reject(RejectReason::DataDigestError, &bad.bhs)?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn digests_are_crc32c_of_everything_covered(lab: &mut Lab) -> Outcome {
    let mut conn = both(lab)?;
    let data: Vec<u8> = (0..4096u32).map(|at| (at * 7) as u8).collect();
    conn.run(&Cmd::write(0, &data).with_immediate_data(1024))?.good()?;
    let done = conn.run(&Cmd::read(0, 8))?.good()?;
    ensure!(done.data == data, "other data than was written");
    ensure!(done.last.header_digest.is_some() && done.last.data_digest.is_some(), "a PDU without digests");
    for allocation in 1..9 {
        conn.run(&Cmd::reading(cdb::inquiry(allocation), u32::from(allocation)))?.good()?;
    }
    let done = conn.run(&Cmd::test_unit_ready())?.good()?;
    ensure_eq!(done.last.data_digest, None, "the data digest of a PDU without data");
    // Header segments are covered too.
    let header = conn.header(&Cmd::new(cdb::of(&[0x7f, 0, 0, 0, 0, 0, 0, 24])));
    conn.send_with_ahs(header, &[&[0, 17, 1, 0][..], &[0; 16]].concat(), &[]);
    ensure_eq!(conn.finish(&header, &[])?.status, 2, "the status of an unknown long command");
    conn.expect_quiet().map(drop)
}

fn digests_begin_with_the_full_feature_phase(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with_all(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]);
    let mut conn = lab.connect()?;
    let step = conn.log_in(&text)?;
    ensure!(step.response.is::<LoginResponse>(), "no Login Response");
    ensure_eq!(step.response.header_digest, None, "the header digest of a Login Response");
    let done = conn.run(&Cmd::test_unit_ready())?;
    ensure!(done.last.header_digest.is_some(), "the first PDU after the login has no header digest");
    Ok(())
}
