//! The arena of clones that outlive the process, and the ledger of what is in it: found or made before there are shards.
//!
//! ```text
//!   file of a tmpfs, or a memfd that the service manager keeps
//!     └► header: this boot's, this layout? ── no ──► cleared: all clones are lost
//!          └► clones of the ledger ⋈ records of epochs ⋈ goldens as they were ⋈ scratch space as it was
//!               ├─ all there ──► Survivor: its slots, blocks and zeroed ranges, for the shard that will own it
//!               └─ anything missing ──► taken off the ledger; the running owner is refused until it boots
//! ```

use crate::config::ByteSize;
use crate::registrar::{Backing, Keeper, Survivor, Target};
use crate::scratch::ScratchFile;
use stampede_engine::messages::{GoldenId, KeptClone};
use stampede_image::epoch::EpochRecord;
use stampede_image::ledger::{
    self, ByClone, CloneFacts, CloneNumber, Contents, Found, Header, Ledger, Mismatch, Parts, Spot, Stamp,
    layout,
};
use stampede_image::overlay::{Place, SLOT};
use stampede_image::scratch::Scratch;
use stampede_ring::file::Identity;
use stampede_ring::{Buffer, LastingFile, Pool, PoolConfig, Words};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The file in `--arena-dir`.
pub const FILE_NAME: &str = "stampede-arena";
/// Free slots in a row whose memory is worth giving back.
const CLEAR_MIN: u32 = 64;

/// Why clones cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The file is not there, or not usable.
    #[error("arena-dir: {path} cannot be used: {source}. Give a folder on a tmpfs that this user may write to, as /dev/shm", path = path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("arena: {path} is in use by another stampede. Stop that, or give this one a folder of its own", path = path.display())]
    InUse {
        /// Its path.
        path: PathBuf,
    },
    /// There is not enough memory.
    #[error(
        "arena: the tmpfs has no room for {size}: {source}. Give a smaller --arena, or a larger tmpfs (mount -o remount,size=...)"
    )]
    Space {
        /// How much it takes.
        size: ByteSize,
        /// Why.
        source: io::Error,
    },
    /// It cannot be mapped, or the host does not say which boot this is.
    #[error("arena: {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl KeptError {
    /// Whether another process has it, perhaps for a moment only.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    fn open(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::WouldBlock => Self::InUse { path },
            _ => Self::Open { path, source },
        }
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> KeptError {
    move |source| KeptError::System { what, source }
}

/// The arena's file before it is looked at.
#[derive(Debug)]
pub struct KeptFile {
    file: LastingFile,
    /// All of its memory is taken at once: a tmpfs may be full when it is wanted.
    preallocates: bool,
}

impl KeptFile {
    /// The file in a folder on a tmpfs; made if it is not there.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub fn in_folder(folder: &Path) -> Result<Self, KeptError> {
        let path = folder.join(FILE_NAME);
        let file = LastingFile::open(&path).map_err(KeptError::open(path))?;
        Ok(Self { file, preallocates: true })
    }

    /// A file that the service manager has kept.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub fn inherited(descriptor: i32) -> Result<Self, KeptError> {
        let path = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
        let file = LastingFile::inherited(descriptor).map_err(KeptError::open(path))?;
        Ok(Self { file, preallocates: false })
    }

    /// A new file, for the service manager to keep.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub fn unnamed() -> Result<Self, KeptError> {
        let file = LastingFile::unnamed(FILE_NAME).map_err(system("memfd_create"))?;
        Ok(Self { file, preallocates: false })
    }

    /// The file, to be handed on.
    #[must_use]
    pub fn file(&self) -> &LastingFile {
        &self.file
    }
}

/// What clones and their ledger are found by.
#[derive(Debug)]
pub struct Known<'a> {
    /// The records of all epochs.
    pub records: &'a [EpochRecord],
    /// The targets of this run.
    pub targets: &'a [Target],
    /// The goldens of this run.
    pub goldens: Vec<(GoldenId, Identity)>,
    /// The scratch space of this run.
    pub scratch: Option<(&'a ScratchFile, &'a Scratch)>,
}

/// The arena, and what was found in it.
#[derive(Debug)]
pub struct KeptArena {
    /// Its slots.
    pub pool: Arc<Pool>,
    /// What enters new clones.
    pub keeper: Keeper,
    /// Clones that go on.
    pub survivors: Vec<Survivor>,
    /// Clones that were there and cannot go on.
    pub lost: usize,
}

/// Words of the file, as the ledger wants them.
#[derive(Debug)]
struct FileWords(Words);

impl ledger::Words for FileWords {
    fn all(&self) -> &[AtomicU64] {
        self.0.all()
    }

