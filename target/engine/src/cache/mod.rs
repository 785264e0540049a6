//! One shard's part in the golden cache: its lookups and pins, the blocks that have their home here, and which of them
//! are read ahead ([`ahead`]).
//!
//! ```text
//!  job of this shard ─► pin ─► (hit) a piece of its answer
//!                        └───► want ─► home here: Home::ask ─► a read into the block's slot
//!                                  └─► home elsewhere: Message::Fetch ─► ... ─► Message::Fetched
//!  read completed ─► Home::done ─► every waiting job, of whatever shard, looks again
//! ```
//!
//! A job that finds its block neither here nor coming, because there is no memory for it or it could not be read, reads
//! past the cache: so the cache can make nothing fail.

mod ahead;

use crate::errno::{EAGAIN, EINTR};
use crate::messages::{GoldenId, GoldenReport, ShardId, WarmReport, WarmState};
use crate::pusher::Pusher;
use crate::request::Message;
use crate::setup::{CacheSetup, GoldenSetup};
use crate::stats::Counters;
use crate::token::{Key, Kind, Table, token};
use ahead::Run;
use stampede_image::align::Alignment;
use stampede_image::cache::{Ask, BLOCK, BlockKey, Home, Prefetch, Published};
use stampede_image::recording::Route;
use stampede_ring::{Buffer, Errno, Event, FileId, Operation, Ring};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Blocks that are looked at in one turn for reading ahead.
const LOOKS: usize = 1024;
/// How soon a run that waits for its clients looks again.
const LOOK_AGAIN_NS: u64 = 10_000_000;

/// A job that waits for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    /// Its shard.
    pub(crate) shard: ShardId,
    /// Its place there.
    pub(crate) job: Key,
}

/// The answer to [`Cache::want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The job is told when it is there, or not to be had.
    Waits,
    /// It has just come: look again.
    Look,
    /// It is not to be had: read past the cache.
    Past,
}

/// A golden whose blocks are cached.
struct Golden {
    file: FileId,
    alignment: Alignment,
    len_bytes: u64,
}

/// A read into a slot.
#[derive(Clone, Copy, Debug)]
struct Read {
    block: BlockKey,
    file: FileId,
    /// Byte offset in the file of the next go.
    offset: u64,
    /// First byte of the slot that the next go fills.
    start: u32,
    /// Bytes that the next go asks for.
    len: u32,
    /// Bytes of those that must arrive: the file may end in its last block.
    need: u32,
    /// Nobody had asked for it when it began.
    ahead: bool,
}

/// See the module.
pub(crate) struct Cache {
    setup: CacheSetup,
    shard: ShardId,
    home: Home<Waiter>,
    goldens: BTreeMap<u32, Golden>,
    reads: Table<Read>,
    /// Of these, reads ahead.
    reads_ahead: usize,
    /// What is being read ahead, or was, by golden.
    runs: BTreeMap<u32, Run>,
    /// Whether any run goes on.
    reads_on: bool,
    /// When a run that waits for its clients is to look again.
    look_again_ns: Option<u64>,
    /// For other shards.
    pub(crate) outgoing: VecDeque<(ShardId, Message)>,
}

impl Cache {
    pub(crate) fn new(setup: CacheSetup, shard: ShardId) -> Self {
        let home = Home::new(setup.slots_of(shard), Arc::clone(&setup.heat), Arc::clone(&setup.grace));
        Self {
            setup,
            shard,
            home,
            goldens: BTreeMap::new(),
            reads: Table::default(),
            reads_ahead: 0,
            runs: BTreeMap::new(),
            reads_on: false,
            look_again_ns: None,
            outgoing: VecDeque::new(),
        }
    }

    pub(crate) fn add_golden(&mut self, setup: &GoldenSetup) {
        let Some(published) = &setup.published else { return };
        let GoldenSetup { golden: GoldenId(number), file, alignment, len_bytes, .. } = *setup;
        self.goldens.insert(number, Golden { file, alignment, len_bytes });
        self.home.add_golden(number, Arc::clone(published));
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn enter(&self) {
        self.setup.grace.enter(self.shard.0);
    }

    /// A turn ends: what was looked up in it is pinned.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.setup.grace.leave(self.shard.0);
        if self.home.is_due() {
            let pool = &self.setup.pool;
            self.home.tend(|slot| pool.is_pinned(slot));
        }
    }

    /// A handle to a block, if it is in memory.
    #[inline]
    pub(crate) fn pin(&self, published: &Published, block: u32) -> Option<Buffer> {
        let slot = published.get(block)?;
        self.setup.heat.touch(slot);
        self.setup.pool.pin(slot, self.shard.0)
    }

