//! CmdSN, and the window of commands (RFC 7143 4.2.2.1).

use crate::conn::{Cmd, Conn, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{DATA, ODD, Site};
use crate::{ensure, ensure_eq, test};
use stampede_wire::encode::Digests;
use stampede_wire::pdu::{
    NopIn, ReadyToTransfer, Reject, RejectReason, TargetSns, TaskAttribute, TaskManagementFunction,
    TaskManagementRequest, TaskManagementResponse,
};
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
    test!(
        reopened_window_is_told_by_nop_in,
        "RFC 7143 11.19, 4.2.2.1",
        "an initiator whose window was told closed, and that nothing else is due to, is told of its reopening by a \
         NOP-In without tags",
        "session/src/full_feature/nop.rs#announce_window"
    )
    .must(&[3])
    .on(Site::NARROW)
    .broken_by(Mutation::new("the initiator is not told that its window opened again", no_news)),
    test!(
        window_stays_where_it_is_without_memory,
        "RFC 7143 4.2.2.1, SAM-5 5.3.1",
        "when there is no memory for a command's data it ends with TASK SET FULL and MaxCmdSN moves no further; when there \
         is, the window opens as wide as before",
        "engine/src/shard/pressure.rs#narrow_window"
    )
    .must(&[3])
    .broken_by(Mutation::new("MaxCmdSN goes on", window_goes_on)),
    test!(
        immediate_commands_do_not_advance_exp_cmd_sn,
        "RFC 7143 4.2.2.1",
        "a command marked immediate is executed at once, and ExpCmdSN stays",
        "session/src/full_feature/mod.rs#arrives"
    )
    .must(&[4])
    .broken_by(Mutation::new("an immediate command advances ExpCmdSN", counts_immediate)),
    test!(
        immediate_commands_run_beyond_a_closed_window,
        "RFC 7143 4.2.2.1",
        "with the window closed, at least one immediate command and one immediate task management function are taken",
        "session/src/full_feature/command.rs#begin_command"
    )
    .must(&[4])
    .on(Site::NARROW),
    test!(
        too_many_immediate_commands_are_rejected,
        "RFC 7143 4.2.2.1, 11.17.1",
        "immediate commands beyond what the target has room for are rejected for that reason, and those before go on",
        "session/src/full_feature/command.rs#TooManyImmediateCommands"
    )
    .must(&[4])
    .on(Site::NARROW)
    .broken_by(Mutation::new("they are dropped without a word", no_reject)),
    test!(
        commands_run_in_cmd_sn_order,
        "RFC 7143 4.2.2.1",
        "commands are delivered in the order of their CmdSNs: what one wrote, the next reads",
        "session/src/full_feature/window.rs#arrive"
    )
    .must(&[5]),
    test!(
        ordered_read_does_not_overtake_an_ordered_write,
        "RFC 7143 4.2.2.1, SAM-5 8.5",
        "a task takes its place in the task set when its command is delivered: an ORDERED read behind an ORDERED write \
         whose data is still out waits for it",
        "session/src/full_feature/order.rs#start_waiting"
    )
    .must(&[5])
    .broken_by(Mutation::new("the read ends before the write", overtakes)),
    test!(
        ordered_read_does_not_overtake_an_ordered_write_on_another_shard,
        "RFC 7143 4.2.2.1, SAM-5 8.5",
        "the same where the unit belongs to another shard than the session",
        "session/src/full_feature/order.rs#start_waiting"
    )
    .must(&[5])
    .on(Site { shards: 2, ..Site::PLAIN })
    .broken_by(Mutation::new("the read ends before the write", overtakes)),
    test!(
        ordered_write_does_not_overtake_a_simple_write,
        "RFC 7143 4.2.2.1, SAM-5 8.6",
        "an ORDERED task waits for every older one, and younger SIMPLE ones wait for it: of three writes to one block, \
         whose data comes last one first, the last wins",
        "session/src/full_feature/order.rs#start_waiting"
    )
    .must(&[5]),
    test!(
        head_of_queue_waits_for_nobody,
        "SAM-5 8.6",
        "a HEAD OF QUEUE task runs at once, and so does a task for another unit, while an ORDERED write gathers data",
        "session/src/full_feature/order.rs#start_waiting"
    )
    .must(&[5])
    .broken_by(Mutation::new("it is answered with what came last", withheld_read)),
    test!(
        aca_attribute_is_refused,
        "RFC 7143 11.3.1, SAM-5 8.6",
        "a command with the ACA attribute, where there is no such condition, ends with CHECK CONDITION 05/49/00",
        "session/src/full_feature/command.rs#NO_ACA"
    ),
];

