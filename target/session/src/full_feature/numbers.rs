//! The sequence numbers a target stamps on what it sends (RFC 7143 4.2.2).

use stampede_wire::{Sn, pdu::TargetSns};

use super::window::CommandWindow;

/// StatSN of the first Login Response; any value would do (RFC 7143 11.13.4).
const FIRST_STAT_SN: Sn = Sn(1);

/// StatSN of the connection and the command window of the session.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) window: CommandWindow,
    stat_sn: Sn,
}

impl Numbers {
    /// For a session whose leading login carried CmdSN `first`.
    pub(crate) fn new(first: Sn, window: u16) -> Self {
        Self { window: CommandWindow::new(first, window), stat_sn: FIRST_STAT_SN }
    }

    /// For a PDU that carries a status: uses up a StatSN.
    #[inline]
    pub(crate) fn status(&mut self) -> TargetSns {
        let sns = self.current();
        self.stat_sn = self.stat_sn.next();
        sns
    }

    /// For any other PDU: StatSN is the next one to be used.
    #[inline]
    pub(crate) fn current(&mut self) -> TargetSns {
        let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
        TargetSns { stat_sn: self.stat_sn, exp_cmd_sn, max_cmd_sn }
    }
}