    /// A job of this shard wants a block that it did not find.
    pub(crate) fn want<R: Ring>(
        &mut self,
        block: BlockKey,
        job: Key,
        pusher: &mut Pusher<R>,
        counters: &mut Counters,
    ) -> Wanted {
        counters.cache_misses += 1;
        let waiter = Waiter { shard: self.shard, job };
        let home = ShardId(block.home(self.setup.shards));
        if home == self.shard {
            return self.ask(block, waiter, pusher, counters);
        }
        self.outgoing.push_back((home, Message::Fetch { block, waiter }));
        Wanted::Waits
    }

    /// A job of whatever shard wants a block whose home is here.
    pub(crate) fn ask<R: Ring>(
        &mut self,
        block: BlockKey,
        waiter: Waiter,
        pusher: &mut Pusher<R>,
        counters: &mut Counters,
    ) -> Wanted {
        match self.home.ask(block, waiter) {
            Ask::Published => Wanted::Look,
            Ask::Waits => Wanted::Waits,
            Ask::Full(_) => Wanted::Past,
            Ask::Read { slot } => match self.read(block, slot, false, pusher, counters) {
                Some(()) => {
                    if let Some(run) = self.runs.get_mut(&block.golden) {
                        run.missed(block.block);
                    }
                    Wanted::Waits
                }
                None => {
                    // Nobody else can have asked for it yet.
                    self.home.done(block, false);
                    Wanted::Past
                }
            },
        }
    }

    /// Begins to read a block into its slot.
    fn read<R: Ring>(
        &mut self,
        block: BlockKey,
        slot: u32,
        ahead: bool,
        pusher: &mut Pusher<R>,
        counters: &mut Counters,
    ) -> Option<()> {
        let golden = self.goldens.get(&block.golden)?;
        let offset = u64::from(block.block) * BLOCK;
        let need = golden.len_bytes.checked_sub(offset).filter(|left| *left > 0)?.min(BLOCK);
        let len = need.next_multiple_of(u64::from(golden.alignment.offset)).min(BLOCK);
        let buffer = self.setup.pool.fill(slot)?;
        let read =
            Read { block, file: golden.file, offset, start: 0, len: len as u32, need: need as u32, ahead };
        let key = self.reads.insert(read).ok()?;
        counters.cache_reads += 1;
        counters.cache_reads_ahead += u64::from(ahead);
        self.reads_ahead += usize::from(ahead);
        push(key, &read, buffer, pusher);
        Some(())
    }

    /// A read has completed, or a part of it: the jobs that waited for its block, and whether it is there. None of them
    /// while the rest is still to be read.
    pub(crate) fn completed<R: Ring>(
        &mut self,
        key: Key,
        event: Event,
        pusher: &mut Pusher<R>,
    ) -> (Vec<Waiter>, bool) {
        let (Event::Transferred { result, mut buffer }, Some(read)) = (event, self.reads.get_mut(key)) else {
            debug_assert!(false, "a cache read's token on a completion that is not one's");
            return (Vec::new(), false);
        };
        let done = match result {
            Ok(done) if done >= read.need => true,
            Ok(done) if done > 0 => {
                read.offset += u64::from(done);
                read.start += done;
                read.len -= done;
                read.need -= done;
                push(key, read, buffer, pusher);
                return (Vec::new(), false);
            }
            Err(Errno(EINTR | EAGAIN)) => {
                push(key, read, buffer, pusher);
                return (Vec::new(), false);
            }
            failed => {
                tracing::warn!(golden = read.block.golden, offset = read.offset, result = ?failed, "reading a golden failed");
                false
            }
        };
        let (block, ahead) = (read.block, read.ahead);
        // What is behind the end of the file reads as zeros, not as what was in the slot before.
        if done
            && let Some(tail) =
                buffer.bytes_mut().and_then(|bytes| bytes.get_mut((read.start + read.need) as usize..))
        {
            tail.fill(0);
        }
        // It must be gone before anybody finds the block: the slot is pinned only once nobody fills it.
        drop(buffer);
        self.reads.discard(key);
        if ahead {
            self.reads_ahead = self.reads_ahead.saturating_sub(1);
            if let Some(run) = self.runs.get_mut(&block.golden).filter(|_| !done) {
                run.failed();
            }
        }
        (self.home.done(block, done).unwrap_or_default(), done)
    }

