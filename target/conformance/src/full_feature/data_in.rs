//! Data that is read: how it is cut, and the status that goes with it (RFC 7143 11.7).

use crate::conn::{Cmd, Keys, LoginText, cdb, view_flags};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{DataFlags, TextRequest, TextResponse, TextStep};

pub(super) const TESTS: &[Test] = &[
    test!(
        data_sn_counts_from_0_for_each_command,
        "RFC 7143 4.2.2.3, 11.7.5",
        "DataSN of a command's Data-In PDUs is 0, 1, 2, and their offsets follow one another",
        "session/src/full_feature/data_in.rs#pieces"
    )
    .must(&[8])
    .broken_by(Mutation::new("DataSN goes on from the command before", data_sn_goes_on)),
    test!(
        data_in_keeps_to_the_initiators_segment,
        "RFC 7143 13.12",
        "no Data-In is longer than the initiator's MaxRecvDataSegmentLength, which holds for this direction alone",
        "session/src/full_feature/data_in.rs#pieces"
    )
    .must(&[12])
    .broken_by(Mutation::new("two Data-In PDUs come as one that is too long", glued)),
    test!(
        segment_may_change_in_a_session,
        "RFC 7143 13.12, 11.10",
        "MaxRecvDataSegmentLength may be declared anew by a Text Request, and holds from the answer on",
        "session/src/full_feature/text.rs#answer_text"
    )
    .must(&[12])
    .broken_by(Mutation::new("data comes as before the change", glued)),
    test!(
        sequences_end_at_max_burst_length,
        "RFC 7143 11.7.1, 13.13",
        "the last Data-In of each MaxBurstLength of data, and the last of all, has the F bit, and no other",
        "session/src/full_feature/data_in.rs#left_in_burst"
    )
    .must(&[8]),
    test!(
        status_goes_with_the_last_data_in_only,
        "RFC 7143 11.7.3",
        "a Data-In with S is the last of its command, has F, and means that no response follows; S is for a status \
         without sense data",
        "session/src/full_feature/respond.rs#send_status"
    )
    .must(&[14])
    .broken_by(Mutation::new("the status is said twice: with the data, and in a response", says_twice)),
    test!(
        check_condition_never_goes_with_data,
        "RFC 7143 11.7.3, 11.4",
        "a command that ends with sense data ends with a SCSI Response",
        "session/src/full_feature/respond.rs#send_status"
    )
    .must(&[14])
    .broken_by(Mutation::new("CHECK CONDITION comes in a Data-In", condition_with_data)),
];

fn data_sn_goes_on(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::DataIn) {
        pdu.set_word(36, middle.memory);
        middle.memory += 1;
    }
    middle.pass(pdu);
}

/// Puts a Data-In and the next one together.
fn glued(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() != Some(Opcode::DataIn) {
        return middle.pass(pdu);
    }
    let Some(first) = middle.kept.pop() else {
        if pdu.byte(1) & 1 != 0 {
            return middle.pass(pdu);
        }
        return middle.kept.push(pdu);
    };
    pdu.set_word(36, middle.memory);
    middle.memory += 1;
    pdu.set_word(40, first.word(40));
    let data = [first.data, pdu.data.clone()].concat();
    pdu.set_data(data);
    middle.pass(pdu);
}

fn says_twice(middle: &mut Middle, pdu: Raw) {
    let with_status = pdu.opcode() == Some(Opcode::DataIn) && pdu.byte(1) & 1 != 0;
    let mut again = pdu.clone();
    middle.pass(pdu);
    if with_status {
        again.set_byte(0, 0x21);
        again.set_byte(1, 0x80);
        again.set_byte(2, 0);
        again.set_data(Vec::new());
        again.set_word(24, again.stat_sn().wrapping_add(1));
        middle.invent(again);
    }
}

fn condition_with_data(middle: &mut Middle, mut pdu: Raw) {
    // Not the unit attention that a new nexus begins with.
    let is_first = std::mem::replace(&mut middle.memory, 1) == 0;
    if pdu.opcode() == Some(Opcode::ScsiResponse) && pdu.byte(3) == 2 && !is_first {
        pdu.set_byte(0, 0x25);
        pdu.set_byte(1, 0x81);
        pdu.set_word(36, 0);
        pdu.set_word(40, 0);
    }
    middle.pass(pdu);
}

