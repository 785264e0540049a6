//! What the kernel reads to start a vectored send: the message header and the list of pieces.

use crate::send_list::SendList;
use smallvec::SmallVec;
use std::ptr::NonNull;

struct Message {
    header: libc::msghdr,
    iovecs: SmallVec<[libc::iovec; 16]>,
}

/// An owned message header at an address that stays, whatever moves its owner. It is used again and again, so that a
/// send takes no memory from the allocator once its list has had its usual length.
pub(super) struct SendState {
    message: NonNull<Message>,
}

impl SendState {
    pub(super) fn new() -> Self {
        let message = Box::new(Message { header: empty_header(), iovecs: SmallVec::new() });
        Self { message: NonNull::from(Box::leak(message)) }
    }

    /// Points the header at what is left of the list, up to the most pieces a send may have, and returns the header's
    /// address, and where what it points at lies. It is valid until the list or this state is changed or dropped; what lies
    /// in a file may lie elsewhere once the file is changed.
    #[allow(unsafe_code, reason = "the header's address must not depend on who holds this state")]
    pub(super) fn prepare(&mut self, list: &SendList, ring: u32) -> (*const libc::msghdr, Laid) {
        // SAFETY: `message` was made from a box by `new` and is freed only by `drop`; `&mut self` makes this the only
        // reference to it.
        let message = unsafe { self.message.as_mut() };
        message.iovecs.clear();
        let laid = match list.iovecs(ring, &mut message.iovecs) {
            Some(false) => Laid::InSlots,
            Some(true) => Laid::InFiles,
            None => {
                // A send of it fails with EFAULT.
                message.iovecs.clear();
                message.iovecs.push(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 });
                Laid::Lost
            }
        };
        message.iovecs.truncate(SendList::SEGMENTS_MAX);
        message.header.msg_iov = message.iovecs.as_mut_ptr();
        message.header.msg_iovlen = message.iovecs.len();
        (&raw const message.header, laid)
    }
}

/// Where the bytes of a send lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Laid {
    /// All in slots, where they stay.
    InSlots,
    /// Some in files.
    InFiles,
    /// Some in files that were shortened.
    Lost,
}

impl Drop for SendState {
    #[allow(unsafe_code, reason = "the counterpart of `new`")]
    fn drop(&mut self) {
        // SAFETY: made from a box by `new`, not freed before, and not used after.
        drop(unsafe { Box::from_raw(self.message.as_ptr()) });
    }
}

impl std::fmt::Debug for SendState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendState")
    }
}

#[allow(
    unsafe_code,
    reason = "libc's structure has no constructor, since its padding differs between systems"
)]
fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` consists of integers and raw pointers, for all of which zero is a valid value.
    unsafe { std::mem::zeroed() }
}
