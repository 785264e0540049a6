//! CHAP (RFC 7143 12.1.3): each row of its table, both directions, and what an attacker would try.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::support::{Event, Harness, INITIATOR, TARGET, Targets};
use proptest::prelude::*;
use stampede_session::{
    ChapAlgorithm, ChapPolicy, ChapSelf, ChapUser, Close, Entropy, LoginStatus, NoEntropy, Phase, Secret,
    SessionKind, Settings,
};
use stampede_wire::{
    pdu::{LoginStep, Stage},
    text::value::{binary, to_base64, to_hex},
};

const SECRET: &[u8] = b"the user's secret";
const OWN_SECRET: &[u8] = b"the target's secret";
const STAY: LoginStep = LoginStep::Stay;
const OPERATIONAL: LoginStep = LoginStep::Transit(Stage::Operational);
const FULL: LoginStep = LoginStep::Transit(Stage::FullFeature);

fn names() -> String {
    format!("InitiatorName={INITIATOR} TargetName={TARGET} AuthMethod=CHAP,None")
}

/// Random enough to tell one from the next.
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        let seed = self.0.fetch_add(1, Ordering::Relaxed);
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = seed.wrapping_mul(31) ^ at as u8);
        Ok(())
    }
}

struct Broken;

impl Entropy for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
        Err(NoEntropy)
    }
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes).unwrap()
}

fn policy(algorithms: &[ChapAlgorithm], mutual: bool) -> Arc<ChapPolicy> {
    let user = |initiators: Option<&[&str]>| {
        let initiators =
            initiators.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
        Arc::new(ChapUser { secret: secret(SECRET), initiators })
    };
    let users = BTreeMap::from([
        ("user".to_owned(), user(None)),
        ("bound".to_owned(), user(Some(&[INITIATOR]))),
        ("somebody".to_owned(), user(Some(&["iqn.2026-01.example:else"]))),
    ]);
    let own = Arc::new(ChapSelf { name: "the target".to_owned(), secret: secret(OWN_SECRET) });
    let entropy = Arc::new(Counting(AtomicU8::new(1)));
    Arc::new(ChapPolicy::new(users, mutual.then_some(own), algorithms.to_vec(), entropy).unwrap())
}

fn harness_of(chap: &Arc<ChapPolicy>) -> Harness {
    let targets = Targets { chap: Some(Arc::clone(chap)), ..Targets::default() };
    Harness::with(Settings::new(Arc::new(targets)))
}

fn harness() -> Harness {
    harness_of(&policy(&ChapAlgorithm::ALL, true))
}

/// A challenge, as the initiator reads it.
#[derive(Clone, Debug)]
struct Challenge {
    algorithm: ChapAlgorithm,
    identifier: u8,
    bytes: Vec<u8>,
}

impl Challenge {
    fn answer(&self, secret_bytes: &[u8]) -> Vec<u8> {
        self.algorithm.respond(self.identifier, &secret(secret_bytes), &self.bytes).bytes().to_vec()
    }
}

fn value(harness: &Harness, key: &str) -> Option<String> {
    let text = harness.sent_text();
    let found = text.split(' ').filter_map(|pair| pair.split_once('=')).rfind(|(name, _)| *name == key);
    found.map(|(_, value)| value.to_owned())
}

/// Goes to the challenge with a list of algorithms.
fn challenge(harness: &mut Harness, offer: &str) -> Challenge {
    harness.login(Stage::Security, STAY, &names()).unwrap();
    assert_eq!(value(harness, "AuthMethod").as_deref(), Some("CHAP"));
    harness.login(Stage::Security, STAY, &format!("CHAP_A={offer}")).unwrap();
    challenged(harness)
}

/// The challenge that was sent.
fn challenged(harness: &Harness) -> Challenge {
    let number: u8 = value(harness, "CHAP_A").unwrap().parse().unwrap();
    Challenge {
        algorithm: *ChapAlgorithm::ALL.iter().find(|algorithm| algorithm.number() == number).unwrap(),
        identifier: value(harness, "CHAP_I").unwrap().parse().unwrap(),
        bytes: binary(&value(harness, "CHAP_C").unwrap(), 1024).unwrap(),
    }
}

