//! Metadata against files in which patches are simply written, and against the order that each patch asks for.

use proptest::prelude::*;
use stampede_plugin::{FileId, Free, Pages, Patch, Plan, Span};

use super::super::{ApplyError, Flush, Metadata, PAGE, journal};

const LENGTH: usize = 3 * PAGE + 700;

/// A file, its metadata, and all patches that were applied.
struct Bench {
    file: Vec<u8>,
    metadata: Metadata,
    /// The file with every patch.
    current: Vec<u8>,
    patches: Vec<Patch>,
}

impl Bench {
    fn new() -> Self {
        let file: Vec<u8> = (0..LENGTH).map(|at| (at / 7) as u8).collect();
        Self {
            metadata: Metadata::new(vec![LENGTH as u64], 2),
            current: file.clone(),
            file,
            patches: Vec::new(),
        }
    }

    fn supply(&mut self, keys: &[super::super::PageKey]) {
        for &key in keys {
            let start = key.index as usize * PAGE;
            self.metadata.supply(key, &self.file[start..(start + PAGE).min(LENGTH)]);
        }
    }

    fn apply(&mut self, token: u64, meta: Vec<Patch>, free: Vec<Free>) {
        let plan = Plan { token, meta, free, ..Plan::default() };
        while let Err(ApplyError::Missing(keys)) = self.metadata.apply(&plan) {
            self.supply(&keys);
        }
        for patch in plan.meta {
            write(&mut self.current, patch.offset, &patch.bytes);
            self.patches.push(patch);
        }
    }

    fn read(&mut self, offset: usize, length: usize) -> Vec<u8> {
        let span = Span::main(offset as u64, length as u32);
        loop {
            if let Some(bytes) = self.metadata.read(span) {
                self.metadata.answered();
                return bytes;
            }
            let missing = self.metadata.missing(&[span]);
            assert!(!missing.is_empty(), "what is not missing can be read");
            self.supply(&missing);
        }
    }

    /// Writes a flush; after each level `look` sees the file.
    fn write(&mut self, flush: &Flush, mut look: impl FnMut(&[u8], usize)) {
        for (number, level) in flush.levels.iter().enumerate() {
            for part in &level.writes {
                assert_eq!(part.offset % 512, 0);
                write(&mut self.file, part.offset, &part.bytes);
            }
            look(&self.file, number);
        }
        self.metadata.end_flush(flush);
    }
}

