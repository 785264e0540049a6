//! The front of a shard: connections, from accept to close.
//!
//! ```text
//!  chunk ─► Framer ─► session::Connection ─► Output for Side ─┬─ PDUs: Outbox ─► one vectored send per turn
//!                                                              └─ Happening: command, management, login ... ─► Shard
//! ```
//!
//! A [`Conn`] holds the protocol state machine and, beside it, the [`Side`] that the machine acts on: the outbox and
//! the memory of its tasks. Parsing touches no ring; what it gives rise to is queued as [`Happening`]s, which the
//! shard handles when the chunk is back with the kernel.

mod borrow;
mod moving;
mod outbox;
mod receive;
mod side;

pub(crate) use moving::{Moving, Stage, Traveller};
pub(crate) use receive::Fed;
pub(crate) use side::{Happening, Side, Sink};

use crate::latency::Latency;
use crate::lun::SANITIZE;
use crate::messages::{LunAddress, LunMap, ShardId};
use crate::request::{Data, Outcome};
use crate::shares::Shares;
use crate::token::Key;
use outbox::Outbox;
use receive::Receiver;
use stampede_ring::{IoMemory, Pool, SocketId};
use stampede_scsi::{NexusId, Status, cdb};
use stampede_session::{
    CommandResult, Connection, ManagementId, ManagementResponse, Phase, SessionId, Settings, Task,
    TaskAttribute, TaskKey, Transfer,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a shard has for its connections while they parse and answer.
pub(crate) struct Front {
    /// Which shard it is.
    pub(crate) shard: ShardId,
    /// Buffers for write data.
    pub(crate) memory: IoMemory,
    /// Slots for write data of clones.
    pub(crate) arena: Arc<Pool>,
    /// Header buffers.
    pub(crate) headers: Arc<Pool>,
    /// Bytes of write data that one connection may hold.
    pub(crate) connection_bytes_max: u64,
    /// Bytes of data-in that one connection may have on its way.
    pub(crate) shares: Shares,
    /// What follows, for the shard.
    pub(crate) happenings: VecDeque<Happening>,
    /// Now, in monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// Bytes of write data that all connections of the shard are gathering.
    pub(crate) gathered_bytes: u64,
    /// Slots of the arena that are missing may be there soon: overlays are being spilled.
    pub(crate) spills: bool,
    /// How long reads took, from command to last byte queued for sending.
    pub(crate) read_latency: Latency,
    /// How long writes took, from command to status queued for sending.
    pub(crate) write_latency: Latency,
}

/// A task-management request in progress.
#[derive(Debug)]
struct Managing {
    id: ManagementId,
    /// Own tasks whose I/O is not over.
    tasks: Vec<TaskKey>,
    /// Task sets that are being cleared by their owners.
    clearings: u32,
    /// What will be answered.
    response: ManagementResponse,
}

/// Where a connection is in its life, as its socket sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Receiving and sending.
    Open,
    /// Sending what is queued; then it closes.
    Finishing,
    /// Waiting for operations and tasks to be over.
    Dying,
    /// Its close is under way.
    Closing,
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) socket: SocketId,
    pub(crate) peer: SocketAddr,
    pub(crate) session: Connection,
    pub(crate) side: Side,
    pub(crate) receiver: Receiver,
    pub(crate) life: Life,
    /// The multishot receive is armed.
    pub(crate) receiving: bool,
    /// The receive's cancel was pushed.
    pub(crate) cancelling: bool,
    /// When the shard's timer for it is set.
    pub(crate) timer_ns: Option<u64>,
    /// It is no session with a target; since when it is here.
    pub(crate) applies_since_ns: Option<u64>,
    /// It asked the control thread for admission and must tell it when it is over.
    pub(crate) asked: bool,
    /// It ended by a Logout.
    pub(crate) logged_out: bool,
    /// The control thread asked for its end.
    pub(crate) closed_by_control: bool,
    /// It is attached to the logical units of its map.
    pub(crate) attached: bool,
    /// Units that have not said yet that they know it: its commands wait for them.
    pub(crate) attaching: u32,
    /// It is to go to another shard.
    pub(crate) moving: Option<Box<Moving>>,
    /// It has lived on another shard, which remembers where it went.
    pub(crate) travelled: bool,
    /// A sign of life is wanted: since when, and until when.
    pub(crate) probe: Option<(u64, u64)>,
    /// Since when a send is under way, if one is.
    pub(crate) sending_since_ns: Option<u64>,
    /// It waits in the shard's list of connections to send on.
    pub(crate) dirty: bool,
    managing: Vec<Managing>,
    /// Reads that wait until the client has taken what it asked for before.
    pub(crate) waiting: VecDeque<TaskKey>,
    pub(crate) commands: u64,
    /// Commands at the last look for idle connections.
    commands_seen: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
}