fn status(harness: &Harness) -> LoginStatus {
    harness.login_responses().last().unwrap().status().unwrap()
}

/// The login was refused, and only that was said.
fn refused(harness: &Harness) -> LoginStatus {
    let status = status(harness);
    assert_eq!(harness.closed(), Some(Close::LoginRefused(status)));
    assert_eq!(harness.connection.phase(), Phase::Closed);
    status
}

const FAILED: LoginStatus = LoginStatus::AuthenticationFailure;

#[test]
fn every_algorithm_in_both_alphabets() {
    for algorithm in ChapAlgorithm::ALL {
        let upper = |text: String, prefix: &str| format!("{prefix}{}", &text[2..]);
        let forms: [fn(&[u8]) -> String; 2] = [to_hex, to_base64];
        for (form, prefixes) in forms.into_iter().zip([["0x", "0X"], ["0b", "0B"]]) {
            for prefix in prefixes {
                let mut harness = harness();
                let challenge = challenge(&mut harness, &algorithm.number().to_string());
                assert_eq!(challenge.algorithm, algorithm);
                assert!(challenge.bytes.len() >= 16 && challenge.bytes.len() >= algorithm.digest_len());
                let response = upper(form(&challenge.answer(SECRET)), prefix);
                let keys = format!("CHAP_N=user CHAP_R={response}");
                harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
                assert!(harness.login_responses().last().unwrap().transit(), "{algorithm:?} {prefix}");
                harness.login(Stage::Operational, FULL, "InitialR2T=No").unwrap();
                let Some(Event::Admit(asked)) = harness.out.0.last().cloned() else { panic!("no decision") };
                assert_eq!(asked.user.as_deref(), Some("user"));
                harness.admit(1);
                assert_eq!(harness.connection.info().unwrap().user.as_deref(), Some("user"));
            }
        }
    }
}

#[test]
fn the_target_prefers_among_what_is_offered() {
    use ChapAlgorithm::{Md5, Sha1, Sha3, Sha256};
    for (ours, offer, chosen) in [
        (&ChapAlgorithm::ALL[..], "5,6,7,8", Sha256),
        (&ChapAlgorithm::ALL, "5", Md5),
        (&ChapAlgorithm::ALL, "99,6,5", Sha1),
        (&ChapAlgorithm::ALL, "0x8,0x05", Sha3),
        (&[Md5, Sha256], "7,5", Md5),
        (&[Sha3], "5,8", Sha3),
    ] {
        assert_eq!(challenge(&mut harness_of(&policy(ours, false)), offer).algorithm, chosen, "{offer}");
    }
    for offer in ["6,7,8", "4", "", "5,,6", "MD5", "0", "256"] {
        let mut harness = harness_of(&policy(&[Md5], false));
        harness.login(Stage::Security, STAY, &names()).unwrap();
        harness.login(Stage::Security, STAY, &format!("CHAP_A={offer}")).unwrap();
        assert_eq!(refused(&harness), FAILED, "{offer}");
    }
}

#[test]
fn both_prove_themselves() {
    for form in [to_hex, to_base64] {
        for algorithm in ChapAlgorithm::ALL {
            let mut harness = harness();
            let theirs = challenge(&mut harness, &algorithm.number().to_string());
            let ours = Challenge { identifier: 0, bytes: vec![0, 0xa5, 3], ..theirs.clone() };
            let keys = format!(
                "CHAP_N=bound CHAP_R={} CHAP_I=0x0 CHAP_C={}",
                form(&theirs.answer(SECRET)),
                form(&ours.bytes)
            );
            harness.login(Stage::Security, FULL, &keys).unwrap();
            assert_eq!(harness.connection.phase(), Phase::Deciding, "straight to the full-feature phase");
            harness.admit(1);
            let text = harness.sent_text();
            assert!(text.contains("CHAP_N=the target"), "{text}");
            let proof = binary(&value(&harness, "CHAP_R").unwrap(), 1024).unwrap();
            assert_eq!(proof, ours.answer(OWN_SECRET));
        }
    }
}

