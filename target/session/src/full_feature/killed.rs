//! The tags of tasks that ended while their initiator may still be sending data for them.

use stampede_wire::RESERVED_TAG;

/// A ring of Initiator Task Tags, the oldest overwritten first. Data-Out for them is taken and dropped: its sender
/// had not heard of the end yet, or (open-iscsi) never sends it, so nothing waits for it.
#[derive(Debug)]
pub(crate) struct KilledTags {
    /// `RESERVED_TAG` where there is none. Empty until the first.
    tags: Vec<u32>,
    capacity: usize,
    next: usize,
    any: bool,
}

impl KilledTags {
    /// A ring of `capacity` tags, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { tags: Vec::new(), capacity: capacity.max(1), next: 0, any: false }
    }

    pub(crate) fn remember(&mut self, itt: u32) {
        if self.tags.is_empty() {
            self.tags.resize(self.capacity, RESERVED_TAG);
        }
        self.tags[self.next] = itt;
        self.next = (self.next + 1) % self.tags.len();
        self.any = true;
    }

    pub(crate) fn contains(&self, itt: u32) -> bool {
        self.any && itt != RESERVED_TAG && self.tags.contains(&itt)
    }

    /// A new task took the tag.
    #[inline]
    pub(crate) fn reuse(&mut self, itt: u32) {
        if self.any {
            self.strike(itt);
        }
    }

    #[cold]
    fn strike(&mut self, itt: u32) {
        self.tags.iter_mut().filter(|held| **held == itt).for_each(|held| *held = RESERVED_TAG);
        self.any = self.tags.iter().any(|held| *held != RESERVED_TAG);
    }
}
