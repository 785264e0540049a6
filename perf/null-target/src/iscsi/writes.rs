//! Writes whose data is on its way: unsolicited, or asked for by R2Ts.

use super::Dropped;
use super::login::Agreed;
use slab::Slab;
use stampede_wire::Lun;
use stampede_wire::pdu::DataOut;

/// Writes that may wait for data at once: the command window, and some immediate ones.
const WRITES_MAX: usize = super::login::WINDOW as usize + 8;

/// A write that waits for data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) tag: u32,
    pub(super) lun: Lun,
    /// Bytes that the command transfers.
    pub(super) bytes: u32,
    /// Bytes that came, or were asked for.
    pub(super) asked: u32,
    /// Unsolicited data is on its way.
    pub(super) unsolicited: bool,
    /// R2Ts that were not answered in full.
    pub(super) outstanding: u32,
    pub(super) r2t_sn: u32,
}

/// An R2T to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) r2t_sn: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Write {
    /// The next R2T, while the agreement allows one.
    pub(super) fn ask(&mut self, agreed: &Agreed) -> Option<Ask> {
        if self.unsolicited || self.asked >= self.bytes || self.outstanding >= agreed.outstanding_r2t {
            return None;
        }
        let len = agreed.max_burst.min(self.bytes - self.asked);
        let ask = Ask { r2t_sn: self.r2t_sn, offset: self.asked, len };
        self.asked += len;
        self.r2t_sn += 1;
        self.outstanding += 1;
        Some(ask)
    }

    fn is_complete(&self) -> bool {
        !self.unsolicited && self.asked >= self.bytes && self.outstanding == 0
    }
}

/// The writes of one session that wait for data.
#[derive(Debug, Default)]
pub(super) struct Writes(Slab<Write>);

impl Writes {
    /// Remembers a write; returns its target transfer tag.
    pub(super) fn insert(&mut self, write: Write) -> Result<u32, Dropped> {
        if self.0.len() >= WRITES_MAX {
            return Err(Dropped::Writes(WRITES_MAX));
        }
        // Far below 2^32.
        Ok(self.0.insert(write) as u32)
    }

    /// The write behind a target transfer tag.
    pub(super) fn get_mut(&mut self, ttt: u32) -> Option<&mut Write> {
        self.0.get_mut(ttt as usize)
    }

    /// Takes a Data-Out PDU in: the write's target transfer tag, when its sequence has ended with it. `None` for more
    /// to come, and for data of nobody (a task that was answered).
    pub(super) fn data(&mut self, pdu: &DataOut, len: u32) -> Option<u32> {
        let ttt = if pdu.is_unsolicited() {
            let tag = pdu.initiator_task_tag();
            self.0.iter().find(|(_, write)| write.tag == tag && write.unsolicited)?.0 as u32
        } else {
            pdu.target_transfer_tag()
        };
        let write = self.get_mut(ttt)?;
        if write.unsolicited {
            write.asked = write.asked.saturating_add(len);
        }
        if !pdu.is_final() {
            return None;
        }
        if write.unsolicited {
            write.unsolicited = false;
        } else {
            write.outstanding = write.outstanding.saturating_sub(1);
        }
        Some(ttt)
    }

    /// Takes a write out that has all its data.
    pub(super) fn take_complete(&mut self, ttt: u32) -> Option<Write> {
        let complete = self.0.get(ttt as usize)?.is_complete();
        complete.then(|| self.0.remove(ttt as usize))
    }

    /// Forgets all: the session's tasks were aborted.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