#[test]
fn the_longest_challenge_is_answered_and_a_longer_one_is_not() {
    for (len, works) in [(1, true), (1024, true), (1025, false)] {
        let mut harness = harness();
        let theirs = challenge(&mut harness, "7");
        let ours = Challenge { identifier: 255, bytes: vec![7; len], ..theirs.clone() };
        let keys = format!(
            "CHAP_N=user CHAP_R={} CHAP_I=255 CHAP_C={}",
            to_hex(&theirs.answer(SECRET)),
            to_hex(&ours.bytes)
        );
        harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
        if works {
            let proof = binary(&value(&harness, "CHAP_R").unwrap(), 1024).unwrap();
            assert_eq!(proof, ours.answer(OWN_SECRET));
        } else {
            assert_eq!(refused(&harness), FAILED);
        }
    }
}

#[test]
fn an_unknown_user_and_a_wrong_secret_look_alike() {
    let answers =
        [("user", &b"the wrong secret"[..]), ("nobody", SECRET), ("somebody", SECRET), ("USER", SECRET)].map(
            |(name, secret)| {
                let mut harness = harness();
                let challenge = challenge(&mut harness, "5");
                harness.take();
                let keys = format!("CHAP_N={name} CHAP_R={}", to_hex(&challenge.answer(secret)));
                harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
                assert_eq!(refused(&harness), FAILED, "{name}");
                harness.take()
            },
        );
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn a_recorded_response_is_worth_nothing() {
    let policy = policy(&ChapAlgorithm::ALL, false);
    let mut seen = BTreeSet::new();
    let mut recorded = None;
    for _ in 0..100 {
        let mut harness = harness_of(&policy);
        let challenge = challenge(&mut harness, "7");
        assert!(seen.insert((challenge.identifier, challenge.bytes.clone())), "a fresh one each time");
        let fresh = challenge.answer(SECRET);
        let response = recorded.get_or_insert(fresh);
        let keys = format!("CHAP_N=user CHAP_R={}", to_hex(response));
        harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
        if seen.len() > 1 {
            assert_eq!(refused(&harness), FAILED);
        }
    }
}

#[test]
fn our_own_challenge_does_not_come_back() {
    let mut harness = harness();
    let challenge = challenge(&mut harness, "7");
    let keys = format!(
        "CHAP_N=user CHAP_R={} CHAP_I={} CHAP_C={}",
        to_hex(&challenge.answer(SECRET)),
        challenge.identifier.wrapping_add(1),
        to_base64(&challenge.bytes)
    );
    harness.take();
    harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
    assert_eq!(refused(&harness), FAILED);
    assert!(harness.sent_text().is_empty(), "nothing was computed for it");
}

#[test]
fn who_has_only_our_secret_does_not_come_in() {
    let mut harness = harness();
    let challenge = challenge(&mut harness, "8");
    let keys = format!("CHAP_N=user CHAP_R={}", to_hex(&challenge.answer(OWN_SECRET)));
    harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
    assert_eq!(refused(&harness), FAILED);
}

#[test]
fn proof_that_we_cannot_give_ends_the_login() {
    let mut harness = harness_of(&policy(&ChapAlgorithm::ALL, false));
    let challenge = challenge(&mut harness, "5");
    let keys = format!("CHAP_N=user CHAP_R={} CHAP_I=1 CHAP_C=0x0102", to_hex(&challenge.answer(SECRET)));
    harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
    assert_eq!(refused(&harness), FAILED);
}

/// The rows of the table that end a login; `{R}` stands for the right response.
#[test]
fn keys_of_another_step_are_errors() {
    const WRONG: LoginStatus = LoginStatus::InitiatorError;
    let cases: &[(&[&str], LoginStatus)] = &[
        // Before AuthMethod was agreed on, or with it.
        (&["CHAP_A=5 {names}"], WRONG),
        (&["CHAP_N=user CHAP_R=0x00 {names}"], WRONG),
        // CHAP_A is next.
        (&["{names}", ""], WRONG),
        (&["{names}", "CHAP_N=user CHAP_R=0x00"], WRONG),
        (&["{names}", "CHAP_A=5 CHAP_N=user"], WRONG),
        (&["{names}", "CHAP_A=5 CHAP_A=5"], WRONG),
        (&["{names}", "CHAP_I=1 CHAP_C=0x01"], WRONG),
        // Name and response are next.
        (&["{names}", "CHAP_A=5", "CHAP_A=5"], WRONG),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_A=5"], WRONG),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_N=user CHAP_R={R}"], WRONG),
        (&["{names}", "CHAP_A=5", ""], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_R={R}"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_I=1"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_C=0x01"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_I=256 CHAP_C=0x01"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_I=1 CHAP_C=01"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R} CHAP_I=1 CHAP_C=0x"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R}00"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R=0x00"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R=0x"], FAILED),
        (&["{names}", "CHAP_A=5", "CHAP_N= CHAP_R={R}"], FAILED),
        // Done.
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R}", "CHAP_A=5"], WRONG),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R}", "CHAP_N=user CHAP_R={R}"], WRONG),
        (&["{names}", "CHAP_A=5", "CHAP_N=user CHAP_R={R}", "AuthMethod=CHAP"], WRONG),
    ];
    for (steps, expected) in cases {
        let mut harness = harness();
        for step in *steps {
            assert_eq!(harness.connection.phase(), Phase::Login, "{steps:?} ends too early");
            let mut keys = step.replace("{names}", &names());
            if keys.contains("{R}") {
                let challenge = challenged(&harness);
                keys = keys.replace("{R}", &to_hex(&challenge.answer(SECRET)));
            }
            harness.login(Stage::Security, STAY, &keys).unwrap();
        }
        assert_eq!(refused(&harness), *expected, "{steps:?}");
    }
}