impl Conn {
    /// A connection that was just accepted.
    pub(crate) fn new(
        session: SessionId,
        socket: SocketId,
        (local, peer): (SocketAddr, SocketAddr),
        settings: Arc<Settings>,
        now_ns: u64,
    ) -> Self {
        let session_id = session;
        let session = Connection::new(session, settings, local, peer, now_ns);
        Self {
            socket,
            peer,
            side: Side::new(NexusId(session_id.0)),
            session,
            receiver: Receiver::new(),
            life: Life::Open,
            receiving: false,
            cancelling: false,
            timer_ns: None,
            applies_since_ns: None,
            asked: false,
            logged_out: false,
            closed_by_control: false,
            attached: false,
            attaching: 0,
            moving: None,
            travelled: false,
            probe: None,
            sending_since_ns: None,
            dirty: false,
            managing: Vec::new(),
            waiting: VecDeque::new(),
            commands: 0,
            commands_seen: u64::MAX,
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    /// The I_T nexus of its session.
    pub(crate) fn nexus(&self) -> NexusId {
        self.side.nexus
    }

    /// Whether a command that reads nothing must not pass those that wait: it is ORDERED, or one of them is.
    #[cold]
    pub(crate) fn is_behind_waiting(&self, task: &Task) -> bool {
        let ordered = |task: &Task| task.attribute() == TaskAttribute::Ordered;
        let is_ordered = |key: &TaskKey| self.session.task(*key).is_some_and(ordered);
        ordered(task)
            || (task.attribute() != TaskAttribute::HeadOfQueue && self.waiting.iter().any(is_ordered))
    }

    /// What the session sees.
    pub(crate) fn luns(&self) -> &Arc<LunMap> {
        &self.side.luns
    }

    /// A command of the session has ended: its answer goes out, or the task is forgotten.
    pub(crate) fn answer(&mut self, key: Key, task: TaskKey, outcome: &mut Outcome, front: &mut Front) {
        let Some(slot) = self.side.slot_mut(task) else { return };
        let ran = std::mem::take(&mut slot.running);
        let (moves, started_ns, wrote) = (slot.moves, slot.started_ns, slot.wrote);
        let killed = self.session.task(task).is_none_or(|task| task.killed());
        match outcome {
            Outcome::Ended { status, sense, data } if !killed => {
                if ran {
                    let elapsed_ns = front.now_ns.saturating_sub(started_ns);
                    match data {
                        Data::Pieces(_) => front.read_latency.record(elapsed_ns),
                        Data::Inline(_) if wrote => front.write_latency.record(elapsed_ns),
                        Data::Inline(_) => {}
                    }
                }
                let transfer = transfer(moves, *status, data);
                match transfer {
                    Transfer::In { available } => self.read_bytes += available,
                    Transfer::Out { wanted } if *status == Status::Good => self.written_bytes += wanted,
                    _ => {}
                }
                self.commands += 1;
                let sense: &[u8] = sense.as_ref().map_or(&[], |sense| sense.as_slice());
                let result = CommandResult { status: status.code(), sense, transfer };
                let now_ns = front.now_ns;
                let mut sink = Sink { key, side: &mut self.side, front, reply: Some(data) };
                self.session.respond(task, &result, now_ns, &mut sink);
            }
            _ => self.session.forget(task),
        }
        self.side.free(task, &mut front.gathered_bytes);
        self.task_over(key, task, front);
    }

    /// Begins a task-management request that waits for running tasks of this session and for task sets elsewhere.
    pub(crate) fn manage(
        &mut self,
        key: Key,
        id: ManagementId,
        tasks: Vec<TaskKey>,
        clearings: u32,
        front: &mut Front,
    ) {
        self.managing.push(Managing { id, tasks, clearings, response: ManagementResponse::Complete });
        self.settle_managing(key, front);
    }

    /// A task set that a request waited for is clear.
    pub(crate) fn cleared(
        &mut self,
        key: Key,
        id: ManagementId,
        response: ManagementResponse,
        front: &mut Front,
    ) {
        if let Some(managing) = self.managing.iter_mut().find(|managing| managing.id == id) {
            managing.clearings = managing.clearings.saturating_sub(1);
            if response != ManagementResponse::Complete {
                managing.response = response;
            }
        }
        self.settle_managing(key, front);
    }

    fn task_over(&mut self, key: Key, task: TaskKey, front: &mut Front) {
        if self.managing.is_empty() {
            return;
        }
        for managing in &mut self.managing {
            managing.tasks.retain(|waiting| *waiting != task);
        }
        self.settle_managing(key, front);
    }

    fn settle_managing(&mut self, key: Key, front: &mut Front) {
        let over = |managing: &Managing| managing.tasks.is_empty() && managing.clearings == 0;
        // Nothing of a session happens after its Logout Response: a logout waits for functions that it overtook, too.
        if self.session.phase() == Phase::LoggingOut && !self.managing.iter().all(over) {
            return;
        }
        while let Some(at) = self.managing.iter().position(over) {
            let Managing { id, response, .. } = self.managing.remove(at);
            self.managed(key, id, response, front);
        }
    }

    /// Answers a task-management request.
    pub(crate) fn managed(
        &mut self,
        key: Key,
        id: ManagementId,
        response: ManagementResponse,
        front: &mut Front,
    ) {
        let now_ns = front.now_ns;
        let mut sink = Sink { key, side: &mut self.side, front, reply: None };
        self.session.managed(id, response, now_ns, &mut sink);
    }

    /// Calls a method of the session with the side as its output.
    pub(crate) fn act<T>(
        &mut self,
        key: Key,
        front: &mut Front,
        call: impl FnOnce(&mut Connection, u64, &mut Sink<'_>) -> T,
    ) -> T {
        let now_ns = front.now_ns;
        let mut sink = Sink { key, side: &mut self.side, front, reply: None };
        call(&mut self.session, now_ns, &mut sink)
    }

    /// Keys of the tasks that run on a logical unit, or on any.
    pub(crate) fn running(&self, on: Option<LunAddress>) -> Vec<TaskKey> {
        self.side
            .slots()
            .filter(|slot| slot.running && (on.is_none() || slot.unit == on))
            .filter_map(|slot| slot.task)
            .collect()
    }

    /// The unit of a command that runs there and can be given up before its work is over, or waits for its turn, and
    /// the task: a third-party copy, or SANITIZE.
    pub(crate) fn copy(&mut self, task: TaskKey) -> Option<(LunAddress, TaskKey)> {
        /// EXTENDED COPY, WRITE USING TOKEN (SPC-4 table 87).
        const THIRD_PARTY_COPY_OUT: u8 = 0x83;
        let is_copy = matches!(self.session.task(task)?.cdb()[0], THIRD_PARTY_COPY_OUT | SANITIZE);
        self.side.slot_mut(task).filter(|slot| is_copy && slot.running)?.unit.map(|unit| (unit, task))
    }

    /// Whether a task on a logical unit is alive, be it that it still gathers its data.
    pub(crate) fn has_live_task(&self, lun: u16) -> bool {
        self.side
            .slots()
            .filter_map(|slot| self.session.task(slot.task?))
            .any(|task| !task.killed() && task.lun().decode() == Some(lun))
    }

    /// Whether every operation and task is over, so that the socket may be closed.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.receiving
            && !self.is_releasing()
            && !self.side.outbox.in_flight()
            && self.side.slots().all(|slot| !slot.running)
            // A reset that came later would end tasks of the session after this one.
            && self.managing.iter().all(|managing| managing.clearings == 0)
    }

    /// Gives back memory that grew with use, if no command has ended since the last call and none runs; whether so.
    pub(crate) fn trim(&mut self) -> bool {
        let seen = std::mem::replace(&mut self.commands_seen, self.commands);
        if seen != self.commands || self.session.tasks_len() > 0 || self.is_sending() {
            return false;
        }
        self.session.shrink();
        self.side.shrink();
        self.receiver.shrink();
        self.managing.shrink_to_fit();
        self.waiting.shrink_to_fit();
        true
    }

    /// What waits to be sent.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.side.outbox
    }

    /// Whether there is something to send, or being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.side.outbox.in_flight() || self.side.outbox.is_pending()
    }
}

/// What a command moved, for its residual (RFC 7143 11.4.5).
fn transfer(moves: cdb::Transfer, status: Status, data: &Data) -> Transfer {
    match moves {
        cdb::Transfer::In(_) if data.len() == 0 && status != Status::Good => Transfer::In { available: 0 },
        cdb::Transfer::In(_) => Transfer::In { available: data.len() },
        cdb::Transfer::Out(wanted) => Transfer::Out { wanted },
        cdb::Transfer::None | cdb::Transfer::Unknown if data.len() > 0 => {
            Transfer::In { available: data.len() }
        }
        cdb::Transfer::None | cdb::Transfer::Unknown => Transfer::None,
    }
}
