//! Write data: R2Ts, and data that nobody asked for (RFC 7143 4.2.5.2, 11.7, 11.8, 13.10, 13.11, 13.14).

use crate::conn::{Cmd, Conn, Done, LoginText, cdb};
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
        r2ts_ask_for_a_burst_each_in_order,
        "RFC 7143 11.8.4, 13.13, 13.19",
        "an R2T asks for no more than MaxBurstLength, the next for what follows it, and R2TSN counts from 0",
        "session/src/full_feature/collection.rs#solicit"
    )
    .must(&[8, 9])
    .broken_by(Mutation::new("an R2T asks for more than MaxBurstLength", greedy)),
    test!(
        outstanding_r2ts_keep_to_their_limit,
        "RFC 7143 11.8, 13.17",
        "no more R2Ts of a command are out than MaxOutstandingR2T; answering one brings the next",
        "session/src/full_feature/collection.rs#solicit"
    )
    .must(&[9])
    .broken_by(Mutation::new("one R2T more is out than was agreed", one_more)),
    test!(
        r2t_tags_are_unique_and_valid,
        "RFC 7143 11.8.5",
        "the Target Transfer Tag of an R2T is not ffffffff, and no two that are out have the same",
        "session/src/full_feature/command.rs#r2t_tag"
    )
    .must(&[9])
    .broken_by(Mutation::new("R2Ts have the tag ffffffff", no_tag)),
    test!(
        every_way_of_sending_write_data_works,
        "RFC 7143 13.10, 13.11, 4.2.5.2",
        "with each answer to InitialR2T and ImmediateData, data comes with the command, after it and by R2T, and what \
         was written is read",
        "session/src/full_feature/command.rs#collection_of"
    )
    .must(&[10])
    .broken_by(Mutation::new("data that came unasked is asked for again", asks_again)),
    test!(
        immediate_data_counts_in_the_first_burst,
        "RFC 7143 13.14, 11.7",
        "immediate data and the unsolicited data after it together are at most FirstBurstLength: more ends the command \
         with sense 0B/0C/0C",
        "session/src/full_feature/collection.rs#begin"
    )
    .must(&[10])
    .broken_by(Mutation::new("a write with too much unsolicited data ends well", all_good)),
    test!(
        immediate_data_where_none_was_agreed_fails,
        "RFC 7143 13.11, 11.4.7.2",
        "with ImmediateData=No, data in the command PDU ends the command with sense 0B/0C/0C",
        "session/src/full_feature/command.rs#collection_of"
    )
    .must(&[10])
    .broken_by(Mutation::new("immediate data is taken though No was agreed", all_good)),
    test!(
        unsolicited_data_where_none_was_agreed_fails,
        "RFC 7143 13.10, 11.4.7.2",
        "with InitialR2T=Yes, a write that says that data follows (F=0) ends with sense 0B/0C/0C, or its data is \
         refused",
        "session/src/full_feature/command.rs#collection_of"
    )
    .must(&[10]),
    test!(
        data_out_data_sn_starts_anew_with_each_burst,
        "RFC 7143 4.2.2.3, 11.7.5",
        "DataSN of Data-Out counts from 0 in each sequence: unsolicited, and of each R2T",
        "session/src/full_feature/collection.rs#close_sequence"
    )
    .must(&[8]),
];

fn greedy(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) {
        pdu.set_word(44, pdu.word(44) * 2);
    }
    middle.pass(pdu);
}

fn one_more(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) && pdu.word(36) == 0 {
        let mut again = pdu.clone();
        middle.pass(pdu);
        again.set_word(36, 1);
        again.set_word(40, again.word(44));
        return middle.pass(again);
    }
    middle.pass(pdu);
}

fn no_tag(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) {
        pdu.set_word(20, u32::MAX);
    }
    middle.pass(pdu);
}

fn asks_again(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) && pdu.word(40) > 0 {
        pdu.set_word(40, 0);
    }
    middle.pass(pdu);
}

fn all_good(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) && middle.memory > 0 {
        pdu.set_byte(3, 0);
        pdu.set_data(Vec::new());
    }
    middle.memory = 1;
    middle.pass(pdu);
}