#[test]
fn the_stage_is_not_left_before_the_proof() {
    let mut harness = harness();
    for (keys, granted) in [(names(), false), ("CHAP_A=5".to_owned(), false)] {
        harness.login(Stage::Security, OPERATIONAL, &keys).unwrap();
        let answer = *harness.login_responses().last().unwrap();
        assert_eq!((answer.transit(), answer.current_stage()), (granted, Ok(Stage::Security)));
    }
    let challenge = challenged(&harness);
    let keys = format!("CHAP_N=user CHAP_R={}", to_hex(&challenge.answer(SECRET)));
    harness.login(Stage::Security, STAY, &keys).unwrap();
    assert!(!harness.login_responses().last().unwrap().transit(), "it did not ask");
    harness.login(Stage::Security, OPERATIONAL, "").unwrap();
    assert!(harness.login_responses().last().unwrap().transit());
}

#[test]
fn the_proof_cannot_be_left_out() {
    let bare = format!("InitiatorName={INITIATOR} TargetName={TARGET}");
    for (stage, step, keys) in [
        (Stage::Operational, FULL, bare.clone()),
        (Stage::Operational, STAY, bare.clone()),
        (Stage::Security, OPERATIONAL, bare.clone()),
        (Stage::Security, FULL, bare.clone()),
        (Stage::Security, OPERATIONAL, format!("{bare} AuthMethod=None")),
        (Stage::Security, STAY, format!("{bare} AuthMethod=SRP,None")),
        (Stage::Security, STAY, format!("{bare} AuthMethod=chap")),
    ] {
        let mut harness = harness();
        harness.login(stage, step, &keys).unwrap();
        assert_eq!(refused(&harness), FAILED, "{keys}");
    }
    // Where nothing is wanted, CHAP has no place.
    let mut open = harness();
    let keys =
        format!("InitiatorName={INITIATOR} TargetName=iqn.2026-01.example.boot:disk2 AuthMethod=CHAP,None");
    open.login(Stage::Security, STAY, &keys).unwrap();
    assert_eq!(value(&open, "AuthMethod").as_deref(), Some("None"));
    open.login(Stage::Security, STAY, "CHAP_A=5").unwrap();
    assert_eq!(refused(&open), LoginStatus::InitiatorError);
}

