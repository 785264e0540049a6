//! Ranges of one LUN that are being read or written, so that the read-modify-write of a device block is alone on it.
//!
//! A request waits while it conflicts (overlaps, and one of the two is exclusive) with a range that is held or with
//! one that waits before it. So the order of arrival holds among conflicting requests, a writer cannot be starved by
//! readers, and requests that touch different ranges never wait for each other.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// A range of bytes: of a guest disk or of a file, as the user says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl ByteRange {
    /// The byte behind the last; saturates at the end of `u64`.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Whether the two have a byte in common. An empty range overlaps nothing.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.len > 0 && other.len > 0 && self.start < other.end() && other.start < self.end()
    }
}

/// What a holder does with its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It reads, or writes whole blocks that need no fill read: any number at once.
    Shared,
    /// It must be alone on the range.
    Exclusive,
}

/// The answer to [`RangeLocks::acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The range is held.
    Granted,
    /// The request waits; its owner is named by a later [`release`](RangeLocks::release) or
    /// [`cancel`](RangeLocks::cancel).
    Queued,
    /// As many requests as allowed are held and waiting: answer TASK SET FULL, or try again later.
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    range: ByteRange,
    kind: Kind,
    owner: u64,
}

impl Request {
    fn conflicts(&self, other: &Self) -> bool {
        (self.kind == Kind::Exclusive || other.kind == Kind::Exclusive) && self.range.overlaps(&other.range)
    }
}

/// The ranges of one LUN that are held, and the requests that wait for them in order of arrival.
#[derive(Debug)]
pub struct RangeLocks {
    held: SmallVec<[Request; 8]>,
    waiting: VecDeque<Request>,
    requests_max: usize,
}

impl RangeLocks {
    /// Locks that hold and queue at most `requests_max` requests together.
    #[must_use]
    pub fn new(requests_max: usize) -> Self {
        Self { held: SmallVec::new(), waiting: VecDeque::new(), requests_max }
    }

    /// Asks for a range. `owner` names the request, once among those held and waiting.
    pub fn acquire(&mut self, range: ByteRange, kind: Kind, owner: u64) -> Acquired {
        let request = Request { range, kind, owner };
        debug_assert!(!self.knows(owner), "an owner asks once at a time");
        if self.held.len() + self.waiting.len() >= self.requests_max {
            return Acquired::Full;
        }
        if self.blocks(range, kind) {
            self.waiting.push_back(request);
            return Acquired::Queued;
        }
        self.held.push(request);
        Acquired::Granted
    }

    /// Whether a request for this range would have to wait now.
    #[must_use]
    pub fn blocks(&self, range: ByteRange, kind: Kind) -> bool {
        let request = Request { range, kind, owner: 0 };
        self.held.iter().chain(&self.waiting).any(|earlier| earlier.conflicts(&request))
    }

    /// Gives a held range back; `granted` gets the owner of every waiting request that is held from now on, in order
    /// of arrival. An owner that holds nothing changes nothing.
    pub fn release(&mut self, owner: u64, granted: impl FnMut(u64)) {
        let Some(at) = self.held.iter().position(|request| request.owner == owner) else { return };
        let released = self.held.swap_remove(at);
        self.grant_waiting(&released, granted);
    }

    /// Withdraws a request that still waits (true), whose place in the queue may have held up others: `granted` as
    /// for [`release`](Self::release). False when the owner does not wait: a held range must be released, when its
    /// disk operation has completed.
    pub fn cancel(&mut self, owner: u64, granted: impl FnMut(u64)) -> bool {
        let Some(at) = self.waiting.iter().position(|request| request.owner == owner) else { return false };
        let Some(withdrawn) = self.waiting.remove(at) else { return false };
        self.grant_waiting(&withdrawn, granted);
        true
    }

    /// Requests held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Requests waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing is held and nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }

    fn knows(&self, owner: u64) -> bool {
        self.held.iter().chain(&self.waiting).any(|request| request.owner == owner)
    }

