//! What a connection has to send: headers in lent memory, payload from one canned buffer, one vectored send a turn.

use stampede_ring::{Buffer, Errno, Pool, PoolConfig, SendList};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Bytes of a header buffer: 341 headers.
const HEADER_SLOT: u32 = 16 * 1024;
/// Header buffers of one shard; memory is touched only as they are first used.
const HEADER_SLOTS: u32 = 4096;
/// Bytes after which a send takes no more, as in the product.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// Bytes that a connection may be asked for and not take.
const UNTAKEN_MAX: u64 = 64 << 20;

/// The memory of one shard: header buffers, and the canned payload that every answer shares.
#[derive(Debug)]
pub struct Memory {
    headers: Arc<Pool>,
    canned: Buffer,
    /// Canned payload starts anywhere in the first so many bytes of the canned buffer.
    starts: u64,
}

impl Memory {
    /// The longest canned payload of one PDU, bytes.
    pub const PIECE_MAX: u32 = 1 << 20;

    /// The most bytes of canned payload.
    pub const CANNED_MAX: u64 = 2 << 30;

    /// Takes the memory, and fills `canned` bytes of payload, at most [`Memory::CANNED_MAX`], with bytes that are not all
    /// alike. A unit in memory is larger than the processor's caches; so this should be.
    ///
    /// # Errors
    /// Whatever mmap says.
    pub fn new(canned: u64) -> io::Result<Self> {
        let headers = Pool::new(PoolConfig { slot_len: HEADER_SLOT, slots: HEADER_SLOTS })?;
        // Whole pages; it fits, since it is at most 2 GiB and a MiB.
        let starts = canned.clamp(4096, Self::CANNED_MAX).next_multiple_of(4096);
        let pool = Pool::new(PoolConfig { slot_len: starts as u32 + Self::PIECE_MAX, slots: 1 })?;
        let none = || io::Error::other("a new pool has no free slot");
        let mut canned = pool.take().ok_or_else(none)?;
        let bytes = canned.bytes_mut().ok_or_else(none)?;
        for (place, word) in bytes.chunks_exact_mut(8).zip(0u64..) {
            place.copy_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        Ok(Self { headers, canned, starts })
    }

    /// The canned bytes from `start`, modulo their number: `len` of them, at most [`Memory::PIECE_MAX`].
    pub(crate) fn canned(&self, start: u64, len: u32) -> &[u8] {
        let start = self.place(start) as usize;
        &self.canned.bytes()[start..start + len as usize]
    }

    #[inline]
    fn place(&self, start: u64) -> u32 {
        (start % self.starts) as u32
    }
}

/// Why a connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client asks for data and does not take it")]
pub struct Overload;

/// What waits to be sent on one connection, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Full lists, which go before `filling`.
    full: VecDeque<SendList>,
    filling: SendList,
    /// The header buffer of `filling` that is being filled, and the bytes used of it.
    header: Option<(u16, u32)>,
    /// The place of the canned payload among the buffers of `filling`.
    canned: Option<u16>,
    spare: SendList,
    in_flight: bool,
    /// Bytes that wait or are under way.
    bytes: u64,
}