#[test]
fn discovery_may_want_a_proof_too() {
    let mut harness = harness();
    let keys = format!("AuthMethod=CHAP SessionType=Discovery InitiatorName={INITIATOR}");
    harness.login(Stage::Security, STAY, &keys).unwrap();
    harness.login(Stage::Security, STAY, "CHAP_A=6").unwrap();
    let challenge = challenged(&harness);
    let keys = format!("CHAP_N=user CHAP_R={}", to_hex(&challenge.answer(SECRET)));
    harness.login(Stage::Security, FULL, &keys).unwrap();
    let info = harness.connection.info().unwrap();
    assert_eq!((info.kind, info.user.as_deref()), (SessionKind::Discovery, Some("user")));
}

#[test]
fn without_random_bytes_nobody_is_challenged() {
    let users = BTreeMap::new();
    let policy = ChapPolicy::new(users, None, ChapAlgorithm::ALL.to_vec(), Arc::new(Broken)).unwrap();
    let mut harness = harness_of(&Arc::new(policy));
    harness.login(Stage::Security, STAY, &names()).unwrap();
    harness.login(Stage::Security, STAY, "CHAP_A=7").unwrap();
    assert_eq!(refused(&harness), LoginStatus::TargetError);
}

#[test]
fn the_exchange_may_be_cut_anywhere() {
    let policy = policy(&[ChapAlgorithm::Md5], true);
    let whole = |harness: &Harness| {
        let challenge = challenged(harness);
        let keys = format!("CHAP_N=user CHAP_R={} CHAP_I=9 CHAP_C=0x0909", to_hex(&challenge.answer(SECRET)));
        crate::support::text(&keys)
    };
    let mut at = 0;
    loop {
        let mut harness = harness_of(&policy);
        challenge(&mut harness, "5");
        let keys = whole(&harness);
        if at > keys.len() {
            return;
        }
        let first = harness.login_request(Stage::Security, LoginStep::Continue);
        harness.feed(&first, &keys[..at]).unwrap();
        let last = harness.login_request(Stage::Security, OPERATIONAL);
        harness.feed(&last, &keys[at..]).unwrap();
        assert!(harness.login_responses().last().unwrap().transit(), "cut at {at}");
        at += 1;
    }
}

/// Keys of one text: those that are next, or any.
fn keys() -> impl Strategy<Value = Option<Vec<usize>>> {
    prop_oneof![3 => Just(None), 1 => prop::sample::subsequence(vec![0usize, 1, 2, 3, 4, 5, 6], 0..4).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever is sent, nobody comes in without the secret.
    #[test]
    fn nobody_comes_in_without_the_secret(
        steps in prop::collection::vec((keys(), any::<bool>(), "[ -~]{0,40}", 0u8..8), 3..6),
    ) {
        const KEYS: [&str; 7] = ["CHAP_A=5", "CHAP_N=user", "CHAP_I=1", "CHAP_R=", "CHAP_C=", "CHAP_N=", "CHAP_A="];
        let mut harness = harness();
        for (at, (which, transit, text, form)) in steps.into_iter().enumerate() {
            if harness.connection.phase() != Phase::Login {
                break;
            }
            let noise = match form {
                0 => to_hex(text.as_bytes()),
                1 => to_base64(text.as_bytes()),
                2 => value(&harness, "CHAP_C").unwrap_or_default(),
                3 => "user".to_owned(),
                4 => to_hex(&[0; 32]),
                _ => text.replace(' ', "_"),
            };
            let next: &[usize] = [&[][..], &[0], &[1, 3]][at.min(2)];
            let which = which.unwrap_or_else(|| next.to_vec());
            let pair = |at: &usize| format!("{}{}", KEYS[*at], if KEYS[*at].ends_with('=') { &noise } else { "" });
            let names = if at == 0 { names() } else { String::new() };
            let keys = which.iter().map(pair).fold(names, |keys, pair| format!("{keys} {pair}"));
            harness.login(Stage::Security, if transit { FULL } else { STAY }, &keys).unwrap();
        }
        prop_assert!(matches!(harness.connection.phase(), Phase::Login | Phase::Closed));
        prop_assert!(!harness.login_responses().iter().any(stampede_wire::pdu::LoginResponse::transit));
    }
}
