//! A run of bytes that lies in several buffers: a command's data, on its way in or out.

use crate::few::Few;
use stampede_ring::{Buffer, IoMemory, copy_to_cold};

/// `buffer[start..start + len]`.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Where it lies.
    pub(crate) buffer: Buffer,
    /// First byte in the buffer.
    pub(crate) start: u32,
    /// Bytes.
    pub(crate) len: u32,
}

impl Piece {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[self.start as usize..][..self.len as usize]
    }
}

/// So many zero bytes, as pieces of a buffer of zeros.
pub(crate) fn zero_pieces(zeros: &Buffer, len: u64) -> impl Iterator<Item = Piece> {
    let whole = zeros.len() as u64;
    (0..len.div_ceil(whole)).map(move |index| Piece {
        buffer: zeros.clone(),
        start: 0,
        len: (len - index * whole).min(whole) as u32,
    })
}

/// Pieces in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload(pub(crate) Few<Piece>);

impl Payload {
    /// Nothing.
    pub(crate) const NONE: Self = Self(Few::None);

    /// Takes buffers for `len` bytes, or `None` when not all of them are free.
    #[inline]
    pub(crate) fn take(memory: &IoMemory, len: u32) -> Option<Self> {
        if len > 0 && len <= IoMemory::BUFFER_MAX {
            return Some(Self(Few::One(Piece { buffer: memory.take(len)?, start: 0, len })));
        }
        Self::take_many(memory, len)
    }

    fn take_many(memory: &IoMemory, len: u32) -> Option<Self> {
        let mut pieces = Few::None;
        let mut left = len;
        while left > 0 {
            let len = left.min(IoMemory::BUFFER_MAX);
            pieces.push(Piece { buffer: memory.take(len)?, start: 0, len });
            left -= len;
        }
        Some(Self(pieces))
    }

    /// Takes buffers and fills them with `bytes`.
    pub(crate) fn copied(memory: &IoMemory, bytes: &[u8]) -> Option<Self> {
        let mut payload = Self::take(memory, u32::try_from(bytes.len()).ok()?)?;
        payload.fill(0, bytes);
        Some(payload)
    }

    /// The same bytes in buffers of their own; `None` when not all of them are free.
    pub(crate) fn kept(&self, memory: &IoMemory) -> Option<Self> {
        let mut kept = Self::take(memory, u32::try_from(self.len()).ok()?)?;
        let mut at = 0;
        for slice in self.slices() {
            kept.fill(at, slice);
            at += slice.len() as u64;
        }
        Some(kept)
    }

