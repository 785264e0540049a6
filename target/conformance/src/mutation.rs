//! Rules broken on purpose: a man in the middle who changes what the target says, so that a test is seen to fail.
//!
//! A [`Mutation`] names the rule as it would be broken and the function that breaks it. The function gets every PDU of
//! the target and passes it on as it is, changed, late, twice or not at all. What it withholds or invents does not
//! show in StatSN: the middle renumbers, so that the test fails by the rule that was broken and not by a gap.

use crate::pdu::Raw;
use stampede_wire::Bhs;
use std::collections::VecDeque;

/// A rule broken on purpose.
#[derive(Clone, Copy)]
pub struct Mutation {
    /// What the target seems to do instead, as a sentence's end: "MaxCmdSN moves back".
    pub what: &'static str,
    /// Gets each PDU of the target.
    pub alter: fn(&mut Middle, Raw),
    /// What happens when the target closes.
    pub closing: Closing,
}

/// What a man in the middle does when the target closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The initiator sees it.
    Seen,
    /// The connection looks open and silent.
    Hidden,
}

impl Mutation {
    /// One that changes PDUs.
    pub const fn new(what: &'static str, alter: fn(&mut Middle, Raw)) -> Self {
        Self { what, alter, closing: Closing::Seen }
    }

    /// One by which a connection stays open that the target should have closed.
    pub const fn stays_open(what: &'static str) -> Self {
        Self { what, alter: Middle::pass, closing: Closing::Hidden }
    }
}

impl std::fmt::Debug for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

/// The man in the middle of one connection.
#[derive(Debug)]
pub struct Middle {
    /// The headers that the initiator sent so far, oldest first.
    pub sent: Vec<Bhs>,
    /// A number that a mutation may keep between PDUs; 0 at first.
    pub memory: u32,
    /// PDUs that a mutation keeps back.
    pub kept: Vec<Raw>,
    passed: VecDeque<Raw>,
    /// What StatSNs are off by, for what was withheld or invented.
    shift: u32,
    cut: bool,
}

impl Middle {
    pub(crate) fn new() -> Self {
        Self { sent: Vec::new(), memory: 0, kept: Vec::new(), passed: VecDeque::new(), shift: 0, cut: false }
    }

    /// Lets a PDU through.
    pub fn pass(&mut self, mut pdu: Raw) {
        if self.cut {
            return;
        }
        if self.shift != 0 {
            pdu.set_word(24, pdu.stat_sn().wrapping_add(self.shift));
        }
        self.passed.push_back(pdu);
    }

    /// Withholds a PDU, as if the target had not said it.
    pub fn withhold(&mut self, pdu: &Raw) {
        if pdu.carries_status() {
            self.shift = self.shift.wrapping_sub(1);
        }
    }

    /// Says something the target did not say. Its StatSN is that of the PDU that comes next from the target.
    pub fn invent(&mut self, pdu: Raw) {
        let counts = pdu.carries_status();
        self.pass(pdu);
        if counts {
            self.shift = self.shift.wrapping_add(1);
        }
    }

    /// Ends the connection here, as if the target had closed it.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Whether the mutation ended the connection.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn next(&mut self) -> Option<Raw> {
        self.passed.pop_front()
    }

    /// The last request of this opcode that the initiator sent.
    pub fn last_sent(&self, opcode: stampede_wire::Opcode) -> Option<&Bhs> {
        self.sent.iter().rev().find(|bhs| bhs.opcode() == Ok(opcode))
    }
}
