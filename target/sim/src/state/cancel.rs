//! Cancelling, with both outcomes of its race.

use super::{Pending, RingKey, State, Work};
use crate::disk::Stage;
use crate::fault::FaultKind;
use crate::network::SendStage;
use stampede_ring::{Errno, Event, Received, Token};

impl State {
    /// Tries to end the operation with the token `target`, and finishes the cancel itself.
    pub(crate) fn cancel(&mut self, ring: RingKey, token: Token, target: Token) {
        let is_target = |pending: &Pending| pending.ring == ring && pending.token == target;
        let Some(key) = self.operations.iter().find(|(_, pending)| is_target(pending)).map(|(key, _)| *key)
        else {
            self.faults.hit(FaultKind::CancelLost);
            return self.finish(ring, token, Err(Errno(libc::ENOENT)));
        };
        if !self.is_cancellable(key) {
            if let Some(Work::Send { hasty, .. }) =
                self.operations.get_mut(&key).map(|pending| &mut pending.work)
            {
                *hasty = true;
            }
            self.faults.hit(FaultKind::CancelLost);
            let result = if self.rng.bool() { Ok(()) } else { Err(Errno(libc::ENOENT)) };
            return self.finish(ring, token, result);
        }
        self.faults.hit(FaultKind::CancelWon);
        let first = self.rng.bool();
        if first {
            self.finish(ring, token, Ok(()));
        }
        self.end_cancelled(key);
        if !first {
            self.finish(ring, token, Ok(()));
        }
    }

    /// Whether the cancel is in time; draws where both is possible.
    fn is_cancellable(&mut self, key: u64) -> bool {
        let coin = self.rng.bool();
        match self.operations.get(&key).map(|pending| &pending.work) {
            Some(Work::Accept { .. } | Work::Receive { .. }) => true,
            Some(Work::Send { stage: SendStage::Blocked, .. }) => true,
            Some(Work::Send { .. }) => coin,
            Some(Work::Disk(request)) => {
                coin && matches!(request.stage, Stage::Submitted) && request.landed.is_empty()
            }
            None => false,
        }
    }

    fn end_cancelled(&mut self, key: u64) {
        // Data that had already arrived may be delivered before the cancel takes effect.
        if let Some(Work::Receive { connection }) = self.operations.get(&key).map(|pending| &pending.work) {
            let connection = *connection;
            if self.rng.bool() {
                self.pump(connection);
            }
        }
        let Some(Pending { ring, token, work }) = self.operations.remove(&key) else { return };
        let cancelled = Errno(libc::ECANCELED);
        let event = match work {
            Work::Accept { listener } => {
                self.network.listeners[listener].accept = None;
                Event::Accepted { result: Err(cancelled), more: false }
            }
            Work::Receive { connection } => {
                self.network.connections[connection].receive = None;
                Event::Received { received: Received::Cancelled, more: false }
            }
            Work::Send { connection, list, .. } => {
                self.network.connections[connection].sends.retain(|send| *send != key);
                Event::Sent { result: Err(cancelled), list }
            }
            Work::Disk(request) => {
                self.disks[request.disk.0 as usize].in_flight.remove(&key);
                request.into_event(Err(cancelled))
            }
        };
        self.post(ring, token, event);
    }
}