    fn used(&self) -> Vec<Range<usize>> {
        // A file system that cannot tell has all of it looked at.
        self.0.used().unwrap_or_else(|_| std::iter::once(0..self.0.all().len()).collect())
    }

    fn take_memory(&self, word: usize) -> bool {
        self.0.take_memory(word).is_ok()
    }
}

impl KeptArena {
    /// Looks at the file, joins what is in it to what is known, and makes the arena of at least `slots` slots.
    ///
    /// # Errors
    /// See [`KeptError`]. The file is not damaged by it.
    pub fn open(kept: &KeptFile, slots: u32, known: &Known<'_>) -> Result<Self, KeptError> {
        let file = &kept.file;
        let boot = boot_id().map_err(system("the boot id cannot be read"))?;
        file.lengthen(layout::SLOTS).map_err(system("ftruncate"))?;
        let header = Header::new(words(file, layout::HEADER, layout::HEADER_WORDS)?);
        let before = before(&header, file, boot)?;
        let now = stamp(boot, slots, known);
        let was = before.unwrap_or(Stamp { arena_slots: 0, scratch_blocks: 0, ..now });
        let ledger = Arc::new(Ledger::new(Parts {
            clones: words(file, layout::CLONES, layout::CLONES_WORDS)?,
            arena: words(file, layout::ARENA, slots.max(was.arena_slots) as usize)?,
            scratch: words(file, layout::SCRATCH, now.scratch_blocks.max(was.scratch_blocks) as usize)?,
            runs: words(file, layout::RUNS, layout::RUNS_WORDS)?,
        }));
        let keeper = Keeper::new(Arc::clone(&ledger), known.goldens.iter().copied());
        // In another scratch space nothing is what it was.
        let same_scratch = was.scratch == now.scratch;
        let spilled = ledger.spilled_beyond(if same_scratch { now.scratch_blocks } else { 0 });
        let clones = ledger.clones();
        let whole = join(&clones, &spilled, &keeper, known);
        let keep: BTreeSet<CloneNumber> = whole.iter().flat_map(|(_, luns)| luns.values().copied()).collect();
        let contents = ledger.rebuild(&keep);
        let taken = taken(&contents);
        let slots = slots.max(taken.last().map_or(0, |highest| highest + 1));
        let (pool, buffers) = make_pool(kept, slots, &taken)?;
        header.write(&Stamp { arena_slots: slots, ..now });
        let mut buffers: BTreeMap<u32, Buffer> = taken.into_iter().zip(buffers).collect();
        let lost = clones.len() - keep.len();
        let survivors = survivors(whole, contents, &ledger, &mut buffers, known);
        Ok(Self { pool, keeper, survivors, lost })
    }
}

fn words(file: &LastingFile, offset: u64, count: usize) -> Result<Box<dyn ledger::Words>, KeptError> {
    let words = file.words(offset, count).map_err(system("the ledger cannot be mapped"))?;
    Ok(Box::new(FileWords(words)))
}

/// What the run before was, if its clones can go on; otherwise all of the file is cleared.
fn before(header: &Header, file: &LastingFile, boot: u128) -> Result<Option<Stamp>, KeptError> {
    let why = match header.read(boot) {
        Ok(stamp) => return Ok(Some(stamp)),
        Err(why) => why,
    };
    if why != Mismatch::Empty {
        tracing::warn!("what is in the arena's file cannot be used, and is cleared: {why}");
    }
    header.void();
    let clear = || file.clear(0..file.len_bytes()?);
    clear().map_err(system("the arena's file cannot be cleared"))?;
    Ok(None)
}

fn stamp(boot: u128, arena_slots: u32, known: &Known<'_>) -> Stamp {
    let (scratch_blocks, scratch) =
        known.scratch.map_or((0, [0; 3]), |(file, scratch)| (scratch.blocks(), file.stamp()));
    Stamp { boot, arena_slots, scratch_blocks, scratch }
}

/// Which boot of the host this is.
fn boot_id() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.trim().chars().filter(|digit| *digit != '-').collect();
    u128::from_str_radix(&digits, 16).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The epochs of which every overlay is there, on the golden that it was made on.
