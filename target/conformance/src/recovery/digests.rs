//! Digests, right and wrong (RFC 7143 7.7, 7.8, 11.2.3).

use crate::conn::{Cmd, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::Mutation;
use crate::pdu::Raw;
use crate::registry::Test;
use crate::test;

pub(super) const TESTS: &[Test] = &[test!(
    wrong_header_digest_ends_the_connection,
    "RFC 7143 7.7",
    "after a header digest error nothing of the header can be trusted, not even its length: at \
         ErrorRecoveryLevel 0 the connection is dropped",
    "wire/src/frame.rs#HeaderDigest"
)
.must(&[28])
.broken_by(Mutation::stays_open("the connection stays open after a wrong header digest"))];

fn wrong_header_digest_ends_the_connection(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("HeaderDigest", "CRC32C"))?;
    conn.run(&Cmd::read(0, 8))?.good()?;
    let header = conn.header(&Cmd::test_unit_ready());
    let mut raw = Raw::new(header.into(), &[], conn.digests());
    raw.header_digest = raw.header_digest.map(|[first, rest @ ..]| [first ^ 1, rest[0], rest[1], rest[2]]);
    conn.send_raw(&raw);
    conn.expect_closed()
}
