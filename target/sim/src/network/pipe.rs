//! One direction of a connection: bytes in order, each with the time at which it arrives.

use std::collections::VecDeque;

/// Bytes in one direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// When each piece arrives, in order, and its bytes.
    pieces: VecDeque<(u64, Vec<u8>)>,
    /// Bytes already taken of the first piece.
    taken: usize,
    bytes: usize,
    capacity: usize,
    /// When the end of the stream arrives.
    end: Option<u64>,
    last_arrival: u64,
}

impl Pipe {
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Self { pieces: VecDeque::new(), taken: 0, bytes: 0, capacity, end: None, last_arrival: 0 }
    }

    /// Bytes that fit now.
    pub(crate) fn room(&self) -> usize {
        if self.end.is_some() { 0 } else { self.capacity.saturating_sub(self.bytes) }
    }

    /// Bytes in it, arrived or not.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds bytes, which the caller knows to fit, and returns when they arrive: never before earlier ones.
    pub(crate) fn put(&mut self, at: u64, bytes: Vec<u8>) -> u64 {
        self.last_arrival = self.last_arrival.max(at);
        self.bytes += bytes.len();
        if !bytes.is_empty() {
            self.pieces.push_back((self.last_arrival, bytes));
        }
        self.last_arrival
    }

    /// Ends the stream behind what is in it; returns when the end arrives.
    pub(crate) fn finish(&mut self, at: u64) -> u64 {
        self.last_arrival = self.last_arrival.max(at);
        *self.end.get_or_insert(self.last_arrival)
    }

    /// Whether all was read and the end has arrived.
    pub(crate) fn is_at_end(&self, now: u64) -> bool {
        self.bytes == 0 && self.has_ended(now)
    }

    /// Whether the end has arrived, behind bytes that may still wait to be read.
    pub(crate) fn has_ended(&self, now: u64) -> bool {
        self.end.is_some_and(|end| end <= now)
    }

    /// Whether the sender ended it.
    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes that have arrived.
    pub(crate) fn arrived(&self, now: u64) -> usize {
        let arrived =
            self.pieces.iter().take_while(|(at, _)| *at <= now).map(|(_, bytes)| bytes.len()).sum::<usize>();
        arrived.saturating_sub(self.taken)
    }

    /// Takes at most `most` bytes that have arrived.
    pub(crate) fn take(&mut self, now: u64, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < most
            && let Some((at, bytes)) = self.pieces.front_mut()
            && *at <= now
        {
            let left = bytes.len() - self.taken;
            if self.taken == 0 && out.is_empty() && left <= most {
                out = std::mem::take(bytes);
                self.pieces.pop_front();
                continue;
            }
            let take = left.min(most - out.len());
            out.extend_from_slice(&bytes[self.taken..self.taken + take]);
            self.taken += take;
            if self.taken == bytes.len() {
                self.pieces.pop_front();
                self.taken = 0;
            }
        }
        self.bytes -= out.len();
        out
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.taken = 0;
        self.bytes = 0;
    }

    /// Forgets what has not arrived.
    pub(crate) fn drop_in_transit(&mut self, now: u64) {
        while let Some((at, bytes)) = self.pieces.back()
            && *at > now
        {
            self.bytes -= bytes.len();
            self.pieces.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_in_time() {
        let mut pipe = Pipe::new(10);
        assert_eq!(pipe.put(50, vec![1, 2, 3]), 50);
        assert_eq!(pipe.put(20, vec![4, 5, 6]), 50, "later bytes never overtake");
        assert_eq!((pipe.room(), pipe.arrived(49)), (4, 0));
        assert_eq!(pipe.take(50, 2), [1, 2]);
        assert_eq!(pipe.arrived(50), 4);
        assert_eq!(pipe.take(50, 2), [3, 4]);
        assert_eq!(pipe.finish(60), 60);
        assert_eq!(pipe.room(), 0);
        assert_eq!(pipe.take(50, 9), [5, 6]);
        assert!(!pipe.is_at_end(59));
        assert!(pipe.is_at_end(60));
    }

    #[test]
    fn what_is_in_transit_can_be_lost() {
        let mut pipe = Pipe::new(100);
        pipe.put(10, vec![1; 5]);
        pipe.put(20, vec![2; 5]);
        pipe.drop_in_transit(10);
        assert_eq!((pipe.bytes(), pipe.take(99, 99)), (5, vec![1; 5]));
    }
}