/// Invents a status for the last command, a read, while its write waits for data.
fn overtakes(middle: &mut Middle, pdu: Raw) {
    let mut commands = middle.sent.iter().rev().filter(|bhs| bhs.opcode() == Ok(Opcode::ScsiCommand));
    let last = commands.next().filter(|bhs| bhs.0[32] == 0x28).map(Bhs::initiator_task_tag);
    let is_echo = pdu.opcode() == Some(Opcode::NopIn);
    if let (Some(tag), true, 0) = (last, is_echo, middle.memory) {
        middle.memory = 1;
        let mut status = pdu.clone();
        status.set_byte(0, 0x21);
        status.set_data(Vec::new());
        status.set_word(16, tag);
        status.set_word(20, 0);
        middle.invent(status);
    }
    middle.pass(pdu);
}

fn withheld_read(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::DataIn) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

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

/// MaxCmdSN is as far ahead of ExpCmdSN as at first, whatever happens.
fn window_goes_on(middle: &mut Middle, mut pdu: Raw) {
    pdu.set_word(32, pdu.word(28).wrapping_add(127));
    middle.pass(pdu);
}

/// Starts writes until the window is closed, and returns their headers.
fn fill_window(conn: &mut Conn) -> Outcome<Vec<stampede_wire::pdu::ScsiCommand>> {
    let mut headers = Vec::new();
    for _ in 0..4 {
        headers.push(conn.start(&Cmd::write(0, &[7; 512])));
        conn.expect::<ReadyToTransfer>()?;
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

fn no_news(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::NopIn) && pdu.word(16) == u32::MAX {
        middle.withhold(&pdu);
    } else {
        middle.pass(pdu);
    }
}

fn no_reject(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn counts_immediate(middle: &mut Middle, mut pdu: Raw) {
    let immediate = |bhs: &&Bhs| bhs.immediate() && bhs.opcode() == Ok(Opcode::ScsiCommand);
    let count = middle.sent.iter().filter(immediate).count() as u32;
    pdu.set_word(28, pdu.word(28).wrapping_add(count));
    pdu.set_word(32, pdu.word(32).wrapping_add(count));
    middle.pass(pdu);
}

fn reopened_window_is_told_by_nop_in(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    fill_window(&mut conn)?;
    let told = conn.expect_quiet()?.sns();
    ensure_eq!(told.max_cmd_sn.next(), told.exp_cmd_sn, "MaxCmdSN + 1 of a window that is full");
    // Another initiator resets the unit: the tasks are gone, and no status is due.
    let mut other = lab.ready(&LoginText::normal(DATA, 2))?;
    let tag = other.new_tag();
    let reset = TaskManagementRequest::new(
        TaskManagementFunction::LogicalUnitReset,
        tag,
        crate::conn::lun(0),
        other.sns(),
    );
    other.send(reset.into_immediate(), &[]);
    ensure_eq!(other.expect::<TaskManagementResponse>()?.byte(2), 0, "the response to the reset");
    let news = conn.expect_view::<NopIn>()?;
    ensure_eq!(news.initiator_task_tag(), u32::MAX, "the task tag of the news");
    ensure_eq!(news.target_transfer_tag(), u32::MAX, "the transfer tag of the news");
    ensure!(news.exp_cmd_sn().lte(news.max_cmd_sn()), "the news do not open the window");
    conn.clear_attentions(0)
}

fn immediate_commands_do_not_advance_exp_cmd_sn(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let before = conn.expect_quiet()?.sns().exp_cmd_sn;
    for _ in 0..3 {
        let done = conn.run(&Cmd::test_unit_ready().immediately())?.good()?;
        ensure_eq!(Sn(done.last.word(28)), before, "ExpCmdSN after an immediate command");
        conn.run(&Cmd::read(0, 1).immediately())?.good()?;
    }
    ensure_eq!(conn.expect_quiet()?.sns().exp_cmd_sn, before, "ExpCmdSN");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn immediate_commands_run_beyond_a_closed_window(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let headers = fill_window(&mut conn)?;
    conn.run(&Cmd::read(100, 1).immediately())?.good()?;
    let tag = conn.new_tag();
    let abort =
        TaskManagementRequest::new(TaskManagementFunction::AbortTask, tag, crate::conn::lun(0), conn.sns());
    let abort = abort.with_reference(headers[0].initiator_task_tag(), headers[0].cmd_sn());
    conn.send(abort.into_immediate(), &[]);
    let response = conn.expect::<TaskManagementResponse>()?;
    ensure_eq!(response.byte(2), 0, "the response to an immediate ABORT TASK");
    // That made room for one command.
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn too_many_immediate_commands_are_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = [9; 512];
    let mut taken = Vec::new();
    for _ in 0..64 {
        let header = conn.start(&Cmd::write(0, &data).immediately());
        let pdu = conn.hear()?;
        if let Some(r2t) = pdu.view::<ReadyToTransfer>() {
            taken.push((header, *r2t));
            continue;
        }
        ensure_eq!(pdu.opcode(), Some(Opcode::Reject), "what comes instead of an R2T");
        ensure_eq!(pdu.byte(2), RejectReason::TooManyImmediateCommands as u8, "the reason");
        ensure!(!taken.is_empty(), "not one immediate command is taken");
        for (header, r2t) in taken {
            conn.answer_r2t(&r2t, &data)?;
            conn.finish(&header, &data)?.good()?;
        }
        return conn.run(&Cmd::test_unit_ready().immediately())?.good().map(drop);
    }
    crate::failure::fail("64 immediate commands are in the target at once")
}

fn commands_run_in_cmd_sn_order(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for round in 0..8u8 {
        let data = [round; 2048];
        let write = conn.start(&Cmd::write(40, &data).with_immediate_data(2048).ordered());
        let read = conn.start(&Cmd::read(40, 4).ordered());
        conn.finish(&write, &data)?.good()?;
        let done = conn.finish(&read, &[])?.good()?;
        ensure!(done.data == data, "a read that came after a write has other data");
    }
    Ok(())
}

/// Whether an ORDERED read waits for the ORDERED write before it, at LUN `number`.
fn keeps_the_order(conn: &mut Conn, number: u16) -> Outcome {
    let data = [0xe7; 512];
    let write = conn.start(&Cmd::write(50, &data).ordered().at(number));
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    let read = conn.start(&Cmd::read(50, 1).ordered().at(number));
    conn.expect_quiet()?;
    conn.expect_silence()?;
    conn.answer_r2t(&r2t, &data)?;
    conn.finish(&write, &data)?.good()?;
    let done = conn.finish(&read, &[])?.good()?;
    ensure!(done.data == data, "the read has what was there before the write");
    Ok(())
}

fn ordered_read_does_not_overtake_an_ordered_write(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    keeps_the_order(&mut conn, 0)
}

fn ordered_read_does_not_overtake_an_ordered_write_on_another_shard(lab: &mut Lab) -> Outcome {
    // Units lie on both shards: of two targets, one is away from the session.
    let mut near = lab.plain()?;
    keeps_the_order(&mut near, 0)?;
    let mut far = lab.session(&LoginText::normal(ODD, 2))?;
    far.clear_attentions(1)?;
    keeps_the_order(&mut far, 1)
}

fn ordered_write_does_not_overtake_a_simple_write(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = [[1; 512], [2; 512], [3; 512]];
    let mut writes = Vec::new();
    for (number, data) in data.iter().enumerate() {
        let write = Cmd::write(60, data);
        let header = conn.start(&if number == 1 { write.ordered() } else { write });
        writes.push((header, conn.expect_view::<ReadyToTransfer>()?));
    }
    for number in [2, 1] {
        conn.answer_r2t(&writes[number].1, &data[number])?;
        conn.expect_quiet()?;
    }
    conn.answer_r2t(&writes[0].1, &data[0])?;
    for (header, _) in &writes {
        conn.finish(header, &[])?.good()?;
    }
    let read = conn.run(&Cmd::read(60, 1).ordered())?.good()?;
    ensure!(read.data == data[2], "the block has the data of write {}", read.data[0]);
    Ok(())
}

fn head_of_queue_waits_for_nobody(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = [0x4f; 512];
    let write = conn.start(&Cmd::write(70, &data).ordered());
    let r2t = conn.expect_view::<ReadyToTransfer>()?;
    conn.run(&Cmd { attribute: TaskAttribute::HeadOfQueue, ..Cmd::read(70, 1) })?.good()?;
    // There is no LUN 5, and it waits for nobody to hear that.
    conn.run(&Cmd::test_unit_ready().at(5))?.check_condition((5, 0x25, 0))?;
    conn.answer_r2t(&r2t, &data)?;
    conn.finish(&write, &data)?.good().map(drop)
}

fn aca_attribute_is_refused(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for cmd in [Cmd::test_unit_ready(), Cmd::read(0, 1), Cmd::write(0, &[1; 512])] {
        let done = conn.run(&Cmd { attribute: TaskAttribute::Aca, ..cmd })?;
        done.check_condition((5, 0x49, 0))?;
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn window_stays_where_it_is_without_memory(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let data = vec![0x3c; 1 << 20];
    let mut writes = Vec::new();
    let full = loop {
        let header = conn.start(&Cmd::write(0, &data));
        let pdu = conn.hear()?;
        let Some(r2t) = pdu.view::<ReadyToTransfer>() else { break pdu };
        writes.push((header, *r2t));
        ensure!(writes.len() < 120, "there is memory for 120 writes of 1 MiB");
    };
    ensure_eq!((full.opcode(), full.byte(3)), (Some(Opcode::ScsiResponse), 0x28), "TASK SET FULL");
    // Commands without data run, and use up what was promised: nothing is added to it.
    let max = conn.expect_quiet()?.sns().max_cmd_sn;
    for _ in 0..5 {
        conn.run(&Cmd::test_unit_ready())?.good()?;
    }
    ensure_eq!(conn.expect_quiet()?.sns().max_cmd_sn, max, "MaxCmdSN while there is no memory");
    // The data comes, the writes end, and the window opens.
    for (_, first) in &writes {
        conn.answer_r2t(first, &data)?;
        let end = loop {
            let pdu = conn.hear()?;
            let Some(r2t) = pdu.view::<ReadyToTransfer>() else { break pdu };
            conn.answer_r2t(r2t, &data)?;
        };
        ensure_eq!((end.opcode(), end.byte(3)), (Some(Opcode::ScsiResponse), 0), "the end of a write");
    }
    let told = conn.expect_quiet()?.sns();
    ensure_eq!(told.exp_cmd_sn.distance(told.max_cmd_sn), 127, "how far MaxCmdSN is ahead of ExpCmdSN");
    conn.run(&Cmd::write(0, &data))?.good().map(drop)
}
