//! Reads for sending of files in memory: sent from where they lie, and still of their moment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

mod common;

use common::small_config;
use proptest::prelude::*;
use stampede_ring::file::{Access, open};
use stampede_ring::uring::UringRing;
use stampede_ring::{
    Buffer, Completion, Errno, Event, FileId, IoMemory, Operation, Ring, SendList, SocketId, Token, Wait,
};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

const LEN: usize = 64 << 10;
const FILE_LEN: usize = 4 * LEN;
const EFAULT: Errno = Errno(14);

struct Bench {
    ring: UringRing,
    file: FileId,
    memory: IoMemory,
    path: PathBuf,
    socket: SocketId,
    client: TcpStream,
    _folder: tempfile::TempDir,
}

fn contents() -> Vec<u8> {
    (0..FILE_LEN).map(|at| (at / 64 % 251) as u8).collect()
}

fn connect(ring: &mut UringRing) -> (SocketId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ring.add_socket(listener.accept().unwrap().0).unwrap(), client)
}

fn run(ring: &mut UringRing, operation: Operation) -> Event {
    let mut batch: Vec<Completion> = Vec::with_capacity(8);
    assert!(ring.push(Token(1), operation).is_ok());
    while batch.is_empty() {
        ring.submit(Wait::Forever).unwrap();
        ring.reap(&mut batch);
    }
    batch.remove(0).event
}

fn send_by(ring: &mut UringRing, socket: SocketId, buffer: Buffer, len: usize) -> Result<(), Errno> {
    let mut list = SendList::new();
    let index = list.pin(buffer);
    list.segment(index, 0, len as u32);
    while !list.is_empty() {
        let Event::Sent { result, list: back } = run(ring, Operation::Send { socket, list }) else {
            panic!()
        };
        list = back;
        list.advance(result?.into());
    }
    Ok(())
}

impl Bench {
    fn new() -> Self {
        Self::with(&contents())
    }

    fn with(contents: &[u8]) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, contents).unwrap();
        let mut ring = UringRing::new(&small_config(), &[]).unwrap();
        let file = ring.add_file(open(&path, Access::ReadWrite).unwrap()).unwrap();
        let memory = IoMemory::new(4 << 20).unwrap();
        let (socket, client) = connect(&mut ring);
        Self { ring, file, memory, path, socket, client, _folder: folder }
    }

    fn read_late(&mut self, offset: usize, len: usize) -> (u32, Buffer) {
        let (file, offset, len) = (self.file, offset as u64, len as u32);
        let buffer = self.memory.take(len).unwrap();
        match self.ring.read_for_sending(Operation::Read { file, offset, buffer, start: 0, len }) {
            Ok(Event::Transferred { result, buffer }) => (result.unwrap(), buffer),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, offset: usize, value: u8, len: usize) {
        let mut buffer = self.memory.take(len as u32).unwrap();
        buffer.bytes_mut().unwrap().fill(value);
        let (file, offset, len) = (self.file, offset as u64, len as u32);
        let write = Operation::Write { file, offset, buffer, start: 0, len };
        let Ok(Event::Transferred { result, .. }) = self.ring.at_once(write) else { panic!() };
        assert_eq!(result, Ok(len));
    }

    fn send(&mut self, buffer: Buffer, len: usize) -> Result<(), Errno> {
        send_by(&mut self.ring, self.socket, buffer, len)
    }

    fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.client.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn outside(&self) -> std::fs::File {
        std::fs::File::options().read(true).write(true).open(&self.path).unwrap()
    }
}

/// What somebody else writes is not kept from a send: so it shows that nothing was copied.
#[test]
fn long_reads_are_sent_from_the_file_and_short_ones_are_not() {
    let mut bench = Bench::new();
    let (long, buffer) = bench.read_late(0, LEN);
    let (short, small) = bench.read_late(LEN, 4096);
    let outside = bench.outside();
    outside.write_all_at(&[0xee], 9).unwrap();
    outside.write_all_at(&[0xee], LEN as u64 + 9).unwrap();
    bench.send(buffer, long as usize).unwrap();
    assert_eq!(bench.receive(LEN)[9], 0xee);
    bench.send(small, short as usize).unwrap();
    assert_ne!(bench.receive(4096)[9], 0xee);
}

#[test]
fn reading_a_hole_for_sending_gives_it_no_memory() {
    let mut bench = Bench::with(&[]);
    bench.outside().set_len(FILE_LEN as u64).unwrap();
    bench.ring.remove_file(bench.file).unwrap();
    bench.file = bench.ring.add_file(open(&bench.path, Access::ReadWrite).unwrap()).unwrap();
    for _ in 0..3 {
        let (done, buffer) = bench.read_late(LEN, LEN);
        bench.send(buffer, done as usize).unwrap();
        assert!(bench.receive(done as usize).iter().all(|byte| *byte == 0));
    }
    assert_eq!(std::fs::metadata(&bench.path).unwrap().blocks(), 0);
}

