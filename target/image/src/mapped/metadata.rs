//! The metadata of an image, as its plugin sees it: every patch of every plan is in it, durable or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use smallvec::SmallVec;
use stampede_plugin::{FileId, Free, Pages, Patch, Plan, Span, Step, Token};

use super::{
    Flush, Level, SectorWrite,
    order::{self, Waiting},
};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A page of one of an image's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey {
    /// The file.
    pub file: FileId,
    /// Which page of it: its byte offset divided by [`PAGE`].
    pub index: u64,
}

/// The metadata of an image: pages that were read, patches that are not durable, space that is to be free.
#[derive(Debug)]
pub struct Metadata {
    lengths: Vec<u64>,
    pages: BTreeMap<PageKey, Page>,
    pages_max: usize,
    /// Pages that were supplied for the call under way: they stay until it is answered.
    asked: Vec<PageKey>,
    /// Where the search for a page to forget goes on.
    hand: Option<PageKey>,
    waiting: Vec<Waiting>,
    frees: Vec<(Token, Vec<Free>)>,
    /// Patches of the flush under way.
    flushing: BTreeSet<u64>,
    /// Whether guest data was written that no flush has covered.
    data: bool,
}

/// Why a plan's patches cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// These pages must be supplied first: a patch changes a part of a sector that is not known.
    #[error("{} pages must be read first", .0.len())]
    Missing(Vec<PageKey>),
}

/// Why a journal cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// These pages must be supplied first; the journal's contents come back.
    #[error("{} pages must be read first", .0.len())]
    Missing(Vec<PageKey>, super::journal::Replay),
    /// A patch is not inside its file: somebody else has changed the file since.
    #[error("a patch at byte {offset} of file {} is beyond its end ({length} bytes): the file was changed since", .file.0)]
    Outside {
        /// The file.
        file: FileId,
        /// Where the patch begins, in bytes.
        offset: u64,
        /// The file's length in bytes.
        length: u64,
    },
}

#[derive(Debug)]
struct Page {
    /// With every patch.
    bytes: Box<[u8; PAGE]>,
    /// What the file has, or will have when the flush under way is done; while patches wait for this page, or are being written.
    durable: Option<Box<[u8; PAGE]>>,
    /// Which sectors of `bytes` are known, one bit each.
    known: u8,
    /// For how many reasons it stays: patches that are not durable, the call under way.
    holds: u32,
    /// Whether it was used since the hand passed.
    used: bool,
}

impl Page {
    fn empty() -> Self {
        Self { bytes: Box::new([0; PAGE]), durable: None, known: 0, holds: 0, used: true }
    }
}

impl Metadata {
    /// The metadata of an image whose files have these lengths in bytes. At most about `pages_max` pages are kept that nobody needs just now.
    #[must_use]
    pub fn new(lengths: Vec<u64>, pages_max: usize) -> Self {
        Self {
            lengths,
            pages: BTreeMap::new(),
            pages_max: pages_max.max(1),
            asked: Vec::new(),
            hand: None,
            waiting: Vec::new(),
            frees: Vec::new(),
            flushing: BTreeSet::new(),
            data: false,
        }
    }

