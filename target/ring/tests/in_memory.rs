//! Files in memory, which the ring reads and writes through a mapping where it can: nobody may see the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

mod common;

use common::small_config;
use proptest::prelude::*;
use stampede_ring::file::{Access, open};
use stampede_ring::uring::UringRing;
use stampede_ring::{Completion, Errno, Event, FileId, IoMemory, Operation, Ring, Token, Wait};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

const PAGE: u64 = 4096;
const PAGES: u64 = 24;

struct Bench {
    ring: UringRing,
    file: FileId,
    memory: IoMemory,
    path: PathBuf,
    /// Whether the next transfer goes by its completion; they take turns.
    by_completion: bool,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A sparse file of `len` bytes.
    fn new(len: u64, access: Access) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("disk");
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        let mut ring = UringRing::new(&small_config(), &[]).unwrap();
        let file = ring.add_file(open(&path, access).unwrap()).unwrap();
        let memory = IoMemory::new(4 << 20).unwrap();
        Self { ring, file, memory, path, by_completion: false, _folder: folder }
    }

    fn run(&mut self, operation: Operation) -> Event {
        self.by_completion = !self.by_completion;
        let moves = matches!(operation, Operation::Read { .. } | Operation::Write { .. });
        if moves && !self.by_completion {
            return self.ring.at_once(operation).expect("a file in memory takes no wait");
        }
        let mut batch: Vec<Completion> = Vec::with_capacity(8);
        assert!(self.ring.push(Token(1), operation).is_ok());
        while batch.is_empty() {
            self.ring.submit(Wait::Forever).unwrap();
            self.ring.reap(&mut batch);
        }
        batch.remove(0).event
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let (file, buffer) = (self.file, self.memory.take(len.max(1)).unwrap());
        match self.run(Operation::Read { file, offset, buffer, start: 0, len }) {
            Event::Transferred { result, buffer } => {
                result.map(|done| buffer.bytes()[..done as usize].to_vec())
            }
            event => panic!("{event:?}"),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let (file, len) = (self.file, bytes.len() as u32);
        let mut buffer = self.memory.take(len.max(1)).unwrap();
        buffer.bytes_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        match self.run(Operation::Write { file, offset, buffer, start: 0, len }) {
            Event::Transferred { result, .. } => result,
            event => panic!("{event:?}"),
        }
    }

    fn finish(&mut self, operation: Operation) {
        assert!(matches!(self.run(operation), Event::Finished { result: Ok(()) }));
    }

    fn outside(&self) -> std::fs::File {
        std::fs::File::options().read(true).write(true).open(&self.path).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reads see what was written, freed and zeroed, here and by others, in any order and at any offset.
    #[test]
    fn it_agrees_with_a_vector(
        tail in 0u64..PAGE,
        steps in prop::collection::vec((0u8..6, 0..PAGES * PAGE, 1u64..3 * PAGE, any::<u8>()), 1..60),
    ) {
        let len = PAGES * PAGE + tail;
        let mut bench = Bench::new(len, Access::ReadWrite);
        let outside = bench.outside();
        let mut model = vec![0u8; len as usize];
        for (what, offset, count, value) in steps {
            let count = count.min(len - offset);
            let (file, range) = (bench.file, offset as usize..(offset + count) as usize);
            match what {
                0 => {
                    prop_assert_eq!(bench.write(offset, &vec![value; range.len()]), Ok(count as u32));
                    model[range.clone()].fill(value);
                }
                1 => {
                    bench.finish(Operation::Discard { file, offset, len: count });
                    model[range.clone()].fill(0);
                }
                2 => {
                    bench.finish(Operation::Zero { file, offset, len: count });
                    model[range.clone()].fill(0);
                }
                3 => {
                    outside.write_all_at(&vec![value; range.len()], offset).unwrap();
                    model[range.clone()].fill(value);
                }
                _ => {}
            }
            // The second time what is there comes from the mapping.
            for _ in 0..2 {
                prop_assert_eq!(&bench.read(offset, count as u32).unwrap()[..], &model[range.clone()]);
            }
        }
        prop_assert_eq!(std::fs::read(&bench.path).unwrap(), model);
    }
}

#[test]
fn reading_a_hole_gives_it_no_memory() {
    let mut bench = Bench::new(PAGES * PAGE, Access::ReadOnly);
    bench.outside().write_all_at(&[7; 10], 3 * PAGE).unwrap();
    for _ in 0..3 {
        for page in 0..PAGES {
            bench.read(page * PAGE, PAGE as u32).unwrap();
        }
    }
    assert_eq!(std::fs::metadata(&bench.path).unwrap().blocks() * 512, PAGE, "one page has data");
}

#[test]
fn a_file_that_is_shortened_is_an_error_and_no_crash() {
    let mut bench = Bench::new(PAGES * PAGE, Access::ReadWrite);
    for page in 0..PAGES {
        bench.write(page * PAGE, &[page as u8; PAGE as usize]).unwrap();
        assert_eq!(bench.read(page * PAGE, 1).unwrap(), [page as u8]);
    }
    let outside = bench.outside();
    outside.set_len(5 * PAGE).unwrap();
    assert_eq!(bench.read(9 * PAGE, PAGE as u32).unwrap(), [], "nothing is there any more");
    assert_eq!(bench.read(4 * PAGE, 1).unwrap(), [4]);
    assert_eq!(bench.read(4 * PAGE, 2 * PAGE as u32).unwrap().len(), PAGE as usize, "it ends there");
    outside.set_len(PAGES * PAGE).unwrap();
    outside.write_all_at(&[99], 9 * PAGE).unwrap();
    assert_eq!(bench.read(9 * PAGE, 2).unwrap(), [99, 0], "no page of the mapping hides the file");

    let mut other = Bench::new(PAGES * PAGE, Access::ReadWrite);
    other.write(0, &[1; PAGE as usize]).unwrap();
    other.outside().set_len(0).unwrap();
    assert_eq!(other.write(0, &[2; 8]), Ok(8), "a write makes the file longer, as a call does");
    assert_eq!(std::fs::read(&other.path).unwrap(), [2; 8]);
}

#[test]
fn a_flush_tells_that_the_file_has_changed() {
    let mut bench = Bench::new(PAGE, Access::ReadWrite);
    bench.write(0, &[1; PAGE as usize]).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    bench.outside().set_modified(old).unwrap();
    bench.write(0, &[2; PAGE as usize]).unwrap();
    let file = bench.file;
    bench.finish(Operation::Flush { file });
    assert_ne!(std::fs::metadata(&bench.path).unwrap().modified().unwrap(), old);
}