/// A session with these answers, MaxBurstLength 8192, FirstBurstLength 4096.
fn session(lab: &mut Lab, initial_r2t: &str, immediate_data: &str) -> Outcome<Conn> {
    let text = LoginText::plain().with_all(&[
        ("InitialR2T", initial_r2t),
        ("ImmediateData", immediate_data),
        ("MaxBurstLength", "8192"),
        ("FirstBurstLength", "4096"),
        ("MaxOutstandingR2T", "1"),
    ]);
    lab.ready(&text)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 3) as u8 ^ seed).collect()
}

/// Sends unsolicited Data-Out of `data[start..end]` in PDUs of `piece` bytes.
fn unsolicited(conn: &mut Conn, header: &ScsiCommand, data: &[u8], start: usize, piece: usize) {
    let mut at = start;
    let mut data_sn = 0;
    while at < data.len() {
        let end = data.len().min(at + piece);
        let pdu = DataOut::unsolicited(header.initiator_task_tag(), header.lun(), Sn(conn.exp_stat_sn()));
        conn.send(pdu.at(data_sn, at as u32, end == data.len()), &data[at..end]);
        (at, data_sn) = (end, data_sn + 1);
    }
}

/// Writes with so much immediate data and unsolicited data up to `burst`, the rest by R2T.
fn write(conn: &mut Conn, lba: u32, data: &[u8], immediate: usize, burst: usize) -> Outcome<Done> {
    let cmd = Cmd::write(lba, data);
    let header = conn.header(&cmd).writing(data.len() as u32, burst > immediate);
    conn.send(header, &data[..immediate]);
    if burst > immediate {
        unsolicited(conn, &header, &data[..burst], immediate, 1024);
    }
    conn.finish(&header, data)
}

fn r2ts_ask_for_a_burst_each_in_order(lab: &mut Lab) -> Outcome {
    let mut conn = session(lab, "Yes", "No")?;
    let data = pattern(20 * 1024, 1);
    let header = conn.start(&Cmd::write(100, &data));
    let mut asked = 0;
    for (number, len) in [8192u32, 8192, 4096].into_iter().enumerate() {
        let r2t = conn.expect_view::<ReadyToTransfer>()?;
        ensure_eq!(r2t.r2t_sn() as usize, number, "R2TSN");
        ensure_eq!(r2t.buffer_offset(), asked, "Buffer Offset of R2T {number}");
        ensure_eq!(r2t.desired_data_transfer_length(), len, "Desired Data Transfer Length of R2T {number}");
        ensure_eq!(r2t.initiator_task_tag(), header.initiator_task_tag(), "the tag of R2T {number}");
        asked += len;
        conn.answer_r2t(&r2t, &data)?;
    }
    conn.finish(&header, &data)?.good()?;
    let done = conn.run(&Cmd::read(100, 40))?.good()?;
    ensure!(done.data == data, "other data than was written");
    Ok(())
}

fn outstanding_r2ts_keep_to_their_limit(lab: &mut Lab) -> Outcome {
    for limit in [1usize, 2, 3] {
        let text = LoginText::plain().with_all(&[
            ("MaxBurstLength", "512"),
            ("MaxOutstandingR2T", &limit.to_string()),
            ("InitialR2T", "Yes"),
        ]);
        let mut conn = lab.ready(&text)?;
        let data = pattern(8 * 512, limit as u8);
        let header = conn.start(&Cmd::write(0, &data));
        let mut out = std::collections::VecDeque::new();
        for _ in 0..limit {
            out.push_back(conn.expect_view::<ReadyToTransfer>()?);
        }
        // Not one more until one is answered.
        conn.expect_quiet()?;
        let mut answered = 0;
        while let Some(r2t) = out.pop_front() {
            ensure_eq!(r2t.r2t_sn(), answered, "R2TSN");
            conn.answer_r2t(&r2t, &data)?;
            answered += 1;
            if answered as usize + out.len() < 8 {
                out.push_back(conn.expect_view::<ReadyToTransfer>()?);
            }
        }
        conn.finish(&header, &data)?.good()?;
        conn.vanish();
    }
    Ok(())
}

