//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19): pings both ways, and news of the command window.

use stampede_wire::{
    Lun, RESERVED_TAG,
    pdu::{NopIn, NopOut, Pdu},
};

use super::{FullFeature, Life};
use crate::{LoginStage, OutData, Output, Violation, ViolationKind};

/// How often we look for the answer to a ping before its initiator is taken for dead, at equal distances. Time in which
/// this target did not run counts as one look, however long it was: the answer may lie unread in the socket meanwhile,
/// and thousands of answers are not read in one turn.
const LOOKS: u8 = 4;

/// A ping under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ping {
    tag: u32,
    sent_ns: u64,
    looks: u8,
    /// When it was sent, or looked for last.
    looked_ns: u64,
}

/// The pings we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pings {
    outstanding: Option<Ping>,
    count: u32,
    /// When the last one was sent.
    last_ns: u64,
    answers: Option<bool>,
}

impl FullFeature {
    pub(super) fn nop_out(&mut self, pdu: &NopOut, data: &[u8], out: &mut impl Output) {
        if !pdu.wants_reply() {
            if self.pings.outstanding.is_some_and(|ping| ping.tag == pdu.target_transfer_tag()) {
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
        self.pings.outstanding = Some(Ping { tag, sent_ns: now_ns, looks: 0, looked_ns: now_ns });
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

    /// When the answer to the ping under way is looked for, or the next one is due.
    fn ping_deadline_ns(&self, last_heard_ns: u64) -> Option<u64> {
        if let Some(ping) = self.pings.outstanding {
            let distance_ns = (self.settings.ping_timeout_ns / u64::from(LOOKS)).max(1);
            return Some(ping.looked_ns.saturating_add(distance_ns));
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
            match &mut self.pings.outstanding {
                None => self.ping(now_ns, out),
                Some(ping) if ping.looks + 1 < LOOKS => {
                    (ping.looks, ping.looked_ns) = (ping.looks + 1, now_ns)
                }
                Some(Ping { sent_ns, .. }) => {
                    let sent_ns = *sent_ns;
                    self.pings.outstanding = None;
                    self.ping_unanswered(sent_ns, last_heard_ns)?;
                }
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
