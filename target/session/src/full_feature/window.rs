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
/// Invariant: `busy + (max - exp + 1) <= limit`, the slots of the task table that non-immediate commands may take.
/// So every command that was promised a place finds one.
#[derive(Clone, Debug)]
pub(crate) struct CommandWindow {
    expected: Sn,
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
    /// MaxCmdSN as the initiator was last told.
    told: Sn,
}

impl CommandWindow {
    /// A window of `limit` commands for a session whose first command is numbered `first`.
    pub(crate) fn new(first: Sn, limit: u16) -> Self {
        let limit = u32::from(limit.max(1));
        let max = first.add(limit - 1);
        Self {
            expected: first,
            max,
            busy: 0,
            target: limit,
            limit,
            plugged: [None; PLUGGED_MAX],
            plugged_len: 0,
            told: max,
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
    pub(crate) fn arrive(&mut self, sn: Sn) -> Arrival {
        if sn == self.expected && sn.within(self.expected, self.max) {
            self.advance();
            return Arrival::InOrder;
        }
        if !sn.within(self.expected, self.max) || self.plugged.contains(&Some(sn)) {
            return Arrival::Ignore;
        }
        Arrival::Gap
    }

    /// A command that arrived entered the task table.
    pub(crate) fn occupy(&mut self) {
        self.busy = self.busy.saturating_add(1).min(self.limit);
    }

    /// A command left the task table. Whether that opened a window the initiator believes closed.
    pub(crate) fn vacate(&mut self) -> bool {
        self.busy = self.busy.saturating_sub(1);
        self.open()
    }

    /// Back-pressure: at most `commands` in the target, as far as promises already made allow.
    /// Whether that opened a window the initiator believes closed.
    pub(crate) fn set_target(&mut self, commands: u16) -> bool {
        self.target = u32::from(commands).min(self.limit);
        self.open()
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

    /// The numbers as they go out in a PDU now.
    pub(crate) fn tell(&mut self) -> (Sn, Sn) {
        self.open();
        self.told = self.max;
        (self.expected, self.max)
    }

    /// Whether the initiator believes the window closed although it is not.
    pub(crate) fn owes_news(&self) -> bool {
        self.told.next() == self.expected && self.max != self.told
    }

    fn advance(&mut self) {
        self.expected = self.expected.next();
        while self.plugged_len > 0
            && let Some(slot) = self.plugged.iter_mut().find(|slot| **slot == Some(self.expected))
        {
            *slot = None;
            self.plugged_len -= 1;
            self.expected = self.expected.next();
        }
    }

    /// Moves MaxCmdSN forward, never back, to what the credit allows.
    fn open(&mut self) -> bool {
        let wanted = self.expected.add(self.target.saturating_sub(self.busy)).previous();
        if self.max.lt(wanted) {
            self.max = wanted;
        }
        self.owes_news()
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
        assert!(window.vacate());
        assert_eq!(window.tell(), (Sn(12), Sn(12)));
        assert!(!window.owes_news());
    }

    #[test]
    fn max_never_moves_back() {
        let mut window = CommandWindow::new(Sn(0), 8);
        assert!(!window.set_target(0));
        assert_eq!(window.tell(), (Sn(0), Sn(7)));
        for sn in 0..8 {
            assert_eq!(window.arrive(Sn(sn)), Arrival::InOrder);
        }
        assert_eq!(window.tell(), (Sn(8), Sn(7)));
        assert!(window.set_target(3), "an initiator that waits must be told");
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
