//! How one command's write data arrives: immediate, unsolicited, then by R2T (RFC 7143 4.2.5.2, 11.7, 11.8).
//!
//! ```text
//!   0 ......... immediate ......... unsolicited ......... R2T 0 ... R2T 1 ... ......... wanted
//!   └─ in the command PDU ─┘└─ Data-Out until its F bit ─┘└─ at most MaxOutstandingR2T at once
//! ```
//!
//! DataPDUInOrder and DataSequenceInOrder are Yes, so data arrives from front to back: the next byte's offset is the
//! whole state, and only the oldest R2T can be answered.

use crate::settings::R2T_MAX;

/// What went wrong while a command's data arrived. The rest is still taken, then the command ends with CHECK
/// CONDITION (RFC 7143 11.4.7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Data that was not asked for, or beyond FirstBurstLength.
    Unsolicited,
    /// More or fewer bytes than an R2T, or the command, asked for.
    Amount,
    /// A bidirectional command, which no logical unit of ours has.
    Bidirectional,
    /// A data digest was wrong, or a Data-Out PDU is missing (RFC 7143 7.8, 7.10).
    Digest,
}

/// One outstanding R2T.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Solicited {
    pub(crate) tag: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The fields of a Data-Out PDU that say where its data belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrived {
    /// Target Transfer Tag; `None` for unsolicited data.
    pub(crate) tag: Option<u32>,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) data_sn: u32,
    pub(crate) is_final: bool,
}

/// The Data-Out names no sequence that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WrongTag;

/// The write data of one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Collection {
    /// Bytes the target wants.
    wanted: u32,
    /// Where the next byte goes: everything before it arrived.
    next: u32,
    /// Bytes that R2Ts and the unsolicited burst together have asked for, from the start.
    asked: u32,
    /// The unsolicited burst goes on, at most up to this offset.
    unsolicited: Option<u32>,
    outstanding: [Solicited; R2T_MAX],
    outstanding_len: u8,
    /// DataSN that the next Data-Out of the open sequence carries.
    data_sn: u32,
    /// R2Ts sent so far: R2TSN of the next one.
    r2t_sn: u32,
    fault: Option<Fault>,
}

impl Collection {
    /// A command that wants `wanted` bytes, of which `immediate` came with it. Further unsolicited data may follow up
    /// to offset `unsolicited`, if given.
    pub(crate) fn new(wanted: u32, immediate: u32, unsolicited: Option<u32>) -> Self {
        Self {
            wanted,
            next: immediate,
            asked: immediate,
            unsolicited,
            outstanding: [Solicited::default(); R2T_MAX],
            outstanding_len: 0,
            data_sn: 0,
            r2t_sn: 0,
            fault: None,
        }
    }

    /// Bytes that have arrived, from the start.
    pub(crate) fn received(&self) -> u32 {
        self.next
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Remembers the first fault.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// R2Ts sent so far.
    pub(crate) fn r2ts_sent(&self) -> u32 {
        self.r2t_sn
    }

    /// Whether nothing more is under way and nothing more will be asked for.
    pub(crate) fn is_over(&self) -> bool {
        let idle = self.unsolicited.is_none() && self.outstanding_len == 0;
        idle && (self.fault.is_some() || self.next >= self.wanted)
    }

    /// The next R2T to send, of at most `burst` bytes, while fewer than `max` are outstanding. The caller says which
    /// tag it carries and gets back its R2TSN.
    pub(crate) fn solicit(&mut self, burst: u32, max: u16, tag: u32) -> Option<(u32, Solicited)> {
        let held = usize::from(self.outstanding_len);
        let blocked =
            self.unsolicited.is_some() || self.fault.is_some() || held >= usize::from(max).min(R2T_MAX);
        if blocked || self.asked >= self.wanted {
            return None;
        }
        let r2t = Solicited { tag, offset: self.asked, len: (self.wanted - self.asked).min(burst.max(1)) };
        self.asked += r2t.len;
        self.outstanding[held] = r2t;
        self.outstanding_len += 1;
        let sn = self.r2t_sn;
        self.r2t_sn = self.r2t_sn.wrapping_add(1);
        Some((sn, r2t))
    }

    /// A Data-Out has begun: where its payload goes, as offset and bytes to keep; `None` to drop it all.
    ///
    /// # Errors
    /// [`WrongTag`] when no open sequence has its tag.
    pub(crate) fn begin(&mut self, pdu: &Arrived) -> Result<Option<(u32, u32)>, WrongTag> {
        let end = self.open_sequence_end(pdu)?;
        if pdu.data_sn != self.data_sn || pdu.offset != self.next {
            self.fail(Fault::Digest);
        }
        if pdu.len > end.saturating_sub(pdu.offset) {
            self.fail(if pdu.tag.is_some() { Fault::Amount } else { Fault::Unsolicited });
        }
        if self.fault.is_some() || pdu.len == 0 || pdu.offset >= self.wanted {
            return Ok(None);
        }
        Ok(Some((pdu.offset, pdu.len.min(self.wanted - pdu.offset))))
    }

    /// The same Data-Out is complete. Call only after its `begin` was `Ok`.
    pub(crate) fn end(&mut self, pdu: &Arrived) {
        self.data_sn = self.data_sn.wrapping_add(1);
        if self.fault.is_none() {
            self.next = self.next.saturating_add(pdu.len);
        }
        let end = self.open_sequence_end(pdu).unwrap_or(self.next);
        let full = pdu.tag.is_some() && self.fault.is_none() && self.next == end;
        if !pdu.is_final {
            // An R2T's last Data-Out has the F bit (RFC 7143 11.7.1): nothing more can come that would have it.
            if full {
                self.fail(Fault::Amount);
                self.close_sequence(pdu);
            }
            return;
        }
        if pdu.tag.is_some() && !full {
            self.fail(Fault::Amount);
        }
        self.close_sequence(pdu);
    }

    /// Where the open sequence that `pdu` belongs to ends.
    fn open_sequence_end(&self, pdu: &Arrived) -> Result<u32, WrongTag> {
        match (pdu.tag, self.unsolicited) {
            (None, Some(end)) => Ok(end),
            (Some(tag), None) => {
                let oldest =
                    self.outstanding.first().filter(|r2t| self.outstanding_len > 0 && r2t.tag == tag);
                oldest.map(|r2t| r2t.offset.saturating_add(r2t.len)).ok_or(WrongTag)
            }
            _ => Err(WrongTag),
        }
    }

    fn close_sequence(&mut self, pdu: &Arrived) {
        self.data_sn = 0;
        if pdu.tag.is_none() {
            self.unsolicited = None;
            self.asked = self.next;
        } else if self.outstanding_len > 0 {
            self.outstanding.rotate_left(1);
            self.outstanding_len -= 1;
        }
    }
}
