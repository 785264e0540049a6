//! Notices on their way to the log, and the alerts that status shows.

use crate::logging::{Allowance, RateLimit};
use crate::registrar::Notice;
use crate::status::AlertStatus;
use std::collections::VecDeque;

/// Alerts kept for status.
const ALERTS_MAX: usize = 32;
/// Lines that one initiator's alerts may cause in [`WINDOW_NS`]. Lines that name a peer are limited where all lines pass.
const BURST: u32 = 5;
/// Nanoseconds.
const WINDOW_NS: u64 = 10_000_000_000;

#[derive(Debug)]
pub(super) struct Notices {
    initiators: RateLimit<String>,
    alerts: VecDeque<Alert>,
}

#[derive(Debug)]
struct Alert {
    last_ns: u64,
    count: u64,
    notice: Notice,
}

impl Default for Notices {
    fn default() -> Self {
        Self { initiators: RateLimit::new(BURST, WINDOW_NS), alerts: VecDeque::new() }
    }
}

impl Notices {
    /// Writes a notice to the log; an alert also to the list for status, where repetitions are counted.
    pub(super) fn log(&mut self, notice: Notice, now: u64) {
        if !notice.alert {
            return write(&notice, 0);
        }
        if let Allowance::Write { left_out } = self.initiators.check(notice.initiator.clone(), now) {
            write(&notice, left_out);
        }
        self.remember(notice, now);
    }

    fn remember(&mut self, notice: Notice, now: u64) {
        let same = |alert: &Alert| {
            let other = &alert.notice;
            (other.event, &other.target, &other.initiator)
                == (notice.event, &notice.target, &notice.initiator)
        };
        let before = self.alerts.iter().position(same).and_then(|at| self.alerts.remove(at));
        let count = before.map_or(1, |alert| alert.count.saturating_add(1));
        if self.alerts.len() >= ALERTS_MAX {
            self.alerts.pop_front();
        }
        self.alerts.push_back(Alert { last_ns: now, count, notice });
    }

    pub(super) fn alerts(&self, now: u64) -> Vec<AlertStatus> {
        let status = |alert: &Alert| AlertStatus {
            age_s: now.saturating_sub(alert.last_ns) / 1_000_000_000,
            count: alert.count,
            event: alert.notice.event.to_owned(),
            target: alert.notice.target.clone(),
            initiator: alert.notice.initiator.clone(),
            text: alert.notice.text.clone(),
        };
        self.alerts.iter().map(status).collect()
    }
}

fn write(notice: &Notice, left_out: u64) {
    let Notice { event, target, initiator, text, .. } = notice;
    let peer = notice.peer.map(tracing::field::display);
    let left_out = (left_out > 0).then_some(left_out);
    if notice.alert {
        tracing::warn!(event, target, initiator, peer, left_out, "{text}");
    } else {
        tracing::info!(event, target, initiator, peer, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(initiator: &str) -> Notice {
        Notice {
            alert: true,
            event: "e",
            target: "t".to_owned(),
            initiator: initiator.to_owned(),
            peer: None,
            text: "x".to_owned(),
        }
    }

    #[test]
    fn repeated_alerts_are_counted_and_few_are_kept() {
        let mut notices = Notices::default();
        for at in 0..3 {
            notices.log(notice("i"), at);
        }
        let alerts = notices.alerts(2_000_000_000);
        assert_eq!((alerts.len(), alerts[0].count, alerts[0].age_s), (1, 3, 1));
        for n in 0..100 {
            notices.log(notice(&n.to_string()), 3);
        }
        assert_eq!(notices.alerts(3).len(), ALERTS_MAX);
        assert_eq!(notices.alerts(3).last().unwrap().initiator, "99");
    }
}
