//! Logins that prove nothing, and exchanges that go wrong.

use super::exchange::{INTO_FULL, answer, begin, step};
use crate::conn::{Conn, Keys, LoginText, Step};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::{Raw, word};
use crate::registry::Test;
use crate::site::{SECRET, Site, TARGET_SECRET, USER};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginStatus, LoginStep, Stage};
use stampede_wire::text::value::{to_base64, to_hex};

const CHAP: Site = Site { chap: true, ..Site::PLAIN };

pub(super) const TESTS: &[Test] = &[
    test!(
        wrong_secrets_and_unknown_users_are_refused_alike,
        "RFC 7143 12.1.3, 11.13.5",
        "a wrong response and an unknown name are refused with 0201, and nothing tells which it was",
        "session/src/login/chap/mod.rs#judge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("a wrong response is let in", lets_in)),
    test!(
        own_challenge_is_not_answered,
        "RFC 7143 9.2.1",
        "an initiator that sends the target's own challenge back as its own is refused: it wants the target to do its \
         work (reflection)",
        "session/src/login/chap/mod.rs#judge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("a reflected challenge is answered", lets_in)),
    test!(
        old_responses_are_worth_nothing,
        "RFC 7143 9.2.1",
        "a response that was right in another login is refused in this one (replay)",
        "session/src/login/chap/mod.rs#challenge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("a replayed response is let in", lets_in)),
    test!(
        target_secret_does_not_open_the_door,
        "RFC 7143 9.2.1",
        "the secret by which the target proves itself is not one by which an initiator may",
        "session/src/login/chap/policy.rs#SecretSharedByDirections"
    )
    .must(&[26])
    .on(CHAP),
    test!(
        logins_without_proof_are_refused,
        "RFC 7143 12.1, 11.13.5",
        "a login that begins behind the security stage, leaves it at once, or does not offer CHAP, is refused with 0201",
        "session/src/login/security.rs#check_skipped"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("a login that skips the security stage is let in", lets_in)),
    test!(
        unknown_algorithms_are_refused,
        "RFC 7143 12.1.3",
        "a list without an algorithm that the target has is refused with 0201",
        "session/src/login/chap/mod.rs#challenge"
    )
    .must(&[26])
    .on(CHAP),
    test!(
        broken_responses_are_refused,
        "RFC 7143 12.1.3, 6.1",
        "a response that is missing, empty, of another length, or in no notation is refused",
        "session/src/login/chap/mod.rs#BINARY_MAX"
    )
    .must(&[26])
    .on(CHAP),
    test!(
        keys_out_of_their_order_are_refused,
        "RFC 7143 12.1.3, 6.2",
        "an answer before the challenge, a second offer, or a key twice is an error of the initiator",
        "session/src/login/chap/mod.rs#InitiatorError"
    )
    .must(&[26])
    .on(CHAP),
    test!(
        security_stage_is_not_left_before_the_proof,
        "RFC 7143 6.3, 6.3.2",
        "a T bit before the exchange is over is not granted: the target stays in the stage",
        "session/src/login/mod.rs#is_over"
    )
    .must(&[24, 26])
    .on(CHAP)
    .broken_by(Mutation::new("T is granted before the proof", grants_t)),
];

/// Lets in whoever was refused.
fn lets_in(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(36) == 2 {
        pdu.set_byte(36, 0);
        pdu.set_byte(37, 0);
        pdu.set_byte(1, pdu.byte(1) & 0x0c | 0x83);
        // The numbers that are next: a refusal has none.
        if let Some(request) = middle.last_sent(Opcode::LoginRequest).copied() {
            let cmd_sn = word(&request, 24);
            pdu.set_word(24, word(&request, 28));
            pdu.set_word(28, cmd_sn);
            pdu.set_word(32, cmd_sn.wrapping_add(127));
        }
    }
    middle.pass(pdu);
}

fn grants_t(middle: &mut Middle, mut pdu: Raw) {
    let asked = middle.last_sent(Opcode::LoginRequest).is_some_and(|bhs| bhs.0[1] & 0x80 != 0);
    if pdu.opcode() == Some(Opcode::LoginResponse) && asked {
        pdu.set_byte(1, pdu.byte(1) | 0x83);
    }
    middle.pass(pdu);
}

/// This step is refused with 0201, and the connection closed.
fn denied(conn: &mut Conn, reply: &Step) -> Outcome {
    conn.refused(reply, LoginStatus::AuthenticationFailure)
}

/// A login whose answer to the challenge is these pairs is refused with 0201.
fn answers_in_vain(lab: &mut Lab, keys: impl Fn(&super::exchange::Challenge) -> Keys) -> Outcome<Vec<u8>> {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let challenge = begin(&mut conn, &text, "7")?;
    let reply = step(&mut conn, &text, INTO_FULL, &keys(&challenge))?;
    denied(&mut conn, &reply)?;
    Ok(reply.response.data)
}

fn wrong_secrets_and_unknown_users_are_refused_alike(lab: &mut Lab) -> Outcome {
    let wrong =
        answers_in_vain(lab, |asked| answer(USER, &to_hex(&asked.response("not the secret at all"))))?;
    let unknown = answers_in_vain(lab, |asked| answer("mallory", &to_hex(&asked.response(SECRET))))?;
    ensure_eq!(wrong, unknown, "the texts of both refusals");
    // Names count with their case.
    answers_in_vain(lab, |asked| answer("Alice", &to_hex(&asked.response(SECRET)))).map(drop)
}

fn own_challenge_is_not_answered(lab: &mut Lab) -> Outcome {
    for form in [to_hex, to_base64] {
        let data = answers_in_vain(lab, |asked| {
            let mut keys = answer(USER, &to_hex(&asked.response(SECRET)));
            keys.0.push(("CHAP_I".to_owned(), asked.identifier.to_string()));
            keys.0.push(("CHAP_C".to_owned(), form(&asked.challenge)));
            keys
        })?;
        ensure!(Keys::parse(&data)?.find("CHAP_R").is_none(), "a refused initiator gets a response");
    }
    Ok(())
}

fn old_responses_are_worth_nothing(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let first = begin(&mut conn, &text, "7")?;
    let old = answer(USER, &to_hex(&first.response(SECRET)));
    let reply = step(&mut conn, &text, INTO_FULL, &old)?;
    ensure_eq!(reply.status(), 0, "the status of the login that is listened to");
    answers_in_vain(lab, |_| old.clone()).map(drop)
}

fn target_secret_does_not_open_the_door(lab: &mut Lab) -> Outcome {
    answers_in_vain(lab, |asked| answer("storage", &to_hex(&asked.response(TARGET_SECRET))))?;
    answers_in_vain(lab, |asked| answer(USER, &to_hex(&asked.response(TARGET_SECRET)))).map(drop)
}

fn logins_without_proof_are_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    lab.connect()?.expect_refused(&text, LoginStatus::AuthenticationFailure)?;
    for method in [None, Some("None"), Some("SRP,KRB5"), Some("")] {
        for how in [INTO_FULL, LoginStep::Transit(Stage::Operational)] {
            let offer = method.map_or(text.clone(), |method| text.clone().with("AuthMethod", method));
            let mut conn = lab.connect()?;
            let reply = step(&mut conn, &text, how, &offer.keys)?;
            ensure!(reply.status() != 0, "AuthMethod={method:?} with T is let in");
            denied(&mut conn, &reply)?;
        }
    }
    Ok(())
}

fn unknown_algorithms_are_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    for offer in ["4", "99,100", "", "MD5", "5;7"] {
        let mut conn = lab.connect()?;
        let first = text.clone().with("AuthMethod", "CHAP");
        ensure_eq!(step(&mut conn, &text, LoginStep::Stay, &first.keys)?.status(), 0, "the first status");
        let reply = step(&mut conn, &text, LoginStep::Stay, &Keys::new(&[("CHAP_A", offer)]))?;
        denied(&mut conn, &reply)?;
    }
    Ok(())
}

fn broken_responses_are_refused(lab: &mut Lab) -> Outcome {
    answers_in_vain(lab, |_| Keys::new(&[("CHAP_N", USER)]))?;
    answers_in_vain(lab, |asked| Keys::new(&[("CHAP_R", &to_hex(&asked.response(SECRET)))]))?;
    answers_in_vain(lab, |_| Keys::default())?;
    let texts: [fn(&[u8]) -> String; 7] = [
        |_| String::new(),
        |_| "0x".to_owned(),
        |_| "0b".to_owned(),
        |right| to_hex(&right[1..]),
        |right| to_hex(&[right, &[0]].concat()),
        |right| to_hex(right).split_off(2),
        |_| to_hex(&[0; 1025]),
    ];
    for text in texts {
        answers_in_vain(lab, |asked| answer(USER, &text(&asked.response(SECRET))))?;
    }
    Ok(())
}

fn keys_out_of_their_order_are_refused(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let first = text.clone().with("AuthMethod", "CHAP");
    let early = Keys::new(&[("CHAP_N", USER), ("CHAP_R", "0x00")]);
    let twice = Keys::new(&[("CHAP_A", "5"), ("CHAP_A", "5")]);
    for keys in [early, twice] {
        let mut conn = lab.connect()?;
        ensure_eq!(step(&mut conn, &text, LoginStep::Stay, &first.keys)?.status(), 0, "the first status");
        let reply = step(&mut conn, &text, LoginStep::Stay, &keys)?;
        ensure_eq!(reply.response.byte(36), 2, "the class of {keys:?}");
        conn.expect_closed()?;
    }
    // A second offer, where the answer is due.
    let mut conn = lab.connect()?;
    begin(&mut conn, &text, "5")?;
    let reply = step(&mut conn, &text, LoginStep::Stay, &Keys::new(&[("CHAP_A", "7")]))?;
    ensure_eq!(reply.response.byte(36), 2, "the class of a second CHAP_A");
    conn.expect_closed()
}

fn security_stage_is_not_left_before_the_proof(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let first = text.clone().with("AuthMethod", "CHAP");
    let reply = step(&mut conn, &text, INTO_FULL, &first.keys)?;
    ensure_eq!(reply.status(), 0, "the status of an offer with T");
    ensure!(!reply.header().transit(), "T is granted before the proof");
    let reply = step(&mut conn, &text, INTO_FULL, &Keys::new(&[("CHAP_A", "7")]))?;
    ensure_eq!(reply.status(), 0, "the status of CHAP_A with T");
    ensure!(!reply.header().transit(), "T is granted with the challenge");
    ensure!(reply.keys.find("CHAP_C").is_some(), "no challenge");
    conn.vanish();
    Ok(())
}
