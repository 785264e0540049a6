//! The side of a connection that its protocol state machine acts on: the outbox, and the memory of its tasks.

use super::Front;
use super::outbox::{Outbox, Overload, PduData};
use crate::few::Few;
use crate::lun::kept_free;
use crate::messages::{LunAddress, LunId, LunMap, ShardId};
use crate::payload::{Payload, Piece};
use crate::request::{Data, Origin, Request};
use crate::shares::Shares;
use crate::token::Key;
use stampede_scsi::{NexusId, cdb};
use stampede_session::{
    Close, LoginRequest, ManagementRequest, OutData, Output, SessionInfo, SessionKind, Task, TaskKey,
};
use stampede_wire::Bhs;
use std::sync::Arc;

/// Something that a connection gives rise to, for the shard to handle.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A command has all its data.
    Command(Key, TaskKey),
    /// Task management, or a drain before logout.
    Manage(Key, ManagementRequest),
    /// A login wants a decision.
    Login(Key, Box<LoginRequest>),
    /// A normal session is in full-feature phase.
    FullFeature(Key),
    /// Close after sending.
    Finish(Key, Close),
    /// The connection cannot go on.
    Overload(Key, Overload),
}

/// The memory of one task.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Which task has it; `None` when none does.
    pub(crate) task: Option<TaskKey>,
    /// Data-out, while it is gathered.
    pub(crate) data: Payload,
    /// Bytes of I/O buffers in `data`, while it is gathered.
    pub(super) gathered_bytes: u64,
    /// Its data stays in the receive buffer that it comes in, and takes no memory.
    pub(super) borrows: bool,
    /// The unit that its command is for, if there is one.
    pub(crate) unit: Option<LunAddress>,
    /// It runs there, or waits until it may.
    pub(crate) running: bool,
    /// What its CDB says it moves.
    pub(crate) moves: cdb::Transfer,
    /// When it began to run, in monotonic nanoseconds.
    pub(crate) started_ns: u64,
    /// There was no memory for its data: it is answered TASK SET FULL.
    pub(crate) refused: bool,
    /// Bytes of data-in that it will bring, while it runs.
    reading_bytes: u64,
    /// It came with data-out.
    pub(crate) wrote: bool,
}

impl Slot {
    const VACANT: Self = Self {
        task: None,
        data: Payload::NONE,
        gathered_bytes: 0,
        borrows: false,
        unit: None,
        running: false,
        moves: cdb::Transfer::Unknown,
        started_ns: 0,
        refused: false,
        reading_bytes: 0,
        wrote: false,
    };

    /// Write data has come, for bytes `offset..` of the command's. In a slot of the arena it stays; from an I/O buffer it
    /// goes on to a file.
    #[inline]
    pub(super) fn fill(&mut self, offset: u32, bytes: &[u8]) {
        match self.gathered_bytes {
            0 => self.data.fill_cold(u64::from(offset), bytes),
            _ => self.data.fill(u64::from(offset), bytes),
        }
    }
}

/// What is known of the command whose header is being handed to the session.
pub(super) struct Granted {
    /// Memory for its data-out.
    pub(super) data: Payload,
    /// There was none.
    pub(super) refused: bool,
    /// None is needed: it stays where it comes.
    pub(super) borrows: bool,
    /// The unit that it is for, if there is one.
    pub(super) unit: Option<LunAddress>,
    /// What its CDB says it moves.
    pub(super) moves: cdb::Transfer,
}

