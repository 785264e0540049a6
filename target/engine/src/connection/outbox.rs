//! What a connection has to send: all PDUs of a turn in one vectored send.
//!
//! Headers, small data, padding and digests are copied into header buffers; payload is sent from where it lies. A
//! list that is being sent pins its buffers until its completion hands it back.

use crate::payload::Payload;
use stampede_ring::{Buffer, Errno, Pool, SendList};
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
    /// Bytes `offset..offset + len` of a payload, to send from where they lie.
    Payload(&'a Payload, u32, u32),
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
    /// Full lists, and the one being filled at the back.
    lists: VecDeque<Queued>,
    /// Bytes used of the last header buffer of the list being filled, and its index there.
    headers: Option<(u16, u32)>,
    /// Empty lists to fill next, at most [`SPARES_MAX`].
    spares: Vec<SendList>,
    in_flight: bool,
    /// Bytes of the list that is being sent.
    in_flight_bytes: u64,
    /// Those in header buffers.
    in_flight_copied: u64,
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
        let pieces = match data {
            PduData::Payload(payload, ..) => payload.0.len(),
            PduData::Bytes(bytes) => bytes.len() / pool.slot_len() as usize,
            PduData::None => 0,
        };
        let room = |queued: &Queued| {
            queued.list.bytes() < LIST_BYTES_MAX && queued.list.has_room(pieces + SEGMENTS_SPARE)
        };
        if !self.lists.back().is_some_and(room) {
            self.lists.push_back(Queued { list: self.spares.pop().unwrap_or_default(), copied: 0 });
            self.headers = None;
        }
        let bytes = &header.0;
        self.copy(bytes, pool)?;
        if self.header_digest {
            self.copy(&digest::to_wire(digest::crc32c(bytes)), pool)?;
        }
        let len = match data {
            PduData::None => return Ok(()),
            PduData::Bytes(bytes) => {
                self.copy(bytes, pool)?;
                bytes.len()
            }
            PduData::Payload(payload, offset, len) => {
                self.pin(payload, offset, len)?;
                len as usize
            }
        };
        let padding = &[0; 3][..len.wrapping_neg() % 4];
        if !padding.is_empty() {
            self.copy(padding, pool)?;
        }
        if self.data_digest && len > 0 {
            let mut crc = Crc32c::new();
            match data {
                PduData::None => {}
                PduData::Bytes(bytes) => crc.update(bytes),
                PduData::Payload(payload, offset, len) => {
                    payload.each(u64::from(offset), u64::from(len), |piece, start, len| {
                        crc.update(&piece.buffer.bytes()[start as usize..][..len as usize]);
                    });
                }
            }
            crc.update(padding);
            self.copy(&digest::to_wire(crc.finish()), pool)?;
        }
        Ok(())
    }

    /// Copies bytes behind those copied last.
    fn copy(&mut self, mut bytes: &[u8], pool: &Arc<Pool>) -> Result<(), Overload> {
        let Queued { list, copied } = self.lists.back_mut().ok_or(Overload::NoBuffer)?;
        *copied += bytes.len() as u64;
        self.copied += bytes.len() as u64;
        if self.copied > u64::from(pool.slots()) * u64::from(pool.slot_len()) / COPIED_SHARE {
            return Err(Overload::NotTaken);
        }
        while !bytes.is_empty() {
            let (index, used) = match self.headers {
                Some((index, used)) if used < pool.slot_len() => (index, used),
                _ => {
                    if !list.has_room(1) {
                        return Err(Overload::NoBuffer);
                    }
                    (list.pin(pool.take().ok_or(Overload::NoBuffer)?), 0)
                }
            };
            let take = bytes.len().min((pool.slot_len() - used) as usize);
            let target = list.buffer_mut(index).and_then(Buffer::bytes_mut).ok_or(Overload::NoBuffer)?;
            target[used as usize..used as usize + take].copy_from_slice(&bytes[..take]);
            list.segment(index, used, take as u32);
            self.headers = Some((index, used + take as u32));
            bytes = &bytes[take..];
        }
        Ok(())
    }

    fn pin(&mut self, payload: &Payload, offset: u32, len: u32) -> Result<(), Overload> {
        let list = &mut self.lists.back_mut().ok_or(Overload::NoBuffer)?.list;
        // Mostly the data is one piece, and goes in one PDU.
        if let [piece] = &payload.0[..]
            && offset == 0
            && len == piece.len
        {
            let index = list.pin(piece.buffer.clone());
            list.segment(index, piece.start, len);
            return Ok(());
        }
        payload.each(u64::from(offset), u64::from(len), |piece, start, len| {
            let index = list.pin(piece.buffer.clone());
            list.segment(index, start, len);
        });
        Ok(())
    }

    /// An empty list is kept for later.
    fn keep(&mut self, list: SendList) {
        if self.spares.len() < SPARES_MAX {
            self.spares.push(list);
        }
    }

    /// The list to send next, unless one is under way.
    pub(crate) fn next(&mut self) -> Option<SendList> {
        if self.in_flight {
            return None;
        }
        loop {
            let Queued { list, copied } = self.lists.pop_front()?;
            if self.lists.is_empty() {
                self.headers = None;
            }
            if !list.is_empty() {
                self.in_flight = true;
                self.in_flight_bytes = list.bytes();
                self.in_flight_copied = copied;
                return Some(list);
            }
            self.keep(list);
        }
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
            self.keep(list);
            self.copied = self.copied.saturating_sub(copied);
        } else {
            // A list that was begun is never filled further: its place is the front, even when it is the only one.
            if self.lists.is_empty() {
                self.headers = None;
                self.lists.push_back(Queued { list: self.spares.pop().unwrap_or_default(), copied: 0 });
            }
            self.lists.push_front(Queued { list, copied });
        }
        sent
    }

    /// Drops what has not been handed to the ring.
    pub(crate) fn clear(&mut self) {
        self.lists.clear();
        self.headers = None;
        self.copied = self.in_flight_copied;
    }

    /// Gives back memory that is kept for later lists.
    pub(super) fn shrink(&mut self) {
        self.spares = Vec::new();
        self.lists.shrink_to_fit();
    }

    /// Whether a send is under way.
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        self.lists.iter().any(|queued| !queued.list.is_empty())
    }

    /// Bytes that wait to be sent or are being sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.in_flight_bytes + self.lists.iter().map(|queued| queued.list.bytes()).sum::<u64>()
    }
}
