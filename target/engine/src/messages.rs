//! What shards and the control thread tell each other.
//!
//! The control thread decides who may log in and which clone a login gets; shards own sessions and LUNs. Both
//! directions are bounded queues that never block a shard: what does not fit stays with its sender.

use stampede_image::align::Alignment;
use stampede_image::cache::Ahead;
use stampede_image::cipher::Cipher;
use stampede_image::ledger::{Beneath, CloneNumber, Ledger};
use stampede_image::overlay::Place;
use stampede_image::recording::Route;
use stampede_ring::{Buffer, LooseFile};
use stampede_scsi::{AccessState, DeviceConfig, SavedState, Space};
use stampede_session::{Admission, Announcement, LoginRequest, SessionId};
use std::net::SocketAddr;
use std::sync::Arc;

/// A shard's number: 0 for the first core of `--cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A logical unit of this run: a plain LUN, or one clone. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LunId(pub u32);

/// A golden image of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoldenId(pub u32);

/// Where a logical unit is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LunAddress {
    /// Which logical unit.
    pub lun: LunId,
    /// The one shard that executes its commands.
    pub owner: ShardId,
    /// Logical block length in bytes.
    pub block_size: u32,
    /// It is a clone: write data is best gathered in slots of the arena, which its overlay then adopts.
    pub is_clone: bool,
    /// What is written to it goes into a file in memory: the data may stay where it was received until then.
    pub in_memory: bool,
}

/// The logical units that a session sees: LUN number to address, ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LunMap(pub Vec<(u16, LunAddress)>);

impl LunMap {
    /// The logical unit behind a LUN number.
    pub fn find(&self, number: u16) -> Option<LunAddress> {
        self.0.iter().find(|(n, _)| *n == number).map(|(_, address)| *address)
    }
}

/// From a shard to the control thread.
#[derive(Debug)]
pub enum ToControl {
    /// A normal session wants in: answer with [`FromControl::Admit`]. Until then the login response is held.
    Login {
        /// The accepting shard.
        shard: ShardId,
        /// What the initiator said.
        request: LoginRequest,
    },
    /// A session that was asked about with [`ToControl::Login`] is over, and so is all of its I/O.
    SessionEnded {
        /// Where it lived.
        shard: ShardId,
        /// Which.
        session: SessionId,
        /// How it ended.
        end: SessionEnd,
    },
    /// The answer to [`FromControl::Probe`].
    Probed {
        /// Which session was probed.
        session: SessionId,
        /// Whether it answered the ping, or sent anything at all, since the probe was asked for.
        alive: bool,
        /// When anything was last received from it (monotonic nanoseconds); 0 if it is gone.
        last_heard_ns: u64,
    },
    /// A session lives on another shard now, as [`FromControl::Move`] asked. Sent by the new shard, once it owns the
    /// session; what concerns the session goes there from now on.
    Moved {
        /// Which.
        session: SessionId,
        /// Where it lived.
        from: ShardId,
        /// Where it lives now.
        to: ShardId,
        /// Clones that this session alone used, and whose owner is the new shard now.
        luns: Vec<LunId>,
    },
    /// A session stays where it is, though [`FromControl::Move`] asked otherwise.
    MoveFailed {
        /// Which.
        session: SessionId,
        /// Where it lives; for [`MoveRefusal::Unknown`] the shard that was asked.
        shard: ShardId,
        /// Why.
        why: MoveRefusal,
    },
    /// An initiator has reset its whole target by TARGET COLD RESET: every other session that has a unit with this one in
    /// common is to be dropped (RFC 7143 11.5.1). This one ends by itself.
    TargetReset {
        /// Who did.
        session: SessionId,
    },
    /// The answer to [`FromControl::DropClone`]: its memory is free.
    CloneDropped {
        /// Which.
        lun: LunId,
    },
    /// A logical unit's lasting state has changed: make it durable and answer with [`FromControl::Saved`]. Its
    /// initiator is told nothing before.
    Save {
        /// Who owns the unit.
        shard: ShardId,
        /// Which unit.
        lun: LunId,
        /// Comes back with the answer.
        number: u64,
        /// What replaces its stored state ([`SavedState`](stampede_scsi::SavedState)); nothing for none.
        state: Vec<u8>,
    },
    /// A logical unit's key is to be destroyed, and another one to take its place: answer with [`FromControl::Rekeyed`].
    Rekey {
        /// Who owns the unit.
        shard: ShardId,
        /// Which unit.
        lun: LunId,
    },
    /// The answer to [`FromControl::Change`].
    Changed {
        /// Comes back from the request.
        request: u64,
        /// Which unit.
        lun: LunId,
        /// Whether it is done.
        result: Result<(), ChangeRefusal>,
    },
    /// What a clone that is recorded has used since the last such message.
    Recorded {
        /// Which clone.
        lun: LunId,
        /// Blocks of its golden in the order of their first use, and when that was, in monotonic nanoseconds.
        uses: Vec<(u32, u64)>,
    },
    /// What [`UnitChange::Remove`] took away has no command running any more, and its files are closed.
    Closed {
        /// Which unit.
        lun: LunId,
    },
    /// The answer to [`FromControl::Report`].
    Report(Box<ShardReport>),
    /// The answer to [`FromControl::Drain`]: all sessions have ended and all files are flushed.
    Drained {
        /// Who.
        shard: ShardId,
    },
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// By a Logout that closed the session.
    Logout,
    /// The connection was lost or dropped.
    Dropped,
    /// The control thread asked for it with [`FromControl::CloseSession`].
    Closed,
}

