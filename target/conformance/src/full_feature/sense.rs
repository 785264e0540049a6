//! Sense data, additional header segments and LUNs (RFC 7143 11.4.7, 11.2.2, 11.2.1.7).

use crate::conn::{Cmd, LoginText, cdb};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::ODD;
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{NopIn, NopOut, ReadyToTransfer, RejectReason};
use stampede_wire::{Bhs, Lun, Opcode};

pub(super) const TESTS: &[Test] = &[
    test!(
        sense_has_its_length_before_it,
        "RFC 7143 11.4.7",
        "CHECK CONDITION brings sense data at once: two bytes of length, then as many of sense, padded to four",
        "session/src/full_feature/respond.rs#send_response"
    )
    .must(&[15])
    .broken_by(Mutation::new("SenseLength is left out", no_sense_length)),
    test!(
        data_digest_covers_the_padding_of_sense,
        "RFC 7143 11.2.3, 11.4.7",
        "the digest of a data segment covers its padding too",
        "wire/src/encode.rs#data_digest_of"
    )
    .must(&[15])
    .broken_by(Mutation::new("the digest leaves the padding out", digest_without_padding)),
    test!(
        extended_cdb_is_taken_in,
        "RFC 7143 11.2.2.3",
        "a CDB of more than 16 bytes goes on in an additional header segment: the command is judged, not the PDU",
        "session/src/full_feature/command.rs#additional_headers"
    )
    .must(&[16]),
    test!(
        unknown_or_broken_header_segments_are_rejected,
        "RFC 7143 11.2.2, 11.17.1",
        "an additional header segment of an unknown type, or longer than TotalAHSLength, makes the PDU invalid; the \
         connection goes on",
        "session/src/full_feature/command.rs#additional_headers"
    )
    .must(&[16])
    .broken_by(Mutation::new("the Reject of a PDU with a broken AHS is withheld", no_reject)),
    test!(
        header_segments_beyond_the_limit_end_the_connection,
        "RFC 7143 11.2.1.5, 11.2.2",
        "header segments longer than any command has are not taken in: the connection is dropped",
        "engine/src/connection/receive.rs#AHS_MAX"
    )
    .must(&[16])
    .broken_by(Mutation::stays_open("the connection stays open")),
    test!(
        header_segments_of_other_pdus_change_nothing,
        "RFC 7143 11.2.1.5",
        "header segments belong to SCSI commands; those of another PDU are taken off the wire, and it is answered",
        "wire/src/frame.rs#max_ahs"
    )
    .must(&[16]),
    test!(
        bidirectional_commands_end_with_sense,
        "RFC 7143 11.2.2.4, 11.3.1",
        "a bidirectional command, which no unit of the target has, ends with CHECK CONDITION",
        "session/src/full_feature/command.rs#BIDIRECTIONAL"
    )
    .must(&[16]),
    test!(
        luns_in_both_methods_name_the_same_unit,
        "RFC 7143 11.2.1.7, SAM-5 4.7",
        "LUN 1 by peripheral addressing and by flat space addressing is one unit, and an R2T brings the field back as \
         it came",
        "wire/src/lun.rs#decode"
    )
    .must(&[17])
    .broken_by(Mutation::new("the LUN of an R2T is 0", r2t_without_lun)),
    test!(
        target_without_lun_0_answers_at_lun_0,
        "SPC-4 6.6, 6.33, RFC 7143 11.2.1.7",
        "REPORT LUNS and INQUIRY are answered at LUN 0 though there is no unit; the list names LUN 1 only",
        "engine/src/shard/commands.rs#report_luns"
    )
    .must(&[17])
    .broken_by(Mutation::new("REPORT LUNS fails at a LUN 0 that is absent", fails_at_lun_0)),
];

fn no_sense_length(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ScsiResponse) && pdu.data.len() > 2 {
        let sense = pdu.data[2..].to_vec();
        pdu.set_data(sense);
    }
    middle.pass(pdu);
}

fn digest_without_padding(middle: &mut Middle, mut pdu: Raw) {
    if pdu.data_digest.is_some() && !pdu.padding.is_empty() {
        pdu.data_digest = Some(stampede_wire::digest::to_wire(stampede_wire::digest::crc32c(&pdu.data)));
    }
    middle.pass(pdu);
}

fn no_reject(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

fn r2t_without_lun(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::ReadyToTransfer) {
        pdu.set_word(8, 0);
    }
    middle.pass(pdu);
}

fn fails_at_lun_0(middle: &mut Middle, mut pdu: Raw) {
    let asked = middle.last_sent(Opcode::ScsiCommand).is_some_and(|bhs| bhs.0[32] == 0xa0);
    if asked && pdu.opcode() == Some(Opcode::DataIn) {
        pdu.set_byte(3, 2);
    }
    middle.pass(pdu);
}

fn sense_has_its_length_before_it(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let done = conn.run(&Cmd::new(cdb::of(&[0xff])))?.check_condition((5, 0x20, 0))?;
    ensure!(done.sense.len() >= 18, "{} bytes of sense", done.sense.len());
    ensure_eq!(done.last.data.len(), done.sense.len() + 2, "bytes of the data segment");
    ensure_eq!(done.last.padding.len(), done.last.data.len().wrapping_neg() % 4, "bytes of padding");
    Ok(())
}

