//! What a session has to send: all PDUs of a turn in one vectored send.
//!
//! Headers, digests, padding and texts are copied into header buffers; written data is sent from where it lies. A list
//! that is being sent pins its buffers until its completion hands it back.

use stampede_ring::{Buffer, Errno, Pool, SendList};
use stampede_wire::digest::{self, Crc32c, DIGEST_LEN};
use stampede_wire::encode::Digests;
use stampede_wire::{BHS_LEN, Bhs, pad4};
use std::collections::VecDeque;
use std::sync::Arc;

/// Segments that one PDU may need: header, data, padding and digest, each cut once by the end of a header buffer.
const SEGMENTS_PER_PDU: usize = 6;
/// Buffers of lists whose places are kept for later lists.
const SPARES_MAX: usize = 2;

/// The data segment of a PDU to send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    /// None.
    None,
    /// Bytes to copy.
    Copied(&'a [u8]),
    /// `buffer[start..start + len]`, to send from where it lies.
    Pinned { buffer: &'a Buffer, start: u32, len: u32 },
}

impl Data<'_> {
    fn len(&self) -> u32 {
        match self {
            Self::None => 0,
            // Texts: some hundred bytes.
            Self::Copied(bytes) => bytes.len() as u32,
            Self::Pinned { len, .. } => *len,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Copied(bytes) => bytes,
            Self::Pinned { buffer, start, len } => &buffer.bytes()[*start as usize..][..*len as usize],
        }
    }
}

/// No header buffer is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoHeaders;

/// PDUs waiting to be sent, in order.
#[derive(Debug)]
pub(crate) struct Outbox {
    headers: Arc<Pool>,
    /// The list being filled.
    filling: SendList,
    /// The header buffer being filled, by its index in `filling`, and the bytes used of it.
    place: Option<(u16, u32)>,
    /// Full lists, older than `filling`.
    full: VecDeque<SendList>,
    spares: Vec<SendList>,
    in_flight: bool,
    digests: Digests,
}

impl Outbox {
    pub(crate) fn new(headers: Arc<Pool>) -> Self {
        Self {
            headers,
            filling: SendList::new(),
            place: None,
            full: VecDeque::new(),
            spares: Vec::new(),
            in_flight: false,
            digests: Digests::default(),
        }
    }

    /// Digests of PDUs pushed from now on.
    pub(crate) fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Appends a PDU and sets its DataSegmentLength.
    #[inline]
    pub(crate) fn push(&mut self, mut header: Bhs, data: Data<'_>) -> Result<(), NoHeaders> {
        let len = data.len();
        header.set_data_segment_len(len);
        if !self.filling.has_room(SEGMENTS_PER_PDU) {
            self.turn_over();
        }
        if self.digests.header {
            let mut bytes = [0; BHS_LEN + DIGEST_LEN];
            bytes[..BHS_LEN].copy_from_slice(&header.0);
            bytes[BHS_LEN..].copy_from_slice(&digest::to_wire(digest::crc32c(&header.0)));
            self.copy(&bytes)?;
        } else {
            self.copy(&header.0)?;
        }
        if len == 0 { Ok(()) } else { self.push_data(data) }
    }

    fn push_data(&mut self, data: Data<'_>) -> Result<(), NoHeaders> {
        match data {
            Data::None => {}
            Data::Copied(bytes) => self.copy(bytes)?,
            Data::Pinned { buffer, start, len } => {
                let index = self.filling.pin(buffer.clone());
                self.filling.segment(index, start, len);
            }
        }
        let padding = &[0; 3][..pad4(data.len() as usize)];
        self.copy(padding)?;
        if self.digests.data {
            let mut crc = Crc32c::new();
            crc.update(data.bytes());
            crc.update(padding);
            self.copy(&digest::to_wire(crc.finish()))?;
        }
        Ok(())
    }

    /// Copies bytes behind those copied last.
    #[inline]
    fn copy(&mut self, mut bytes: &[u8]) -> Result<(), NoHeaders> {
        while !bytes.is_empty() {
            let (index, used) = match self.place {
                Some((index, used)) if used < self.headers.slot_len() => (index, used),
                _ => {
                    if !self.filling.has_room(SEGMENTS_PER_PDU) {
                        // A text longer than a list: no text of ours is.
                        return Err(NoHeaders);
                    }
                    (self.filling.pin(self.headers.take().ok_or(NoHeaders)?), 0)
                }
            };
            let take = bytes.len().min((self.headers.slot_len() - used) as usize);
            let target = self.filling.buffer_mut(index).and_then(Buffer::bytes_mut).ok_or(NoHeaders)?;
            target[used as usize..used as usize + take].copy_from_slice(&bytes[..take]);
            self.filling.segment(index, used, take as u32);
            self.place = Some((index, used + take as u32));
            bytes = &bytes[take..];
        }
        Ok(())
    }

    /// Puts the list being filled behind the full ones and begins another.
    fn turn_over(&mut self) {
        let next = self.spares.pop().unwrap_or_default();
        self.full.push_back(std::mem::replace(&mut self.filling, next));
        self.place = None;
    }

    /// The list to send next, unless one is under way or nothing waits.
    pub(crate) fn next(&mut self) -> Option<SendList> {
        if self.in_flight {
            return None;
        }
        if self.full.is_empty() {
            if self.filling.is_empty() {
                return None;
            }
            self.turn_over();
        }
        self.in_flight = true;
        self.full.pop_front()
    }

    /// A send has completed; what it did not take goes first.
    pub(crate) fn sent(&mut self, result: Result<u32, Errno>, mut list: SendList) -> Result<(), Errno> {
        self.in_flight = false;
        if let Ok(sent) = result {
            list.advance(u64::from(sent));
        }
        if result.is_ok() && !list.is_empty() {
            self.full.push_front(list);
            return Ok(());
        }
        list.clear();
        if self.spares.len() < SPARES_MAX {
            self.spares.push(list);
        }
        result.map(drop)
    }

    /// Whether a send is under way.
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        !self.filling.is_empty() || !self.full.is_empty()
    }

    /// Drops what has not been handed to the ring.
    pub(crate) fn clear(&mut self) {
        self.filling.clear();
        self.place = None;
        self.full.clear();
    }
}