    /// Begins to read blocks of a golden ahead, unless that is being done.
    pub(crate) fn warm(&mut self, golden: GoldenId, route: Route, paced: bool) {
        let (shards, shard) = (self.setup.shards, self.shard.0);
        let is_own = |block| BlockKey { golden: golden.0, block }.home(shards) == shard;
        let is_known = self.goldens.contains_key(&golden.0);
        if is_known && self.runs.get(&golden.0).is_none_or(|run| run.gives_way(paced)) {
            self.runs.insert(golden.0, Run::new(route, paced, shards, is_own));
            self.reads_on = true;
        }
    }

    /// Reads nothing more of a golden ahead, or of any.
    pub(crate) fn stop_warming(&mut self, golden: Option<GoldenId>) {
        let runs = self.runs.iter_mut().filter(|(number, _)| golden.is_none_or(|only| only.0 == **number));
        for (_, run) in runs.filter(|(_, run)| run.state.is_active()) {
            run.state = WarmState::Stopped;
        }
    }

    /// Whether [`Cache::read_ahead`] has something to do.
    #[inline]
    pub(crate) fn reads_on(&self) -> bool {
        self.reads_on
    }

    /// Goes on with reading ahead, as far as demand and clients let it; true when there is more to do now.
    pub(crate) fn read_ahead<R: Ring>(
        &mut self,
        now_ns: u64,
        pusher: &mut Pusher<R>,
        counters: &mut Counters,
    ) -> bool {
        (self.look_again_ns, self.reads_on) = (None, false);
        let mut more = false;
        let mut runs = std::mem::take(&mut self.runs);
        for (golden, run) in runs.iter_mut().filter(|(_, run)| run.state.is_active()) {
            more |= self.go_on(*golden, run, now_ns, pusher, counters);
            self.reads_on |= run.state.is_active();
        }
        self.runs = runs;
        more
    }

    fn go_on<R: Ring>(
        &mut self,
        golden: u32,
        run: &mut Run,
        now_ns: u64,
        pusher: &mut Pusher<R>,
        counters: &mut Counters,
    ) -> bool {
        for _ in 0..LOOKS {
            let Some(block) = run.next() else {
                // The last reads may still fail.
                if self.reads_ahead == 0 {
                    run.state = WarmState::Done;
                }
                return false;
            };
            let demand = self.reads.len().saturating_sub(self.reads_ahead);
            if self.reads_ahead >= ahead::depth(self.setup.shards, demand) {
                return false;
            }
            if run.waits(now_ns, |block| self.home.is_unused(BlockKey { golden, block })) {
                self.look_again_ns = Some(now_ns + LOOK_AGAIN_NS);
                return false;
            }
            let key = BlockKey { golden, block };
            let was_read = match self.home.prefetch(key) {
                Prefetch::There => false,
                Prefetch::Read { slot } => match self.read(key, slot, true, pusher, counters) {
                    Some(()) => true,
                    None => {
                        self.home.done(key, false);
                        run.failed();
                        false
                    }
                },
                Prefetch::Full => {
                    run.state = WarmState::Full;
                    return false;
                }
                Prefetch::Unknown => {
                    run.state = WarmState::Stopped;
                    return false;
                }
            };
            run.advance(was_read);
            if !run.state.is_active() {
                return false;
            }
        }
        true
    }

    /// When a run that waits for its clients is to look again.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.look_again_ns
    }

    /// Whether reads are in flight.
    pub(crate) fn is_reading(&self) -> bool {
        self.reads.len() > 0
    }

    /// The goldens' blocks here, and what is read ahead of them.
    pub(crate) fn reports(&self) -> Vec<GoldenReport> {
        let report = |golden: &u32| {
            let (resident, ahead) = self.home.figures(*golden);
            let warming = self.runs.get(golden).map(|run| {
                let (blocks, done, failed) = run.progress();
                WarmReport { state: run.state, blocks, done, failed }
            });
            GoldenReport { golden: GoldenId(*golden), resident, ahead, warming }
        };
        self.goldens.keys().map(report).collect()
    }

    /// Bytes of blocks that have their home here and are in memory, and that could be.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let all = self.setup.slots_of(self.shard).len() as u64;
        (self.home.resident() as u64 * BLOCK, all * BLOCK)
    }
}

fn push<R: Ring>(key: Key, read: &Read, buffer: Buffer, pusher: &mut Pusher<R>) {
    let Read { file, offset, start, len, .. } = *read;
    pusher.push(token(Kind::CacheRead, key, 0), Operation::Read { file, offset, buffer, start, len });
}
