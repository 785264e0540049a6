//! What a connection has to send: all PDUs of a turn in one vectored send.
//!
//! Headers, small data, padding and digests are copied into header buffers; payload is sent from where it lies. A
//! list that is being sent pins its buffers until its completion hands it back.

use crate::payload::{Payload, Piece};
use stampede_ring::{Errno, Pool, SendList};
use stampede_wire::digest::Crc32c;
use stampede_wire::{Bhs, digest};
use std::collections::VecDeque;
use std::sync::Arc;

/// Segments that one PDU may need besides its payload: header, padding and digest.
const SEGMENTS_SPARE: usize = 4;

/// Bytes after which a list takes no further PDU: a send's completion is the sign that the client takes its data.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// Empty lists kept for the next PDUs: as many as a deep queue of large reads fills in one turn.
const SPARES_MAX: usize = 8;

/// The data segment of a PDU to send.
pub(super) enum PduData<'a> {
    /// None.
    None,
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// A piece to send from where it lies: most data is in one, and goes in one PDU.
    Piece(Piece),
    /// Bytes `offset..offset + len` of a payload, to send from where they lie.
    Payload(&'a Payload, u32, u32),
}

impl PduData<'_> {
    fn crc(&self) -> Crc32c {
        let mut crc = Crc32c::new();
        match self {
            Self::None => {}
            Self::Bytes(bytes) => crc.update(bytes),
            Self::Piece(piece) => crc.update(piece.bytes()),
            Self::Payload(payload, offset, len) => {
                payload.each(u64::from(*offset), u64::from(*len), |piece, start, len| {
                    crc.update(&piece.buffer.bytes()[start as usize..][..len as usize]);
                });
            }
        }
        crc
    }
}

/// One connection may have at most this share of all header buffers filled: an initiator that sends requests and does
/// not take their answers must not use up what the others' answers need.
const COPIED_SHARE: u64 = 16;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overload {
    /// It does not take what it is sent.
    #[error("it asks and does not take the answers")]
    NotTaken,
    /// No header buffer was free, or the PDU fits no list.
    #[error("no header buffer is free for its answers")]
    NoBuffer,
}

/// A list, and how many of its bytes lie in header buffers.
#[derive(Debug, Default)]
struct Queued {
    list: SendList,
    copied: u64,
}

/// PDUs waiting to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What goes next: lists that are full, and before them what is left of one that was begun. None is empty.
    full: VecDeque<Queued>,
    /// The list that PDUs are added to, behind those.
    filling: Queued,
    /// The last header buffer of that list, and bytes used of it.
    headers: Option<(u16, u32)>,
    /// Empty lists to fill next, at most [`SPARES_MAX`].
    spares: Vec<SendList>,
    in_flight: bool,
    /// Bytes of the list that is being sent.
    in_flight_bytes: u64,
    /// Those in header buffers.
    in_flight_copied: u64,
    /// Bytes of the lists that are full.
    full_bytes: u64,
    /// Bytes in header buffers of all lists.
    copied: u64,
    header_digest: bool,
    data_digest: bool,
}

impl Outbox {
    /// Digests of PDUs pushed from now on.
    pub(super) fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Appends a PDU.
    pub(super) fn push(&mut self, header: &Bhs, data: PduData<'_>, pool: &Arc<Pool>) -> Result<(), Overload> {
        let pieces = match &data {
            PduData::None => 0,
            PduData::Piece(_) => 1,
            PduData::Payload(payload, ..) => payload.0.len(),
            PduData::Bytes(bytes) => bytes.len() / pool.slot_len() as usize,
        };
        let list = &self.filling.list;
        let is_full = list.bytes() >= LIST_BYTES_MAX || !list.has_room(pieces + SEGMENTS_SPARE);
        // What no list has room for has one alone.
        if is_full && !list.is_empty() {
            self.begin_list();
        }
        self.copy_in(&header.0, pool)?;
        match data {
            PduData::None if !self.header_digest => Ok(()),
            PduData::Piece(Piece { buffer, start, len }) if self.is_plain(len) => {
                let list = &mut self.filling.list;
                let index = list.pin(buffer);
                list.segment(index, start, len);
                Ok(())
            }
            data => self.push_rest(header, data, pool),
        }
    }

    /// Whether nothing is to be put around so many bytes of data: no digest, no padding.
    fn is_plain(&self, len: u32) -> bool {
        !self.header_digest && !self.data_digest && len.is_multiple_of(4)
    }