impl Outbox {
    /// Appends a copy of `bytes`: a header, a digest, a small answer.
    ///
    /// # Errors
    /// [`Overload`].
    #[inline]
    pub fn copy(&mut self, bytes: &[u8], memory: &Memory) -> Result<(), Overload> {
        self.make_room()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (index, used) = match self.header {
                Some((index, used)) if used < HEADER_SLOT => (index, used),
                _ => (self.filling.pin(memory.headers.take().ok_or(Overload)?), 0),
            };
            let (now, later) = rest.split_at(rest.len().min((HEADER_SLOT - used) as usize));
            let slot = self.filling.buffer_mut(index).and_then(Buffer::bytes_mut).ok_or(Overload)?;
            slot[used as usize..used as usize + now.len()].copy_from_slice(now);
            self.filling.segment(index, used, now.len() as u32);
            self.header = Some((index, used + now.len() as u32));
            rest = later;
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Appends `len` bytes of the canned payload, at most [`Memory::PIECE_MAX`], from where they lie, `start` modulo their
    /// number.
    #[inline]
    pub fn canned(&mut self, start: u64, len: u32, memory: &Memory) {
        let index = *self.canned.get_or_insert_with(|| self.filling.pin(memory.canned.clone()));
        self.filling.segment(index, memory.place(start), len);
        self.bytes += u64::from(len);
    }

    /// Before a PDU: a list that is full goes, and an empty one takes its place.
    #[inline]
    pub(crate) fn make_room(&mut self) -> Result<(), Overload> {
        /// A PDU's header, digests, payload and padding, and header buffers that end in between.
        const SEGMENTS: usize = 8;
        if self.filling.bytes() < LIST_BYTES_MAX && self.filling.has_room(SEGMENTS) {
            return Ok(());
        }
        if self.bytes > UNTAKEN_MAX {
            return Err(Overload);
        }
        self.turn_over();
        Ok(())
    }

    fn turn_over(&mut self) {
        let next = std::mem::take(&mut self.spare);
        self.full.push_back(std::mem::replace(&mut self.filling, next));
        self.header = None;
        self.canned = None;
    }

    /// The list to send now, unless one is under way or there is nothing to send.
    #[inline]
    pub fn next_list(&mut self) -> Option<SendList> {
        if self.in_flight {
            return None;
        }
        if self.full.is_empty() {
            if self.filling.is_empty() {
                return None;
            }
            self.turn_over();
        }
        let list = self.full.pop_front()?;
        self.in_flight = true;
        Some(list)
    }

    /// A send has completed. What is left of it goes first.
    ///
    /// # Errors
    /// The send's own.
    pub fn sent(&mut self, result: Result<u32, Errno>, mut list: SendList) -> Result<(), Errno> {
        self.in_flight = false;
        let sent = result?;
        list.advance(u64::from(sent));
        self.bytes -= u64::from(sent);
        if list.is_empty() {
            list.clear();
            self.spare = list;
        } else {
            self.full.push_front(list);
        }
        Ok(())
    }

    /// Whether a send is under way.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        !self.in_flight && self.full.is_empty() && self.filling.is_empty()
    }

    /// Forgets what waits: the connection is gone.
    pub fn clear(&mut self) {
        self.full.clear();
        self.filling.clear();
        self.header = None;
        self.canned = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outbox: &mut Outbox, take: usize) -> Vec<u8> {
        let list = outbox.next_list().expect("something to send");
        let bytes: Vec<u8> = list.slices().flatten().copied().take(take).collect();
        outbox.sent(Ok(bytes.len() as u32), list).unwrap();
        bytes
    }

    #[test]
    fn one_send_holds_everything_in_order_also_after_a_short_one() {
        let memory = Memory::new(1 << 20).unwrap();
        let mut outbox = Outbox::default();
        outbox.copy(&[1; 48], &memory).unwrap();
        outbox.canned(512, 4096, &memory);
        outbox.copy(&[2; 48], &memory).unwrap();
        let mut expected = vec![1; 48];
        expected.extend_from_slice(memory.canned(512, 4096));
        expected.extend_from_slice(&[2; 48]);
        let mut bytes = sent(&mut outbox, 100);
        assert!(!outbox.is_empty());
        bytes.extend(sent(&mut outbox, usize::MAX));
        assert_eq!(bytes, expected);
        assert!(outbox.is_empty() && outbox.next_list().is_none());
    }

    #[test]
    fn what_comes_during_a_send_goes_with_the_next() {
        let memory = Memory::new(1 << 20).unwrap();
        let mut outbox = Outbox::default();
        outbox.copy(&[1; 8], &memory).unwrap();
        let first = outbox.next_list().unwrap();
        outbox.copy(&[2; 8], &memory).unwrap();
        assert!(outbox.next_list().is_none());
        outbox.sent(Ok(8), first).unwrap();
        assert_eq!(sent(&mut outbox, usize::MAX), [2; 8]);
    }

    #[test]
    fn headers_go_on_in_the_next_buffer() {
        let memory = Memory::new(1 << 20).unwrap();
        let mut outbox = Outbox::default();
        for count in 0..400u32 {
            outbox.copy(&[count as u8; 48], &memory).unwrap();
        }
        let bytes = sent(&mut outbox, usize::MAX);
        let expected: Vec<u8> = (0..400u32).flat_map(|count| [count as u8; 48]).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_client_that_takes_nothing_is_dropped() {
        let memory = Memory::new(1 << 20).unwrap();
        let mut outbox = Outbox::default();
        let ask = |outbox: &mut Outbox| {
            outbox.copy(&[0; 48], &memory)?;
            outbox.canned(0, 1 << 18, &memory);
            Ok(())
        };
        let asked = (0..1000).take_while(|_| ask(&mut outbox).is_ok()).count();
        assert!((256..300).contains(&asked), "{asked}");
        assert_eq!(ask(&mut outbox), Err(Overload));
    }
}
