//! Text requests and SendTargets (RFC 7143 11.10, 11.11, Appendix C).

use crate::conn::{Conn, Keys, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{CLONE, DATA, ODD, PORTAL_GROUP, Site};
use crate::{ensure, ensure_eq, test};
use stampede_wire::pdu::{RejectReason, TextRequest, TextResponse, TextStep};
use stampede_wire::{Bhs, Opcode};

/// Targets besides the usual ones, so that their list is longer than 512 bytes.
const MANY: u16 = 12;

pub(super) const TESTS: &[Test] = &[
    test!(
        send_targets_all_lists_every_target_with_its_portal,
        "RFC 7143 Appendix C, 13.3",
        "in a discovery session SendTargets=All names each target, and after it its portals with their group",
        "session/src/full_feature/text.rs#send_targets"
    )
    .must(&[27])
    .broken_by(Mutation::new("TargetAddress has no portal group tag", no_group)),
    test!(
        send_targets_all_is_for_discovery_only,
        "RFC 7143 Appendix C",
        "in a normal session SendTargets=All is rejected; an empty value, or the session's own target, names that \
         target; another's name lists nothing",
        "session/src/full_feature/text.rs#send_targets"
    )
    .must(&[27])
    .broken_by(Mutation::new("SendTargets=All is answered with a list", never_rejects)),
    test!(
        long_answers_come_in_parts,
        "RFC 7143 11.11, 6.2",
        "an answer longer than the initiator takes comes in parts with F=0, C=1 and a transfer tag; an empty request \
         with that tag brings the next",
        "session/src/full_feature/text.rs#text_request"
    )
    .must(&[27, 25])
    .on(Site { extra_targets: MANY, ..Site::PLAIN })
    .broken_by(Mutation::new("the answer ends after its first part", first_part_only)),
    test!(
        long_requests_may_come_in_parts,
        "RFC 7143 11.10, 6.2",
        "a text cut by C, even within a key, is answered by empty responses with a transfer tag until it is whole",
        "session/src/full_feature/text.rs#take_text"
    )
    .must(&[25]),
    test!(
        keys_of_the_login_are_rejected_later,
        "RFC 7143 13",
        "a key that may be negotiated in a login only is rejected in the full-feature phase, an unknown one is not \
         understood",
        "session/src/full_feature/text.rs#is_login_key"
    )
    .must(&[25]),
    test!(
        wrong_text_requests_are_rejected,
        "RFC 7143 11.10, 11.17.1",
        "F with C, a transfer tag that is not out, a key twice, or a malformed text is a protocol error, and the \
         session goes on",
        "session/src/full_feature/text.rs#take_text"
    )
    .broken_by(Mutation::new("the Reject of a malformed text is withheld", no_reject)),
];

fn no_group(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TextResponse) {
        let text = String::from_utf8_lossy(&pdu.data).replace(",1\0", "\0");
        pdu.set_data(text.into_bytes());
    }
    middle.pass(pdu);
}

fn never_rejects(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TextResponse) {
        let text = String::from_utf8_lossy(&pdu.data);
        let text = text.replace("SendTargets=Reject", &format!("TargetName={DATA}"));
        pdu.set_data(text.into_bytes());
    }
    middle.pass(pdu);
}

fn first_part_only(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::TextResponse) {
        pdu.set_byte(1, 0x80);
        pdu.set_word(20, u32::MAX);
    }
    middle.pass(pdu);
}

fn no_reject(middle: &mut Middle, pdu: Raw) {
    if pdu.opcode() == Some(Opcode::Reject) { middle.withhold(&pdu) } else { middle.pass(pdu) }
}

/// Asks by one request and hears an answer in one piece.
fn ask(conn: &mut Conn, pairs: &[(&str, &str)]) -> Outcome<Keys> {
    let request = conn.send_text(pairs);
    let response = conn.expect::<TextResponse>()?;
    ensure_eq!(response.word(16), request.initiator_task_tag(), "the tag");
    ensure_eq!(response.byte(1), 0x80, "F and C of an answer in one piece");
    ensure_eq!(response.word(20), u32::MAX, "the transfer tag of the last answer");
    Keys::parse(&response.data)
}

fn targets(keys: &Keys) -> Vec<&str> {
    keys.all("TargetName").collect()
}

fn send_targets_all_lists_every_target_with_its_portal(lab: &mut Lab) -> Outcome {
    let portal = format!("{},{PORTAL_GROUP}", lab.portal());
    let mut conn = lab.session(&LoginText::discovery())?;
    let keys = ask(&mut conn, &[("SendTargets", "All")])?;
    ensure_eq!(targets(&keys), vec![CLONE, DATA, ODD], "the targets");
    for pair in keys.0.chunks(2) {
        ensure_eq!(pair[0].0, "TargetName", "a key");
        ensure_eq!(pair.get(1).map(|pair| pair.0.as_str()), Some("TargetAddress"), "the key after it");
        ensure_eq!(pair.get(1).map(|pair| pair.1.as_str()), Some(portal.as_str()), "the portal");
    }
    // One by its name.
    let keys = ask(&mut conn, &[("SendTargets", ODD)])?;
    ensure_eq!(targets(&keys), vec![ODD], "the target that was asked for");
    conn.log_out()
}

