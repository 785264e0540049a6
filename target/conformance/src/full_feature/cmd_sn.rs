//! CmdSN, and the window of commands (RFC 7143 4.2.2.1).

use crate::conn::{Cmd, Conn, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::Site;
use crate::{ensure, ensure_eq, test};
use stampede_wire::encode::Digests;
use stampede_wire::pdu::{NopIn, Reject, RejectReason, TargetSns};
use stampede_wire::{Bhs, Opcode, Sn};

pub(super) const TESTS: &[Test] = &[
    test!(
        duplicate_and_distant_cmd_sns_are_dropped_silently,
        "RFC 7143 4.2.2.1",
        "a command whose CmdSN was seen before or lies outside of the window is ignored: no Reject, no status, no end \
         of the connection",
        "session/src/full_feature/window.rs#arrive"
    )
    .must(&[1])
    .broken_by(Mutation::new("a duplicate is answered by a Reject", rejects_duplicates)),
    test!(
        cmd_sn_wraps_around,
        "RFC 7143 4.2.2.1, RFC 1982",
        "sequence numbers are compared in serial arithmetic: 0 follows ffffffff, and the session goes on",
        "wire/src/serial.rs#within"
    )
    .must(&[2])
    .broken_by(Mutation::new("what comes after the wrap is not answered", deaf_after_the_wrap)),
    test!(
        max_cmd_sn_never_moves_back,
        "RFC 7143 4.2.2.1",
        "MaxCmdSN is the same or greater in each PDU; a window that is full is told by MaxCmdSN = ExpCmdSN - 1",
        "session/src/full_feature/window.rs#open"
    )
    .must(&[3])
    .on(Site::NARROW)
    .broken_by(Mutation::new("MaxCmdSN moves back by one while commands are in the target", max_moves_back)),
];

/// Answers a duplicate with a Reject.
fn rejects_duplicates(middle: &mut Middle, pdu: Raw) {
    let commands = || middle.sent.iter().filter(|bhs| bhs.opcode() == Ok(Opcode::ScsiCommand));
    let last = commands().next_back().copied();
    let again = last.is_some_and(|last| commands().filter(|bhs| **bhs == last).count() > 1);
    if let (Some(bad), true, 0) = (last, again, middle.memory) {
        middle.memory = 1;
        let sns = TargetSns {
            stat_sn: Sn(pdu.stat_sn()),
            exp_cmd_sn: Sn(pdu.word(28)),
            max_cmd_sn: Sn(pdu.word(32)),
        };
        let reject = Reject::new(RejectReason::ProtocolError, sns);
        middle.invent(Raw::new(Bhs::from(reject), &bad.0, Digests::default()));
    }
    middle.pass(pdu);
}

fn deaf_after_the_wrap(middle: &mut Middle, pdu: Raw) {
    if pdu.word(28) < 0x8000_0000 && middle.sent.first().is_some_and(|bhs| bhs.0[24] == 0xff) {
        middle.withhold(&pdu);
    } else {
        middle.pass(pdu);
    }
}

fn max_moves_back(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) && pdu.word(16).is_multiple_of(2) {
        pdu.set_word(32, pdu.word(32).wrapping_sub(1));
    }
    middle.pass(pdu);
}

fn duplicate_and_distant_cmd_sns_are_dropped_silently(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let header = conn.start(&Cmd::test_unit_ready());
    conn.finish(&header, &[])?.good()?;
    // The same again, one from before, and ones beyond the window.
    conn.send(header, &[]);
    let window = conn.expect_quiet()?.sns();
    let here = window.exp_cmd_sn;
    for sn in [here.previous(), here.add(0x7fff_ffff), window.max_cmd_sn.next(), window.max_cmd_sn.add(9)] {
        conn.cmd_sn = sn.0;
        conn.start(&Cmd::test_unit_ready());
    }
    conn.cmd_sn = here.0;
    let after = conn.expect_quiet()?.sns();
    ensure_eq!(after.exp_cmd_sn, here, "ExpCmdSN after commands that do not count");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn cmd_sn_wraps_around(lab: &mut Lab) -> Outcome {
    let text = LoginText { cmd_sn: 0xffff_fffb, ..LoginText::plain() };
    let mut conn = lab.ready(&text)?;
    for _ in 0..12 {
        conn.run(&Cmd::test_unit_ready())?.good()?;
    }
    ensure!(conn.cmd_sn < 0x100, "the test did not get around: CmdSN {:08x}", conn.cmd_sn);
    let told = conn.expect_quiet()?.sns();
    ensure_eq!(told.exp_cmd_sn, Sn(conn.cmd_sn), "ExpCmdSN after the wrap");
    Ok(())
}

/// Starts writes until the window is closed, and returns their headers.
fn fill_window(conn: &mut Conn) -> Outcome<Vec<stampede_wire::pdu::ScsiCommand>> {
    let mut headers = Vec::new();
    for _ in 0..4 {
        headers.push(conn.start(&Cmd::write(0, &[7; 512])));
        conn.expect::<stampede_wire::pdu::ReadyToTransfer>()?;
    }
    Ok(headers)
}

fn max_cmd_sn_never_moves_back(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    fill_window(&mut conn)?;
    // Each PDU's numbers were judged as it came; now the window is told closed.
    let NopIn { .. } = conn.expect_quiet()?;
    let told = conn.expect_quiet()?.sns();
    ensure_eq!(told.max_cmd_sn.next(), told.exp_cmd_sn, "MaxCmdSN + 1 of a window that is full");
    // A command beyond it is none.
    conn.start(&Cmd::test_unit_ready());
    conn.expect_quiet().map(drop)
}
