//! What the front of a shard (connections) and the back (logical units) say to each other. The same values pass
//! between shards when a logical unit is owned elsewhere.

use crate::cache::Waiter;
use crate::connection::Traveller;
use crate::messages::{FromControl, LunId, LunMap, ShardId};
use crate::payload::Payload;
use crate::token::Key;
use stampede_image::cache::BlockKey;
use stampede_scsi::sense::SenseBytes;
use stampede_scsi::{NexusId, Reply, Status, TransportId};
use stampede_session::{ManagementId, ManagementResponse, SessionId, TaskAttribute, TaskKey};
use std::sync::Arc;

/// Whose task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Shard of the session.
    pub(crate) shard: ShardId,
    /// Its connection there.
    pub(crate) connection: Key,
    /// The task of that connection.
    pub(crate) task: TaskKey,
}

impl Origin {
    /// Set in the index of a connection that is none: a copy's key is there. No table has so many slots.
    const COPY: u32 = 1 << 31;

    /// A copy of a shard.
    pub(crate) fn of_copy(shard: ShardId, copy: Key) -> Self {
        let connection = Key { index: copy.index | Self::COPY, generation: copy.generation };
        Self { shard, connection, task: TaskKey { index: 0, generation: 0 } }
    }

    /// Whether it is a session's task, and the session of this shard.
    pub(crate) fn is_session_of(&self, shard: ShardId) -> bool {
        self.shard == shard && self.as_copy().is_none()
    }

    /// The copy that it is, if it is one.
    pub(crate) fn as_copy(&self) -> Option<Key> {
        let Key { index, generation } = self.connection;
        (index & Self::COPY != 0).then_some(Key { index: index & !Self::COPY, generation })
    }
}

/// A SCSI command with all its data.
#[derive(Debug)]
pub(crate) struct Request {
    /// Whom to answer.
    pub(crate) origin: Origin,
    /// Which I_T nexus sent it.
    pub(crate) nexus: NexusId,
    /// For which logical unit.
    pub(crate) lun: LunId,
    /// The CDB, filled up with zeros.
    pub(crate) cdb: [u8; 16],
    /// Of ORWRITE(32): its generations, which the CDB's short form has no room for.
    pub(crate) generations: u64,
    /// Its place in the task set.
    pub(crate) attribute: TaskAttribute,
    /// PRI of its command (RFC 7144 5.1): 1 is the most urgent, 15 the least; 0 says nothing.
    pub(crate) priority: u8,
    /// Bytes of data-out that the initiator meant to give: its Expected Data Transfer Length.
    pub(crate) expected_out: u32,
    /// Data-out, as far as it was wanted.
    pub(crate) data: Payload,
    /// It lies in receive buffers, for this turn: what waits must keep it by [`Request::keep`].
    pub(crate) borrowed: bool,
}

/// Data-in.
#[derive(Debug)]
pub(crate) enum Data {
    /// Made up by the device server.
    Inline(Vec<u8>),
    /// Read from the medium.
    Pieces(Payload),
}

impl Data {
    /// Bytes.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Pieces(payload) => payload.len(),
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With a status that the initiator shall see.
    Ended {
        /// Status byte.
        status: Status,
        /// Encoded sense data: with CHECK CONDITION only. Boxed, since a command mostly has none.
        sense: Option<Box<SenseBytes>>,
        /// Data-in.
        data: Data,
    },
    /// It was aborted and all its I/O is over: no status is sent.
    Aborted,
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Ended {
            status: reply.status,
            sense: reply.sense.map(|sense| Box::new(sense.encode())),
            data: Data::Inline(reply.data),
        }
    }
}

/// A command's end, on its way back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Of which task.
    pub(crate) origin: Origin,
    /// Of which logical unit.
    pub(crate) lun: LunId,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// What a task-management function does to a logical unit's task set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clearing {
    /// All tasks of all nexuses end; the unit is reset (SAM-5 7.7).
    Reset,
    /// The same for a reset of the whole target.
    TargetReset,
    /// The same for one that counts as a power on.
    PowerOn,
    /// All tasks of all nexuses end (SAM-5 7.5).
    ClearTaskSet,
    /// The nexus that asks has lost its connection, so to speak (SAM-5 6.3.4); its session has ended its tasks.
    NexusLoss,
    /// Nothing: the nexus wants to know which unit attention is pending for it (SAM-5 7.10).
    QueryEvent,
}