/// See the module.
pub(crate) struct Side {
    pub(super) nexus: NexusId,
    pub(super) luns: Arc<LunMap>,
    pub(super) outbox: Outbox,
    pub(super) slots: Vec<Slot>,
    /// Slots whose data lies in a receive buffer.
    pub(super) borrowed: u32,
    pub(super) granted: Granted,
    /// Bytes of data-in that running commands will bring.
    pub(crate) reading_bytes: u64,
    /// The period of [`Shares`] in which it read last.
    read_in_period: u32,
    /// Bytes of data-out in all slots.
    pub(crate) held_bytes: u64,
    /// When the last byte of write data came, or the first command that owes some.
    pub(super) owing_ns: u64,
    /// Digests that the framer shall expect from the next PDU on.
    pub(super) digests: Option<(bool, bool)>,
    /// Longest data segment that the framer shall take from the next PDU on, in bytes.
    pub(super) data_segment_max: Option<u32>,
    /// The bits of PRI that count: none without RFC 7144.
    priority_mask: u8,
}

impl Side {
    pub(super) fn new(nexus: NexusId) -> Self {
        Self {
            nexus,
            luns: Arc::default(),
            outbox: Outbox::default(),
            slots: Vec::new(),
            borrowed: 0,
            granted: Granted {
                data: Payload::NONE,
                refused: false,
                borrows: false,
                unit: None,
                moves: cdb::Transfer::Unknown,
            },
            reading_bytes: 0,
            read_in_period: 0,
            held_bytes: 0,
            owing_ns: 0,
            digests: None,
            data_segment_max: None,
            priority_mask: 0,
        }
    }

    /// Gives back memory that a connection without tasks needs not hold.
    pub(super) fn shrink(&mut self) {
        if self.slots().next().is_none() {
            self.slots = Vec::new();
        }
        self.outbox.shrink();
    }

    /// What the session sees from now on.
    pub(crate) fn set_luns(&mut self, luns: Arc<LunMap>) {
        self.luns = luns;
    }

    /// Some of its units are owned by this shard from now on; so are commands that wait to go there.
    pub(crate) fn set_owner(&mut self, luns: &[LunId], owner: ShardId) {
        let changes = |address: &LunAddress| luns.contains(&address.lun) && address.owner != owner;
        if !self.luns.0.iter().any(|(_, address)| changes(address)) {
            return;
        }
        let map = Arc::make_mut(&mut self.luns).0.iter_mut().map(|(_, address)| address);
        let commands = self.slots.iter_mut().filter_map(|slot| slot.unit.as_mut());
        map.chain(commands).filter(|address| changes(address)).for_each(|address| address.owner = owner);
    }

