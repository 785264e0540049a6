//! A connection as PDUs, with the man in the middle.

use crate::link::{Heard, Link, Patience};
use crate::mutation::{Closing, Middle, Mutation};
use crate::pdu::Raw;
use stampede_wire::encode::Digests;
use std::cell::RefCell;
use std::rc::Rc;

/// Lines kept of what was said, newest last.
const TRANSCRIPT_MAX: usize = 60;

/// What was said on all connections of a test.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Rc<RefCell<Vec<String>>>);

impl Transcript {
    /// Adds a line.
    pub fn note(&self, line: String) {
        let mut lines = self.0.borrow_mut();
        if lines.len() == TRANSCRIPT_MAX {
            lines.remove(0);
        }
        lines.push(line);
    }

    /// The lines.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// What came.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A whole PDU.
    Pdu(Raw),
    /// The end.
    Closed,
    /// Nothing.
    Silence,
}

/// One connection.
pub struct Stream {
    link: Box<dyn Link>,
    bytes: Vec<u8>,
    /// In force in both directions.
    pub digests: Digests,
    mutation: Option<Mutation>,
    middle: Middle,
    transcript: Transcript,
    number: usize,
}

impl Stream {
    /// A connection without digests.
    pub fn new(
        link: Box<dyn Link>,
        mutation: Option<Mutation>,
        transcript: Transcript,
        number: usize,
    ) -> Self {
        let (bytes, digests) = (Vec::new(), Digests::default());
        Self { link, bytes, digests, mutation, middle: Middle::new(), transcript, number }
    }

    /// Sends a PDU.
    pub fn send(&mut self, pdu: &Raw) {
        self.transcript.note(format!("{} > {pdu:?}", self.number));
        self.middle.sent.push(pdu.bhs);
        self.link.send(&pdu.to_bytes());
    }

    /// Sends bytes that are no whole PDU.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.transcript.note(format!("{} > {} bytes", self.number, bytes.len()));
        self.link.send(bytes);
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        self.transcript.note(format!("{} > reset", self.number));
        self.link.reset();
    }

    /// The next thing that comes.
    pub fn receive(&mut self, patience: Patience) -> Arrival {
        let arrival = self.next(patience);
        let line = match &arrival {
            Arrival::Pdu(pdu) => format!("{} < {pdu:?}", self.number),
            Arrival::Closed => format!("{} < closed", self.number),
            Arrival::Silence => format!("{} < silence", self.number),
        };
        self.transcript.note(line);
        arrival
    }

    fn next(&mut self, patience: Patience) -> Arrival {
        loop {
            if let Some(pdu) = self.middle.next() {
                return Arrival::Pdu(pdu);
            }
            if self.middle.is_cut() {
                return Arrival::Closed;
            }
            if let Some(pdu) = Raw::cut(&mut self.bytes, self.digests) {
                match self.mutation {
                    None => return Arrival::Pdu(pdu),
                    Some(mutation) => (mutation.alter)(&mut self.middle, pdu),
                }
                continue;
            }
            match self.link.receive(patience) {
                Heard::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                Heard::Closed if self.hides_closing() => return Arrival::Silence,
                Heard::Closed => return Arrival::Closed,
                Heard::Silence => return Arrival::Silence,
            }
        }
    }

    fn hides_closing(&self) -> bool {
        self.mutation.is_some_and(|mutation| mutation.closing == Closing::Hidden)
    }
}
