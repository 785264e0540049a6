//! Write data that stays where it was received until its command has run.
//!
//! ```text
//!  chunk ─► PDU with all of its data in it ─► handle to the chunk ─► command runs in this turn ─► medium
//!                                                    └─ it cannot ─► copied to I/O buffers, as other data is
//! ```
//!
//! That saves a copy, and the buffer for it, of each WRITE to memory whose data is immediate. What refers to a chunk is a
//! handle to its buffer, so the kernel does not get that buffer before the last of them is gone, whatever becomes of the
//! command, its session or its connection. But there are few receive buffers, so at the end of a turn nothing refers to
//! them any more ([`Side::keep_borrowed`], and [`Request::keep`] for what waits at its unit).

use super::side::write_start;
use super::{Front, Side};
use crate::few::Few;
use crate::lun::kept_free;
use crate::messages::LunAddress;
use crate::payload::{Payload, Piece};
use crate::request::{Answer, Request};
use crate::stats::Counters;
use stampede_ring::{Buffer, IoMemory, Pool};
use stampede_scsi::{Reply, Status};
use stampede_session::TaskKey;
use stampede_wire::pdu::{CommandFlags, Pdu, ScsiCommand};

/// Whether the data of a write stays in the chunk that its command came in, of which `rest` bytes are behind its header:
/// all that is wanted lies there, and the command probably runs in this turn, since it is one for memory of this shard.
#[inline]
pub(super) fn stays(
    command: &ScsiCommand,
    cdb: &[u8; 16],
    wanted: u32,
    rest: usize,
    unit: LunAddress,
    front: &Front,
) -> bool {
    wanted > 0
        && rest >= wanted as usize
        && command.data_segment_len() == wanted
        && command.flags().contains(CommandFlags::FINAL)
        && (unit.in_memory || unit.is_clone)
        && unit.owner == front.shard
        && write_start(cdb).is_some()
        && (!front.spills || has_room(&front.arena, wanted))
}

/// Whether a write of so many bytes surely finds its slots, whatever else came in this turn: else it takes them before it begins,
/// or waits.
fn has_room(arena: &Pool, wanted: u32) -> bool {
    let free = arena.slots().saturating_sub(arena.in_use());
    free > kept_free(arena) / 2 + wanted / arena.slot_len()
}

impl Side {
    /// The data of a command that borrows it has come: bytes `start..start + len` of a receive buffer.
    #[inline]
    pub(super) fn borrow(&mut self, task: TaskKey, buffer: &Buffer, start: u32, len: u32) {
        if let Some(slot) = self.slot_mut(task)
            && slot.data.0.is_empty()
        {
            slot.data = Payload(Few::One(Piece { buffer: buffer.clone(), start, len }));
            self.borrowed += 1;
        }
    }

    /// Whether data of its tasks lies in receive buffers.
    #[inline]
    pub(crate) fn borrows(&self) -> bool {
        self.borrowed > 0
    }

    /// The turn ends: data of commands that are not with their units yet moves to I/O buffers. A command for which there
    /// are none will be answered TASK SET FULL.
    #[cold]
    pub(crate) fn keep_borrowed(&mut self, front: &mut Front, counters: &mut Counters) {
        for slot in self.slots.iter_mut().filter(|slot| slot.borrows && !slot.data.0.is_empty()) {
            let data = std::mem::take(&mut slot.data);
            slot.borrows = false;
            counters.writes_borrowed += 1;
            counters.writes_kept += 1;
            match front.gather(data.len()).and_then(|()| data.kept(&front.memory)) {
                Some(kept) => {
                    let bytes = kept.len();
                    slot.data = kept;
                    slot.gathered_bytes = bytes;
                    front.gathered_bytes += bytes;
                    self.held_bytes += bytes;
                }
                None => slot.refused = true,
            }
        }
        self.borrowed = 0;
    }
}

impl Request {
    /// It does not run in the turn that it came in: its data moves to I/O buffers. False when there are none.
    #[cold]
    #[must_use]
    pub(crate) fn keep(&mut self, memory: &IoMemory, counters: &mut Counters) -> bool {
        if !std::mem::take(&mut self.borrowed) {
            return true;
        }
        counters.writes_kept += 1;
        let kept = self.data.kept(memory);
        let is_kept = kept.is_some();
        self.data = kept.unwrap_or_default();
        is_kept
    }

    /// What it is answered when there is no memory for its data.
    #[cold]
    pub(crate) fn refused(&self) -> Answer {
        let outcome = Reply::status(Status::TaskSetFull).into();
        Answer { origin: self.origin, lun: self.lun, outcome }
    }
}