    /// The memory of a task.
    #[inline]
    pub(crate) fn slot_mut(&mut self, task: TaskKey) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(task.index)).filter(|slot| slot.task == Some(task))
    }

    /// The memory of all tasks.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.task.is_some())
    }

    fn open(&mut self, task: TaskKey, front: &mut Front) {
        let now_ns = front.now_ns;
        let index = usize::from(task.index);
        if self.slots.len() <= index {
            // Slots of the session's table are taken low ones first: this is the most that it had at once.
            self.slots.resize_with(index + 1, || Slot::VACANT);
        }
        let slot = &mut self.slots[index];
        slot.task = Some(task);
        slot.unit = self.granted.unit;
        slot.running = false;
        slot.moves = self.granted.moves;
        slot.started_ns = now_ns;
        slot.refused = self.granted.refused;
        slot.borrows = self.granted.borrows;
        slot.reading_bytes = 0;
        slot.wrote = false;
        slot.gathered_bytes = 0;
        if self.held_bytes == 0 {
            self.owing_ns = now_ns;
        }
        if let Some(first) = self.granted.data.0.first() {
            let bytes = self.granted.data.len();
            self.held_bytes += bytes;
            if !Arc::ptr_eq(first.buffer.pool(), &front.arena) {
                slot.gathered_bytes = bytes;
                front.gathered_bytes += bytes;
            }
            slot.data = std::mem::take(&mut self.granted.data);
        }
    }

    /// Lets go of a task's memory.
    #[inline]
    pub(crate) fn free(&mut self, task: TaskKey, gathered_bytes: &mut u64) {
        let Some(slot) = self.slot_mut(task) else { return };
        slot.task = None;
        let reading_bytes = slot.reading_bytes;
        if !slot.data.0.is_empty() {
            if slot.borrows {
                slot.data.0.clear();
                self.borrowed -= 1;
                self.reading_bytes = self.reading_bytes.saturating_sub(reading_bytes);
                return;
            }
            *gathered_bytes = gathered_bytes.saturating_sub(slot.gathered_bytes);
            let data = std::mem::take(&mut slot.data);
            self.held_bytes = self.held_bytes.saturating_sub(data.len());
        }
        self.reading_bytes = self.reading_bytes.saturating_sub(reading_bytes);
    }

    /// What a task asks of its unit, where it runs from now on and brings so many bytes of data-in.
    #[inline(always)]
    pub(crate) fn request(
        &mut self,
        origin: Origin,
        task: &Task,
        lun: LunId,
        reads: u64,
        front: &mut Front,
    ) -> Request {
        let expected_out = if task.is_write() { task.expected_len() } else { 0 };
        let mut request = Request {
            origin,
            nexus: self.nexus,
            lun,
            cdb: *task.cdb(),
            generations: task.generations(),
            attribute: task.attribute(),
            priority: task.priority() & self.priority_mask,
            expected_out,
            data: Payload::NONE,
            borrowed: false,
        };
        if let Some(slot) = self.slot_mut(origin.task) {
            slot.running = true;
            slot.started_ns = front.now_ns;
            slot.reading_bytes = reads;
            slot.wrote = expected_out > 0;
            if !slot.data.0.is_empty() {
                request.data = std::mem::take(&mut slot.data);
                request.borrowed = slot.borrows;
                if slot.borrows {
                    self.borrowed -= 1;
                    self.reading_bytes += reads;
                    return request;
                }
                let gathered_bytes = std::mem::take(&mut slot.gathered_bytes);
                front.gathered_bytes = front.gathered_bytes.saturating_sub(gathered_bytes);
                self.held_bytes = self.held_bytes.saturating_sub(request.data.len());
            }
            self.reading_bytes += reads;
        }
        request
    }

    /// Memory for `wanted` bytes of data-out of a command: whole slots of the arena where its overlay can adopt
    /// them, I/O buffers otherwise. `None` when there is not enough for now.
    pub(super) fn take_memory(
        &self,
        unit: LunAddress,
        cdb: &[u8; 16],
        wanted: u32,
        front: &Front,
    ) -> Option<Payload> {
        if self.held_bytes > 0 && self.held_bytes + u64::from(wanted) > front.connection_bytes_max {
            return None;
        }
        if unit.is_clone
            && let Some(start) = write_start(cdb)
        {
            let start = start.wrapping_mul(u64::from(unit.block_size));
            if let Some(payload) = arena_slots(front, start, wanted) {
                return Some(payload);
            }
            // What is spilled makes room soon. A transfer that is much of a small arena takes buffers, and then the arena
            // little by little.
            let slots = wanted / front.arena.slot_len() + 2;
            if front.spills && slots <= kept_free(&front.arena) {
                return None;
            }
        }
        front.gather(u64::from(wanted)).and_then(|()| Payload::take(&front.memory, wanted))
    }

    /// Since when the initiator has sent none of the write data it owes, if it owes some.
    pub(crate) fn owing_since_ns(&self) -> Option<u64> {
        (self.held_bytes > 0).then_some(self.owing_ns)
    }

    /// Whether a command that reads so many bytes may run now: what a client has asked for and not taken is bounded.
    #[inline]
    pub(crate) fn may_read(&mut self, bytes: u64, shares: &mut Shares) -> bool {
        let most = shares.of_reader(&mut self.read_in_period);
        let held = self.reading_bytes + self.outbox.bytes();
        held == 0 || held + bytes <= most
    }
}

impl Front {
    /// Whether so many further bytes may be gathered. Data that is still being gathered gets at most three eighths of the
    /// I/O buffers: the largest are half of all, so commands that run always find some.
    pub(super) fn gather(&self, bytes: u64) -> Option<()> {
        let gathered = self.gathered_bytes;
        // A transfer beyond the limit of a small memory has it alone.
        (gathered == 0 || gathered + bytes <= self.memory.bytes() / 8 * 3).then_some(())
    }
}

