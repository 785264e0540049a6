//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19): pings both ways, and news of the command window.

use stampede_wire::{
    Lun, RESERVED_TAG,
    pdu::{NopIn, NopOut, Pdu},
};

use super::{FullFeature, Life};
use crate::{LoginStage, OutData, Output, Violation, ViolationKind};

/// The pings we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pings {
    /// Tag and time of the one under way.
    outstanding: Option<(u32, u64)>,
    count: u32,
    /// When the last one was sent.
    last_ns: u64,
    answers: Option<bool>,
}

impl FullFeature {
    pub(super) fn nop_out(&mut self, pdu: &NopOut, data: &[u8], out: &mut impl Output) {
        if !pdu.wants_reply() {
            if self.pings.outstanding.is_some_and(|(tag, _)| tag == pdu.target_transfer_tag()) {
                self.pings.outstanding = None;
                self.pings.answers = Some(true);
            }
            return;
        }
        let max = self.info.parameters.initiator_recv_data_segment as usize;
        let echo = &data[..data.len().min(max)];
        // At most 2^24-1 bytes: a received data segment is no longer.
        let pdu = NopIn::reply(pdu.initiator_task_tag(), self.numbers.status())
            .with_data_segment_len(echo.len() as u32);
        self.send(&pdu, if echo.is_empty() { OutData::None } else { OutData::Bytes(echo) }, out);
    }

    /// See [`Connection::ping`](crate::Connection::ping).
    pub(crate) fn ping(&mut self, now_ns: u64, out: &mut impl Output) {
        if self.life != Life::Active || self.pings.outstanding.is_some() {
            return;
        }
        let tag = self.pings.count;
        self.pings.count = if tag.wrapping_add(1) == RESERVED_TAG { 0 } else { tag.wrapping_add(1) };
        self.pings.outstanding = Some((tag, now_ns));
        self.pings.last_ns = now_ns;
        let pdu = NopIn::ping(tag, Lun::ZERO, self.numbers.current());
        self.send(&pdu, OutData::None, out);
    }

    pub(crate) fn answers_pings(&self) -> Option<bool> {
        self.pings.answers
    }

    /// See [`Connection::set_window`](crate::Connection::set_window).
    pub(crate) fn set_window(&mut self, commands: u16, out: &mut impl Output) {
        self.numbers.window.set_target(commands);
        self.announce_window(out);
    }

    /// Tells an initiator that believes the window closed that it is not (RFC 7143 11.19: no tag, no StatSN).
    fn announce_window(&mut self, out: &mut impl Output) {
        if self.life == Life::Active && self.numbers.window.owes_news() {
            let pdu = NopIn::notify(self.numbers.current());
            self.send(&pdu, OutData::None, out);
        }
    }

    pub(crate) fn deadline_ns(&self, last_heard_ns: u64) -> Option<u64> {
        if self.life != Life::Active {
            return None;
        }
        if self.numbers.window.owes_news() {
            return Some(0);
        }
        let asked = [self.logout_deadline_ns, self.renegotiation_deadline_ns, self.drain_deadline_ns()];
        asked.into_iter().chain([self.ping_deadline_ns(last_heard_ns)]).flatten().min()
    }

    /// When the ping under way is late, or the next one is due.
    fn ping_deadline_ns(&self, last_heard_ns: u64) -> Option<u64> {
        if let Some((_, sent_ns)) = self.pings.outstanding {
            return Some(sent_ns.saturating_add(self.settings.ping_timeout_ns.max(1)));
        }
        let wanted = self.settings.ping_interval_ns != 0
            && self.info.stage != LoginStage::Firmware
            && self.pings.answers != Some(false);
        wanted.then(|| last_heard_ns.max(self.pings.last_ns).saturating_add(self.settings.ping_interval_ns))
    }

    pub(crate) fn tick(
        &mut self,
        now_ns: u64,
        last_heard_ns: u64,
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        if self.life != Life::Active {
            return Ok(());
        }
        self.announce_window(out);
        self.tick_drain(now_ns, out);
        if self.logout_deadline_ns.is_some_and(|deadline| now_ns >= deadline) {
            return Err(Violation::new(ViolationKind::LogoutTimeout));
        }
        if self.renegotiation_deadline_ns.is_some_and(|deadline| now_ns >= deadline) {
            return Err(Violation::new(ViolationKind::RenegotiationTimeout));
        }
        if self.ping_deadline_ns(last_heard_ns).is_some_and(|deadline| now_ns >= deadline) {
            match self.pings.outstanding.take() {
                None => self.ping(now_ns, out),
                Some((_, sent_ns)) => self.ping_unanswered(sent_ns, last_heard_ns)?,
            }
        }
        Ok(())
    }

    /// Silence counts only against an initiator that has answered before: boot ROMs never do.
    fn ping_unanswered(&mut self, sent_ns: u64, last_heard_ns: u64) -> Result<(), Violation> {
        match self.pings.answers {
            Some(true) if last_heard_ns <= sent_ns => Err(Violation::new(ViolationKind::PingTimeout)),
            Some(true) => Ok(()),
            _ => {
                self.pings.answers = Some(false);
                Ok(())
            }
        }
    }
}
