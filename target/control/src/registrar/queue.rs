//! Logins that wait for their turn: by class, within a class by source in turn, within a source in the order they came.
//!
//! ```text
//!   Returning   it replaces a session: it adds none            ┐ the first that waits goes first, but every eighth turn
//!   Holding     a clone is held for it                         ├ is that of the last class: so nobody starves
//!   Others                                                     ┘
//! ```

use stampede_engine::source::Source;
use stampede_session::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Of so many turns, one is that of the last class that waits.
const LAST_EVERY: u32 = 8;

/// How urgent a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// It takes the place of a session that there is.
    Returning,
    /// A clone is held for it: its machine is in the middle of its boot, or runs.
    Holding,
    /// All others.
    Other,
}

/// A login in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) class: Class,
    pub(super) source: Source,
    /// Logins that came before it.
    pub(super) arrival: u64,
}

/// The logins of one class.
#[derive(Debug, Default)]
struct Line {
    by_source: BTreeMap<Source, BTreeSet<(u64, SessionId)>>,
    /// Whose turn it was last.
    last: Option<Source>,
}

impl Line {
    fn next(&mut self) -> Option<SessionId> {
        let after = (self.last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let (source, of) = match self.by_source.range_mut(after).next() {
            Some(next) => next,
            None => self.by_source.iter_mut().next()?,
        };
        let source = *source;
        let (_, session) = of.pop_first()?;
        if of.is_empty() {
            self.by_source.remove(&source);
        }
        self.last = Some(source);
        Some(session)
    }
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: [Line; 3],
    tickets: BTreeMap<SessionId, Ticket>,
    turns: u32,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn push(&mut self, session: SessionId, ticket: Ticket) {
        self.tickets.insert(session, ticket);
        let line = &mut self.lines[ticket.class as usize];
        line.by_source.entry(ticket.source).or_default().insert((ticket.arrival, session));
    }

    /// Takes one out wherever it is.
    pub(super) fn remove(&mut self, session: SessionId) {
        let Some(Ticket { class, source, arrival }) = self.tickets.remove(&session) else { return };
        let by_source = &mut self.lines[class as usize].by_source;
        let Some(of) = by_source.get_mut(&source) else { return };
        of.remove(&(arrival, session));
        if of.is_empty() {
            by_source.remove(&source);
        }
    }

    /// Whose turn it is, of the classes up to `most`.
    pub(super) fn pop(&mut self, most: Class) -> Option<SessionId> {
        let lines = self.lines.get_mut(..=most as usize)?;
        let last_first = self.turns % LAST_EVERY == LAST_EVERY - 1;
        let session = match last_first {
            true => lines.iter_mut().rev().find_map(Line::next),
            false => lines.iter_mut().find_map(Line::next),
        }?;
        self.turns = self.turns.wrapping_add(1);
        self.tickets.remove(&session);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn ticket(class: Class, source: u8, arrival: u64) -> Ticket {
        Ticket { class, source: Source::of(IpAddr::from([10, 0, 0, source])), arrival }
    }

    fn all(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop(Class::Other)).map(|session| session.0).collect()
    }

    #[test]
    fn sources_take_turns_and_each_is_served_in_order() {
        let mut queue = Queue::default();
        for session in 0..6 {
            queue.push(SessionId(session), ticket(Class::Other, 1, session));
        }
        queue.push(SessionId(10), ticket(Class::Other, 2, 10));
        queue.push(SessionId(11), ticket(Class::Other, 2, 9));
        queue.push(SessionId(20), ticket(Class::Other, 3, 20));
        queue.remove(SessionId(3));
        queue.remove(SessionId(3));
        assert_eq!(queue.len(), 8);
        assert_eq!(all(&mut queue), [0, 11, 20, 1, 10, 2, 4, 5]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn those_with_a_clone_come_first_and_nobody_starves() {
        let mut queue = Queue::default();
        for session in 0..20 {
            queue.push(SessionId(session), ticket(Class::Holding, 1, session));
            queue.push(SessionId(100 + session), ticket(Class::Other, 2, session));
        }
        queue.push(SessionId(200), ticket(Class::Returning, 3, 99));
        let order = all(&mut queue);
        assert_eq!(order[..9], [200, 0, 1, 2, 3, 4, 5, 100, 6]);
        assert_eq!(order.iter().take(20).filter(|session| **session >= 100 && **session < 200).count(), 2);
    }

    #[test]
    fn a_class_that_may_not_go_stays() {
        let mut queue = Queue::default();
        queue.push(SessionId(1), ticket(Class::Other, 1, 1));
        queue.push(SessionId(2), ticket(Class::Holding, 1, 2));
        assert_eq!(queue.pop(Class::Returning), None);
        assert_eq!(queue.pop(Class::Holding), Some(SessionId(2)));
        assert_eq!((queue.pop(Class::Holding), queue.len()), (None, 1));
        queue.push(SessionId(3), ticket(Class::Returning, 1, 3));
        assert_eq!(queue.pop(Class::Returning), Some(SessionId(3)));
    }
}
