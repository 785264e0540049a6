//! The text of a login: pairs, their limits, and text in several PDUs (RFC 7143 6.1, 6.2, 11.12.2).

use crate::conn::{Keys, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginResponse, LoginStatus, LoginStep, Stage};

pub(super) const TESTS: &[Test] = &[
    test!(
        text_may_be_cut_anywhere_by_c_bits,
        "RFC 7143 6.2, 11.12.2",
        "pairs may be split over requests with C, even within a key; each such request is answered by an empty \
         response with the same stage and no T",
        "session/src/login/mod.rs#take"
    )
    .must(&[25])
    .broken_by(Mutation::new("a text that goes on is answered with T", hasty)),
    test!(
        long_answer_is_cut_by_c_bits,
        "RFC 7143 6.2, 11.13.2",
        "an answer longer than the initiator takes is cut into responses with C and without T, and the initiator asks \
         for the rest with empty requests",
        "session/src/login/reply.rs#next_part"
    )
    .must(&[25]),
    test!(
        malformed_text_is_refused,
        "RFC 7143 6.1, 6.3",
        "a pair without `=`, a last pair without its NUL, a key of no bytes or more than 63, or a value longer than \
         8192 bytes is an error of the initiator",
        "wire/src/text/pairs.rs#check"
    )
    .must(&[25]),
    test!(
        segment_longer_than_8192_ends_the_connection,
        "RFC 7143 13.12",
        "during login MaxRecvDataSegmentLength is its default, 8192 bytes",
        "wire/src/frame.rs#DataSegmentTooLong"
    )
    .must(&[12]),
    test!(
        key_of_63_bytes_is_understood_as_unknown,
        "RFC 7143 6.1",
        "a key may be 63 bytes long",
        "wire/src/text/pairs.rs#KEY_MAX"
    )
    .must(&[25]),
    test!(
        endless_text_is_refused,
        "RFC 7143 6.2",
        "a target need not take text without end: what is too long is refused, and the connection closed",
        "session/src/login/mod.rs#text_bytes_max"
    ),
    test!(
        boolean_values_are_exact,
        "RFC 7143 6.1",
        "booleans are Yes and No, and their case counts",
        "wire/src/text/value.rs#boolean"
    )
    .must(&[25]),
];

fn hasty(middle: &mut Middle, mut pdu: Raw) {
    let goes_on = middle.last_sent(Opcode::LoginRequest).is_some_and(|bhs| bhs.0[1] & 0x40 != 0);
    if goes_on && pdu.opcode() == Some(Opcode::LoginResponse) {
        pdu.set_byte(1, pdu.byte(1) | 0x83);
    }
    middle.pass(pdu);
}

const FULL: LoginStep = LoginStep::Transit(Stage::FullFeature);

fn text_may_be_cut_anywhere_by_c_bits(lab: &mut Lab) -> Outcome {
    let text =
        LoginText::plain().with("MaxBurstLength", "65536").with("X-com.example.long", &"v".repeat(100));
    let bytes = text.keys.to_bytes();
    for piece in [1usize, 7, bytes.len() / 2] {
        if piece == 1 && bytes.len() > 400 {
            continue;
        }
        let mut conn = lab.connect()?;
        let mut rest = &bytes[..];
        while rest.len() > piece {
            let (now, later) = rest.split_at(piece);
            rest = later;
            let request = text.request(Stage::Operational, LoginStep::Continue, conn.exp_stat_sn());
            conn.send(request, now);
            let step = conn.login_response(&request)?;
            ensure_eq!(step.status(), 0, "the status of a text that goes on");
            ensure!(step.response.data.is_empty(), "a text that goes on is answered with text");
            ensure!(!step.header().transit(), "a text that goes on is answered with T");
            ensure!(!step.header().continues(), "an empty answer with C");
        }
        let request = text.request(Stage::Operational, FULL, conn.exp_stat_sn());
        conn.send(request, rest);
        let step = conn.login_response(&request)?;
        ensure_eq!(step.status(), 0, "the status of a text in pieces of {piece}");
        ensure_eq!(step.keys.find("MaxBurstLength"), Some("65536"), "MaxBurstLength");
        ensure_eq!(step.keys.find("X-com.example.long"), Some("NotUnderstood"), "a long pair");
        conn.enter(&text, &step)?;
        conn.clear_attentions(0)?;
        conn.vanish();
    }
    Ok(())
}

