//! Asking all shards for their reports, and answering those who wait for a status.

use super::ControlThread;
use crate::socket::{Request, Response};
use crate::status::{ScratchStatus, Status, Usage, collect};
use crossbeam::channel::Sender;
use stampede_engine::messages::{FromControl, ShardReport};
use stampede_engine::stats::Counters;
use stampede_image::scratch::BLOCK;

/// How long shards have to report, in nanoseconds: status shows those that did.
const WAIT_NS: u64 = 2_000_000_000;

/// Reports that are being gathered.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Of the latest round.
    request: u64,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    deadline: u64,
    reports: Vec<ShardReport>,
    askers: Vec<(Request, Sender<Response>)>,
}

impl Reports {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.round.as_ref().map(|round| round.deadline)
    }

    pub(super) fn take(&mut self, report: ShardReport) {
        if let Some(round) = &mut self.round
            && report.request == self.request
        {
            round.reports.push(report);
        }
    }
}

impl ControlThread {
    /// Asks the shards, or joins those who wait already.
    pub(super) fn start_report(&mut self, request: Request, answer: Sender<Response>, now: u64) {
        if let Some(round) = &mut self.reports.round {
            round.askers.push((request, answer));
            return;
        }
        self.reports.request = self.reports.request.wrapping_add(1);
        let deadline = now.saturating_add(WAIT_NS);
        self.reports.round = Some(Round { deadline, reports: Vec::new(), askers: vec![(request, answer)] });
        for link in &mut self.setup.shards {
            link.send(FromControl::Report { request: self.reports.request });
        }
    }

    /// Answers once all shards have reported, or the time is up.
    pub(super) fn finish_reports(&mut self, now: u64) {
        let shards = self.setup.shards.len();
        let done = |round: &Round| round.reports.len() >= shards || round.deadline <= now;
        let Some(round) = self.reports.round.take_if(|round| done(round)) else { return };
        let status = self.status(&round.reports, now);
        for (request, answer) in round.askers {
            let response = match request {
                Request::CloneList => Response::Clones(status.clones.clone()),
                Request::GoldenList => Response::Goldens(status.goldens.clone()),
                Request::LunList => Response::Luns(status.targets.clone()),
                Request::SessionList => Response::Sessions(status.sessions.clone()),
                _ => Response::Status(Box::new(status.clone())),
            };
            // Whoever asked may have given up.
            let _ = answer.try_send(response);
        }
    }

    fn status(&self, reports: &[ShardReport], now: u64) -> Status {
        let arena = &self.setup.arena;
        let bytes = |slots: u32| u64::from(slots).saturating_mul(u64::from(arena.slot_len()));
        Status {
            pid: std::process::id(),
            draining: self.drain.is_some(),
            arena: Usage { used_bytes: bytes(arena.in_use()), limit_bytes: bytes(arena.slots()) },
            scratch: self.scratch_status(reports),
            goldens: self.golden_statuses(reports),
            alerts: self.notices.alerts(now),
            ..collect(&self.setup.facts, &self.setup.registrar, reports, now)
        }
    }

    fn scratch_status(&self, reports: &[ShardReport]) -> Option<ScratchStatus> {
        let scratch = self.setup.scratch.as_ref()?;
        let sum =
            |count: fn(&Counters) -> u64| reports.iter().map(|report| count(&report.counters)).sum::<u64>();
        Some(ScratchStatus {
            used_bytes: u64::from(scratch.used()) * BLOCK,
            limit_bytes: u64::from(scratch.blocks()) * BLOCK,
            spilled_bytes: sum(|counters| counters.slots_spilled) * BLOCK,
            read_back_bytes: sum(|counters| counters.slots_read_back) * BLOCK,
            failures: sum(|counters| counters.spill_failures),
        })
    }
}