fn send_targets_all_is_for_discovery_only(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let keys = ask(&mut conn, &[("SendTargets", "All")])?;
    ensure_eq!(keys.find("SendTargets"), Some("Reject"), "the answer to SendTargets=All");
    ensure!(targets(&keys).is_empty(), "targets in a normal session: {keys:?}");
    for value in ["", DATA] {
        ensure_eq!(
            targets(&ask(&mut conn, &[("SendTargets", value)])?),
            vec![DATA],
            "the session's own target"
        );
    }
    ensure!(targets(&ask(&mut conn, &[("SendTargets", ODD)])?).is_empty(), "another target is told");
    Ok(())
}

fn long_answers_come_in_parts(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::discovery().with("MaxRecvDataSegmentLength", "512"))?;
    let mut request = conn.send_text(&[("SendTargets", "All")]);
    let mut whole = Vec::new();
    let mut parts = 0;
    loop {
        let pdu = conn.expect::<TextResponse>()?;
        ensure_eq!(pdu.word(16), request.initiator_task_tag(), "the tag");
        whole.extend_from_slice(&pdu.data);
        parts += 1;
        if pdu.byte(1) & 0x80 != 0 {
            ensure_eq!(pdu.byte(1) & 0x40, 0, "C with F");
            ensure_eq!(pdu.word(20), u32::MAX, "the transfer tag of the last part");
            break;
        }
        ensure_eq!(pdu.byte(1) & 0x40, 0x40, "C of a part that is not the last");
        ensure!(pdu.word(20) != u32::MAX, "a part that is not the last has no transfer tag");
        let response =
            *pdu.view::<TextResponse>().ok_or_else(|| crate::failure::Failure("no text".into()))?;
        request = TextRequest::following(&response, TextStep::Final, conn.next_sns());
        conn.send(request, &[]);
    }
    ensure!(parts > 1, "one part: the list is too short");
    ensure_eq!(targets(&Keys::parse(&whole)?).len(), 3 + usize::from(MANY), "targets in the list");
    Ok(())
}

fn long_requests_may_come_in_parts(lab: &mut Lab) -> Outcome {
    let mut conn = lab.session(&LoginText::discovery())?;
    let text = Keys::new(&[("X-com.example.much", &"m".repeat(300)), ("SendTargets", ODD)]).to_bytes();
    let tag = conn.new_tag();
    let mut request = TextRequest::new(tag, TextStep::Continue, conn.next_sns());
    let mut pieces = text.chunks(100).peekable();
    while let Some(piece) = pieces.next() {
        conn.send(request, piece);
        let pdu = conn.expect::<TextResponse>()?;
        if pieces.peek().is_none() {
            let keys = Keys::parse(&pdu.data)?;
            ensure_eq!(targets(&keys), vec![ODD], "the answer to a text in parts");
            ensure_eq!(keys.find("X-com.example.much"), Some("NotUnderstood"), "a long pair");
            ensure_eq!(pdu.byte(1), 0x80, "F and C of the answer");
            break;
        }
        ensure!(pdu.data.is_empty() && pdu.byte(1) == 0, "a part is answered by {pdu:?}");
        ensure!(pdu.word(20) != u32::MAX, "a part is answered without a transfer tag");
        let response =
            *pdu.view::<TextResponse>().ok_or_else(|| crate::failure::Failure("no text".into()))?;
        let step = if pieces.len() == 1 { TextStep::Final } else { TextStep::Continue };
        request = TextRequest::following(&response, step, conn.next_sns());
    }
    Ok(())
}

fn keys_of_the_login_are_rejected_later(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for (key, value) in [("InitialR2T", "No"), ("HeaderDigest", "CRC32C"), ("MaxBurstLength", "8192")] {
        let keys = ask(&mut conn, &[(key, value)])?;
        ensure_eq!(keys.find(key), Some("Reject"), "the answer to {key} after the login");
    }
    let keys = ask(&mut conn, &[("X-com.example.later", "1"), ("MaxRecvDataSegmentLength", "100")])?;
    ensure_eq!(keys.find("X-com.example.later"), Some("NotUnderstood"), "the answer to an unknown key");
    ensure_eq!(keys.find("MaxRecvDataSegmentLength"), Some("Reject"), "the answer to 100 bytes");
    conn.expect_quiet().map(drop)
}

fn wrong_text_requests_are_rejected(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let texts: [(&[u8], u8, u32); 4] = [
        (b"SendTargets=\0", 0xc0, u32::MAX),
        (b"SendTargets=\0", 0x80, 77),
        (b"SendTargets=\0SendTargets=\0", 0x80, u32::MAX),
        (b"SendTargets", 0x80, u32::MAX),
    ];
    for (text, flags, tag) in texts {
        let itt = conn.new_tag();
        let mut bhs = Bhs::from(TextRequest::new(itt, TextStep::Final, conn.next_sns()));
        bhs.0[1] = flags;
        crate::pdu::set_word(&mut bhs, 20, tag);
        bhs.set_data_segment_len(text.len() as u32);
        conn.send(bhs, text);
        conn.expect_reject(RejectReason::ProtocolError, &bhs)?;
    }
    ensure_eq!(targets(&ask(&mut conn, &[("SendTargets", "")])?), vec![DATA], "the target, after all this");
    Ok(())
}