    /// How many pages are kept.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// How many patches are not durable.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.flushing.len()
    }

    /// The pages of spans that a plugin asked for and that must be read, each once.
    #[must_use]
    pub fn missing(&self, spans: &[Span]) -> Vec<PageKey> {
        let mut missing = BTreeSet::new();
        for &span in spans {
            for key in keys(span.file, span.offset, span.length.into()) {
                if sectors(key, span.offset, span.length.into()) & !self.known(key) != 0 {
                    missing.insert(key);
                }
            }
        }
        missing.into_iter().collect()
    }

    /// A page as its file has it; shorter than [`PAGE`] only at the file's end. What is known already stays: it may have patches.
    /// It stays at hand until [`answered`](Self::answered).
    pub fn supply(&mut self, key: PageKey, found: &[u8]) {
        let page = self.pages.entry(key).or_insert_with(Page::empty);
        let mut whole = [0; PAGE];
        let length = found.len().min(PAGE);
        whole[..length].copy_from_slice(&found[..length]);
        for sector in (0..8).filter(|sector| page.known & 1 << sector == 0) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            page.bytes[range.clone()].copy_from_slice(&whole[range.clone()]);
            if let Some(durable) = &mut page.durable {
                durable[range.clone()].copy_from_slice(&whole[range]);
            }
        }
        page.known = u8::MAX;
        page.used = true;
        page.holds += 1;
        self.asked.push(key);
    }

    /// The call that pages were supplied for is over: they may be forgotten.
    pub fn answered(&mut self) {
        for key in std::mem::take(&mut self.asked) {
            self.release(key);
        }
        while self.pages.len() > self.pages_max && self.forget_one() {}
    }

    fn release(&mut self, key: PageKey) {
        if let Some(page) = self.pages.get_mut(&key) {
            page.holds = page.holds.saturating_sub(1);
            if page.holds == 0 {
                page.durable = None;
            }
        }
    }

    /// Guest data was written there: what pages have of it is not known any more.
    pub fn data_written(&mut self, file: FileId, offset: u64, length: u64) {
        self.data = true;
        let end = offset.saturating_add(length);
        let from = PageKey { file, index: offset / PAGE as u64 };
        let to = PageKey { file, index: end.div_ceil(PAGE as u64) };
        for (key, page) in self.pages.range_mut(from..to.max(from)) {
            page.known &= !sectors(*key, offset, length);
        }
    }

    /// Whether there is something that a flush must make durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.data || !self.waiting.is_empty()
    }

    /// Applies the patches of a plan whose data steps are done and whose journal entry is written. `data_written` was called for each of its steps.
    ///
    /// # Errors
    /// [`ApplyError::Missing`]: nothing was applied; the pages are to be supplied.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        self.check(&plan.meta)?;
        for step in &plan.now {
            if let Step::SetLength { file, length } = *step {
                self.set_length(file, length);
            }
        }
        for patch in &plan.meta {
            self.add(Waiting { id: Some(patch.id), patch: patch.clone() });
        }
        if !plan.free.is_empty() {
            self.frees.push((plan.token, plan.free.clone()));
        }
        Ok(())
    }

    /// Applies a patch of the host's own: bits of a sector bitmap, after the data.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_own(&mut self, patch: Patch) -> Result<(), ApplyError> {
        self.check(std::slice::from_ref(&patch))?;
        self.add(Waiting { id: None, patch });
        Ok(())
    }

    /// A file got another length, by a step of a plan.
    pub fn set_length(&mut self, file: FileId, length: u64) {
        let Some(old) = self.lengths.get_mut(usize::from(file.0)) else { return };
        *old = length;
        // What lay behind the end reads as zeros if the file grows again.
        let from = PageKey { file, index: length / PAGE as u64 };
        let to = PageKey { file, index: u64::MAX };
        for (key, page) in self.pages.range_mut(from..to) {
            page.known &= !sectors(*key, length, u64::MAX - length);
        }
    }

    /// Applies what a journal has, before the image is opened; a flush of everything must follow.
    ///
    /// # Errors
    /// When pages must be supplied first, or the file is not the one that the journal was written for; then nothing was applied.
    pub fn replay(&mut self, replay: super::journal::Replay) -> Result<(), ReplayError> {
        for Waiting { patch, .. } in &replay.patches {
            if order::end(patch) > self.file_length(patch.file) {
                return Err(ReplayError::Outside {
                    file: patch.file,
                    offset: patch.offset,
                    length: self.file_length(patch.file),
                });
            }
        }
        let patches: Vec<_> = replay.patches.iter().map(|waiting| waiting.patch.clone()).collect();
        if let Err(ApplyError::Missing(pages)) = self.check(&patches) {
            return Err(ReplayError::Missing(pages, replay));
        }
        // Nothing is known of what was durable when the process ended.
        self.data = true;
        replay.patches.into_iter().for_each(|waiting| self.add(waiting));
        Ok(())
    }

    /// The pages of which a patch changes a part of a sector that is not known.
    fn check(&self, patches: &[Patch]) -> Result<(), ApplyError> {
        let mut missing = BTreeSet::new();
        for patch in patches {
            for edge in [patch.offset, order::end(patch)]
                .into_iter()
                .filter(|edge| !edge.is_multiple_of(SECTOR as u64))
            {
                let key = PageKey { file: patch.file, index: edge / PAGE as u64 };
                if sectors(key, edge, 1) & !self.known(key) != 0 {
                    missing.insert(key);
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ApplyError::Missing(missing.into_iter().collect())) }
    }

    fn known(&self, key: PageKey) -> u8 {
        self.pages.get(&key).map_or(0, |page| page.known)
    }

    fn add(&mut self, waiting: Waiting) {
        let patch = &waiting.patch;
        for key in keys(patch.file, patch.offset, patch.bytes.len() as u64) {
            let page = self.pages.entry(key).or_insert_with(Page::empty);
            page.durable.get_or_insert_with(|| page.bytes.clone());
            put(&mut page.bytes, key, patch);
            page.known |= sectors(key, patch.offset, patch.bytes.len() as u64);
            page.holds += 1;
            page.used = true;
        }
        self.waiting.push(waiting);
    }

    /// What must be written to make everything durable that was applied, or (without `lazy_too`) everything but what may stay behind.
    /// One flush at a time: the next begins after [`end_flush`](Self::end_flush).
    pub fn begin_flush(&mut self, lazy_too: bool) -> Flush {
        let wanted = if lazy_too { vec![true; self.waiting.len()] } else { order::wanted(&self.waiting) };
        let mut keep = wanted.iter().map(|wanted| !wanted);
        let (later, now) =
            std::mem::take(&mut self.waiting).into_iter().partition(|_| keep.next().unwrap_or(false));
        self.waiting = later;
        let now: Vec<Waiting> = now;
        let levels = order::levels(&now, self.data);
        let count = levels.iter().max().map_or(u32::from(self.data), |last| last + 1);
        let levels = (0..count).map(|level| self.level(&now, &levels, level)).collect();
        self.data = false;
        let ids: Vec<_> = now.iter().filter_map(|waiting| waiting.id).collect();
        self.flushing.extend(&ids);
        let pages = now
            .iter()
            .flat_map(|Waiting { patch, .. }| keys(patch.file, patch.offset, patch.bytes.len() as u64))
            .collect();
        Flush { levels, ids, pages }
    }

    /// The sectors of one level, as the file has them when this level and those before it are written.
    fn level(&mut self, patches: &[Waiting], levels: &[u32], level: u32) -> Level {
        let mut touched: BTreeMap<PageKey, u8> = BTreeMap::new();
        for (Waiting { patch, .. }, _) in patches.iter().zip(levels).filter(|(_, of)| **of == level) {
            for key in keys(patch.file, patch.offset, patch.bytes.len() as u64) {
                if let Some(durable) = self.pages.get_mut(&key).and_then(|page| page.durable.as_mut()) {
                    put(durable, key, patch);
                    *touched.entry(key).or_default() |= sectors(key, patch.offset, patch.bytes.len() as u64);
                }
            }
        }
        let mut writes: Vec<SectorWrite> = Vec::new();
        for (key, mask) in touched {
            let Some(durable) = self.pages.get(&key).and_then(|page| page.durable.as_ref()) else { continue };
            let length = self.lengths.get(usize::from(key.file.0)).copied().unwrap_or(0);
            for sector in (0..8).filter(|sector| mask & 1 << sector != 0) {
                let offset = key.index * PAGE as u64 + (sector * SECTOR) as u64;
                let part = usize::try_from(length.saturating_sub(offset)).unwrap_or(SECTOR).min(SECTOR);
                let bytes = &durable[sector * SECTOR..][..part];
                match writes.last_mut() {
                    Some(last)
                        if last.file == key.file && last.offset + last.bytes.len() as u64 == offset =>
                    {
                        last.bytes.extend_from_slice(bytes);
                    }
                    _ => writes.push(SectorWrite { file: key.file, offset, bytes: bytes.to_vec() }),
                }
            }
        }
        Level { writes }
    }

    /// All of a flush is durable.
    pub fn end_flush(&mut self, flush: &Flush) {
        for id in &flush.ids {
            self.flushing.remove(id);
        }
        for key in &flush.pages {
            self.release(*key);
        }
    }

    /// Plans whose space is free now: it is durable that nobody refers to it. The host makes the holes, waits for readers, and tells the plugin.
    pub fn freed(&mut self) -> Vec<(Token, Vec<Free>)> {
        if self.frees.is_empty() {
            return Vec::new();
        }
        let mut waiting: BTreeSet<u64> = self.waiting.iter().filter_map(|waiting| waiting.id).collect();
        waiting.extend(&self.flushing);
        let is_waiting = |free: &Free| free.after.iter().any(|id| waiting.contains(id));
        let (later, now) =
            std::mem::take(&mut self.frees).into_iter().partition(|(_, frees)| frees.iter().any(is_waiting));
        self.frees = later;
        now
    }

    /// Forgets a page that nobody needs; one that was used since the last look stays this time. `false` when there is none.
    fn forget_one(&mut self) -> bool {
        for _ in 0..2 * self.pages.len() + 2 {
            let after = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let Some((&key, page)) = self.pages.range_mut((after, Bound::Unbounded)).next() else {
                self.hand = None;
                continue;
            };
            self.hand = Some(key);
            if !std::mem::take(&mut page.used) && page.holds == 0 {
                self.pages.remove(&key);
                return true;
            }
        }
        false
    }
}

