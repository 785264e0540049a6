//! How one command's write data arrives: immediate, unsolicited, then by R2T (RFC 7143 4.2.5.2, 11.7, 11.8).
//!
//! ```text
//!   0 ......... immediate ......... unsolicited ......... R2T 0 ... R2T 1 ... ......... wanted
//!   └─ in the command PDU ─┘└─ Data-Out until its F bit ─┘└─ at most MaxOutstandingR2T at once
//! ```
//!
//! DataPDUInOrder and DataSequenceInOrder are Yes, so data arrives from front to back: the next byte's offset is the
//! whole state, and only the oldest R2T can be answered.

use stampede_wire::{
    RESERVED_TAG,
    pdu::{DataOut, Pdu},
};

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
    /// The ACA attribute: no logical unit of ours has an auto contingent allegiance.
    Attribute,
    /// A function killed the command: it ends without a status.
    Killed,
    /// A data digest was wrong, or a Data-Out PDU is missing (RFC 7143 7.8, 7.10).
    Digest,
}

/// An R2T to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Solicited {
    pub(crate) r2t_sn: u32,
    /// The number in its Target Transfer Tag.
    pub(crate) number: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The fields of a Data-Out PDU that say where its data belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrived {
    /// The number in the Target Transfer Tag; `None` for unsolicited data.
    pub(crate) number: Option<u16>,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) data_sn: u32,
    pub(crate) is_final: bool,
}

impl Arrived {
    #[inline]
    pub(crate) fn of(pdu: &DataOut) -> Self {
        let tag = pdu.target_transfer_tag();
        Self {
            // The other half of the tag names the slot by which the task was found.
            number: (tag != RESERVED_TAG).then_some(tag as u16),
            offset: pdu.buffer_offset(),
            len: pdu.data_segment_len(),
            data_sn: pdu.data_sn(),
            is_final: pdu.is_final(),
        }
    }
}

/// The Data-Out names no sequence that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WrongTag;

/// The write data of one command; by default there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Collection {
    /// Bytes the target wants.
    wanted: u32,
    /// Where the next byte goes: everything before it arrived.
    next: u32,
    /// Bytes that R2Ts and the unsolicited burst together have asked for, from the start.
    asked: u32,
    /// The unsolicited burst goes on, at most up to this offset.
    unsolicited: Option<u32>,
    /// Where the data of the oldest outstanding R2T ends. R2Ts follow each other without a gap and all but the last
    /// ask for `burst` bytes, so this and `asked` tell the others.
    oldest_end: u32,
    /// Bytes of an R2T, at most.
    burst: u32,
    /// R2Ts sent so far: R2TSN of the next one.
    sent: u32,
    /// DataSN that the next Data-Out of the open sequence carries.
    data_sn: u32,
    /// The number in the tag of the first R2T; the next ones count on.
    first_number: u16,
    /// R2Ts whose data has not all come.
    outstanding: u8,
    fault: Option<Fault>,
}

impl Collection {
    /// A command that wants `wanted` bytes, of which `immediate` came with it. Further unsolicited data may follow up
    /// to offset `unsolicited`, if given. The rest is asked for by R2Ts of at most `burst` bytes, whose tags are
    /// numbered from `first_number` on.
    #[inline]
    pub(crate) fn new(
        wanted: u32,
        immediate: u32,
        unsolicited: Option<u32>,
        burst: u32,
        first_number: u16,
    ) -> Self {
        Self {
            wanted,
            next: immediate,
            asked: immediate,
            unsolicited,
            oldest_end: 0,
            burst,
            sent: 0,
            data_sn: 0,
            first_number,
            outstanding: 0,
            fault: None,
        }
    }

    /// Bytes the target wants.
    #[inline]
    pub(crate) const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Bytes that have arrived, from the start.
    pub(crate) fn received(&self) -> u32 {
        self.next
    }

    #[inline]
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Remembers the first fault.
    #[inline]
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The command is dead. Whatever else was wrong with it, nothing of its data is kept and no status follows.
    pub(crate) fn kill(&mut self) {
        self.fault = Some(Fault::Killed);
    }

    /// Whether data is out that an R2T asked for.
    pub(crate) fn awaits_solicited(&self) -> bool {
        self.outstanding > 0
    }

    /// R2Ts sent so far.
    #[inline]
    pub(crate) fn r2ts_sent(&self) -> u32 {
        self.sent
    }