fn long_answer_is_cut_by_c_bits(lab: &mut Lab) -> Outcome {
    // Four requests of keys that are not understood: the answer is longer than 8192 bytes.
    let mut text = LoginText::plain();
    for number in 0..180 {
        text.keys.0.push((format!("X-com.example.{number:045}"), "1".to_owned()));
    }
    let bytes = text.keys.to_bytes();
    let mut conn = lab.connect()?;
    let mut pieces = bytes.chunks(8000).peekable();
    let mut answer = Vec::new();
    while let Some(piece) = pieces.next() {
        let step = if pieces.peek().is_some() { LoginStep::Continue } else { FULL };
        conn.send(text.request(Stage::Operational, step, conn.exp_stat_sn()), piece);
        let response = conn.expect::<LoginResponse>()?;
        ensure_eq!(response.byte(36), 0, "the status class");
        answer = vec![response];
    }
    for _ in 0..100 {
        let Some(last) = answer.last() else { break };
        if last.byte(1) & 0x40 == 0 {
            break;
        }
        ensure!(last.byte(1) & 0x80 == 0, "a response with C and T");
        conn.send(text.request(Stage::Operational, FULL, conn.exp_stat_sn()), &[]);
        answer.push(conn.expect::<LoginResponse>()?);
    }
    ensure!(answer.len() > 1, "the answer came in one piece: the test asks for too little");
    let whole: Vec<u8> = answer.iter().flat_map(|pdu| pdu.data.clone()).collect();
    let keys = Keys::parse(&whole)?;
    let count = keys.0.iter().filter(|(_, value)| value == "NotUnderstood").count();
    ensure_eq!(count, 180, "keys that were not understood");
    let last = answer.last().map_or(0, |pdu| pdu.byte(1));
    ensure_eq!(last & 0x83, 0x83, "T and NSG of the last response");
    Ok(())
}

/// A login with this text in its first request is refused as the initiator's error.
fn refused(lab: &mut Lab, bytes: &[u8]) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let all = [&text.keys.to_bytes()[..], bytes].concat();
    let request = text.request(Stage::Operational, FULL, 0);
    conn.send(request, &all);
    let response = conn.expect::<LoginResponse>()?;
    let status = u16::from_be_bytes([response.byte(36), response.byte(37)]);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
    ensure_eq!(status, LoginStatus::InitiatorError as u16, "the status of a login with `{shown}`");
    conn.expect_closed()
}

fn malformed_text_is_refused(lab: &mut Lab) -> Outcome {
    refused(lab, b"NoEquals\0")?;
    refused(lab, b"InitialR2T=Yes")?;
    refused(lab, b"=Yes\0")?;
    refused(lab, format!("{}=1\0", "K".repeat(64)).as_bytes())?;
    refused(lab, b"Bad Key=1\0")?;
    // A value of 8193 bytes, which takes two requests.
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let bytes = text.with("X-com.example.long", &"v".repeat(8193)).keys.to_bytes();
    let text = LoginText::plain();
    let (now, later) = bytes.split_at(8000);
    let request = text.request(Stage::Operational, LoginStep::Continue, 0);
    conn.send(request, now);
    ensure_eq!(conn.login_response(&request)?.status(), 0, "the status of the first half");
    let request = text.request(Stage::Operational, FULL, conn.exp_stat_sn());
    conn.send(request, later);
    let step = conn.login_response(&request)?;
    conn.refused(&step, LoginStatus::InitiatorError)
}

fn segment_longer_than_8192_ends_the_connection(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let bytes = text.clone().with("X-com.example.long", &"v".repeat(8190)).keys.to_bytes();
    conn.send(text.request(Stage::Operational, FULL, 0), &bytes);
    conn.until_closed().map(drop)
}

fn key_of_63_bytes_is_understood_as_unknown(lab: &mut Lab) -> Outcome {
    let key = format!("X-{}", "k".repeat(61));
    let step = lab.connect()?.log_in(&LoginText::plain().with(&key, "1"))?;
    ensure_eq!(step.keys.find(&key), Some("NotUnderstood"), "the answer to a key of 63 bytes");
    Ok(())
}

fn endless_text_is_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let piece = format!("X-com.example.more={}\0", "v".repeat(8000));
    for _ in 0..1000 {
        let request = text.request(Stage::Operational, LoginStep::Continue, conn.exp_stat_sn());
        conn.send(request, piece.as_bytes());
        let response = conn.expect::<LoginResponse>()?;
        if response.byte(36) != 0 {
            ensure_eq!(response.byte(36), 2, "the class of a text without end");
            return conn.expect_closed();
        }
    }
    crate::failure::fail("8 MB of text are taken")
}

fn boolean_values_are_exact(lab: &mut Lab) -> Outcome {
    for value in ["YES", "yes", "True", "1", "Yes,No"] {
        let step = lab.connect()?.log_in(&LoginText::plain().with("InitialR2T", value))?;
        ensure_eq!(step.keys.find("InitialR2T"), Some("Reject"), "the answer to InitialR2T={value}");
    }
    Ok(())
}
