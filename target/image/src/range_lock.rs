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
        let blocked = self.held.iter().chain(&self.waiting).any(|earlier| earlier.conflicts(&request));
        if blocked {
            self.waiting.push_back(request);
            return Acquired::Queued;
        }
        self.held.push(request);
        Acquired::Granted
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
                && !self.held.iter().chain(self.waiting.iter().take(at)).any(|other| other.conflicts(&request));
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
