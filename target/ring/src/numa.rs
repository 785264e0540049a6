//! NUMA nodes: from which one a thread takes memory, and on which ones memory is.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;

/// Pages looked at per stretch of memory: enough to see a share of a hundredth, and quick.
const SAMPLES_MAX: usize = 512;
/// Bytes of a page. On kernels with larger ones a page is looked at twice, which changes no share.
const PAGE: usize = 4096;
/// The highest node number that a policy of ours can name, and one more; the kernel's limit is 1,024.
const NODES_MAX: usize = 1024;
/// The bits in a word of the kernel's node masks.
const WORD_BITS: usize = u64::BITS as usize;

/// On which nodes pages are, by sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Pages looked at that are in memory, by node.
    pub by_node: BTreeMap<u16, u64>,
    /// Pages looked at that nobody has touched so far: they have no memory.
    pub untouched: u64,
}

impl Pages {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (node, count) in &other.by_node {
            *self.by_node.entry(*node).or_default() += count;
        }
        self.untouched += other.untouched;
    }
}

/// Has the calling thread, and the kernel on its behalf, take new memory from this node while it has some, else from
/// others. Threads and kernel workers that it starts inherit that.
///
/// # Errors
/// `InvalidInput` for a node that cannot be; ENOSYS on a kernel without NUMA; EPERM where a container's filter forbids
/// it.
pub fn prefer_node(node: u16) -> io::Result<()> {
    let node = usize::from(node);
    if node >= NODES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "node numbers end at 1023"));
    }
    let mut mask = [0u64; NODES_MAX / WORD_BITS];
    mask[node / WORD_BITS] |= 1 << (node % WORD_BITS);
    // SAFETY: the kernel reads the mask, which is as many bits long as it is told (the count is one more than the
    // bits that it reads), and changes nothing but the thread's own policy.
    #[allow(unsafe_code, reason = "neither rustix nor libc has a call for it")]
    let result =
        unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, mask.as_ptr(), NODES_MAX + 1) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// On which nodes the pages of a mapping are, looked at evenly from its start to its end.
///
/// # Errors
/// ENOSYS on a kernel without NUMA; EPERM where a container's filter forbids the question.
pub(crate) fn pages_of(start: NonNull<u8>, len: usize) -> io::Result<Pages> {
    let count = len.div_ceil(PAGE);
    let step = count.div_ceil(SAMPLES_MAX).max(1);
    let addresses: Vec<*mut libc::c_void> =
        (0..count).step_by(step).map(|page| start.as_ptr().wrapping_add(page * PAGE).cast()).collect();
    let mut status = vec![-libc::ENOENT; addresses.len()];
    // SAFETY: with no nodes given the kernel moves nothing: it reads `addresses` and writes as many numbers to
    // `status`, which is that long. It does not follow the addresses.
    #[allow(unsafe_code, reason = "neither rustix nor libc has a call for it")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            addresses.len(),
            addresses.as_ptr(),
            std::ptr::null::<libc::c_int>(),
            status.as_mut_ptr(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut pages = Pages::default();
    for status in status {
        match u16::try_from(status) {
            Ok(node) => *pages.by_node.entry(node).or_default() += 1,
            // Not there yet, or the page of zeros that all untouched memory reads as.
            Err(_) => pages.untouched += 1,
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Pool, PoolConfig};

    #[test]
    fn pages_are_on_the_node_that_a_thread_prefers_once_touched() {
        std::thread::spawn(|| {
            prefer_node(0).unwrap();
            let pool = Pool::new(PoolConfig { slot_len: 4096, slots: 64 }).unwrap();
            let untouched = pool.pages().unwrap();
            assert_eq!((untouched.by_node.len(), untouched.untouched), (0, 64));
            let mut slots: Vec<_> = (0..48).map(|_| pool.take().unwrap()).collect();
            slots.iter_mut().for_each(|slot| slot.bytes_mut().unwrap().fill(1));
            let pages = pool.pages().unwrap();
            assert_eq!(pages.untouched, 16);
            assert_eq!(pages.by_node.values().sum::<u64>(), 48);
            assert_eq!(pages.by_node.get(&0), Some(&48), "node 0 is there on every machine that runs tests");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn large_memory_is_sampled() {
        let pool = Pool::new(PoolConfig { slot_len: 1 << 20, slots: 64 }).unwrap();
        let pages = pool.pages().unwrap();
        assert_eq!(pages.untouched, SAMPLES_MAX as u64);
    }

    #[test]
    fn a_node_that_is_not_there_is_refused() {
        std::thread::spawn(|| {
            assert_eq!(prefer_node(1023).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(prefer_node(1024).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn samples_add_up() {
        let mut sum = Pages { by_node: [(0, 3)].into(), untouched: 1 };
        sum.add(&Pages { by_node: [(0, 1), (2, 5)].into(), untouched: 2 });
        assert_eq!(sum, Pages { by_node: [(0, 4), (2, 5)].into(), untouched: 3 });
    }
}