    /// Appends what follows a header.
    #[inline(never)]
    fn push_rest(&mut self, header: &Bhs, data: PduData<'_>, pool: &Arc<Pool>) -> Result<(), Overload> {
        if self.header_digest {
            self.copy(&digest::to_wire(digest::crc32c(&header.0)), pool)?;
        }
        let crc = self.data_digest.then(|| data.crc());
        let list = &mut self.filling.list;
        let len = match data {
            PduData::None => return Ok(()),
            PduData::Piece(Piece { buffer, start, len }) => {
                let index = list.pin(buffer);
                list.segment(index, start, len);
                len
            }
            PduData::Payload(payload, offset, len) => {
                payload.each(u64::from(offset), u64::from(len), |piece, start, len| {
                    let index = list.pin(piece.buffer.clone());
                    list.segment(index, start, len);
                });
                len
            }
            PduData::Bytes(bytes) => {
                self.copy(bytes, pool)?;
                bytes.len() as u32
            }
        };
        let padding = &[0; 3][..len.wrapping_neg() as usize % 4];
        self.copy(padding, pool)?;
        if let Some(mut crc) = crc.filter(|_| len > 0) {
            crc.update(padding);
            self.copy(&digest::to_wire(crc.finish()), pool)?;
        }
        Ok(())
    }

    /// Puts the list that is being filled behind the full ones, and begins another.
    #[cold]
    fn begin_list(&mut self) {
        self.headers = None;
        let next = Queued { list: self.spares.pop().unwrap_or_default(), copied: 0 };
        let full = std::mem::replace(&mut self.filling, next);
        self.full_bytes += full.list.bytes();
        self.full.push_back(full);
    }

    /// Copies bytes behind those copied last.
    #[inline(never)]
    fn copy(&mut self, bytes: &[u8], pool: &Arc<Pool>) -> Result<(), Overload> {
        self.copy_in(bytes, pool)
    }

    /// The same, where the length of `bytes` is known when this is compiled.
    #[inline(always)]
    fn copy_in(&mut self, bytes: &[u8], pool: &Arc<Pool>) -> Result<(), Overload> {
        let len = bytes.len() as u32;
        self.filling.copied += u64::from(len);
        self.copied += u64::from(len);
        if self.copied > u64::from(pool.slots()) * u64::from(pool.slot_len()) / COPIED_SHARE {
            return Err(Overload::NotTaken);
        }
        if let Some((index, used)) = self.headers
            && self.filling.list.copy(index, used, bytes)
        {
            self.headers = Some((index, used + len));
            return Ok(());
        }
        self.copy_across(bytes, pool)
    }

    /// Copies bytes of which the last header buffer does not take all.
    #[cold]
    fn copy_across(&mut self, mut bytes: &[u8], pool: &Arc<Pool>) -> Result<(), Overload> {
        let list = &mut self.filling.list;
        while !bytes.is_empty() {
            let (index, used) = match self.headers {
                Some((index, used)) if used < pool.slot_len() => (index, used),
                _ if !list.has_room(1) => return Err(Overload::NoBuffer),
                _ => (list.pin(pool.take().ok_or(Overload::NoBuffer)?), 0),
            };
            let (now, rest) = bytes.split_at(bytes.len().min((pool.slot_len() - used) as usize));
            if !list.copy(index, used, now) {
                return Err(Overload::NoBuffer);
            }
            self.headers = Some((index, used + now.len() as u32));
            bytes = rest;
        }
        Ok(())
    }

    /// The list to send next, unless one is under way.
    pub(crate) fn next(&mut self) -> Option<SendList> {
        if self.in_flight {
            return None;
        }
        if self.full.is_empty() {
            if self.filling.list.is_empty() {
                return None;
            }
            self.begin_list();
        }
        let Queued { list, copied } = self.full.pop_front()?;
        self.full_bytes -= list.bytes();
        self.in_flight = true;
        self.in_flight_bytes = list.bytes();
        self.in_flight_copied = copied;
        Some(list)
    }

    /// A send has completed: what is left of its list goes first.
    pub(crate) fn sent(&mut self, result: Result<u32, Errno>, mut list: SendList) -> Result<u32, Errno> {
        self.in_flight = false;
        self.in_flight_bytes = 0;
        let copied = std::mem::take(&mut self.in_flight_copied);
        let sent = result.inspect_err(|_| list.clear());
        if let Ok(sent) = sent {
            list.advance(u64::from(sent));
        }
        if list.is_empty() {
            list.clear();
            self.copied = self.copied.saturating_sub(copied);
            if self.spares.len() < SPARES_MAX {
                self.spares.push(list);
            }
        } else {
            self.full_bytes += list.bytes();
            self.full.push_front(Queued { list, copied });
        }
        sent
    }

    /// Drops what has not been handed to the ring.
    pub(crate) fn clear(&mut self) {
        self.full.clear();
        self.full_bytes = 0;
        self.filling = Queued::default();
        self.headers = None;
        self.copied = self.in_flight_copied;
    }

    /// Gives back memory that is kept for later lists.
    pub(super) fn shrink(&mut self) {
        self.spares = Vec::new();
        self.full.shrink_to_fit();
        if self.filling.list.is_empty() {
            self.filling = Queued::default();
            self.headers = None;
        }
    }

    /// Whether a send is under way.
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        self.full_bytes + self.filling.list.bytes() > 0
    }

    /// Bytes that wait to be sent or are being sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.in_flight_bytes + self.full_bytes + self.filling.list.bytes()
    }
}
