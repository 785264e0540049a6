//! What a disk holds: what reads see, what a power loss leaves, and what lies between.

use crate::config::DiskConfig;
use stampede_ring::Stretch;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

/// One atom's content; `None` is a hole, which reads as zeros.
pub(crate) type Atom = Option<Rc<[u8]>>;

/// Content of an atom that landed after the durable one.
struct Version {
    /// The operation that brought it.
    write: u64,
    content: Atom,
}

/// More versions of one atom between two flushes than this, and the oldest is forgotten.
const VERSIONS_MAX: usize = 16;

/// A sparse array of atoms with a volatile cache in front.
pub(crate) struct Media {
    len: u64,
    atom: usize,
    volatile: bool,
    /// What reads see.
    current: Vec<Atom>,
    /// What is on stable storage.
    durable: Vec<Atom>,
    /// Per atom, what landed since its durable content, oldest first.
    cached: BTreeMap<usize, Vec<Version>>,
    allocated: u64,
    zeros: Rc<[u8]>,
}

/// What a crash did.
#[derive(Debug, Default)]
pub(crate) struct CrashReport {
    pub(crate) lost: u64,
    pub(crate) torn: u64,
}

/// What a crash decides about one write that was not flushed.
enum Fate {
    Kept,
    Lost,
    Torn,
}

impl Media {
    pub(crate) fn new(len: u64, config: &DiskConfig) -> Self {
        let atom = config.atom as usize;
        let atoms =
            usize::try_from(len.div_ceil(u64::from(config.atom))).expect("a disk that fits in memory");
        Self {
            len,
            atom,
            volatile: config.volatile_cache,
            current: vec![None; atoms],
            durable: vec![None; atoms],
            cached: BTreeMap::new(),
            allocated: 0,
            zeros: vec![0; atom].into(),
        }
    }

    /// Bytes of the disk.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of its allocated atoms.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The atoms that a byte range touches.
    pub(crate) fn atoms(&self, range: &Range<u64>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let atom = self.atom as u64;
        (range.start / atom) as usize..(range.end.div_ceil(atom)) as usize
    }

    /// Bytes that writing a range would allocate.
    pub(crate) fn holes(&self, range: &Range<u64>) -> u64 {
        let holes = self.atoms(range).filter(|index| self.current[*index].is_none()).count();
        (holes * self.atom) as u64
    }

    /// Whether an atom takes no space.
    pub(crate) fn is_hole(&self, index: usize) -> bool {
        self.current[index].is_none()
    }

    /// The stretches of data and holes of a byte range, at most so many.
    pub(crate) fn survey(&self, offset: u64, len: u64, max: u16) -> Vec<Stretch> {
        let range = offset..offset.saturating_add(len).min(self.len);
        let (mut stretches, max): (Vec<Stretch>, usize) = (Vec::new(), max.into());
        for index in self.atoms(&range) {
            let (atom, is_data) = (self.bounds(index), !self.is_hole(index));
            let (start, end) = (atom.start.max(range.start), atom.end.min(range.end));
            if let Some(last) = stretches.last_mut().filter(|last| last.is_data == is_data) {
                last.len += end - start;
            } else if stretches.len() < max {
                stretches.push(Stretch { start, len: end - start, is_data });
            } else {
                break;
            }
        }
        stretches
    }

    /// The bytes of an atom.
    pub(crate) fn bounds(&self, index: usize) -> Range<u64> {
        let start = (index * self.atom) as u64;
        start..start + self.atom as u64
    }

