//! The operations that the kernel has: each entry owns what the kernel reads or writes until its completion.

use super::send_state::SendState;
use super::sending::Asked;
use super::table::Target;
use crate::memory::Buffer;
use crate::seam::Token;
use crate::send_list::SendList;
use slab::Slab;
use std::collections::BTreeSet;

/// What an operation is, with what it owns.
#[derive(Debug)]
pub(super) enum Kind {
    Accept,
    Receive,
    Send {
        list: SendList,
        state: SendState,
        target: Target,
        asked: Asked,
        /// It was cancelled.
        given_up: bool,
    },
    Transfer {
        buffer: Buffer,
    },
    Zero {
        target: Target,
        offset: u64,
        len: u64,
        step: ZeroStep,
    },
    /// Flush and discard: nothing but a result.
    Finish,
    Cancel,
}

impl Kind {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Accept => Class::Accept,
            Self::Receive => Class::Receive,
            Self::Zero { .. } => Class::Zero,
            Self::Send { .. } => Class::Send,
            Self::Transfer { .. } | Self::Finish | Self::Cancel => Class::Single,
        }
    }

    /// Whether it stays until it is cancelled, so that its token must be found quickly.
    fn is_standing(&self) -> bool {
        matches!(self, Self::Accept | Self::Receive)
    }

    /// Whether the kernel may still touch memory that the entry owns.
    pub(super) fn lends_memory(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::Transfer { .. } | Self::Receive)
    }
}

/// How completions of an operation are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Accept,
    Receive,
    Zero,
    Send,
    /// One completion, which is the result.
    Single,
}

/// How a range is zeroed: in one step where the file system can, otherwise by freeing and allocating it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroStep {
    ZeroRange,
    Punch,
    Allocate,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) token: Token,
    generation: u32,
    pub(super) kind: Kind,
}

/// Bit 63 of the user data marks the ring's own operations; generations stay below it.
const GENERATION_MASK: u32 = u32::MAX >> 1;

pub(super) struct InFlight {
    entries: Slab<Entry>,
    max: usize,
    generation: u32,
    /// (token, user data) of the standing operations.
    standing: BTreeSet<(u64, u64)>,
}

impl InFlight {
    pub(super) fn new(max: u32) -> Self {
        Self {
            entries: Slab::with_capacity(max as usize),
            max: max as usize,
            generation: 0,
            standing: BTreeSet::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.max
    }

    /// Cancelling is possible when nothing else is: as many cancels as operations find room.
    pub(super) fn is_full_for_cancels(&self) -> bool {
        self.entries.len() >= 2 * self.max
    }

    /// Takes the operation in, and returns its user data.
    pub(super) fn insert(&mut self, token: Token, kind: Kind) -> u64 {
        self.generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        let standing = kind.is_standing();
        let index = self.entries.insert(Entry { token, generation: self.generation, kind });
        let user_data = u64::from(self.generation) << 32 | index as u64;
        if standing {
            self.standing.insert((token.0, user_data));
        }
        user_data
    }

    pub(super) fn get_mut(&mut self, user_data: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut((user_data & 0xffff_ffff) as usize)?;
        (u64::from(entry.generation) == user_data >> 32).then_some(entry)
    }

    pub(super) fn remove(&mut self, user_data: u64) -> Option<Entry> {
        self.get_mut(user_data)?;
        let entry = self.entries.remove((user_data & 0xffff_ffff) as usize);
        if entry.kind.is_standing() {
            self.standing.remove(&(entry.token.0, user_data));
        }
        Some(entry)
    }

    /// The user data of the operation with this token. Standing operations, which are the ones that are
    /// cancelled every day, are found by index; others by looking at all.
    pub(super) fn find(&self, token: Token) -> Option<u64> {
        let mut range = self.standing.range((token.0, 0)..=(token.0, u64::MAX));
        if let Some(&(_, user_data)) = range.next() {
            return Some(user_data);
        }
        self.entries
            .iter()
            .find(|(_, entry)| entry.token == token && !matches!(entry.kind, Kind::Cancel))
            .map(|(index, entry)| u64::from(entry.generation) << 32 | index as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the kernel may still touch memory that an entry owns.
    pub(super) fn lends_memory(&self) -> bool {
        self.entries.iter().any(|(_, entry)| entry.kind.lends_memory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_of_a_finished_operation_finds_nothing() {
        let mut inflight = InFlight::new(2);
        let first = inflight.insert(Token(1), Kind::Finish);
        assert_eq!(inflight.remove(first).unwrap().token, Token(1));
        let second = inflight.insert(Token(2), Kind::Finish);
        assert_ne!(first, second);
        assert!(inflight.get_mut(first).is_none());
        assert!(inflight.remove(first).is_none());
        assert!(inflight.get_mut(second).is_some());
        assert_eq!(second >> 63, 0);
    }

    #[test]
    fn tokens_are_found_standing_or_not() {
        let mut inflight = InFlight::new(8);
        let accept = inflight.insert(Token(7), Kind::Accept);
        let flush = inflight.insert(Token(8), Kind::Finish);
        let _cancel = inflight.insert(Token(9), Kind::Cancel);
        assert_eq!(inflight.find(Token(7)), Some(accept));
        assert_eq!(inflight.find(Token(8)), Some(flush));
        assert_eq!(inflight.find(Token(9)), None, "a cancel is not cancelled");
        inflight.remove(accept);
        assert_eq!(inflight.find(Token(7)), None);
    }
}
