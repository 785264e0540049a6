//! Planted bugs: a ring that misbehaves on purpose, to prove that the tests would notice.
//!
//! A mutant sits between a shard and its ring and breaks one promise of the seam. It breaks it often enough
//! ([`MutantConfig::one_in`]) that a test which never notices is a test that does not look.

mod at_once;
mod history;
mod hooks;
mod reuse;

use history::History;
use reuse::{Held, Slots};
use stampede_ring::{
    Buffer, Chunk, Completion, Errno, Event, FileId, LooseFile, LooseSocket, Operation, Received, Ring,
    SocketId, Token, Wait,
};
use std::collections::{BTreeMap, VecDeque};

/// Which promise of the seam is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Flush answers success without flushing.
    FlushNoop,
    /// Flush is answered as soon as it is pushed, and done later.
    FlushEarly,
    /// A short send is reported as complete: its tail is lost.
    SendTailLost,
    /// A send is reported as shorter than it was: the peer gets bytes twice.
    SendTailRepeated,
    /// The slots of a send are given to the next send before the kernel has read them.
    SendSlotReused,
    /// A write is answered as soon as it is pushed, and done later.
    WriteEarly,
    /// A write is answered and never done.
    WriteDropped,
    /// Only the first half of a write is done, and all of it answered.
    WriteTorn,
    /// A write lands 512 bytes (or its own length, if longer) further on.
    WriteMisplaced,
    /// A read returns what was there before the last write.
    ReadStale,
    /// A read returns the bytes from its own length further on.
    ReadMisplaced,
    /// A read's or write's failure is reported as success.
    ErrorAsSuccess,
    /// A short read or write is reported as complete.
    ShortAsComplete,
    /// Discards and zeroes answer success without doing anything.
    ZeroNoop,
    /// A cancel neither cancels nor completes.
    CancelLost,
    /// A read's completion never comes.
    CompletionLost,
    /// Two transfers' completions carry each other's token.
    TokensSwapped,
    /// Received bytes vanish.
    ChunkLost,
    /// Two chunks of one connection come in the wrong order.
    ChunksSwapped,
    /// The end of a connection is never reported.
    EndLost,
    /// A peer is not woken.
    WakeLost,
}

impl Mutation {
    /// All mutations.
    pub const ALL: &[Mutation] = &[
        Mutation::FlushNoop,
        Mutation::FlushEarly,
        Mutation::SendTailLost,
        Mutation::SendTailRepeated,
        Mutation::SendSlotReused,
        Mutation::WriteEarly,
        Mutation::WriteDropped,
        Mutation::WriteTorn,
        Mutation::WriteMisplaced,
        Mutation::ReadStale,
        Mutation::ReadMisplaced,
        Mutation::ErrorAsSuccess,
        Mutation::ShortAsComplete,
        Mutation::ZeroNoop,
        Mutation::CancelLost,
        Mutation::CompletionLost,
        Mutation::TokensSwapped,
        Mutation::ChunkLost,
        Mutation::ChunksSwapped,
        Mutation::EndLost,
        Mutation::WakeLost,
    ];
}

/// How a mutant misbehaves.
#[derive(Clone, Copy, Debug)]
pub struct MutantConfig {
    /// What it does.
    pub mutation: Option<Mutation>,
    /// How often: once in this many opportunities, on average. 1 is always.
    pub one_in: u32,
    /// What its choices are drawn from.
    pub seed: u64,
}

impl MutantConfig {
    /// A ring that behaves.
    pub fn honest() -> Self {
        Self { mutation: None, one_in: 1, seed: 0 }
    }

    /// A ring with this bug, at every opportunity.
    pub fn always(mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), one_in: 1, seed: 0 }
    }
}

/// What the mutant must remember of an operation that it passed on.
enum Note {
    /// Its completion was already reported: swallow the real one.
    Swallow,
    /// Report this many bytes instead of what the ring says.
    Claim(u32),
    /// It was asked for this many bytes.
    Asked(u32),
    /// A read whose bytes to make stale.
    Stale { file: FileId, offset: u64, start: u32, len: u32 },
}

