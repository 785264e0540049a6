//! One thread of idle sessions.

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::modes::record::Figures;
use crate::modes::seats::{News, Seats};
use crate::run::Control;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// How long a turn may wait: long, so that the client's own wake-ups do not disturb an idle machine.
const TURN_NS: u64 = 100_000_000;

/// What a shard has seen.
#[derive(Debug, Default)]
pub(crate) struct IdleResult {
    pub(crate) figures: Figures,
    pub(crate) lost: u64,
    pub(crate) pings_answered: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct IdleShard<'a> {
    control: &'a Control,
    seats: Seats,
}

impl<'a> IdleShard<'a> {
    /// Sets the shard up on this thread.
    ///
    /// # Errors
    /// No ring or no memory.
    pub(crate) fn new(
        endpoint: &Endpoint,
        numbers: Range<u32>,
        control: &'a Control,
    ) -> Result<Self, Failure> {
        Ok(Self { control, seats: Seats::new(endpoint, numbers, 2)? })
    }

    /// The whole run of this shard.
    ///
    /// # Errors
    /// A session cannot be had, or the ring is broken.
    pub(crate) fn run(mut self) -> Result<IdleResult, Failure> {
        let mut result = IdleResult::default();
        let mut events = Vec::new();
        let mut is_up = false;
        loop {
            self.seats.log_in()?;
            self.seats.client.turn(self.seats.client.now_ns() + TURN_NS, &mut events)?;
            for event in events.drain(..) {
                if let News::Ready { .. } = self.seats.hear(event, &mut result.figures)? {
                    self.control.logged_in.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !is_up && self.seats.is_ready() {
                is_up = true;
                self.seats.keep_going();
                self.control.shard_ready();
            }
            if self.control.is_cancelled() || self.seats.client.now_ns() >= self.control.times().until_ns {
                break;
            }
        }
        result.pings_answered = self.seats.pings_answered();
        self.seats.log_out(&mut result.figures)?;
        result.lost = self.seats.lost;
        Ok(result)
    }
}