fn write(file: &mut [u8], offset: u64, bytes: &[u8]) {
    file[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
}

/// Patches of 1 to 600 bytes at places that often overlap; each with some earlier ones that it comes after.
fn patches() -> impl Strategy<Value = Vec<(usize, usize, u8, bool, bool, Vec<prop::sample::Index>)>> {
    let after = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let patch = (
        0..LENGTH - 600,
        prop_oneof![1..9_usize, 500..600_usize],
        any::<u8>(),
        any::<bool>(),
        any::<bool>(),
        after,
    );
    prop::collection::vec(patch, 1..12)
}

proptest! {
    #[test]
    fn reads_have_every_patch_and_flushes_end_with_them(drawn in patches(), flush_at in 0..12_usize, lazy_too in any::<bool>()) {
        let mut bench = Bench::new();
        for (index, (offset, length, byte, after_data, lazy, after)) in drawn.into_iter().enumerate() {
            let after = if index == 0 { vec![] } else { after.iter().map(|one| one.index(index) as u64).collect() };
            let patch = Patch { id: index as u64, file: FileId::MAIN, offset: offset as u64, bytes: vec![byte; length], after, after_data, lazy };
            bench.apply(index as u64, vec![patch], vec![]);
            prop_assert_eq!(bench.read(offset, length), vec![byte; length]);
            if index == flush_at {
                let flush = bench.metadata.begin_flush(lazy_too);
                bench.write(&flush, |_, _| ());
            }
        }
        let flush = bench.metadata.begin_flush(true);
        bench.write(&flush, |_, _| ());
        prop_assert!(bench.file == bench.current);
        prop_assert_eq!(bench.metadata.waiting(), 0);
        prop_assert!(!bench.metadata.is_dirty());
        let whole = bench.current.clone();
        for page in 0..4 {
            let range = page * PAGE..((page + 1) * PAGE).min(LENGTH);
            prop_assert_eq!(&bench.read(range.start, range.len())[..], &whole[range]);
        }
    }

    /// Patches that do not overlap: each is seen in the file no earlier than what it comes after, lazy or not.
    #[test]
    fn nothing_is_durable_before_what_it_comes_after(drawn in patches(), lazy_too in any::<bool>()) {
        let mut bench = Bench::new();
        bench.metadata.data_written(FileId::MAIN, 0, 0);
        let count = drawn.len();
        for (index, (_, _, _, after_data, lazy, after)) in drawn.into_iter().enumerate() {
            let after: Vec<u64> = if index == 0 { vec![] } else { after.iter().map(|one| one.index(index) as u64).collect() };
            let patch = Patch { id: index as u64, file: FileId::MAIN, offset: 700 * index as u64, bytes: vec![0xEE; 9], after, after_data, lazy };
            bench.apply(index as u64, vec![patch], vec![]);
        }
        let patches = bench.patches.clone();
        let flush = bench.metadata.begin_flush(lazy_too);
        let mut seen_at = vec![None; count];
        bench.write(&flush, |file, level| {
            for (patch, seen) in patches.iter().zip(&mut seen_at) {
                if seen.is_none() && file[patch.offset as usize..][..9] == patch.bytes[..] {
                    *seen = Some(level);
                }
            }
        });
        for patch in &patches {
            let seen = seen_at[patch.id as usize];
            prop_assert!(seen.is_some() || patch.lazy && !lazy_too, "patch {} is not durable", patch.id);
            let Some(level) = seen else { continue };
            prop_assert!(!patch.after_data || level > 0, "patch {} goes with the data that it comes after", patch.id);
            for &after in &patch.after {
                prop_assert!(seen_at[after as usize].is_some_and(|earlier| earlier < level), "patch {} before {after}", patch.id);
            }
        }
    }
}

#[test]
fn many_plans_share_barriers() {
    let mut bench = Bench::new();
    for index in 0..20_u64 {
        bench.metadata.data_written(FileId::MAIN, 0, 0);
        let patch = |id, offset, after, after_data| Patch {
            id,
            file: FileId::MAIN,
            offset,
            bytes: vec![1; 8],
            after,
            after_data,
            lazy: false,
        };
        let count = patch(2 * index, 8 * index, vec![], false);
        let entry = patch(2 * index + 1, 4096 + 8 * index, vec![2 * index], true);
        bench.apply(index, vec![count, entry], vec![]);
    }
    let flush = bench.metadata.begin_flush(false);
    assert_eq!(flush.levels.len(), 2);
    assert_eq!(flush.levels.iter().map(|level| level.writes.len()).sum::<usize>(), 2);
    bench.write(&flush, |_, _| ());
}

#[test]
fn space_is_free_when_the_patches_that_let_it_go_are_durable() {
    let mut bench = Bench::new();
    let patch = |id, after, lazy| Patch {
        id,
        file: FileId::MAIN,
        offset: 512 * id,
        bytes: vec![9],
        after,
        after_data: false,
        lazy,
    };
    let free = Free { file: FileId::MAIN, offset: 4096, length: 4096, after: vec![2], punch: true };
    bench.apply(77, vec![patch(1, vec![], false), patch(2, vec![1], true)], vec![free.clone()]);
    let flush = bench.metadata.begin_flush(false);
    bench.write(&flush, |_, _| ());
    assert!(bench.metadata.freed().is_empty(), "a lazy patch stays behind");
    let flush = bench.metadata.begin_flush(true);
    assert!(bench.metadata.freed().is_empty(), "it is only on its way");
    bench.write(&flush, |_, _| ());
    assert_eq!(bench.metadata.freed(), vec![(77, vec![free])]);
    assert!(bench.metadata.freed().is_empty());
}

#[test]
fn guest_data_on_a_page_is_read_anew_and_never_written_over() {
    let mut bench = Bench::new();
    let patch = Patch {
        id: 1,
        file: FileId::MAIN,
        offset: 10,
        bytes: vec![0xAB],
        after: vec![],
        after_data: true,
        lazy: false,
    };
    bench.apply(1, vec![patch], vec![]);
    // The guest writes the sector behind it, past the metadata.
    write(&mut bench.file, 512, &[0x77; 512]);
    bench.metadata.data_written(FileId::MAIN, 512, 512);
    let flush = bench.metadata.begin_flush(true);
    bench.write(&flush, |_, _| ());
    assert_eq!(bench.file[10], 0xAB);
    assert_eq!(bench.file[512..1024], [0x77; 512]);
    assert_eq!(bench.read(512, 512), [0x77; 512]);
}

#[test]
fn what_a_call_asked_for_stays_until_it_is_answered_and_then_few_pages_do() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0, LENGTH), bench.current);
    assert_eq!(bench.metadata.pages(), 2);
}

#[test]
fn a_journal_brings_back_what_was_not_durable() {
    let owner = journal::Owner { boot: [1; 16], device: 1, inode: 2 };
    let mut bench = Bench::new();
    let patches = |first: u64| -> Vec<Patch> {
        let patch = |id, offset, after| Patch {
            id,
            file: FileId::MAIN,
            offset,
            bytes: vec![id as u8 + 100; 20],
            after,
            after_data: true,
            lazy: id % 2 == 0,
        };
        vec![patch(first, 300 * first, vec![]), patch(first + 1, 300 * first + 290, vec![first])]
    };
    let mut written = journal::head(&owner).to_vec();
    for number in 0..3 {
        let plan = patches(2 * number);
        written.extend(journal::record(number, plan.iter().map(|patch| (Some(patch.id), patch))));
        bench.apply(number, plan, vec![]);
    }
    // The process ends here: what it had in memory is gone.
    let mut next = Bench { metadata: Metadata::new(vec![LENGTH as u64], 2), ..bench };
    let mut replay = journal::read(&written, &owner).unwrap();
    while let Err(super::super::ReplayError::Missing(keys, again)) = next.metadata.replay(replay) {
        next.supply(&keys);
        replay = again;
    }
    let flush = next.metadata.begin_flush(true);
    assert!(flush.levels.len() >= 2);
    next.write(&flush, |_, _| ());
    assert!(next.file == next.current);
}

#[test]
fn a_journal_of_a_file_that_was_cut_is_refused() {
    let patch = Patch {
        id: 1,
        file: FileId::MAIN,
        offset: LENGTH as u64 - 1,
        bytes: vec![1, 2],
        after: vec![],
        after_data: false,
        lazy: false,
    };
    let owner = journal::Owner { boot: [1; 16], device: 1, inode: 2 };
    let mut written = journal::head(&owner).to_vec();
    written.extend(journal::record(0, [(Some(1), &patch)].into_iter()));
    let replay = journal::read(&written, &owner).unwrap();
    let refused = Metadata::new(vec![LENGTH as u64], 2).replay(replay).unwrap_err();
    assert!(refused.to_string().contains("beyond its end"), "{refused}");
}