    /// Copies what reads see from byte `offset` on.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        copy_out(&self.current, self.atom, offset, out);
    }

    /// Copies what a power loss would leave for certain if nothing more were written back.
    pub(crate) fn read_durable(&self, offset: u64, out: &mut [u8]) {
        copy_out(&self.durable, self.atom, offset, out);
    }

    /// Puts content on stable storage, past cache and time.
    pub(crate) fn fill(&mut self, offset: u64, bytes: &[u8]) {
        let range = offset..offset + bytes.len() as u64;
        for index in self.atoms(&range) {
            let content = self.merged(index, &range, Some(bytes));
            self.cached.remove(&index);
            self.set_current(index, content.clone());
            self.durable[index] = content;
        }
    }

    /// Lands one atom of a write of `range`. `bytes` is the write's whole data, or `None` to make zeros;
    /// `allocate` says whether zeros occupy space.
    pub(crate) fn land(
        &mut self,
        index: usize,
        range: &Range<u64>,
        bytes: Option<&[u8]>,
        allocate: bool,
        write: u64,
    ) {
        let mut content = self.merged(index, range, bytes);
        if bytes.is_none() && allocate && content.is_none() {
            content = Some(Rc::clone(&self.zeros));
        }
        self.set_current(index, content.clone());
        if !self.volatile {
            self.durable[index] = content;
            return;
        }
        let versions = self.cached.entry(index).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(Version { write, content });
    }

    /// The content of an atom once the part of it inside `range` is replaced.
    fn merged(&self, index: usize, range: &Range<u64>, bytes: Option<&[u8]>) -> Atom {
        let base = (index * self.atom) as u64;
        let start = range.start.max(base);
        let end = range.end.min(base + self.atom as u64);
        let whole = end - start == self.atom as u64;
        let source = bytes.map(|bytes| &bytes[(start - range.start) as usize..(end - range.start) as usize]);
        match (whole, source) {
            (true, None) => None,
            (true, Some(source)) => Some(source.into()),
            (false, source) => {
                let mut atom = self.current[index].as_deref().unwrap_or(&self.zeros).to_vec();
                let part = &mut atom[(start - base) as usize..(end - base) as usize];
                match source {
                    Some(source) => part.copy_from_slice(source),
                    None => part.fill(0),
                }
                Some(atom.into())
            }
        }
    }

    fn set_current(&mut self, index: usize, content: Atom) {
        let atom = self.atom as u64;
        match (self.current[index].is_some(), content.is_some()) {
            (false, true) => self.allocated += atom,
            (true, false) => self.allocated -= atom,
            _ => {}
        }
        self.current[index] = content;
    }

    /// Makes durable every version whose write is older than `before` and not in `unfinished`; of the others, what
    /// the device happened to write back as well.
    pub(crate) fn flush(&mut self, before: u64, unfinished: &BTreeSet<u64>, rng: &mut fastrand::Rng) {
        let durable = &mut self.durable;
        self.cached.retain(|index, versions| {
            let must = versions
                .iter()
                .rposition(|version| version.write < before && !unfinished.contains(&version.write));
            let luck = if rng.u8(..4) == 0 { Some(rng.usize(..versions.len())) } else { None };
            let Some(last) = must.max(luck) else { return true };
            if let Some(version) = versions.drain(..=last).next_back() {
                durable[*index] = version.content;
            }
            !versions.is_empty()
        });
    }

    /// Power loss: each unflushed write is kept, lost or torn at atoms; what is left becomes both what reads see
    /// and durable.
    pub(crate) fn crash(&mut self, rng: &mut fastrand::Rng) -> CrashReport {
        let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
        for (index, versions) in std::mem::take(&mut self.cached) {
            let survivor = versions.into_iter().rev().find(|version| {
                let fate = fates.entry(version.write).or_insert_with(|| match rng.u8(..3) {
                    0 => Fate::Kept,
                    1 => Fate::Lost,
                    _ => Fate::Torn,
                });
                match fate {
                    Fate::Kept => true,
                    Fate::Lost => false,
                    Fate::Torn => rng.bool(),
                }
            });
            if let Some(version) = survivor {
                self.durable[index] = version.content;
            }
            let content = self.durable[index].clone();
            self.set_current(index, content);
        }
        let count = |wanted: fn(&Fate) -> bool| fates.values().filter(|fate| wanted(fate)).count() as u64;
        CrashReport {
            lost: count(|fate| matches!(fate, Fate::Lost)),
            torn: count(|fate| matches!(fate, Fate::Torn)),
        }
    }
}

fn copy_out(atoms: &[Atom], atom: usize, offset: u64, out: &mut [u8]) {
    let mut at = offset as usize;
    let mut out = out;
    while !out.is_empty() {
        let skip = at % atom;
        let take = out.len().min(atom - skip);
        let (head, tail) = out.split_at_mut(take);
        match &atoms[at / atom] {
            Some(content) => head.copy_from_slice(&content[skip..skip + take]),
            None => head.fill(0),
        }
        at += take;
        out = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(atom: u32, volatile_cache: bool) -> Media {
        Media::new(64 * 1024, &DiskConfig { atom, volatile_cache, ..DiskConfig::default() })
    }

    fn write(media: &mut Media, offset: u64, bytes: &[u8], id: u64) {
        let range = offset..offset + bytes.len() as u64;
        for index in media.atoms(&range) {
            media.land(index, &range, Some(bytes), true, id);
        }
    }

    fn read(media: &Media, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xee; len];
        media.read(offset, &mut out);
        out
    }

    #[test]
    fn partial_atoms_merge() {
        let mut media = media(4096, true);
        write(&mut media, 0, &[1; 8192], 1);
        write(&mut media, 4000, &[2; 200], 2);
        assert_eq!(read(&media, 3999, 202), [vec![1], vec![2; 200], vec![1]].concat());
        assert_eq!(media.allocated(), 8192);
        let hole = 4096..8192;
        media.land(1, &hole, None, false, 3);
        assert_eq!(read(&media, 4095, 4098), [vec![2], vec![0; 4096], vec![0]].concat());
        assert_eq!(media.allocated(), 4096);
        assert_eq!(media.holes(&(0..64 * 1024)), 60 * 1024);
    }

    #[test]
    fn a_flushed_write_survives_every_crash_and_a_later_one_may_tear() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..64 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut media = media(512, true);
            write(&mut media, 0, &[1; 4096], 1);
            media.flush(2, &BTreeSet::new(), &mut rng);
            write(&mut media, 0, &[2; 4096], 2);
            media.crash(&mut rng);
            let bytes = read(&media, 0, 4096);
            let new = bytes.chunks(512).filter(|atom| **atom == [2; 512]).count();
            let old = bytes.chunks(512).filter(|atom| **atom == [1; 512]).count();
            assert_eq!(new + old, 8, "no atom is torn, none is older than the flush");
            match new {
                8 => kept += 1,
                0 => lost += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 5 && lost > 5 && torn > 5, "{kept} {lost} {torn}");
    }

    #[test]
    fn a_flush_promises_nothing_for_unfinished_writes() {
        let mut survived = 0;
        for seed in 0..64 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut media = media(512, true);
            write(&mut media, 0, &[1; 512], 1);
            write(&mut media, 512, &[1; 512], 2);
            media.flush(3, &BTreeSet::from([2]), &mut rng);
            media.crash(&mut rng);
            assert_eq!(read(&media, 0, 512), [1; 512]);
            survived += usize::from(read(&media, 512, 512) == [1; 512]);
        }
        assert!((10..60).contains(&survived), "{survived}");
    }

    #[test]
    fn without_a_cache_nothing_is_lost() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut media = media(512, false);
        write(&mut media, 512, &[7; 1024], 1);
        media.crash(&mut rng);
        assert_eq!(read(&media, 512, 1024), [7; 1024]);
    }
}