impl Clearing {
    /// Whether it ends tasks.
    pub(crate) fn ends_tasks(self) -> bool {
        !matches!(self, Self::NexusLoss | Self::QueryEvent)
    }
}

/// Who waits for a clearing: a task-management request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    /// Shard of the session.
    pub(crate) shard: ShardId,
    /// Its connection there.
    pub(crate) connection: Key,
    /// The request.
    pub(crate) id: ManagementId,
}

/// Sessions shall kill their tasks of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// The unit.
    pub(crate) lun: LunId,
    /// Its owner, who wants to know when it is done.
    pub(crate) owner: ShardId,
    /// Which of its kills.
    pub(crate) number: u32,
    /// Who asked, whose tasks are not meant.
    pub(crate) nexus: NexusId,
    /// Whose tasks are meant; `None` for those of all others.
    pub(crate) only: Option<Arc<[NexusId]>>,
    /// Whoever loses tasks hears 2Fh/00h.
    pub(crate) tells: bool,
}

/// From one shard to another.
#[derive(Debug)]
pub(crate) enum Message {
    /// A nexus begins to use a logical unit.
    Attach {
        /// Which unit.
        lun: LunId,
        /// Which nexus.
        nexus: NexusId,
        /// Who that is, for reservations.
        transport: TransportId,
        /// Shard of its session.
        shard: ShardId,
        /// Its connection there.
        connection: Key,
        /// What it sees.
        luns: Arc<LunMap>,
        /// Its session has the functions of RFC 7144.
        queries: bool,
    },
    /// The unit knows the nexus now.
    Attached {
        /// The connection that attached.
        connection: Key,
        /// To which unit.
        lun: LunId,
        /// Who owns the unit: it may have gone elsewhere since the session was admitted.
        owner: ShardId,
    },
    /// A nexus is over.
    Detach {
        /// Which unit.
        lun: LunId,
        /// Which nexus.
        nexus: NexusId,
    },
    /// What a nexus of a logical unit sees beside it has changed.
    LunsChanged {
        /// Which unit.
        lun: LunId,
        /// Which nexus.
        nexus: NexusId,
        /// What it sees now.
        luns: Arc<LunMap>,
    },
    /// A nexus was sent the list of its logical units.
    LunsReported {
        /// Which unit of them this is about.
        lun: LunId,
        /// Which nexus.
        nexus: NexusId,
    },
    /// Execute this.
    Command(Request),
    /// Execute this for a third-party copy.
    CopyCommand(Request),
    /// A session gives up a third-party copy, or the wait for a sanitize operation.
    StopCopy {
        /// On which unit.
        lun: LunId,
        /// Whose task it is.
        origin: Origin,
    },
    /// It was executed.
    Answer(Answer),
    /// Clear a task set.
    Clear {
        /// Who waits.
        manager: Manager,
        /// Which unit.
        lun: LunId,
        /// Who asked.
        nexus: NexusId,
        /// What to do.
        clearing: Clearing,
    },
    /// Sessions kill tasks of a unit that have not come to its owner yet.
    Kill(Kill),
    /// The shard has done so. What it sent before is not to be executed.
    Killed {
        /// What was asked.
        kill: Kill,
        /// By which shard.
        shard: ShardId,
        /// Sessions that lost tasks by it.
        victims: Vec<NexusId>,
    },
    /// A job wants a block of a golden whose home is the receiving shard.
    Fetch {
        /// Which block.
        block: BlockKey,
        /// Who waits.
        waiter: Waiter,
    },
    /// A job's block can be looked up, or, if not `found`, is not to be had.
    Fetched {
        /// The job, of the receiving shard.
        job: Key,
        /// Which of the two.
        found: bool,
    },
    /// Commands wait for buffers on the sending shard: whoever holds some for nothing is to go.
    Relieve,
    /// The arena is short: overlays of this shard are to be spilled. Its next turn looks anyway.
    Spill,
    /// The task set is clear.
    Cleared {
        /// Who waited.
        manager: Manager,
        /// What is to be answered, unless another unit says otherwise.
        response: ManagementResponse,
    },
    /// A session comes to live here.
    Arrive(Box<Traveller>),
    /// A message of the control thread about a session or a clone that went to this shard.
    Forwarded(Box<FromControl>),
    /// A session that moved is over: nothing about it need be passed on any more.
    SessionOver(SessionId),
    /// A clone that moved was dropped.
    CloneOver(LunId),
    /// The shard is stopping and sends no session away any more.
    Settled(ShardId),
    /// The shard is stopping and has no session left: it sends no command any more.
    Quiet(ShardId),
}