/// First logical block of a WRITE (SBC-3 5.32 to 5.35); `None` for any other command.
pub(super) fn write_start(cdb: &[u8; 16]) -> Option<u64> {
    match *cdb {
        [0x0a, a, b, c, ..] => Some(u64::from(u32::from_be_bytes([0, a & 0x1f, b, c]))),
        [0x2a | 0xaa, _, a, b, c, d, ..] => Some(u64::from(u32::from_be_bytes([a, b, c, d]))),
        [0x8a, _, a, b, c, d, e, f, g, h, ..] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// Slots of the arena that hold `len` bytes at byte `start` of the disk as its overlay would.
fn arena_slots(front: &Front, start: u64, len: u32) -> Option<Payload> {
    let slot = u64::from(front.arena.slot_len());
    let mut pieces = Few::None;
    let (mut at, mut left) = (start % slot, u64::from(len));
    while left > 0 {
        let take = (slot - at).min(left);
        pieces.push(Piece { buffer: front.arena.take()?, start: at as u32, len: take as u32 });
        left -= take;
        at = 0;
    }
    Some(Payload(pieces))
}

/// The side, lent to the state machine for one call.
pub(crate) struct Sink<'a> {
    pub(crate) key: Key,
    pub(crate) side: &'a mut Side,
    pub(crate) front: &'a mut Front,
    /// Data-in of the task that is being answered.
    pub(crate) reply: Option<&'a mut Data>,
}

impl Output for Sink<'_> {
    fn send(&mut self, header: &Bhs, data: OutData<'_>) {
        let data = match data {
            OutData::None => PduData::None,
            OutData::Bytes(bytes) => PduData::Bytes(bytes),
            OutData::Task { offset, len, .. } => match &mut self.reply {
                Some(Data::Pieces(payload)) => match payload.take_whole(offset, len) {
                    // Data is sent once: what is sent whole is not wanted again.
                    Some(piece) => PduData::Piece(piece),
                    None => PduData::Payload(payload, offset, len),
                },
                Some(Data::Inline(bytes)) => {
                    let end = (offset as usize + len as usize).min(bytes.len());
                    PduData::Bytes(&bytes[(offset as usize).min(end)..end])
                }
                None => PduData::None,
            },
        };
        if let Err(overload) = self.side.outbox.push(header, data, &self.front.headers) {
            self.front.happenings.push_back(Happening::Overload(self.key, overload));
        }
    }

    fn admit(&mut self, request: LoginRequest) {
        self.front.happenings.push_back(Happening::Login(self.key, Box::new(request)));
    }

    fn accept(&mut self, task: TaskKey) {
        self.side.open(task, self.front);
    }

    fn command(&mut self, task: TaskKey) {
        self.front.happenings.push_back(Happening::Command(self.key, task));
    }

    fn manage(&mut self, request: ManagementRequest) {
        self.front.happenings.push_back(Happening::Manage(self.key, request));
    }

    fn release(&mut self, task: TaskKey) {
        self.side.free(task, &mut self.front.gathered_bytes);
    }

    fn digests(&mut self, header: bool, data: bool) {
        self.side.outbox.set_digests(header, data);
        self.side.digests = Some((header, data));
    }

    fn full_feature(&mut self, session: &SessionInfo) {
        self.side.data_segment_max = Some(session.parameters.target_recv_data_segment);
        self.side.priority_mask = if session.parameters.has_rfc_7144() { 0x0f } else { 0 };
        if session.kind == SessionKind::Normal {
            self.front.happenings.push_back(Happening::FullFeature(self.key));
        }
    }

    fn close(&mut self, how: Close) {
        self.front.happenings.push_back(Happening::Finish(self.key, how));
    }
}
