//! Pushing that never fails: what the ring has no room for waits here, in order.

use stampede_ring::{Event, Operation, Ring, Token, Wait};
use std::collections::VecDeque;

/// A ring, and the operations that it had no room for. They are bounded by what the tables behind their tokens
/// hold: each connection and each transfer has at most one of each kind.
#[derive(Debug)]
pub(crate) struct Pusher<R> {
    ring: R,
    waiting: VecDeque<(Token, Operation)>,
}

impl<R: Ring> Pusher<R> {
    /// Around a ring.
    pub(crate) fn new(ring: R) -> Self {
        Self { ring, waiting: VecDeque::new() }
    }

    /// Pushes, after everything that waits.
    pub(crate) fn push(&mut self, token: Token, operation: Operation) {
        if !self.waiting.is_empty() {
            self.waiting.push_back((token, operation));
            return;
        }
        let Err(operation) = self.ring.push(token, operation) else { return };
        // A full queue empties into the kernel at a submit. If that fails, the loop's own submit says so.
        if self.ring.submit(Wait::No).is_err() {
            self.waiting.push_back((token, operation));
            return;
        }
        if let Err(operation) = self.ring.push(token, operation) {
            self.waiting.push_back((token, operation));
        }
    }

    /// Does an operation now, if that takes no wait; see [`Ring::at_once`].
    pub(crate) fn at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.ring.at_once(operation)
    }

    /// Does a read now, of what is to be sent; see [`Ring::read_for_sending`].
    pub(crate) fn read_for_sending(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.ring.read_for_sending(operation)
    }

    /// Pushes what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some((token, operation)) = self.waiting.pop_front() {
            if let Err(operation) = self.ring.push(token, operation) {
                self.waiting.push_front((token, operation));
                return;
            }
        }
    }

    /// Whether operations wait for room.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The ring, for what is not pushing.
    pub(crate) fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }
}
