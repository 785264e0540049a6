//! Copying to where nobody looks soon: a block of a file, a slot of an overlay.
//!
//! An ordinary store to a line that is not in the cache first reads that line from memory. Of a 4 KiB block at a random
//! place of a large image that is 64 lines that nobody wants: about half of the time that such a copy takes. Stores past
//! the cache (MOVNTDQ, which every x86-64 has) leave it out. Where they do not exist, an ordinary copy is made.

/// Shorter copies go through the cache: their edges and the fence cost more than the lines.
const LEN_MIN: usize = 1024;

/// Copies `source` to a `target` that is probably in no cache and that nobody is about to read. The two have the same
/// length; of different ones, as much is copied as the shorter has.
#[inline]
pub fn copy_to_cold(target: &mut [u8], source: &[u8]) {
    let len = target.len().min(source.len());
    // SAFETY: both are references, so valid for `len` bytes, and the mutable one overlaps nothing.
    #[allow(unsafe_code, reason = "one copy for slices and for mappings that must not be referred to")]
    unsafe {
        copy_to_cold_raw(source.as_ptr(), target.as_mut_ptr(), len);
    }
}

/// As [`copy_to_cold`], for memory of which no reference may be made.
///
/// # Safety
/// `source` is valid for reading `len` bytes, `target` for writing them, and they do not overlap.
#[allow(unsafe_code, reason = "see above")]
#[inline]
pub(crate) unsafe fn copy_to_cold_raw(source: *const u8, target: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if len >= LEN_MIN {
        // SAFETY: as promised by the caller.
        return unsafe { past_the_cache(source, target, len) };
    }
    // SAFETY: as promised by the caller.
    unsafe { std::ptr::copy_nonoverlapping(source, target, len) }
}

/// # Safety
/// As [`copy_to_cold_raw`], and `len` is at least 64.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "stores past the cache are intrinsics on raw pointers")]
unsafe fn past_the_cache(source: *const u8, target: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    /// Bytes of a cache line: written whole, or the line is read after all.
    const LINE: usize = 64;
    const VECTOR: usize = size_of::<__m128i>();

    let head = target.align_offset(LINE).min(len);
    let body = (len - head) / LINE * LINE;
    let tail = head + body;
    // SAFETY: `head + body <= len`, so all accesses are within what the caller promised; stores of the body are aligned
    // since `head` ends at a line's begin, and loads need not be. SSE2 is part of x86-64. The fence makes the stores
    // visible before whatever follows, as ordinary stores are, for other threads and for the kernel.
    unsafe {
        std::ptr::copy_nonoverlapping(source, target, head);
        for line in (head..tail).step_by(LINE) {
            let from = source.add(line).cast::<__m128i>();
            let to = target.add(line).cast::<__m128i>();
            let vectors: [__m128i; LINE / VECTOR] = std::array::from_fn(|i| _mm_loadu_si128(from.add(i)));
            for (i, vector) in vectors.into_iter().enumerate() {
                _mm_stream_si128(to.add(i), vector);
            }
        }
        std::ptr::copy_nonoverlapping(source.add(tail), target.add(tail), len - tail);
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_what_an_ordinary_copy_does(
            from in 0usize..80, to in 0usize..80, len in 0usize..6000, seed: u8,
        ) {
            let source: Vec<u8> = (0..6100usize).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
            let mut target = vec![0xa5u8; 6200];
            let mut wanted = target.clone();
            wanted[to..to + len].copy_from_slice(&source[from..from + len]);
            copy_to_cold(&mut target[to..to + len], &source[from..from + len]);
            prop_assert_eq!(target, wanted);
        }
    }

    #[test]
    fn of_different_lengths_the_shorter_counts() {
        let mut target = [0u8; 3000];
        copy_to_cold(&mut target, &[1; 2000]);
        assert!(target[..2000].iter().all(|byte| *byte == 1) && target[2000..].iter().all(|byte| *byte == 0));
    }
}