/// What the operator does to a logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitChange {
    /// Its capacity is so many logical blocks from now on; every nexus gets 2Ah/09h of a change.
    Resize {
        /// At least 1.
        blocks: u64,
    },
    /// Its medium is taken out.
    Eject {
        /// Even if an initiator prevents it.
        force: bool,
    },
    /// Its medium is put in; every nexus gets 28h/00h unless it was there.
    Load,
    /// Its asymmetric access state; every nexus gets 2Ah/06h of a change.
    Access(AccessState),
    /// It is taken away: who addresses it is told that there is no such unit. Commands that had come to it before run to
    /// their end; [`ToControl::Closed`] follows then.
    Remove {
        /// Even if it is reserved, or an initiator prevents the removal of its medium.
        force: bool,
    },
}

/// Why a logical unit was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// The shard has no such unit.
    Unknown,
    /// The medium is not one that can be taken out.
    NotRemovable,
    /// An initiator prevents the removal of the medium.
    Prevented,
    /// The unit reports no asymmetric access.
    NoAlua,
    /// An initiator has reserved it, or prevents the removal of its medium.
    Reserved,
    /// A sanitize operation is under way on it.
    Sanitizing,
    /// Its task set is being cleared.
    Clearing,
    /// The shard's table of files is full.
    NoRoom,
    /// Another change of it is on its way to the store.
    Saving,
    /// It could not be made durable, and is not in effect.
    NotSaved,
}

impl std::fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its shard does not know it",
            Self::NotRemovable => "its medium is not removable: give its --target the option removable",
            Self::Prevented => {
                "an initiator prevents the removal of the medium; unmount it there, or use --force"
            }
            Self::NoAlua => "it reports no asymmetric access: give its --target alua=implicit or explicit",
            Self::Reserved => {
                "an initiator has it reserved, or prevents the removal of its medium; let it go there, or use --force"
            }
            Self::Sanitizing => "it is being sanitized; wait for the end",
            Self::Clearing => "its task set is being cleared; try again",
            Self::NoRoom => "its shard has as many files open as it may; restart with the LUN in the configuration",
            Self::Saving => "another change of its state is being saved; try again",
            Self::NotSaved => {
                "its state cannot be saved, so it is what it was; look at the disk of --state-dir"
            }
        })
    }
}

/// Why a session was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveRefusal {
    /// The shard has no such session.
    Unknown,
    /// The session is logging out, or its connection is ending.
    Ending,
    /// An earlier move of it is still under way.
    Underway,
    /// The session lives there already, or there is no such shard.
    NoSuchShard,
    /// Its tasks or sends did not come to an end in time.
    Busy,
    /// The other shard has no room for it.
    NoRoom,
}

impl std::fmt::Display for MoveRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the session is gone",
            Self::Ending => "the session is ending",
            Self::Underway => "an earlier move of it is still under way",
            Self::NoSuchShard => "it lives on that shard already, or there is no such shard",
            Self::Busy => "its commands did not come to an end in time; try again when it is less busy",
            Self::NoRoom => "the other shard has no room for another session",
        })
    }
}

/// A clone whose overlay outlives the process.
#[derive(Debug)]
pub struct KeptClone {
    /// Where it is recorded.
    pub ledger: Arc<Ledger>,
    /// Its number there.
    pub number: CloneNumber,
    /// What the run before left: slots of the disk, each once, where they are, and which of their sectors are live.
    pub slots: Vec<(u64, Place<Buffer>, u8)>,
    /// What is where the overlay has nothing.
    pub beneath: Beneath,
    /// The slot of the pattern, if that is a pattern.
    pub pattern: Option<Buffer>,
}

