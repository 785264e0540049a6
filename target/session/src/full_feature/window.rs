//! The command window: which CmdSN comes next and how far ahead an initiator may send (RFC 7143 4.2.2.1).

use stampede_wire::Sn;

/// CmdSNs that an ABORT TASK may plug ahead of their turn (RFC 7143 11.5.5).
const PLUGGED_MAX: usize = 16;

/// What to do with a request by its CmdSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It is the next one.
    InOrder,
    /// Outside the window, or seen before: dropped without a word.
    Ignore,
    /// Within the window but one before it is missing. On the one connection of a session nothing can fill it.
    Gap,
}

/// ExpCmdSN, MaxCmdSN and the credit they express.
///
/// Invariant: `busy + (max - expected + 1) <= limit`, the slots of the task table that non-immediate commands may take.
/// So every command that was promised a place finds one.
#[derive(Clone, Debug)]
pub(crate) struct CommandWindow {
    expected: Sn,
    /// As the initiator was told: it moves when it is told, and never back.
    max: Sn,
    /// Commands in the target that came in by a CmdSN of their own.
    busy: u32,
    /// Of those, how many the engine wants at most now.
    target: u32,
    limit: u32,
    /// CmdSNs ahead of `expected` that count as received.
    plugged: [Option<Sn>; PLUGGED_MAX],
    /// How many of those there are: mostly none, so that nothing is looked through for a command.
    plugged_len: u8,
}

impl CommandWindow {
    /// A window of `limit` commands for a session whose first command is numbered `first`.
    pub(crate) fn new(first: Sn, limit: u16) -> Self {
        let limit = u32::from(limit.max(1));
        Self {
            expected: first,
            max: first.add(limit - 1),
            busy: 0,
            target: limit,
            limit,
            plugged: [None; PLUGGED_MAX],
            plugged_len: 0,
        }
    }

    #[cfg(test)]
    fn expected(&self) -> Sn {
        self.expected
    }

    #[cfg(test)]
    fn max(&self) -> Sn {
        self.max
    }

    /// Judges a non-immediate request, and counts it as received if its turn has come.
    #[inline]
    pub(crate) fn arrive(&mut self, sn: Sn) -> Arrival {
        if sn == self.expected && sn.lte(self.max) {
            self.advance();
            return Arrival::InOrder;
        }
        self.judge(sn)
    }

    /// Judges a request that is not the next one.
    #[cold]
    fn judge(&self, sn: Sn) -> Arrival {
        if !sn.within(self.expected, self.max) || self.plugged.contains(&Some(sn)) {
            return Arrival::Ignore;
        }
        Arrival::Gap
    }

    /// A command that arrived entered the task table.
    #[inline]
    pub(crate) fn occupy(&mut self) {
        self.busy += 1;
    }

