//! Right responses, of the initiator and of the target.

use super::exchange::{ALGORITHMS, FORMS, INTO_FULL, answer, begin, log_in, response, step};
use crate::conn::{Cmd, Keys, LoginText};
use crate::failure::{Failure, Outcome};
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::site::{ODD, SECRET, Site, TARGET_SECRET, TARGET_USER, USER};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginStep, Stage};
use stampede_wire::text::value::{binary, to_base64, to_hex};
use std::collections::BTreeSet;

const CHAP: Site = Site { chap: true, ..Site::PLAIN };

pub(super) const TESTS: &[Test] = &[
    test!(
        every_algorithm_in_every_notation,
        "RFC 7143 12.1.3, 6.1",
        "MD5, SHA-1, SHA-256 and SHA3-256 responses are taken in hexadecimal and in base64, whatever the case of the \
         prefix and of hex digits",
        "session/src/login/chap/algorithm.rs#respond"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("a right response is refused", refuses_the_last)),
    test!(
        algorithm_is_one_of_those_offered,
        "RFC 7143 12.1.3",
        "the target chooses one of the algorithms that the initiator offers, whatever else is in the list",
        "session/src/login/chap/mod.rs#challenge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("an algorithm is chosen that was not offered", chooses_sha_1)),
    test!(
        target_proves_itself_when_asked,
        "RFC 7143 12.1.3, RFC 1994 4.1",
        "an initiator that sends an identifier and a challenge of its own with its response gets the target's name and \
         the hash of both with the target's secret",
        "session/src/login/chap/mod.rs#judge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("the target's response is wrong", wrong_proof)),
    test!(
        challenges_are_fresh_and_long,
        "RFC 7143 9.2.1, 12.1.3",
        "no two logins get the same challenge; it is at least as long as the hash, and the identifier changes",
        "session/src/login/chap/mod.rs#challenge"
    )
    .must(&[26])
    .on(CHAP)
    .broken_by(Mutation::new("every login gets the same challenge", same_challenge)),
    test!(
        operational_stage_follows_the_proof,
        "RFC 7143 6.3.3",
        "from the security stage the login may go on to the operational stage, where keys are negotiated as ever",
        "session/src/login/security.rs#is_over"
    )
    .on(CHAP),
    test!(
        discovery_wants_the_same_proof,
        "RFC 7143 12.1, 4.3",
        "a discovery session authenticates as a normal one does, and then SendTargets is answered",
        "control/src/directory.rs#authentication"
    )
    .on(CHAP),
    test!(
        auth_method_none_where_nothing_need_be_proven,
        "RFC 7143 12.1",
        "a target that wants no proof chooses None where it is offered, and refuses a list without it",
        "session/src/login/security.rs#agree"
    )
    .on(CHAP),
];

fn refuses_the_last(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) && pdu.byte(1) & 0x80 != 0 {
        pdu.set_byte(36, 2);
        pdu.set_byte(37, 1);
    }
    middle.pass(pdu);
}

/// Changes pairs of Login Responses.
fn rewrite(middle: &mut Middle, mut pdu: Raw, change: impl Fn(&str, &str) -> Option<String>) {
    if pdu.opcode() == Some(Opcode::LoginResponse)
        && let Ok(keys) = Keys::parse(&pdu.data)
    {
        let changed = keys.0.into_iter().map(|(key, value)| {
            let value = change(&key, &value).unwrap_or(value);
            (key, value)
        });
        pdu.set_data(Keys(changed.collect()).to_bytes());
    }
    middle.pass(pdu);
}

fn chooses_sha_1(middle: &mut Middle, pdu: Raw) {
    rewrite(middle, pdu, |key, _| (key == "CHAP_A").then(|| "6".to_owned()));
}

fn wrong_proof(middle: &mut Middle, pdu: Raw) {
    rewrite(middle, pdu, |key, _| (key == "CHAP_R").then(|| to_hex(&[7; 16])));
}

fn same_challenge(middle: &mut Middle, pdu: Raw) {
    rewrite(middle, pdu, |key, _| (key == "CHAP_C").then(|| to_hex(&[7; 32])));
}

fn every_algorithm_in_every_notation(lab: &mut Lab) -> Outcome {
    for algorithm in ALGORITHMS {
        for form in FORMS {
            let mut conn = lab.connect()?;
            log_in(&mut conn, &LoginText::plain(), algorithm, form)?;
            conn.clear_attentions(0)?;
            conn.vanish();
        }
    }
    Ok(())
}

fn algorithm_is_one_of_those_offered(lab: &mut Lab) -> Outcome {
    for (offer, allowed) in [("99,5", &[5][..]), ("5,7", &[5, 7]), ("8", &[8]), ("0x7,200", &[7])] {
        let mut conn = lab.connect()?;
        let challenge = begin(&mut conn, &LoginText::plain(), offer)?;
        ensure!(allowed.contains(&challenge.algorithm), "CHAP_A={} of {offer}", challenge.algorithm);
        conn.vanish();
    }
    Ok(())
}

fn target_proves_itself_when_asked(lab: &mut Lab) -> Outcome {
    for algorithm in ALGORITHMS {
        for form in [to_hex, to_base64] {
            let text = LoginText::plain();
            let mut conn = lab.connect()?;
            let challenge = begin(&mut conn, &text, &algorithm.to_string())?;
            let ours = [0xa5 ^ algorithm; 20];
            let mut keys = answer(USER, &form(&challenge.response(SECRET)));
            keys.0.push(("CHAP_I".to_owned(), "200".to_owned()));
            keys.0.push(("CHAP_C".to_owned(), form(&ours)));
            let last = step(&mut conn, &text, INTO_FULL, &keys)?;
            ensure_eq!(last.status(), 0, "the status");
            ensure_eq!(last.keys.find("CHAP_N"), Some(TARGET_USER), "the target's name");
            let proof = last.keys.find("CHAP_R").and_then(|text| binary(text, 1024).ok());
            let right = response(algorithm, 200, TARGET_SECRET, &ours);
            ensure_eq!(proof, Some(right), "the target's response by algorithm {algorithm}");
            conn.enter(&text, &last)?;
            conn.clear_attentions(0)?;
            conn.vanish();
        }
    }
    Ok(())
}

fn challenges_are_fresh_and_long(lab: &mut Lab) -> Outcome {
    let (mut challenges, mut identifiers) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..16 {
        let mut conn = lab.connect()?;
        let algorithm = ALGORITHMS[number % 4];
        let challenge = begin(&mut conn, &LoginText::plain(), &algorithm.to_string())?;
        let least = if algorithm < 7 { 16 } else { 32 };
        let len = challenge.challenge.len();
        ensure!((least..=1024).contains(&len), "a challenge of {len} bytes for algorithm {algorithm}");
        ensure!(challenges.insert(challenge.challenge), "a challenge comes again");
        identifiers.insert(challenge.identifier);
        conn.vanish();
    }
    ensure!(identifiers.len() > 1, "the identifier is always {identifiers:?}");
    Ok(())
}

fn operational_stage_follows_the_proof(lab: &mut Lab) -> Outcome {
    let text = LoginText::plain();
    let mut conn = lab.connect()?;
    let challenge = begin(&mut conn, &text, "5")?;
    let keys = answer(USER, &to_hex(&challenge.response(SECRET)));
    let reply = step(&mut conn, &text, LoginStep::Transit(Stage::Operational), &keys)?;
    ensure_eq!(reply.status(), 0, "the status");
    ensure_eq!(reply.header().next_stage(), Ok(Stage::Operational), "NSG");
    let request = text.request(Stage::Operational, INTO_FULL, conn.exp_stat_sn());
    let last = conn.login_step(request, &Keys::new(&[("MaxBurstLength", "65536")]))?;
    ensure_eq!(last.status(), 0, "the last status");
    ensure_eq!(last.keys.find("MaxBurstLength"), Some("65536"), "MaxBurstLength");
    conn.enter(&text, &last)?;
    conn.clear_attentions(0)?;
    conn.run(&Cmd::read(0, 1))?.good().map(drop)
}

fn discovery_wants_the_same_proof(lab: &mut Lab) -> Outcome {
    let text = LoginText::discovery();
    let refused = lab.connect()?.try_log_in(&text)?;
    ensure_eq!(refused.status(), 0x0201, "the status of a discovery session without proof");
    let mut conn = lab.connect()?;
    log_in(&mut conn, &text, 7, to_hex)?;
    conn.send_text(&[("SendTargets", "All")]);
    let answer = conn.expect::<stampede_wire::pdu::TextResponse>()?;
    let keys = Keys::parse(&answer.data)?;
    ensure_eq!(keys.count("TargetName"), 3, "targets in the list");
    Ok(())
}

fn auth_method_none_where_nothing_need_be_proven(lab: &mut Lab) -> Outcome {
    let text = LoginText::normal(ODD, 1);
    for (offer, wanted) in [("None", Some("None")), ("CHAP,None", Some("None")), ("CHAP", None)] {
        let mut conn = lab.connect()?;
        let first = text.clone().with("AuthMethod", offer);
        let reply = step(&mut conn, &text, INTO_FULL, &first.keys)?;
        match wanted {
            Some(_) => {
                ensure_eq!(reply.status(), 0, "the status of AuthMethod={offer}");
                ensure_eq!(reply.keys.find("AuthMethod"), wanted, "the answer to AuthMethod={offer}");
            }
            None => ensure_eq!(reply.status(), 0x0201, "the status of AuthMethod={offer}"),
        }
        conn.vanish();
    }
    let missing = |key: &str| Failure(format!("no {key}"));
    let step = lab.connect()?.log_in(&text)?;
    step.keys.find("TargetPortalGroupTag").map(drop).ok_or_else(|| missing("TargetPortalGroupTag"))
}