impl KeptClone {
    /// One that has nothing yet.
    #[must_use]
    pub fn empty(ledger: Arc<Ledger>, number: CloneNumber) -> Self {
        Self { ledger, number, slots: Vec::new(), beneath: Beneath::Golden, pattern: None }
    }
}

/// From the control thread to a shard.
#[derive(Debug)]
pub enum FromControl {
    /// The decision on a login.
    Admit {
        /// The session that asked.
        session: SessionId,
        /// Allow, refuse or redirect.
        admission: Admission,
        /// What it sees if allowed.
        luns: Arc<LunMap>,
    },
    /// End a session (reinstatement, superseded firmware session, clone reset): drop its connection, wait for
    /// its I/O, and report [`ToControl::SessionEnded`].
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// Tell an initiator something (RFC 7143 11.9). Ignored while its session is not in the full-feature phase.
    Announce {
        /// Whose.
        session: SessionId,
        /// What. A session that is dropped ends as [`SessionEnd::Dropped`].
        what: Announcement,
    },
    /// Hand a session over to another shard: a login that waits for its admission at once, a session in the full
    /// feature phase once its window is closed and its tasks and sends have ended. [`ToControl::Moved`] or
    /// [`ToControl::MoveFailed`] follows. Messages about the session that arrive meanwhile are passed on.
    Move {
        /// Which.
        session: SessionId,
        /// Where to.
        to: ShardId,
    },
    /// Ask a session for a sign of life and report [`ToControl::Probed`] once it gave one or at the deadline.
    Probe {
        /// Which.
        session: SessionId,
        /// When to give up, in monotonic nanoseconds.
        deadline_ns: u64,
    },
    /// Make a clone on a golden, with an empty overlay or with what the run before left of it.
    CreateClone {
        /// Its name from now on.
        lun: LunId,
        /// The golden beneath.
        golden: GoldenId,
        /// Its identity and geometry.
        device: Box<DeviceConfig>,
        /// Where its overlay is recorded, if it is to outlive the process.
        kept: Option<Box<KeptClone>>,
    },
    /// Note which blocks of its golden a clone uses first, and send them as [`ToControl::Recorded`]. Ignored for a clone
    /// whose golden is not cached.
    Record {
        /// Which clone.
        lun: LunId,
    },
    /// Note nothing more; what was noted is sent.
    StopRecording {
        /// Which clone.
        lun: LunId,
    },
    /// Read those of these blocks into the cache that have their home on this shard. Ignored while that is being done, but
    /// for a run that is to wait for nobody in place of one that does.
    Warm {
        /// Of which golden.
        golden: GoldenId,
        /// Which blocks, in which order.
        route: Route,
        /// Whether to stay near what clients use, and to end when they use something else.
        paced: bool,
    },
    /// Read nothing more of it ahead.
    StopWarming {
        /// Which golden.
        golden: GoldenId,
    },
    /// Throw a clone away. Its sessions have ended.
    DropClone {
        /// Which.
        lun: LunId,
    },
    /// The answer to [`ToControl::Save`].
    Saved {
        /// Which unit.
        lun: LunId,
        /// Of the question.
        number: u64,
        /// Whether the state is durable now; if not, the stored state is what it was.
        durable: bool,
    },
    /// The answer to [`ToControl::Rekey`].
    Rekeyed {
        /// Which unit.
        lun: LunId,
        /// What its blocks are encrypted with from now on; `None` if that is what it was.
        cipher: Option<Arc<Cipher>>,
        /// Whether the old key is destroyed.
        destroyed: bool,
    },
    /// The operator changes a plain logical unit: do it and answer with [`ToControl::Changed`].
    Change {
        /// Comes back in the answer.
        request: u64,
        /// Which unit.
        lun: LunId,
        /// How.
        what: UnitChange,
    },
    /// Own another plain logical unit, and answer with [`ToControl::Changed`].
    AddDisk {
        /// Comes back in the answer.
        request: u64,
        /// The unit.
        disk: Box<NewDisk>,
    },
    /// A session sees other logical units from now on. Its initiator hears of it by 3Fh/0Eh of those that it keeps.
    SetLuns {
        /// Which session, admitted before.
        session: SessionId,
        /// What it sees.
        luns: Arc<LunMap>,
    },
    /// The storage behind thin units has changed: their initiators hear of thresholds that this crosses. What clones have
    /// the shard knows itself, and looks at then.
    Space {
        /// Plain units of the shard.
        units: Vec<(LunId, Space)>,
    },
    /// Send a [`ToControl::Report`].
    Report {
        /// Comes back in the report.
        request: u64,
    },
    /// Stop accepting, ask all initiators to log out, close what is left after the deadline, flush, and report
    /// [`ToControl::Drained`].
    Drain {
        /// When sessions are closed by force, in monotonic nanoseconds.
        deadline_ns: u64,
    },
    /// Leave the loop. Sent after [`ToControl::Drained`].
    Stop,
}