/// Marks the mutant's own tokens.
const ALIAS: u64 = 0xffb6 << 48;

/// A ring with a planted bug around an honest one.
pub struct Mutant<R> {
    ring: R,
    config: MutantConfig,
    rng: fastrand::Rng,
    hits: u64,
    /// By the token under which the operation was passed on: one of the mutant's own, since the shard may use a
    /// token again once it believes that the operation is done. With the shard's own token.
    notes: BTreeMap<Token, (Token, Note)>,
    noted: u64,
    /// Completions that the mutant makes itself or holds back.
    made: VecDeque<Completion>,
    scratch: Vec<Completion>,
    history: History,
    held: Option<Held>,
    slots: Slots,
}

impl<R> Mutant<R> {
    /// Wraps a ring.
    pub fn new(ring: R, config: MutantConfig) -> Self {
        Self {
            ring,
            config,
            rng: fastrand::Rng::with_seed(config.seed ^ 0x0bad),
            hits: 0,
            notes: BTreeMap::new(),
            noted: 0,
            made: VecDeque::new(),
            scratch: Vec::new(),
            history: History::default(),
            held: None,
            slots: Slots::new(),
        }
    }

    /// How often it misbehaved.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// The ring inside.
    pub fn inner(&self) -> &R {
        &self.ring
    }

    /// The ring inside, to set up files and listeners.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Whether to misbehave in this way now.
    fn strikes(&mut self, mutation: Mutation) -> bool {
        let hit = self.config.mutation == Some(mutation)
            && (self.config.one_in <= 1 || self.rng.u32(..self.config.one_in) == 0);
        self.hits += u64::from(hit);
        hit
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }

    /// The token under which the next noted operation is passed on.
    fn next_alias(&mut self) -> Token {
        self.noted += 1;
        Token(ALIAS | self.noted)
    }

    /// The token under which the shard's operation was passed on.
    fn alias_of(&self, target: Token) -> Token {
        let alias =
            self.notes.iter().find(|(_, (token, note))| *token == target && !matches!(note, Note::Swallow));
        alias.map_or(target, |(alias, _)| *alias)
    }

    fn report(&mut self, token: Token, event: Event) {
        self.made.push_back(Completion { token, event });
    }

    fn report_moved(&mut self, token: Token, moved: u32, buffer: Buffer) {
        self.report(token, Event::Transferred { result: Ok(moved), buffer });
    }
}

impl<R: Ring> Ring for Mutant<R> {
    fn push(&mut self, token: Token, operation: Operation) -> Result<(), Operation> {
        self.push_mutated(token, operation)
    }

    fn at_once(&mut self, operation: Operation) -> Result<Event, Operation> {
        self.at_once_mutated(operation)
    }

    fn submit(&mut self, wait: Wait) -> Result<(), Errno> {
        // What was held back goes out before the shard sleeps; where the queue is full, at the next submit.
        let wait = if wait != Wait::No && !self.release_held() { Wait::No } else { wait };
        let wait = if self.made.is_empty() { wait } else { Wait::No };
        self.ring.submit(wait)
    }

    fn has_news(&mut self) -> bool {
        !self.made.is_empty() || self.ring.has_news()
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize {
        let before = batch.len();
        self.pull(batch.capacity() - before);
        while batch.len() < batch.capacity()
            && let Some(completion) = self.made.pop_front()
        {
            batch.push(completion);
        }
        batch.len() - before
    }

    fn recycle(&mut self, chunk: Chunk) {
        self.ring.recycle(chunk);
    }

    fn adopt(&mut self, socket: LooseSocket) -> Result<SocketId, (Errno, LooseSocket)> {
        self.ring.adopt(socket)
    }

    fn take_file(&mut self, file: LooseFile) -> Result<FileId, Errno> {
        self.ring.take_file(file)
    }

    fn drop_file(&mut self, file: FileId) {
        self.ring.drop_file(file);
    }
}

/// Whether a completion brings a chunk.
fn is_chunk(event: &Event) -> bool {
    matches!(event, Event::Received { received: Received::Chunk(_), .. })
}
