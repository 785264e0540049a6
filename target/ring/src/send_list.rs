//! What one vectored send sends.

use crate::memory::{Buffer, Lies};
use smallvec::SmallVec;

/// One piece of a send: bytes `start..start + len` of the list's buffer number `buffer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index into [`SendList::buffers`].
    pub buffer: u16,
    /// First byte.
    pub start: u32,
    /// Bytes; never 0.
    pub len: u32,
}

/// A vectored send: buffers that are pinned until the send's last completion, and the pieces of them to send
/// in order. Lists are reused: [`SendList::clear`] keeps their capacity.
#[derive(Debug, Default)]
pub struct SendList {
    buffers: Vec<Buffer>,
    segments: Vec<Segment>,
    first: usize,
    bytes: u64,
}

impl SendList {
    /// The most segments that one send may have (IOV_MAX).
    pub const SEGMENTS_MAX: usize = 1024;

    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets go of all buffers.
    pub fn clear(&mut self) {
        Buffer::drop_all(&mut self.buffers);
        self.segments.clear();
        self.first = 0;
        self.bytes = 0;
    }

    /// Pins a buffer and returns its index for [`SendList::segment`].
    ///
    /// # Panics
    /// With more than 65,535 buffers; [`SendList::SEGMENTS_MAX`] is far below.
    #[inline]
    pub fn pin(&mut self, buffer: Buffer) -> u16 {
        let index = u16::try_from(self.buffers.len()).expect("a list has at most SEGMENTS_MAX buffers");
        self.buffers.push(buffer);
        index
    }

    /// Copies bytes to `start` in a pinned buffer and appends them, as [`SendList::segment`] does; false, and nothing is
    /// done, when the buffer is shared or they do not fit in it.
    #[inline(always)]
    pub fn copy(&mut self, buffer: u16, start: u32, bytes: &[u8]) -> bool {
        let target = self.buffers.get_mut(usize::from(buffer)).and_then(Buffer::bytes_mut);
        let start_at = start as usize;
        let Some(target) = target.and_then(|target| target.get_mut(start_at..start_at + bytes.len())) else {
            return false;
        };
        target.copy_from_slice(bytes);
        self.segment(buffer, start, bytes.len() as u32);
        true
    }

    /// Appends `buffer[start..start + len]`; joins it to the last segment where they are adjacent.
    #[inline]
    pub fn segment(&mut self, buffer: u16, start: u32, len: u32) {
        if len == 0 {
            return;
        }
        self.bytes += u64::from(len);
        // One that was sent is not added to: `first` is beyond it then.
        if let Some([.., last]) = self.segments.get_mut(self.first..)
            && last.buffer == buffer
            && last.start + last.len == start
        {
            last.len += len;
            return;
        }
        self.segments.push(Segment { buffer, start, len });
    }

    /// A pinned buffer, for writing headers into one that is not shared.
    #[inline]
    pub fn buffer_mut(&mut self, index: u16) -> Option<&mut Buffer> {
        self.buffers.get_mut(usize::from(index))
    }

    /// A pinned buffer.
    #[inline]
    pub fn buffer(&self, index: u16) -> Option<&Buffer> {
        self.buffers.get(usize::from(index))
    }

    /// How many buffers are pinned.
    #[inline]
    pub fn buffers_len(&self) -> usize {
        self.buffers.len()
    }

    /// Bytes still to send.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is left to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether this many further segments fit.
    #[inline]
    pub fn has_room(&self, segments: usize) -> bool {
        self.segments.len() - self.first + segments <= Self::SEGMENTS_MAX
    }

    /// The pieces still to send, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.segments[self.first..].iter().map(|segment| {
            let start = segment.start as usize;
            &self.buffers[usize::from(segment.buffer)].bytes()[start..start + segment.len as usize]
        })
    }

    /// Takes `sent` bytes off the front, after a short send.
    pub fn advance(&mut self, sent: u64) {
        if sent >= self.bytes {
            self.bytes = 0;
            self.first = self.segments.len();
            return;
        }
        let mut left = sent;
        self.bytes -= left;
        while left > 0 {
            let segment = &mut self.segments[self.first];
            if u64::from(segment.len) > left {
                segment.start += left as u32;
                segment.len -= left as u32;
                return;
            }
            left -= u64::from(segment.len);
            self.first += 1;
        }
    }

    /// Appends the pieces still to send, as (pointer, length) pairs for the kernel of a ring; whether any of them lies in a
    /// file, or `None`, and nothing that counts was appended, when the bytes of one are lost.
    pub(crate) fn iovecs(&self, ring: u32, out: &mut SmallVec<[libc::iovec; 16]>) -> Option<bool> {
        let (mut in_file, mut lost) = (false, false);
        out.extend(self.segments[self.first..].iter().map(|segment| {
            let buffer = &self.buffers[usize::from(segment.buffer)];
            let start = match buffer.lies(segment.start, segment.len, ring) {
                Lies::InSlot(start) => start,
                Lies::InFile(start) => {
                    in_file = true;
                    start
                }
                Lies::Lost => {
                    lost = true;
                    std::ptr::null()
                }
            };
            libc::iovec { iov_base: start.cast_mut().cast(), iov_len: segment.len as usize }
        }));
        (!lost).then_some(in_file)
    }

    /// Has all bytes lie in the list's buffers.
    pub(crate) fn settle(&self) {
        self.slices().for_each(|_| {});
    }
}