    /// Bytes in all pieces.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match &self.0 {
            Few::None => 0,
            Few::One(piece) => u64::from(piece.len),
            Few::Many(pieces) => pieces.iter().map(|piece| u64::from(piece.len)).sum(),
        }
    }

    /// The bytes, piece by piece.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Piece::bytes)
    }

    /// Shares bytes `offset..offset + len`; fewer when the payload ends before.
    pub(crate) fn slice(&self, offset: u64, len: u64) -> Self {
        let mut out = Few::None;
        self.each(offset, len, |piece, start, len| {
            out.push(Piece { buffer: piece.buffer.clone(), start, len });
        });
        Self(out)
    }

    /// Takes the one piece out, if there is one and it is just `offset..offset + len`.
    #[inline]
    pub(crate) fn take_whole(&mut self, offset: u32, len: u32) -> Option<Piece> {
        let is_whole = matches!(&self.0, Few::One(piece) if offset == 0 && piece.len == len);
        match std::mem::take(&mut self.0) {
            Few::One(piece) if is_whole => Some(piece),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// Calls `visit(piece, start in its buffer, bytes)` for each part of `offset..offset + len`.
    pub(crate) fn each(&self, offset: u64, len: u64, mut visit: impl FnMut(&Piece, u32, u32)) {
        let (mut skip, mut left) = (offset, len);
        for piece in self.0.iter() {
            if left == 0 {
                return;
            }
            if skip >= u64::from(piece.len) {
                skip -= u64::from(piece.len);
                continue;
            }
            let take = (u64::from(piece.len) - skip).min(left);
            visit(piece, piece.start + skip as u32, take as u32);
            left -= take;
            skip = 0;
        }
    }

    /// Copies `bytes` in at `offset`. The pieces are not shared yet: their one owner is gathering data.
    #[inline]
    pub(crate) fn fill(&mut self, offset: u64, bytes: &[u8]) {
        self.fill_by(offset, bytes, <[u8]>::copy_from_slice);
    }

    /// As [`Payload::fill`], for pieces where the data stays: they are probably in no cache.
    #[inline]
    pub(crate) fn fill_cold(&mut self, offset: u64, bytes: &[u8]) {
        self.fill_by(offset, bytes, copy_to_cold);
    }

    fn fill_by(&mut self, offset: u64, bytes: &[u8], copy: impl Fn(&mut [u8], &[u8])) {
        let (mut skip, mut rest) = (offset, bytes);
        for piece in self.0.iter_mut() {
            if rest.is_empty() {
                return;
            }
            if skip >= u64::from(piece.len) {
                skip -= u64::from(piece.len);
                continue;
            }
            let (now, later) = rest.split_at(((u64::from(piece.len) - skip) as usize).min(rest.len()));
            let start = piece.start as usize + skip as usize;
            let target = piece.buffer.bytes_mut().and_then(|bytes| bytes.get_mut(start..start + now.len()));
            match target {
                Some(target) => copy(target, now),
                None => debug_assert!(false, "data was gathered into a shared buffer"),
            }
            rest = later;
            skip = 0;
        }
    }

    /// All bytes in one piece of heap memory: for parameter lists and rare commands.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() as usize);
        for slice in self.slices() {
            out.extend_from_slice(slice);
        }
        out
    }

    /// Offset of the first byte that differs from `other`, as far as both go.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<u64> {
        let (mut lefts, mut rights) = (self.slices(), other.slices());
        let (mut left, mut right): (&[u8], &[u8]) = (&[], &[]);
        let mut offset = 0;
        loop {
            while left.is_empty() {
                left = lefts.next()?;
            }
            while right.is_empty() {
                right = rights.next()?;
            }
            let len = left.len().min(right.len());
            if left[..len] != right[..len] {
                let at = left.iter().zip(right).position(|(a, b)| a != b)?;
                return Some(offset + at as u64);
            }
            offset += len as u64;
            (left, right) = (&left[len..], &right[len..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_and_fills_agree_with_a_vector(
            total in 1u32..600_000, at in 0.0f64..1.0, share in 0.0f64..1.0,
        ) {
            let memory = IoMemory::new(8 << 20).unwrap();
            let mut payload = Payload::take(&memory, total).unwrap();
            let mut model = vec![0u8; total as usize];
            payload.fill(0, &model);
            let offset = (f64::from(total) * at) as usize;
            let len = ((total as usize - offset) as f64 * share) as usize;
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            payload.fill(offset as u64, &bytes);
            model[offset..offset + len].copy_from_slice(&bytes);
            prop_assert_eq!(payload.to_vec(), model.clone());
            prop_assert_eq!(payload.slice(offset as u64, len as u64).to_vec(), bytes);
            prop_assert_eq!(payload.len(), u64::from(total));
        }
    }

    #[test]
    fn the_first_difference_is_found_across_pieces() {
        let memory = IoMemory::new(8 << 20).unwrap();
        let a = vec![7u8; 300_000];
        let mut b = a.clone();
        let one = Payload::copied(&memory, &a).unwrap();
        assert_eq!(one.first_difference(&Payload::copied(&memory, &b).unwrap()), None);
        b[280_000] = 8;
        assert_eq!(one.first_difference(&Payload::copied(&memory, &b).unwrap()), Some(280_000));
    }
}