/// A plain logical unit on its way to its owner; as [`DiskSetup`](crate::setup::DiskSetup), with files that no ring has.
#[derive(Debug)]
pub struct NewDisk {
    /// Its name.
    pub lun: LunId,
    /// Its image, and what direct I/O on it needs.
    pub file: (LooseFile, Alignment),
    /// The image is in memory.
    pub in_memory: bool,
    /// Where its atomic writes are announced, if anywhere.
    pub journal: Option<(LooseFile, Alignment)>,
    /// Identity and geometry.
    pub device: DeviceConfig,
    /// What it had saved when there was such a unit before.
    pub saved: SavedState,
}

/// A shard's counters, at one moment.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Of the request.
    pub request: u64,
    /// Who.
    pub shard: ShardId,
    /// Counters since start.
    pub counters: crate::stats::Counters,
    /// Latency of reads, in nanoseconds, from command to last byte queued for sending.
    pub read_latency_ns: hdrhistogram::Histogram<u64>,
    /// Latency of writes, in nanoseconds, from command to status queued for sending.
    pub write_latency_ns: hdrhistogram::Histogram<u64>,
    /// Live sessions here.
    pub sessions: Vec<SessionReport>,
    /// Logical units owned here.
    pub luns: Vec<LunReport>,
    /// I/O buffers: bytes in use and in all.
    pub buffers_bytes: (u64, u64),
    /// Blocks of goldens whose home is here: bytes in memory and room for them.
    pub cache_bytes: (u64, u64),
    /// The goldens that are cached.
    pub goldens: Vec<GoldenReport>,
}

/// What a shard has of one golden.
#[derive(Clone, Debug)]
pub struct GoldenReport {
    /// Which.
    pub golden: GoldenId,
    /// Blocks that have their home here and are in memory.
    pub resident: u64,
    /// Those that were read ahead.
    pub ahead: Ahead,
    /// What is being read ahead, or was last.
    pub warming: Option<WarmReport>,
}

/// How far reading ahead is.
#[derive(Clone, Copy, Debug)]
pub struct WarmReport {
    /// How it goes, or ended.
    pub state: WarmState,
    /// Blocks to read or to find.
    pub blocks: u64,
    /// Those of them that were read, or were there.
    pub done: u64,
    /// Blocks that could not be read.
    pub failed: u64,
}

/// One live session.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// Which.
    pub session: SessionId,
    /// Initiator name; empty before login.
    pub initiator: String,
    /// The CHAP name that it proved; empty without one.
    pub user: String,
    /// Target name; empty for discovery.
    pub target: String,
    /// The peer.
    pub peer: SocketAddr,
    /// Commands completed.
    pub commands: u64,
    /// Bytes read by the initiator.
    pub read_bytes: u64,
    /// Bytes written by the initiator.
    pub written_bytes: u64,
    /// Commands now in progress.
    pub tasks: u32,
}

/// One logical unit.
#[derive(Clone, Debug)]
pub struct LunReport {
    /// Which.
    pub lun: LunId,
    /// Its capacity in logical blocks.
    pub blocks: u64,
    /// Whether its medium is in.
    pub loaded: bool,
    /// Its asymmetric access state.
    pub access: AccessState,
    /// Reads completed.
    pub reads: u64,
    /// Writes completed (also zeroing and unmapping).
    pub writes: u64,
    /// Bytes read by initiators.
    pub read_bytes: u64,
    /// Bytes written by initiators.
    pub written_bytes: u64,
    /// For a clone: memory its overlay holds, in bytes.
    pub overlay_bytes: u64,
    /// For a clone: what of its overlay is in scratch space, in bytes.
    pub spilled_bytes: u64,
    /// Commands that ended in CHECK CONDITION for a medium error or for lack of space.
    pub failed: u64,
}

/// How a run goes, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmState {
    /// It reads.
    Reading,
    /// Its clients are to use what was read first.
    Waiting,
    /// Everything is in memory.
    Done,
    /// The cache has no room for more.
    Full,
    /// Clients read other blocks than were recorded.
    Diverged,
    /// Nobody used what was read.
    Unused,
    /// Too many reads failed.
    Failed,
    /// It was told to end.
    Stopped,
}

impl WarmState {
    /// Whether the run goes on.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Reading | Self::Waiting)
    }
}
