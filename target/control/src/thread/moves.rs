//! Answering those who asked for sessions to be moved, once it is known what came of it.

use super::ControlThread;
use crate::registrar::{MoveOutcome, MoveStart, Outbox};
use crate::socket::Response;
use crate::status::{MoveStatus, RebalanceStatus, initiator_of};
use crossbeam::channel::Sender;
use stampede_engine::messages::ShardId;
use stampede_session::SessionId;
use std::collections::BTreeMap;

/// How long whoever asked waits for the outcome, in nanoseconds. The move itself may go on.
const WAIT_NS: u64 = 4_000_000_000;

/// Whoever waits for the outcome of a move, by session: a session moves once at a time.
#[derive(Debug, Default)]
pub(super) struct Askers(BTreeMap<SessionId, Asker>);

#[derive(Debug)]
struct Asker {
    answer: Sender<Response>,
    asked_ns: u64,
    status: MoveStatus,
}

impl Askers {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.values().map(|asker| asker.asked_ns.saturating_add(WAIT_NS)).min()
    }
}

impl ControlThread {
    /// Begins to move a session, which a number or an initiator name tells.
    pub(super) fn move_session(
        &mut self,
        name: &str,
        shard: u16,
        answer: Sender<Response>,
        now: u64,
        out: &mut Outbox,
    ) {
        let to = ShardId(shard);
        let registrar = &mut self.setup.registrar;
        let begun = registrar
            .find_session(name)
            .and_then(|session| Ok((session, registrar.move_session(session, to, out)?)));
        let (session, start) = match begun {
            Ok(begun) => begun,
            // Whoever asked may have given up.
            Err(error) => return drop(answer.try_send(Response::Error(error.to_string()))),
        };
        let from = match start {
            MoveStart::Begun { from } => from,
            MoveStart::There => to,
        };
        let initiator = initiator_of(registrar, session);
        let status = MoveStatus { session: session.0, initiator, from: from.0, to: shard, took_us: 0 };
        if start == MoveStart::There {
            return drop(answer.try_send(Response::Moved(status)));
        }
        self.askers.0.insert(session, Asker { answer, asked_ns: now, status });
    }

    pub(super) fn rebalance(&mut self, out: &mut Outbox) -> Response {
        match self.setup.registrar.rebalance(out) {
            Ok(plan) => Response::Rebalancing(RebalanceStatus {
                before: plan.before,
                after: plan.after,
                bound: plan.bound,
                sessions: plan.moves.iter().map(|(session, _, _)| session.0).collect(),
            }),
            Err(error) => Response::Error(error.to_string()),
        }
    }

    /// Tells what came of moves.
    pub(super) fn answer_moves(&mut self, outcomes: Vec<MoveOutcome>, now: u64) {
        for MoveOutcome { session, result, .. } in outcomes {
            let Some(Asker { answer, asked_ns, mut status }) = self.askers.0.remove(&session) else {
                continue;
            };
            let response = match result {
                Ok(()) => {
                    status.took_us = now.saturating_sub(asked_ns) / 1000;
                    Response::Moved(status)
                }
                Err(why) => Response::Error(format!("session {session} was not moved: {why}")),
            };
            let _ = answer.try_send(response);
        }
    }

    /// Tells those who have waited long enough.
    pub(super) fn give_up_moves(&mut self, now: u64) {
        let late = self.askers.0.extract_if(.., |_, asker| asker.asked_ns.saturating_add(WAIT_NS) <= now);
        for (session, asker) in late {
            let text = format!(
                "session {session} is still on its way to shard {} after {} s: `stampede session list` shows where it is",
                asker.status.to,
                WAIT_NS / 1_000_000_000
            );
            let _ = asker.answer.try_send(Response::Error(text));
        }
    }
}