fn join<'a>(
    clones: &ByClone<CloneFacts>,
    spilled: &BTreeSet<CloneNumber>,
    keeper: &Keeper,
    known: &Known<'a>,
) -> Vec<(&'a EpochRecord, BTreeMap<u16, CloneNumber>)> {
    let whole = clones.iter().filter(|(number, _)| !spilled.contains(number));
    let by_facts: BTreeMap<_, CloneNumber> = whole.map(|(number, facts)| (key(facts), *number)).collect();
    let targets: BTreeMap<&str, &Target> =
        known.targets.iter().map(|target| (target.iqn.as_str(), target)).collect();
    let mut found = Vec::new();
    for record in known.records {
        let Some(target) = targets.get(record.target.as_str()) else { continue };
        let luns = target.luns.iter().filter(|lun| matches!(lun.backing, Backing::Clone { .. }));
        let luns: Option<BTreeMap<u16, CloneNumber>> = luns
            .map(|lun| {
                let facts = keeper.facts(record, lun.number, &lun.backing)?;
                Some((lun.number, *by_facts.get(&key(&facts))?))
            })
            .collect();
        // A LUN that the target no longer has would be missing under a running system.
        let entered = clones.values().filter(|facts| facts.epoch == record.epoch).count();
        if let Some(luns) = luns.filter(|luns| !luns.is_empty() && luns.len() == entered) {
            found.push((record, luns));
        }
    }
    found
}

fn key(facts: &CloneFacts) -> (u64, u64, u16, [u64; 2]) {
    (facts.epoch, facts.owner, facts.lun, facts.golden)
}

/// The slots of the arena that are in use, ascending.
fn taken(contents: &ByClone<Contents>) -> Vec<u32> {
    let in_arena = |found: &Found| match found.spot {
        Spot::Arena(slot) => Some(slot),
        Spot::Scratch(_) => None,
    };
    let of = |contents: &Contents| {
        let slots: Vec<u32> = contents.slots.iter().filter_map(in_arena).chain(contents.pattern).collect();
        slots
    };
    let mut taken: Vec<u32> = contents.values().flat_map(of).collect();
    taken.sort_unstable();
    taken
}

/// Makes the arena over the file; slots that nobody has give their memory back, or get it.
fn make_pool(kept: &KeptFile, slots: u32, taken: &[u32]) -> Result<(Arc<Pool>, Vec<Buffer>), KeptError> {
    let file = &kept.file;
    let byte = |slot: u32| layout::SLOTS + u64::from(slot) * SLOT;
    file.lengthen(byte(slots)).map_err(system("ftruncate"))?;
    let mut at = 0;
    for end in taken.iter().copied().chain([slots]) {
        if end.saturating_sub(at) >= CLEAR_MIN {
            file.clear(byte(at)..byte(end)).map_err(system("the arena's file cannot be cleared"))?;
        }
        at = end.saturating_add(1);
    }
    // What an earlier, larger arena had.
    file.clear(byte(slots)..file.len_bytes().unwrap_or(0).max(byte(slots))).map_err(system("clearing"))?;
    if kept.preallocates {
        let records = layout::ARENA..layout::ARENA + u64::from(slots) * 8;
        let space = |source| KeptError::Space { size: ByteSize(u64::from(slots) * SLOT), source };
        file.allocate(records).and_then(|()| file.allocate(byte(0)..byte(slots))).map_err(space)?;
    }
    let config = PoolConfig { slot_len: SLOT as u32, slots };
    Pool::lasting(config, file, layout::SLOTS, taken).map_err(system("the arena cannot be mapped"))
}

fn survivors(
    whole: Vec<(&EpochRecord, BTreeMap<u16, CloneNumber>)>,
    mut contents: ByClone<Contents>,
    ledger: &Arc<Ledger>,
    buffers: &mut BTreeMap<u32, Buffer>,
    known: &Known<'_>,
) -> Vec<Survivor> {
    let mut place = |found: &Found| {
        let place = match found.spot {
            Spot::Arena(slot) => Place::Memory(buffers.remove(&slot)?),
            // Each block has one record, and is in this space.
            Spot::Scratch(block) => {
                known.scratch.filter(|(_, scratch)| scratch.take_found(block))?;
                Place::Scratch(block)
            }
        };
        Some((found.slot_index, place, found.mask))
    };
    let mut found = Vec::new();
    for (record, numbers) in whole {
        let mut luns = BTreeMap::new();
        for (lun, number) in numbers {
            let contents = contents.remove(&number).unwrap_or_default();
            let slots = contents.slots.iter().filter_map(&mut place).collect();
            luns.insert(lun, (number, slots, contents.beneath, contents.pattern));
        }
        found.push((record.clone(), luns));
    }
    let kept = |(number, slots, beneath, pattern): (CloneNumber, _, _, Option<u32>)| KeptClone {
        ledger: Arc::clone(ledger),
        number,
        slots,
        beneath,
        pattern: pattern.and_then(|slot| buffers.remove(&slot)),
    };
    let mut kept = kept;
    found
        .into_iter()
        .map(|(record, luns)| Survivor {
            record,
            luns: luns.into_iter().map(|(lun, parts)| (lun, kept(parts))).collect(),
        })
        .collect()
}
