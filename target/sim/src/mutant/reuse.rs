//! A send whose slots are given to the next send before the kernel has read them.

use stampede_ring::{Buffer, Pool, PoolConfig, SendList, SocketId, Token};
use std::sync::Arc;

/// Bytes of a slot, as of an overlay's.
const SLOT: usize = 4096;

/// Pieces that are shorter than this are headers.
const PAYLOAD_MIN: usize = 512;

/// A send that is held back until the next one comes.
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) socket: SocketId,
    pub(super) list: SendList,
}

/// Where what is sent instead lies.
pub(super) struct Slots(Option<Arc<Pool>>);

impl Slots {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// What the kernel finds in the slots of `list` once `next` has got those that held payload: `None` when no
    /// payload of `next` fits.
    pub(super) fn reused(&mut self, list: &SendList, next: &SendList) -> Option<SendList> {
        if self.0.is_none() {
            self.0 = Pool::new(PoolConfig { slot_len: SLOT as u32, slots: 8192 }).ok();
        }
        let pool = self.0.as_ref()?;
        let mut news = next.slices().filter(|slice| slice.len() >= PAYLOAD_MIN);
        let (mut out, mut changed) = (SendList::new(), false);
        for slice in list.slices() {
            let mut bytes = slice.to_vec();
            if bytes.len() >= PAYLOAD_MIN
                && let Some(new) = news.next()
            {
                let len = new.len().min(bytes.len()) / PAYLOAD_MIN * PAYLOAD_MIN;
                bytes[..len].copy_from_slice(&new[..len]);
                changed |= bytes != slice;
            }
            for piece in bytes.chunks(SLOT) {
                let mut buffer: Buffer = pool.take()?;
                buffer.bytes_mut()?[..piece.len()].copy_from_slice(piece);
                if !out.has_room(1) {
                    return None;
                }
                let index = out.pin(buffer);
                out.segment(index, 0, piece.len() as u32);
            }
        }
        changed.then_some(out)
    }
}
