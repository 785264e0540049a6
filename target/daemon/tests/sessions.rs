//! What the operator does to sessions: `stampede session logout`, `drop` and `renegotiate` (RFC 7143 11.9).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::Target;
use raw::{Heard, Raw, pdu};
use std::time::Duration;

/// Asynchronous Message, and where its event and Parameter3 are (RFC 7143 11.9).
const ASYNC: u8 = 0x32;
const INITIATOR: &str = "iqn.2026-11.io.example:host";

fn tell(target: &Target, arguments: &[&str]) -> String {
    let output = target.ask(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The event and Parameter3 of the Asynchronous Message that comes.
fn told(raw: &mut Raw) -> (u8, u16) {
    assert_eq!(raw.hear(), Heard::Pdu(ASYNC));
    (raw.header[36], u16::from_be_bytes([raw.header[42], raw.header[43]]))
}

#[test]
fn initiators_are_asked_to_leave_and_sent_away() {
    let target = Target::start(&["data=disk.img"]);
    let mut polite = Raw::login(target.address(), INITIATOR, "data", 1).unwrap();
    polite.verify(0, 8, 1);
    let said = tell(&target, &["session", "logout", INITIATOR, "--within", "20s"]);
    assert!(said.contains("is asked to log out within 20 s"), "{said}");
    assert_eq!(told(&mut polite), (1, 20));
    let mut logout = polite.command([0; 16], 0x80, 0);
    logout[0] = 0x06;
    logout[20..].fill(0);
    logout[24..28].copy_from_slice(&(polite.cmd_sn - 1).to_be_bytes());
    polite.send(&pdu(logout, &[]));
    assert_eq!(polite.hear(), Heard::Pdu(0x26), "a Logout Response");
    assert!(polite.is_closed_within(Duration::from_secs(20)));

    let mut deaf = Raw::login(target.address(), INITIATOR, "data", 1).unwrap();
    tell(&target, &["session", "logout", INITIATOR, "--within", "1s"]);
    assert_eq!(told(&mut deaf), (1, 1));
    assert!(deaf.is_closed_within(Duration::from_secs(20)), "it has had its time");

    let mut other = Raw::login(target.address(), INITIATOR, "data", 1).unwrap();
    tell(&target, &["session", "renegotiate", INITIATOR, "--within", "20s"]);
    assert_eq!(told(&mut other), (4, 20));
    other.verify(8, 8, 2);
    let said = tell(&target, &["session", "drop", INITIATOR, "--json"]);
    assert!(said.contains(INITIATOR), "{said}");
    assert_eq!(told(&mut other), (3, 0));
    assert!(other.is_closed_within(Duration::from_secs(20)));

    let nobody = target.ask(&["session", "drop", "iqn.2026-11.io.example:nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("session list"));
    target.stop();
}