    /// Grants, in order of arrival, what conflicted with `gone` and now conflicts with nothing held or before it.
    fn grant_waiting(&mut self, gone: &Request, mut granted: impl FnMut(u64)) {
        let mut at = 0;
        while let Some(&request) = self.waiting.get(at) {
            let free = request.conflicts(gone)
                && !self
                    .held
                    .iter()
                    .chain(self.waiting.iter().take(at))
                    .any(|other| other.conflicts(&request));
            if free {
                self.waiting.remove(at);
                self.held.push(request);
                granted(request.owner);
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange { start, len }
    }

    fn released(locks: &mut RangeLocks, owner: u64) -> Vec<u64> {
        let mut granted = Vec::new();
        locks.release(owner, |owner| granted.push(owner));
        granted
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_all_of_them() {
        let mut locks = RangeLocks::new(16);
        assert_eq!(locks.acquire(range(0, 4096), Kind::Shared, 1), Acquired::Granted);
        assert_eq!(locks.acquire(range(512, 512), Kind::Shared, 2), Acquired::Granted);
        assert_eq!(locks.acquire(range(1000, 8), Kind::Exclusive, 3), Acquired::Queued);
        assert_eq!(released(&mut locks, 1), []);
        assert_eq!(released(&mut locks, 2), [3]);
        assert_eq!(released(&mut locks, 3), []);
        assert!(locks.is_empty());
    }

    #[test]
    fn a_reader_does_not_overtake_a_writer_that_waits() {
        let mut locks = RangeLocks::new(16);
        locks.acquire(range(0, 10), Kind::Shared, 1);
        locks.acquire(range(0, 10), Kind::Exclusive, 2);
        assert_eq!(locks.acquire(range(5, 1), Kind::Shared, 3), Acquired::Queued);
        assert_eq!(locks.acquire(range(10, 1), Kind::Shared, 4), Acquired::Granted, "elsewhere nobody waits");
        assert_eq!(released(&mut locks, 1), [2]);
        assert_eq!(released(&mut locks, 2), [3]);
    }

    #[test]
    fn one_release_can_grant_several() {
        let mut locks = RangeLocks::new(16);
        locks.acquire(range(0, 100), Kind::Exclusive, 1);
        locks.acquire(range(0, 10), Kind::Exclusive, 2);
        locks.acquire(range(5, 10), Kind::Exclusive, 3);
        locks.acquire(range(50, 10), Kind::Exclusive, 4);
        assert_eq!(released(&mut locks, 1), [2, 4], "3 still waits for 2");
        assert_eq!(released(&mut locks, 2), [3]);
    }

    #[test]
    fn withdrawing_a_request_lets_those_behind_it_through() {
        let mut locks = RangeLocks::new(16);
        locks.acquire(range(0, 10), Kind::Shared, 1);
        locks.acquire(range(0, 10), Kind::Exclusive, 2);
        locks.acquire(range(0, 10), Kind::Shared, 3);
        let mut granted = Vec::new();
        assert!(!locks.cancel(1, |_| ()), "a held range is released, not withdrawn");
        assert!(locks.cancel(2, |owner| granted.push(owner)));
        assert_eq!(granted, [3]);
        assert!(!locks.cancel(2, |_| ()));
    }

    #[test]
    fn at_the_bound_requests_are_turned_away() {
        let mut locks = RangeLocks::new(2);
        locks.acquire(range(0, 10), Kind::Exclusive, 1);
        locks.acquire(range(0, 10), Kind::Exclusive, 2);
        assert_eq!(locks.acquire(range(100, 10), Kind::Shared, 3), Acquired::Full);
        released(&mut locks, 1);
        assert_eq!(locks.acquire(range(100, 10), Kind::Shared, 3), Acquired::Granted);
    }

    #[test]
    fn releasing_what_is_not_held_changes_nothing() {
        let mut locks = RangeLocks::new(2);
        locks.acquire(range(0, 10), Kind::Exclusive, 1);
        locks.acquire(range(0, 10), Kind::Exclusive, 2);
        assert_eq!(released(&mut locks, 2), [], "it waits");
        assert_eq!(released(&mut locks, 9), []);
        assert_eq!((locks.held(), locks.waiting()), (1, 1));
    }

    #[test]
    fn empty_and_endless_ranges_do_no_harm() {
        assert!(!range(5, 0).overlaps(&range(0, 10)));
        assert!(range(u64::MAX - 1, u64::MAX).overlaps(&range(u64::MAX - 1, 1)));
        assert!(range(0, u64::MAX).overlaps(&range(7, 1)));
    }

    /// Random traffic against a plain record of who holds and who waits.
    fn traffic(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut locks = RangeLocks::new(24);
        let mut held: Vec<Request> = Vec::new();
        let mut waiting: Vec<Request> = Vec::new();
        for owner in 0..400_u64 {
            let kind = if random.bool() { Kind::Shared } else { Kind::Exclusive };
            let request = Request { range: range(random.u64(..64), random.u64(..12)), kind, owner };
            let blocked = held.iter().chain(&waiting).any(|other| other.conflicts(&request));
            assert_eq!(locks.blocks(request.range, kind), blocked, "seed {seed}");
            match locks.acquire(request.range, kind, owner) {
                Acquired::Full => assert_eq!(held.len() + waiting.len(), 24),
                Acquired::Queued => {
                    assert!(blocked, "seed {seed}: it waits for nobody");
                    waiting.push(request);
                }
                Acquired::Granted => {
                    assert!(!blocked, "seed {seed}: it overtook somebody");
                    held.push(request);
                }
            }
            let end = random.u8(..10);
            if end < 4 && !held.is_empty() {
                let gone = held.swap_remove(random.usize(..held.len()));
                let mut granted = Vec::new();
                locks.release(gone.owner, |owner| granted.push(owner));
                take_over(&granted, &mut held, &mut waiting, seed);
            } else if end == 4 && !waiting.is_empty() {
                let gone = waiting.remove(random.usize(..waiting.len()));
                let mut granted = Vec::new();
                assert!(locks.cancel(gone.owner, |owner| granted.push(owner)));
                take_over(&granted, &mut held, &mut waiting, seed);
            }
            assert_eq!((locks.held(), locks.waiting()), (held.len(), waiting.len()));
        }
        // All who wait are granted in the end.
        while let Some(gone) = held.pop() {
            let mut granted = Vec::new();
            locks.release(gone.owner, |owner| granted.push(owner));
            take_over(&granted, &mut held, &mut waiting, seed);
        }
        assert!(waiting.is_empty() && locks.is_empty(), "seed {seed}: somebody starved");
    }

    fn take_over(granted: &[u64], held: &mut Vec<Request>, waiting: &mut Vec<Request>, seed: u64) {
        for owner in granted {
            let at = waiting.iter().position(|request| request.owner == *owner).unwrap();
            let request = waiting.remove(at);
            assert!(!held.iter().any(|other| other.conflicts(&request)), "seed {seed}: two on one range");
            assert!(
                !waiting[..at].iter().any(|other| other.conflicts(&request)),
                "seed {seed}: not in order"
            );
            held.push(request);
        }
        for (at, request) in waiting.iter().enumerate() {
            let blocked = held.iter().chain(&waiting[..at]).any(|other| other.conflicts(request));
            assert!(blocked, "seed {seed}: {} was forgotten", request.owner);
        }
    }

    #[test]
    fn random_traffic_is_exclusive_fair_and_ends() {
        (0..300).for_each(traffic);
    }
}
