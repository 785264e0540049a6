//! The initiator's part of a CHAP exchange, step by step, and with hash functions of its own.

use crate::conn::{Conn, Keys, LoginText, Step};
use crate::failure::{Failure, Outcome};
use crate::site::{SECRET, USER};
use crate::{ensure, ensure_eq};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use stampede_wire::pdu::{LoginStep, Stage};
use stampede_wire::text::value::{binary, to_base64, to_hex};

/// The algorithms by their numbers (RFC 7143 12.1.3): MD5, SHA-1, SHA-256, SHA3-256.
pub(super) const ALGORITHMS: [u8; 4] = [5, 6, 7, 8];

/// How a binary value is written.
pub(super) type Form = fn(&[u8]) -> String;

/// The ways to write one (RFC 7143 6.1), in either case of the prefix and of the digits.
pub(super) const FORMS: [Form; 4] = [
    to_hex,
    to_base64,
    |bytes| to_hex(bytes).to_uppercase(),
    |bytes| to_base64(bytes).replacen("0b", "0B", 1),
];

/// Step by step from the security stage into the full-feature phase.
pub(super) const INTO_FULL: LoginStep = LoginStep::Transit(Stage::FullFeature);

/// What the target asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) algorithm: u8,
    pub(super) identifier: u8,
    pub(super) challenge: Vec<u8>,
}

impl Challenge {
    /// CHAP_R for this challenge.
    pub(super) fn response(&self, secret: &str) -> Vec<u8> {
        response(self.algorithm, self.identifier, secret, &self.challenge)
    }
}

/// The hash of identifier, secret and challenge (RFC 1994 4.1).
pub(super) fn response(algorithm: u8, identifier: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    let text = [&[identifier][..], secret.as_bytes(), challenge].concat();
    match algorithm {
        5 => Md5::digest(text).to_vec(),
        6 => Sha1::digest(text).to_vec(),
        7 => Sha256::digest(text).to_vec(),
        _ => Sha3_256::digest(text).to_vec(),
    }
}

/// One step in the security stage.
pub(super) fn step(conn: &mut Conn, text: &LoginText, how: LoginStep, keys: &Keys) -> Outcome<Step> {
    let request = text.request(Stage::Security, how, conn.exp_stat_sn());
    conn.login_step(request, keys)
}

/// Offers CHAP and these algorithms, and hears the challenge.
pub(super) fn begin(conn: &mut Conn, text: &LoginText, algorithms: &str) -> Outcome<Challenge> {
    let first = text.clone().with("AuthMethod", "CHAP,None");
    let reply = step(conn, text, LoginStep::Stay, &first.keys)?;
    ensure_eq!(reply.status(), 0, "the status of the first step");
    ensure_eq!(reply.keys.find("AuthMethod"), Some("CHAP"), "AuthMethod");
    let reply = step(conn, text, LoginStep::Stay, &Keys::new(&[("CHAP_A", algorithms)]))?;
    ensure_eq!(reply.status(), 0, "the status of CHAP_A={algorithms}");
    challenge(&reply)
}

fn challenge(reply: &Step) -> Outcome<Challenge> {
    let missing = |key| Failure(format!("no {key} in {:?}", reply.keys));
    let number = |key| reply.keys.find(key).and_then(|text| text.parse().ok()).ok_or_else(|| missing(key));
    let challenge = reply.keys.find("CHAP_C").and_then(|text| binary(text, 1024).ok());
    Ok(Challenge {
        algorithm: number("CHAP_A")?,
        identifier: number("CHAP_I")?,
        challenge: challenge.ok_or_else(|| missing("CHAP_C"))?,
    })
}

/// The pairs that answer a challenge.
pub(super) fn answer(user: &str, response: &str) -> Keys {
    Keys::new(&[("CHAP_N", user), ("CHAP_R", response)])
}

/// Logs in as the user that there is, by this algorithm, written in this form.
pub(super) fn log_in(conn: &mut Conn, text: &LoginText, algorithm: u8, form: Form) -> Outcome {
    let challenge = begin(conn, text, &algorithm.to_string())?;
    ensure_eq!(challenge.algorithm, algorithm, "the algorithm that was chosen");
    let last = step(conn, text, INTO_FULL, &answer(USER, &form(&challenge.response(SECRET))))?;
    ensure!(last.status() == 0, "a right response is refused with {:04x}", last.status());
    conn.enter(text, &last)
}