#[test]
fn what_is_read_outlives_its_file_and_its_ring() {
    let mut bench = Bench::new();
    let first = bench.read_late(0, LEN).1;
    let second = bench.read_late(LEN, LEN).1;
    bench.ring.remove_file(bench.file).unwrap();
    assert!(first.bytes() == &contents()[..LEN]);
    bench.send(second, LEN).unwrap();
    assert!(bench.receive(LEN) == contents()[LEN..2 * LEN]);

    let mut bench = Bench::new();
    let last = bench.read_late(2 * LEN, LEN).1;
    drop(bench.ring);
    assert!(last.bytes() == &contents()[2 * LEN..3 * LEN]);
}

#[test]
fn another_ring_sends_what_was_read() {
    let mut bench = Bench::new();
    let mut other = UringRing::new(&small_config(), &[]).unwrap();
    let (socket, mut client) = connect(&mut other);
    let buffer = bench.read_late(0, LEN).1;
    let mut list = SendList::new();
    let index = list.pin(buffer);
    list.segment(index, 0, LEN as u32);
    assert!(other.push(Token(1), Operation::Send { socket, list }).is_ok());
    bench.write(0, 1, 4096);
    let mut bytes = vec![0; LEN];
    other.submit(Wait::Forever).unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert!(bytes == contents()[..LEN]);
}

/// Whether the send is what finds out, or whoever looks, or a write of what is gone.
#[test]
fn what_somebody_cut_off_is_not_sent() {
    for finder in 0..3 {
        let mut bench = Bench::new();
        let whole = bench.read_late(0, LEN).1;
        let lost = bench.read_late(2 * LEN, LEN).1;
        let the_same = bench.read_late(2 * LEN, LEN).1;
        let late = bench.read_late(3 * LEN, LEN).1;
        bench.outside().set_len(LEN as u64).unwrap();
        match finder {
            0 => {}
            1 => assert!(lost.bytes().iter().all(|byte| *byte == 0)),
            _ => bench.write(3 * LEN, 1, 4096),
        }
        assert_eq!(bench.send(lost, LEN), Err(EFAULT), "{finder}");
        // The zeros that stand where the file was cut are not sent either.
        assert_eq!(bench.send(the_same, LEN), Err(EFAULT), "{finder}");
        assert_eq!(bench.send(late, LEN), Err(EFAULT), "{finder}");
        drop(whole);
        // It goes on by calls.
        let (done, buffer) = bench.read_late(0, LEN);
        bench.outside().write_all_at(&[0xee], 9).unwrap();
        assert_eq!((done as usize, buffer.bytes()[9]), (LEN, contents()[9]), "{finder}");
        if finder < 2 {
            assert_eq!(bench.read_late(2 * LEN, LEN).0, 0, "nothing is there any more");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize, len: usize },
    Write { at: usize, len: usize, value: u8 },
    Discard { at: usize, len: usize },
    Send { which: usize },
    Look { which: usize },
    Forget { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..FILE_LEN - 1, 1..LEN).prop_map(|(at, len)| (at, len.min(FILE_LEN - at)));
    let which = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        4 => range().prop_map(|(at, len)| Step::Read { at, len }),
        3 => (range(), any::<u8>()).prop_map(|((at, len), value)| Step::Write { at, len, value }),
        1 => range().prop_map(|(at, len)| Step::Discard { at, len }),
        2 => which().prop_map(|which| Step::Send { which }),
        1 => which().prop_map(|which| Step::Look { which }),
        1 => which().prop_map(|which| Step::Forget { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any number of reads, of each of which the bytes are wanted whenever: they are those of when it was read.
    #[test]
    fn reads_are_of_their_moment(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut model = contents();
        let mut reads: Vec<(Buffer, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Read { at, len } if reads.len() < 4 => {
                    let (done, buffer) = bench.read_late(at, len);
                    prop_assert_eq!(done as usize, len);
                    reads.push((buffer, model[at..at + len].to_vec()));
                }
                Step::Write { at, len, value } => {
                    bench.write(at, value, len);
                    model[at..at + len].fill(value);
                }
                Step::Discard { at, len } => {
                    let (file, offset) = (bench.file, at as u64);
                    run(&mut bench.ring, Operation::Discard { file, offset, len: len as u64 });
                    model[at..at + len].fill(0);
                }
                Step::Send { which } if !reads.is_empty() => {
                    let (buffer, expected) = reads.swap_remove(which % reads.len());
                    bench.send(buffer, expected.len()).unwrap();
                    prop_assert!(bench.receive(expected.len()) == expected);
                }
                Step::Look { which } if !reads.is_empty() => {
                    let (buffer, expected) = &reads[which % reads.len()];
                    prop_assert!(buffer.bytes()[..expected.len()] == expected[..]);
                }
                Step::Forget { which } if !reads.is_empty() => drop(reads.swap_remove(which % reads.len())),
                _ => {}
            }
        }
        for (buffer, expected) in reads {
            bench.send(buffer, expected.len()).unwrap();
            prop_assert!(bench.receive(expected.len()) == expected);
        }
    }
}
