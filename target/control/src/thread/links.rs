//! The queues to the shards.

use crossbeam::queue::ArrayQueue;
use stampede_engine::messages::FromControl;
use std::collections::VecDeque;
use std::sync::Arc;

/// Wakes a shard that sleeps in its ring.
pub type Wake = Box<dyn Fn() + Send>;

/// The way to one shard. Never blocks: what the queue has no room for is kept here, in order.
pub struct ShardLink {
    queue: Arc<ArrayQueue<FromControl>>,
    wake: Wake,
    kept: VecDeque<FromControl>,
}

impl ShardLink {
    /// Pushes into `queue`, then calls `wake`.
    #[must_use]
    pub fn new(queue: Arc<ArrayQueue<FromControl>>, wake: Wake) -> Self {
        Self { queue, wake, kept: VecDeque::new() }
    }

    /// Sends, or keeps the message until [`ShardLink::flush`] finds room.
    pub fn send(&mut self, message: FromControl) {
        self.kept.push_back(message);
        self.flush();
    }

    /// Sends what was kept, as far as there is room.
    pub fn flush(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        while let Some(message) = self.kept.pop_front() {
            if let Err(message) = self.queue.push(message) {
                self.kept.push_front(message);
                break;
            }
        }
        (self.wake)();
    }

    /// Whether something is kept.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn nothing_is_lost_and_the_order_stays() {
        let queue = Arc::new(ArrayQueue::new(2));
        let wakes = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&wakes);
        let wake = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let mut link = ShardLink::new(Arc::clone(&queue), wake);
        for request in 0..5 {
            link.send(FromControl::Report { request });
        }
        assert!(link.is_full());
        let mut seen = Vec::new();
        for _ in 0..5 {
            while let Some(FromControl::Report { request }) = queue.pop() {
                seen.push(request);
            }
            link.flush();
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(!link.is_full() && wakes.load(Ordering::Relaxed) >= 3);
    }
}