fn data_digest_covers_the_padding_of_sense(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("DataDigest", "CRC32C"))?;
    // Each of these answers has a length that is no multiple of four; the digests are judged as they come.
    conn.run(&Cmd::new(cdb::of(&[0xff])))?.check_condition((5, 0x20, 0))?;
    for allocation in [5, 6, 7] {
        let done = conn.run(&Cmd::reading(cdb::inquiry(allocation), u32::from(allocation)))?.good()?;
        ensure_eq!(done.data.len(), usize::from(allocation), "bytes of INQUIRY data");
        ensure!(done.last.data_digest.is_some(), "no data digest");
    }
    Ok(())
}

/// An additional header segment with its length, type and content, padded to four bytes.
pub(super) fn segment(kind: u8, content: &[u8]) -> Vec<u8> {
    // AHSLength counts what follows the type byte.
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut bytes = [&[high, low, kind], content].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn extended_cdb_is_taken_in(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    // A variable-length CDB of 32 bytes with a service action that does not exist.
    let cmd = Cmd::new(cdb::of(&[0x7f, 0, 0, 0, 0, 0, 0, 24, 0xff, 0xee]));
    let header = conn.header(&cmd);
    conn.send_with_ahs(header, &segment(1, &[0; 17]), &[]);
    let done = conn.finish(&header, &[])?;
    ensure_eq!((done.status, done.sense_code().0), (2, 5), "status and sense key of an unknown long command");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn unknown_or_broken_header_segments_are_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    // A type that is not defined; a length beyond the segments; one of 0 at the end.
    for ahs in [segment(9, &[0; 5]), vec![0, 200, 1, 0], vec![0xff, 0xff, 1, 0, 0, 0, 0, 0]] {
        let header = conn.header(&Cmd::test_unit_ready());
        let mut bad = Bhs::from(header);
        bad.0[4] = (ahs.len() / 4) as u8;
        conn.send_with_ahs(header, &ahs, &[]);
        conn.expect_reject(RejectReason::InvalidPduField, &bad)?;
    }
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn header_segments_beyond_the_limit_end_the_connection(lab: &mut Lab) -> Outcome {
    for words in [64, 255] {
        let mut conn = lab.plain()?;
        let header = conn.header(&Cmd::test_unit_ready());
        conn.send_with_ahs(header, &vec![0; words * 4], &[]);
        conn.expect_closed()?;
    }
    Ok(())
}

fn header_segments_of_other_pdus_change_nothing(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let ping = NopOut::ping(conn.new_tag(), conn.sns()).into_immediate();
    conn.send_with_ahs(ping, &segment(9, &[0; 5]), b"echo");
    let echo = conn.expect::<NopIn>()?;
    ensure!(echo.data == b"echo", "{:?} came back", echo.data);
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn bidirectional_commands_end_with_sense(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    // R and W, with the length of the read part in a header segment.
    let cmd = Cmd::writing(cdb::of(&[0x53, 0, 0, 0, 0, 0, 0, 0, 1]), &[0; 512]);
    let header = Bhs::from(conn.header(&cmd));
    let bidi = crate::conn::with_byte(header, 1, header.0[1] | 0x40);
    conn.send_with_ahs(bidi, &segment(2, &[0, 0, 0, 2, 0]), &[]);
    let done = conn.finish(bidi.view(), &[0; 512])?;
    ensure_eq!((done.status, done.sense_code().0), (2, 5), "status and sense key");
    conn.run(&Cmd::test_unit_ready())?.good().map(drop)
}

fn luns_in_both_methods_name_the_same_unit(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::normal(ODD, 1))?;
    conn.clear_attentions(1)?;
    let flat = Lun([0x40, 1, 0, 0, 0, 0, 0, 0]);
    let peripheral = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
    for (lun, seed) in [(flat, 1u8), (peripheral, 2)] {
        let data = [seed; 512];
        let header = conn.start(&Cmd { lun, ..Cmd::write(9, &data) });
        let r2t = conn.expect_view::<ReadyToTransfer>()?;
        ensure_eq!(r2t.lun(), lun, "the LUN of the R2T");
        conn.answer_r2t(&r2t, &data)?;
        conn.finish(&header, &data)?.good()?;
        for lun in [flat, peripheral] {
            let done = conn.run(&Cmd { lun, ..Cmd::read(9, 1) })?.good()?;
            ensure!(done.data == data, "other data by the other method");
        }
    }
    Ok(())
}

fn target_without_lun_0_answers_at_lun_0(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::normal(ODD, 1))?;
    let done = conn.run(&Cmd::reading(cdb::report_luns(256), 256))?.good()?;
    ensure_eq!(done.data.len(), 16, "bytes of a list with one LUN");
    ensure_eq!(done.data[8..16], [0, 1, 0, 0, 0, 0, 0, 0], "the LUN in the list");
    let done = conn.run(&Cmd::reading(cdb::inquiry(36), 36))?.good()?;
    // Peripheral qualifier 001b or 011b: no unit is there.
    ensure!(
        matches!(done.data[0] >> 5, 1 | 3),
        "the peripheral qualifier of no unit is {}",
        done.data[0] >> 5
    );
    let done = conn.run(&Cmd::read(0, 1))?;
    ensure_eq!(done.status, 2, "the status of a read from no unit");
    ensure_eq!(done.sense_code(), (5, 0x25, 0), "its sense: LOGICAL UNIT NOT SUPPORTED");
    conn.clear_attentions(1)?;
    conn.run(&Cmd::read(0, 1).at(1))?.good().map(drop)
}