    /// Whether nothing more is under way and nothing more will be asked for.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        let idle = self.unsolicited.is_none() && self.outstanding == 0;
        idle && (self.fault.is_some() || self.next >= self.wanted)
    }

    /// The next R2T to send, while fewer than `max` are outstanding.
    #[inline]
    pub(crate) fn solicit(&mut self, max: u16) -> Option<Solicited> {
        let blocked = self.unsolicited.is_some()
            || self.fault.is_some()
            || usize::from(self.outstanding) >= usize::from(max).min(R2T_MAX);
        if blocked || self.asked >= self.wanted {
            return None;
        }
        let (r2t_sn, offset) = (self.sent, self.asked);
        let len = (self.wanted - offset).min(self.burst.max(1));
        self.asked += len;
        if self.outstanding == 0 {
            self.oldest_end = self.asked;
        }
        self.outstanding += 1;
        self.sent = self.sent.wrapping_add(1);
        Some(Solicited { r2t_sn, number: self.first_number.wrapping_add(r2t_sn as u16), offset, len })
    }

    /// A Data-Out has begun: where its payload goes, as offset and bytes to keep; `None` to drop it all.
    ///
    /// # Errors
    /// [`WrongTag`] when no open sequence has its tag.
    #[inline]
    pub(crate) fn begin(&mut self, pdu: &Arrived) -> Result<Option<(u32, u32)>, WrongTag> {
        let end = self.open_sequence_end(pdu)?;
        if pdu.data_sn != self.data_sn || pdu.offset != self.next {
            self.fail(Fault::Digest);
        }
        if pdu.len > end.saturating_sub(pdu.offset) {
            self.fail(if pdu.number.is_some() { Fault::Amount } else { Fault::Unsolicited });
        }
        if self.fault.is_some() || pdu.len == 0 || pdu.offset >= self.wanted {
            return Ok(None);
        }
        Ok(Some((pdu.offset, pdu.len.min(self.wanted - pdu.offset))))
    }

    /// The same Data-Out is complete. Call only after its `begin` was `Ok`.
    #[inline]
    pub(crate) fn end(&mut self, pdu: &Arrived) {
        self.data_sn = self.data_sn.wrapping_add(1);
        if self.fault.is_none() {
            self.next = self.next.saturating_add(pdu.len);
        }
        let end = self.open_sequence_end(pdu).unwrap_or(self.next);
        let full = pdu.number.is_some() && self.fault.is_none() && self.next == end;
        if !pdu.is_final {
            // An R2T's last Data-Out has the F bit (RFC 7143 11.7.1): nothing more can come that would have it.
            if full {
                self.fail(Fault::Amount);
                self.close_sequence(pdu);
            }
            return;
        }
        if pdu.number.is_some() && !full {
            self.fail(Fault::Amount);
        }
        self.close_sequence(pdu);
    }

    /// Where the open sequence that `pdu` belongs to ends.
    #[inline]
    fn open_sequence_end(&self, pdu: &Arrived) -> Result<u32, WrongTag> {
        match (pdu.number, self.unsolicited) {
            (None, Some(end)) => Ok(end),
            (Some(number), None) if self.outstanding > 0 && number == self.oldest_number() => {
                Ok(self.oldest_end)
            }
            _ => Err(WrongTag),
        }
    }

    /// The number in the tag of the oldest outstanding R2T.
    fn oldest_number(&self) -> u16 {
        let answered = self.sent.wrapping_sub(u32::from(self.outstanding));
        self.first_number.wrapping_add(answered as u16)
    }

    #[inline]
    fn close_sequence(&mut self, pdu: &Arrived) {
        self.data_sn = 0;
        if pdu.number.is_none() {
            self.unsolicited = None;
            self.asked = self.next;
        } else if self.outstanding > 0 {
            self.outstanding -= 1;
            self.oldest_end = self.oldest_end.saturating_add(self.burst.max(1)).min(self.asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Whatever the lengths are: R2Ts ask for each byte once and in order, each is answered under its own tag and
        /// no other, and every byte arrives.
        #[test]
        fn r2ts_ask_for_every_byte(
            wanted in 1u32..100_000,
            immediate in 0u32..5000,
            burst in 512u32..9000,
            max in 1u16..12,
            first: u16,
            answers in prop::collection::vec(any::<bool>(), 1..40),
        ) {
            let immediate = immediate.min(wanted);
            let mut collection = Collection::new(wanted, immediate, None, burst, first);
            let (mut asked, mut open, mut answers) = (immediate, VecDeque::new(), answers.iter().cycle());
            while !collection.is_over() {
                while let Some(r2t) = collection.solicit(max) {
                    prop_assert_eq!((r2t.offset, r2t.r2t_sn), (asked, collection.r2ts_sent() - 1));
                    prop_assert!(r2t.len > 0 && r2t.len <= burst);
                    asked += r2t.len;
                    open.push_back(r2t);
                    if answers.next() == Some(&true) { break; }
                }
                prop_assert!(open.len() <= usize::from(max).min(R2T_MAX));
                let r2t = open.pop_front().unwrap();
                let pdu = Arrived {
                    number: Some(r2t.number), offset: r2t.offset, len: r2t.len, data_sn: 0, is_final: true,
                };
                let other = Arrived { number: Some(r2t.number.wrapping_add(1)), ..pdu };
                prop_assert_eq!(collection.begin(&other), Err(WrongTag));
                prop_assert_eq!(collection.begin(&pdu), Ok(Some((r2t.offset, r2t.len))));
                collection.end(&pdu);
                prop_assert_eq!(collection.fault(), None);
                prop_assert_eq!(collection.received(), r2t.offset + r2t.len);
            }
            prop_assert_eq!((asked, collection.received()), (wanted, wanted));
        }
    }

    /// After a fault the R2Ts that are outstanding are still answered, each under its own tag, before the command ends.
    #[test]
    fn a_fault_waits_for_what_was_asked_for() {
        let mut collection = Collection::new(3000, 0, None, 1000, 0xffff);
        let r2ts: Vec<_> = std::iter::from_fn(|| collection.solicit(3)).collect();
        assert_eq!(r2ts.iter().map(|r2t| r2t.number).collect::<Vec<_>>(), [0xffff, 0, 1]);
        for (r2t, short) in r2ts.iter().zip([500, 0, 0]) {
            let pdu = Arrived {
                number: Some(r2t.number),
                offset: r2t.offset,
                len: r2t.len - short,
                data_sn: 0,
                is_final: true,
            };
            assert!(!collection.is_over());
            assert!(collection.begin(&pdu).is_ok());
            collection.end(&pdu);
            assert_eq!(collection.fault(), Some(Fault::Amount));
        }
        assert!(collection.is_over());
        assert_eq!(collection.solicit(3), None);
    }
}