impl Pages for Metadata {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        let length = u64::from(span.length);
        let mut bytes = Vec::with_capacity(span.length as usize);
        for key in keys(span.file, span.offset, length) {
            let page = self.pages.get_mut(&key)?;
            if sectors(key, span.offset, length) & !page.known != 0 {
                return None;
            }
            page.used = true;
            let range = inside(key, span.offset, length);
            bytes.extend_from_slice(&page.bytes[range]);
        }
        Some(bytes)
    }

    fn file_length(&self, file: FileId) -> u64 {
        self.lengths.get(usize::from(file.0)).copied().unwrap_or(0)
    }
}

/// The pages that a range touches.
fn keys(file: FileId, offset: u64, length: u64) -> impl Iterator<Item = PageKey> {
    let end = if length == 0 { offset } else { offset.saturating_add(length) };
    (offset / PAGE as u64..end.div_ceil(PAGE as u64)).map(move |index| PageKey { file, index })
}

/// The part of a page that a range has, in bytes of the page.
fn inside(key: PageKey, offset: u64, length: u64) -> std::ops::Range<usize> {
    let page = key.index.saturating_mul(PAGE as u64);
    let within = |at: u64| usize::try_from(at.saturating_sub(page)).unwrap_or(PAGE).min(PAGE);
    within(offset)..within(offset.saturating_add(length))
}

/// The sectors of a page that a range touches, one bit each.
fn sectors(key: PageKey, offset: u64, length: u64) -> u8 {
    let range = inside(key, offset, length);
    let touched = range.start / SECTOR..range.end.div_ceil(SECTOR);
    touched.fold(0, |mask, sector| mask | 1 << sector)
}

/// Puts the part of a patch that is on a page.
fn put(bytes: &mut [u8; PAGE], key: PageKey, patch: &Patch) {
    let range = inside(key, patch.offset, patch.bytes.len() as u64);
    let page = key.index * PAGE as u64;
    let from: SmallVec<[usize; 1]> =
        usize::try_from((page + range.start as u64).saturating_sub(patch.offset)).into_iter().collect();
    if let Some(part) = from.first().and_then(|from| patch.bytes.get(*from..from + range.len())) {
        bytes[range].copy_from_slice(part);
    }
}