    /// A command left the task table.
    #[inline]
    pub(crate) fn vacate(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// Back-pressure: at most `commands` in the target, as far as promises already made allow.
    pub(crate) fn set_target(&mut self, commands: u16) {
        self.target = u32::from(commands).min(self.limit);
    }

    /// An ABORT TASK named a command that never came: `sn` counts as received (RFC 7143 11.5.5). `sent` is the CmdSN
    /// of the request. `None` when `sn` is outside the window, else whether there was room to remember it.
    pub(crate) fn plug(&mut self, sn: Sn, sent: Sn) -> Option<bool> {
        if !sn.within(self.expected, self.max) || !sn.lt(sent) {
            return None;
        }
        if sn == self.expected {
            self.advance();
            return Some(true);
        }
        if self.plugged.contains(&Some(sn)) {
            return Some(true);
        }
        let free = self.plugged.iter_mut().find(|slot| slot.is_none());
        let remembered = free.map(|slot| *slot = Some(sn)).is_some();
        self.plugged_len += u8::from(remembered);
        Some(remembered)
    }

    /// The numbers as they go out in a PDU now: MaxCmdSN moves to what the credit allows.
    #[inline]
    pub(crate) fn tell(&mut self) -> (Sn, Sn) {
        let allowed = self.expected.add(self.target.saturating_sub(self.busy)).previous();
        if self.max.lt(allowed) {
            self.max = allowed;
        }
        (self.expected, self.max)
    }

    /// Whether the initiator believes the window closed although it is not.
    #[inline]
    pub(crate) fn owes_news(&self) -> bool {
        self.max.next() == self.expected && self.busy < self.target
    }

    #[inline]
    fn advance(&mut self) {
        self.expected = self.expected.next();
        if self.plugged_len > 0 {
            self.skip_plugged();
        }
    }

    #[cold]
    fn skip_plugged(&mut self) {
        while self.plugged_len > 0
            && let Some(slot) = self.plugged.iter_mut().find(|slot| **slot == Some(self.expected))
        {
            *slot = None;
            self.plugged_len -= 1;
            self.expected = self.expected.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_come_in_order_and_duplicates_are_ignored() {
        let mut window = CommandWindow::new(Sn(u32::MAX), 4);
        assert_eq!(window.arrive(Sn(u32::MAX)), Arrival::InOrder);
        assert_eq!(window.arrive(Sn(u32::MAX)), Arrival::Ignore);
        assert_eq!(window.arrive(Sn(1)), Arrival::Gap);
        assert_eq!(window.arrive(Sn(3)), Arrival::Ignore);
        assert_eq!(window.arrive(Sn(0)), Arrival::InOrder);
    }

    #[test]
    fn a_full_table_closes_the_window_and_a_free_slot_opens_it() {
        let mut window = CommandWindow::new(Sn(10), 2);
        for sn in [10, 11] {
            assert_eq!(window.arrive(Sn(sn)), Arrival::InOrder);
            window.occupy();
        }
        assert_eq!(window.tell(), (Sn(12), Sn(11)));
        assert_eq!(window.arrive(Sn(12)), Arrival::Ignore);
        window.vacate();
        assert!(window.owes_news());
        assert_eq!(window.tell(), (Sn(12), Sn(12)));
        assert!(!window.owes_news());
    }

    #[test]
    fn max_never_moves_back() {
        let mut window = CommandWindow::new(Sn(0), 8);
        window.set_target(0);
        assert!(!window.owes_news());
        assert_eq!(window.tell(), (Sn(0), Sn(7)));
        for sn in 0..8 {
            assert_eq!(window.arrive(Sn(sn)), Arrival::InOrder);
        }
        assert_eq!(window.tell(), (Sn(8), Sn(7)));
        window.set_target(3);
        assert!(window.owes_news(), "an initiator that waits must be told");
        assert_eq!(window.tell(), (Sn(8), Sn(10)));
    }

    #[test]
    fn an_aborted_command_that_never_came_counts_as_received() {
        let mut window = CommandWindow::new(Sn(5), 8);
        assert_eq!(window.plug(Sn(6), Sn(8)), Some(true));
        assert_eq!(window.plug(Sn(4), Sn(8)), None, "before the window");
        assert_eq!(window.plug(Sn(8), Sn(8)), None, "not before the request itself");
        assert_eq!(window.arrive(Sn(5)), Arrival::InOrder);
        assert_eq!(window.expected(), Sn(7));
        assert_eq!(window.plug(Sn(7), Sn(8)), Some(true));
        assert_eq!(window.arrive(Sn(8)), Arrival::InOrder);
    }

    proptest! {
        /// Every promised command has a slot, and MaxCmdSN never moves back, whatever happens.
        #[test]
        fn promises_are_kept(start: u32, steps in prop::collection::vec((0u8..5, 0u16..40), 0..400)) {
            const LIMIT: u32 = 16;
            let mut window = CommandWindow::new(Sn(start), LIMIT as u16);
            let mut busy = 0u32;
            for (what, number) in steps {
                let before = window.max();
                match what {
                    0 if window.arrive(window.expected()) == Arrival::InOrder => { window.occupy(); busy += 1; }
                    1 => { window.arrive(window.expected()); }
                    2 if busy > 0 => { window.vacate(); busy -= 1; }
                    3 => { window.set_target(number); }
                    4 => { window.plug(Sn(start).add(u32::from(number)), window.expected().add(8)); }
                    _ => { window.tell(); }
                }
                prop_assert!(before.lte(window.max()));
                let credit = window.expected().distance(window.max().next());
                prop_assert!(busy + credit <= LIMIT, "{busy} busy and {credit} promised");
            }
        }
    }
}
