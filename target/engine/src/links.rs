//! Bounded queues between shards, and between a shard and the control thread. Nothing here blocks.

use crate::messages::{FromControl, ShardId, ToControl};
use crate::request::Message;
use crossbeam::channel::{Sender, TrySendError};
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// From one shard to one other.
#[derive(Debug)]
struct Queue {
    messages: ArrayQueue<Message>,
    /// The receiver has been woken for what is in the queue.
    notified: AtomicBool,
}

/// One shard's ends of its queues to and from the others.
#[derive(Debug)]
pub struct MeshEnd {
    /// By shard number; its own place is unused.
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Peer {
    out: Arc<Queue>,
    inward: Arc<Queue>,
    /// What the queue had no room for, in order. Bounded by the command windows of this shard's sessions.
    kept: VecDeque<Message>,
}

impl MeshEnd {
    /// The ends for `shards` shards, each queue with room for `capacity` messages.
    pub fn mesh(shards: u16, capacity: usize) -> Vec<Self> {
        let count = usize::from(shards);
        let queue = || {
            Arc::new(Queue { messages: ArrayQueue::new(capacity.max(1)), notified: AtomicBool::new(false) })
        };
        let queues: Vec<Vec<Arc<Queue>>> =
            (0..count).map(|_| (0..count).map(|_| queue()).collect()).collect();
        (0..count)
            .map(|me| Self {
                peers: (0..count)
                    .map(|other| Peer {
                        out: Arc::clone(&queues[me][other]),
                        inward: Arc::clone(&queues[other][me]),
                        kept: VecDeque::new(),
                    })
                    .collect(),
            })
            .collect()
    }

    /// Numbers of all shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.peers.len() as u16).map(ShardId)
    }

    /// Sends, or keeps the message here while the queue is full: then false, and the caller closes the window of
    /// whoever brought it.
    pub(crate) fn send(&mut self, to: ShardId, message: Message) -> bool {
        let Some(peer) = self.peers.get_mut(usize::from(to.0)) else { return true };
        if !peer.kept.is_empty() {
            peer.kept.push_back(message);
            return false;
        }
        match peer.out.messages.push(message) {
            Ok(()) => true,
            Err(message) => {
                peer.kept.push_back(message);
                false
            }
        }
    }

    /// Sends what was kept, as far as there is room; true when nothing is kept any more.
    pub(crate) fn flush(&mut self) -> bool {
        let mut all = true;
        for peer in &mut self.peers {
            while let Some(message) = peer.kept.pop_front() {
                if let Err(message) = peer.out.messages.push(message) {
                    peer.kept.push_front(message);
                    all = false;
                    break;
                }
            }
        }
        all
    }

    /// Whether messages wait here for room in a queue.
    pub(crate) fn keeps(&self) -> bool {
        self.peers.iter().any(|peer| !peer.kept.is_empty())
    }

    /// The shards that have messages from here and were not woken for them yet. Waking them is now the caller's.
    pub(crate) fn to_wake(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.peers.iter().zip(0..).filter_map(|(peer, number)| {
            let wakes = !peer.out.messages.is_empty() && !peer.out.notified.swap(true, Ordering::AcqRel);
            wakes.then_some(ShardId(number))
        })
    }

    /// Takes up to `most` messages from each peer; true when more are waiting.
    pub(crate) fn receive(&mut self, most: usize, into: &mut Vec<Message>) -> bool {
        let mut more = false;
        for peer in &self.peers {
            peer.inward.notified.store(false, Ordering::Release);
            for _ in 0..most {
                let Some(message) = peer.inward.messages.pop() else { break };
                into.push(message);
            }
            more |= !peer.inward.messages.is_empty();
        }
        more
    }
}

/// A shard's ends of its queues to and from the control thread.
#[derive(Debug)]
pub struct ControlLink {
    to: Sender<ToControl>,
    from: Arc<ArrayQueue<FromControl>>,
    kept: VecDeque<ToControl>,
}

impl ControlLink {
    /// Sends into `to`; receives from `from`, whose other end wakes this shard's ring after pushing.
    pub fn new(to: Sender<ToControl>, from: Arc<ArrayQueue<FromControl>>) -> Self {
        Self { to, from, kept: VecDeque::new() }
    }

    /// Sends, or keeps the message while there is no room. At most a few per session are under way.
    pub(crate) fn send(&mut self, message: ToControl) {
        self.kept.push_back(message);
        self.flush();
    }

    /// Sends what was kept; true when nothing is kept any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(message) = self.kept.pop_front() {
            match self.to.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.kept.push_front(message);
                    return false;
                }
                // The control thread is gone, which ends the process: nobody is left to tell.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        true
    }

    /// The next message.
    pub(crate) fn receive(&self) -> Option<FromControl> {
        self.from.pop()
    }
}