fn r2t_tags_are_unique_and_valid(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with_all(&[
        ("MaxBurstLength", "512"),
        ("MaxOutstandingR2T", "2"),
        ("InitialR2T", "Yes"),
    ]))?;
    let data = pattern(1024, 3);
    let mut tags = std::collections::BTreeSet::new();
    let mut tasks = Vec::new();
    for lba in 0..8 {
        let header = conn.start(&Cmd::write(lba * 2, &data));
        let mut r2ts = Vec::new();
        for _ in 0..2 {
            let r2t = conn.expect_view::<ReadyToTransfer>()?;
            let tag = r2t.target_transfer_tag();
            ensure!(tag != u32::MAX, "an R2T with tag ffffffff");
            ensure!(tags.insert(tag), "two R2Ts with tag {tag:08x}");
            r2ts.push(r2t);
        }
        tasks.push((header, r2ts));
    }
    for (header, r2ts) in tasks {
        for r2t in r2ts {
            conn.answer_r2t(&r2t, &data)?;
        }
        conn.finish(&header, &data)?.good()?;
    }
    Ok(())
}

fn every_way_of_sending_write_data_works(lab: &mut Lab) -> Outcome {
    for initial_r2t in ["Yes", "No"] {
        for immediate_data in ["Yes", "No"] {
            let mut conn = session(lab, initial_r2t, immediate_data)?;
            let first = 4096;
            for (seed, len) in [512usize, 4096, 8192, 20 * 1024].into_iter().enumerate() {
                let data = pattern(len, seed as u8);
                let mut ways = vec![(0, 0)];
                if immediate_data == "Yes" {
                    ways.extend([(512, 512), (len.min(first), len.min(first))]);
                }
                if initial_r2t == "No" {
                    ways.push((0, len.min(first)));
                    if immediate_data == "Yes" && len > 512 {
                        ways.push((512, len.min(first)));
                    }
                }
                for (immediate, burst) in ways {
                    write(&mut conn, 64, &data, immediate, burst)?.good()?;
                    let done = conn.run(&Cmd::read(64, (len / 512) as u16))?.good()?;
                    ensure!(
                        done.data == data,
                        "InitialR2T={initial_r2t}, ImmediateData={immediate_data}, {len} bytes, {immediate} with the \
                         command, unsolicited up to {burst}: other data than was written"
                    );
                }
            }
            conn.vanish();
        }
    }
    Ok(())
}

/// The command ended for unexpected unsolicited data, and the session goes on.
fn unexpected(conn: &mut Conn, done: Done) -> Outcome {
    done.check_condition((0xb, 0x0c, 0x0c))?;
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn immediate_data_counts_in_the_first_burst(lab: &mut Lab) -> Outcome {
    let mut conn = session(lab, "No", "Yes")?;
    let data = pattern(8192, 9);
    // Too much with the command itself.
    let header = conn.header(&Cmd::write(0, &data));
    conn.send(header, &data[..4608]);
    let done = conn.finish(&header, &data)?;
    unexpected(&mut conn, done)?;
    // Too much together.
    let header = conn.header(&Cmd::write(0, &data)).writing(8192, true);
    conn.send(header, &data[..2048]);
    unsolicited(&mut conn, &header, &data[..4608], 2048, 512);
    let done = conn.finish(&header, &data)?;
    unexpected(&mut conn, done)
}

fn immediate_data_where_none_was_agreed_fails(lab: &mut Lab) -> Outcome {
    let mut conn = session(lab, "Yes", "No")?;
    let data = pattern(512, 9);
    let header = conn.header(&Cmd::write(0, &data));
    conn.send(header, &data);
    let done = conn.finish(&header, &data)?;
    unexpected(&mut conn, done)
}

fn unsolicited_data_where_none_was_agreed_fails(lab: &mut Lab) -> Outcome {
    let mut conn = session(lab, "Yes", "Yes")?;
    let data = pattern(2048, 9);
    let before = conn.run(&Cmd::read(0, 4))?.good()?.data;
    let header = conn.header(&Cmd::write(0, &data)).writing(2048, true);
    conn.send(header, &[]);
    let done = conn.finish(&header, &data)?;
    unexpected(&mut conn, done)?;
    ensure!(conn.run(&Cmd::read(0, 4))?.good()?.data == before, "a write that failed wrote");
    Ok(())
}

fn data_out_data_sn_starts_anew_with_each_burst(lab: &mut Lab) -> Outcome {
    let mut conn = session(lab, "No", "No")?;
    conn.target_segment = 1024;
    let data = pattern(20 * 1024, 4);
    let done = write(&mut conn, 8, &data, 0, 4096)?.good()?;
    ensure_eq!(done.r2ts, 2, "R2Ts for 16 KiB with bursts of 8192");
    let done = conn.run(&Cmd::reading(cdb::read_10(8, 40), 20 * 1024))?.good()?;
    ensure!(done.data == data, "other data than was written");
    Ok(())
}