fn data_sn_counts_from_0_for_each_command(lab: &mut Lab) -> Outcome {
    // The command's own run judges DataSN and offsets.
    let mut conn = lab.ready(&LoginText::plain().with("MaxRecvDataSegmentLength", "1024"))?;
    for blocks in [1u16, 2, 3, 16] {
        let done = conn.run(&Cmd::read(7, blocks))?.good()?;
        ensure_eq!(done.data.len(), usize::from(blocks) * 512, "bytes that were read");
        ensure_eq!(done.data_ins.len(), usize::from(blocks).div_ceil(2), "Data-In PDUs");
    }
    Ok(())
}

fn data_in_keeps_to_the_initiators_segment(lab: &mut Lab) -> Outcome {
    for (segment, blocks, pdus) in [("512", 16, 16), ("8192", 64, 4), ("1000", 4, 3)] {
        let text = LoginText::plain().with("MaxRecvDataSegmentLength", segment);
        let mut conn = lab.ready(&text)?;
        let done = conn.run(&Cmd::read(0, blocks))?.good()?;
        ensure_eq!(done.data_ins.len(), pdus, "Data-In PDUs of at most {segment} bytes");
        conn.vanish();
    }
    Ok(())
}

fn segment_may_change_in_a_session(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("MaxRecvDataSegmentLength", "4096"))?;
    ensure_eq!(conn.run(&Cmd::read(0, 16))?.good()?.data_ins.len(), 2, "Data-In PDUs of 4096 bytes");
    for (bytes, pdus) in [(512u32, 16), (8192, 1), (2048, 4)] {
        let tag = conn.new_tag();
        let request = TextRequest::new(tag, TextStep::Final, conn.next_sns());
        let keys = Keys::new(&[("MaxRecvDataSegmentLength", &bytes.to_string())]);
        conn.send(request, &keys.to_bytes());
        let response = conn.expect::<TextResponse>()?;
        ensure_eq!(response.byte(1), 0x80, "F and C of the Text Response");
        conn.declare_segment(bytes);
        let done = conn.run(&Cmd::read(0, 16))?.good()?;
        ensure_eq!(done.data_ins.len(), pdus, "Data-In PDUs of {bytes} bytes");
    }
    Ok(())
}

fn sequences_end_at_max_burst_length(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain().with("MaxRecvDataSegmentLength", "1024").with("MaxBurstLength", "2048");
    let mut conn = lab.ready(&text)?;
    let done = conn.run(&Cmd::read(0, 9))?.good()?;
    let finals: Vec<bool> =
        done.data_ins.iter().map(|pdu| view_flags(pdu).contains(DataFlags::FINAL)).collect();
    ensure_eq!(finals, vec![false, true, false, true, true], "F bits of 4608 bytes in bursts of 2048");
    Ok(())
}

fn status_goes_with_the_last_data_in_only(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("MaxRecvDataSegmentLength", "512"))?;
    let done = conn.run(&Cmd::read(0, 4))?.good()?;
    let (last, others) =
        done.data_ins.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
    ensure!(
        others.iter().all(|pdu| view_flags(pdu).bits() & 0x07 == 0),
        "a Data-In before the last has S, U or O"
    );
    if last.is_some_and(|pdu| view_flags(pdu).bits() & 1 != 0) {
        // Nothing more comes for it.
        conn.expect_quiet()?;
    }
    Ok(())
}

fn check_condition_never_goes_with_data(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    // Beyond the end of the medium, and a page that does not exist.
    for cmd in [Cmd::read(u32::MAX - 8, 4), Cmd::reading(cdb::inquiry_page(0xfe, 255), 255)] {
        let done = conn.run(&cmd)?;
        ensure_eq!(done.status, 2, "the status");
        ensure_eq!(done.last.opcode(), Some(Opcode::ScsiResponse), "the PDU that carries CHECK CONDITION");
        ensure!(!done.sense.is_empty(), "CHECK CONDITION without sense data");
        ensure_eq!(done.sense_code().0, 5, "the sense key");
    }
    Ok(())
}
