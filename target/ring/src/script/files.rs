//! Scripts about files.

use super::driver::{Driver, pattern};
use super::{Script, ScriptWorld};
use crate::{Buffer, Errno, Event, FileId, Operation, Ring, Token};

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    vec![
        Script { name: "a read brings the file's bytes", run: read },
        Script { name: "a read at the file's end is short", run: read_end },
        Script { name: "a write is read back", run: write },
        Script { name: "many reads in flight do not mix", run: many_reads },
        Script { name: "what is done at once is done, and what is not comes back", run: at_once },
        Script { name: "a zeroed range reads as zeros", run: zero },
        Script { name: "a discarded range reads as zeros", run: discard },
        Script { name: "allocating changes no byte", run: allocate },
        Script { name: "impossible transfers are EINVAL, and buffers come back", run: impossible },
        Script { name: "an id of no file is EBADF", run: bad_file },
        Script { name: "a full queue hands operations back", run: full_queue },
    ]
}

const PAGE: u32 = 4096;

fn read_operation(file: FileId, offset: u64, buffer: Buffer, len: u32) -> Operation {
    Operation::Read { file, offset, buffer, start: 0, len }
}

fn transferred(event: Event) -> (Result<u32, Errno>, Buffer) {
    match event {
        Event::Transferred { result, buffer } => (result, buffer),
        other => panic!("expected Transferred, got {other:?}"),
    }
}

/// Reads a whole range, going on after short reads.
fn read_all<W: ScriptWorld>(driver: &mut Driver<'_, W>, file: FileId, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len as usize {
        let left = len - bytes.len() as u32;
        let buffer = driver.world.buffer(left);
        let token = driver.push(read_operation(file, offset + bytes.len() as u64, buffer, left));
        let (result, buffer) = transferred(driver.wait(token));
        let got = result.expect("the file is readable") as usize;
        assert!(got > 0 && got <= left as usize, "{got} of {left}");
        bytes.extend_from_slice(&buffer.bytes()[..got]);
    }
    bytes
}

fn finish<W: ScriptWorld>(driver: &mut Driver<'_, W>, operation: Operation) {
    let token = driver.push(operation);
    assert_eq!(driver.wait_finished(token), Ok(()));
}

fn read<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let contents = pattern(1, 256 * 1024);
    let file = driver.world.file(&contents);
    for (offset, len) in [(0, PAGE), (4096, PAGE), (65_536, 65_536), (0, 131_072)] {
        let bytes = read_all(&mut driver, file, offset, len);
        let offset = offset as usize;
        assert!(bytes == contents[offset..offset + len as usize], "{len} bytes at {offset}");
    }
    // Into the middle of a buffer, whose other bytes stay.
    let mut buffer = driver.world.buffer(3 * PAGE);
    buffer.bytes_mut().expect("a new buffer is not shared").fill(0xee);
    let token = driver.push(Operation::Read { file, offset: 8192, buffer, start: PAGE, len: PAGE });
    let (result, buffer) = transferred(driver.wait(token));
    let end = 4096 + result.expect("the file is readable") as usize;
    assert!(buffer.bytes()[4096..end] == contents[8192..8192 + end - 4096]);
    assert!(buffer.bytes()[..4096].iter().chain(&buffer.bytes()[8192..12_288]).all(|&byte| byte == 0xee));
    driver.end();
}

fn read_end<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let contents = pattern(2, 3 * 4096);
    let file = driver.world.file(&contents);
    let buffer = driver.world.buffer(4 * PAGE);
    let token = driver.push(read_operation(file, 8192, buffer, 4 * PAGE));
    let (result, buffer) = transferred(driver.wait(token));
    let got = result.expect("the file is readable") as usize;
    assert!(got > 0 && got <= 4096, "{got}");
    assert!(buffer.bytes()[..got] == contents[8192..8192 + got]);
    let token = driver.push(read_operation(file, 3 * 4096, buffer, PAGE));
    assert_eq!(transferred(driver.wait(token)).0, Ok(0));
    driver.end();
}

fn write<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let mut expected = pattern(3, 64 * 1024);
    let file = driver.world.file(&expected);
    for (round, offset) in [0usize, 4096, 61_440, 32_768].into_iter().enumerate() {
        let bytes = pattern(100 + round as u64, 4096);
        let mut done = 0;
        while done < bytes.len() {
            let mut buffer = driver.world.buffer(PAGE);
            buffer.bytes_mut().expect("a new buffer is not shared")[done..4096]
                .copy_from_slice(&bytes[done..]);
            let (start, len) = (done as u32, (bytes.len() - done) as u32);
            let operation = Operation::Write { file, offset: (offset + done) as u64, buffer, start, len };
            let token = driver.push(operation);
            let (result, _) = transferred(driver.wait(token));
            done += result.expect("the file is writable") as usize;
        }
        expected[offset..offset + 4096].copy_from_slice(&bytes);
        assert!(read_all(&mut driver, file, offset as u64, PAGE) == bytes);
    }
    finish(&mut driver, Operation::Flush { file });
    assert!(driver.world.file_contents(file) == expected);
    driver.end();
}

fn many_reads<W: ScriptWorld>(world: &mut W) {
    const READS: u64 = 64;
    let mut driver = Driver::new(world);
    let contents = pattern(4, READS as usize * 4096);
    let file = driver.world.file(&contents);
    let tokens: Vec<_> = (0..READS)
        .map(|page| {
            let buffer = driver.world.buffer(PAGE);
            driver.push(read_operation(file, page * 4096, buffer, PAGE))
        })
        .collect();
    // Asked for in another order than pushed.
    for (page, token) in tokens.into_iter().enumerate().rev() {
        let (result, buffer) = transferred(driver.wait(token));
        let got = result.expect("the file is readable") as usize;
        assert!(buffer.bytes()[..got] == contents[page * 4096..page * 4096 + got], "page {page}");
    }
    driver.end();
}

/// Does a transfer at once, or, where it comes back, which it must untouched, by its completion.
fn now_or_later<W: ScriptWorld>(driver: &mut Driver<'_, W>, operation: Operation) -> (u32, Buffer) {
    let asked = format!("{operation:?}");
    let event = match driver.world.ring().at_once(operation) {
        Ok(event) => event,
        Err(back) => {
            assert_eq!(format!("{back:?}"), asked);
            let token = driver.push(back);
            driver.wait(token)
        }
    };
    let (result, buffer) = transferred(event);
    (result.expect("the file is readable and writable"), buffer)
}

fn at_once<W: ScriptWorld>(world: &mut W) {
    const PAGES: u64 = 16;
    let mut driver = Driver::new(world);
    let mut expected = pattern(9, PAGES as usize * 4096);
    let file = driver.world.file(&expected);
    for round in 0..2 * PAGES {
        let page = round * 7 % PAGES;
        let at = page as usize * 4096;
        if round % 2 == 0 {
            let bytes = pattern(200 + round, 4096);
            let mut buffer = driver.world.buffer(2 * PAGE);
            buffer.bytes_mut().expect("a new buffer is not shared")[4096..8192].copy_from_slice(&bytes);
            let write = Operation::Write { file, offset: at as u64, buffer, start: PAGE, len: PAGE };
            let (done, buffer) = now_or_later(&mut driver, write);
            assert!(buffer.bytes()[4096..8192] == bytes, "a write leaves its buffer as it was");
            let done = done as usize;
            assert!(done > 0 && done <= 4096, "{done}");
            expected[at..at + done].copy_from_slice(&bytes[..done]);
        }
        // What was done at once is seen by what is pushed, and the other way round.
        assert!(read_all(&mut driver, file, at as u64, PAGE) == expected[at..at + 4096], "page {page}");
        let mut buffer = driver.world.buffer(3 * PAGE);
        buffer.bytes_mut().expect("a new buffer is not shared").fill(0xee);
        let read = Operation::Read { file, offset: at as u64, buffer, start: PAGE, len: PAGE };
        let (done, buffer) = now_or_later(&mut driver, read);
        let end = 4096 + done as usize;
        assert!(done > 0 && buffer.bytes()[4096..end] == expected[at..at + done as usize], "page {page}");
        assert!(buffer.bytes()[..4096].iter().chain(&buffer.bytes()[8192..12_288]).all(|&byte| byte == 0xee));
    }
    // What needs a completion comes back.
    assert!(driver.world.ring().at_once(Operation::Cancel { target: Token(1 << 41) }).is_err());
    assert!(driver.world.file_contents(file) == expected);
    driver.end();
}

fn zero<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let mut expected = pattern(5, 256 * 1024);
    let file = driver.world.file(&expected);
    finish(&mut driver, Operation::Zero { file, offset: 8192, len: 65_536 });
    finish(&mut driver, Operation::Zero { file, offset: 0, len: 0 });
    expected[8192..8192 + 65_536].fill(0);
    assert!(read_all(&mut driver, file, 0, 131_072) == expected[..131_072]);
    finish(&mut driver, Operation::Flush { file });
    assert!(driver.world.file_contents(file) == expected);
    driver.end();
}

fn allocate<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let mut expected = pattern(9, 256 * 1024);
    let file = driver.world.file(&expected);
    finish(&mut driver, Operation::Discard { file, offset: 65_536, len: 65_536 });
    finish(&mut driver, Operation::Allocate { file, offset: 32_768, len: 131_072 });
    expected[65_536..131_072].fill(0);
    assert!(read_all(&mut driver, file, 0, 262_144) == expected, "no byte changes");
    let token = driver.push(Operation::Allocate { file: FileId(u32::MAX), offset: 0, len: 4096 });
    assert_eq!(driver.wait_finished(token).map_err(|errno| errno.0), Err(libc::EBADF));
    assert!(driver.world.file_contents(file) == expected);
    driver.end();
}

fn discard<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let mut expected = pattern(6, 256 * 1024);
    let file = driver.world.file(&expected);
    finish(&mut driver, Operation::Discard { file, offset: 4096, len: 131_072 });
    expected[4096..4096 + 131_072].fill(0);
    assert!(read_all(&mut driver, file, 0, 131_072) == expected[..131_072]);
    assert!(driver.world.file_contents(file) == expected, "the length stays");
    driver.end();
}

fn impossible<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let file = driver.world.file(&pattern(7, 8192));
    let buffer = driver.world.buffer(PAGE);
    let holder = buffer.clone();
    let token = driver.push(read_operation(file, 0, buffer, PAGE));
    let (result, buffer) = transferred(driver.wait(token));
    assert_eq!(result.map_err(|errno| errno.0), Err(libc::EINVAL), "a shared buffer is not read into");
    drop(holder);
    let len = buffer.len() as u32;
    for (start, len) in [(0, len + 1), (1, len), (len, 1), (u32::MAX, u32::MAX)] {
        let buffer = driver.world.buffer(PAGE);
        let token = driver.push(Operation::Write { file, offset: 0, buffer, start, len });
        let (result, _) = transferred(driver.wait(token));
        assert_eq!(
            result.map_err(|errno| errno.0),
            Err(libc::EINVAL),
            "{len} bytes at {start} of the buffer"
        );
    }
    driver.end();
}

fn bad_file<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let file = FileId(u32::MAX);
    let buffer = driver.world.buffer(PAGE);
    let token = driver.push(read_operation(file, 0, buffer, PAGE));
    assert_eq!(transferred(driver.wait(token)).0.map_err(|errno| errno.0), Err(libc::EBADF));
    for operation in [
        Operation::Flush { file },
        Operation::Zero { file, offset: 0, len: 4096 },
        Operation::Discard { file, offset: 0, len: 4096 },
    ] {
        let token = driver.push(operation);
        assert_eq!(driver.wait_finished(token).map_err(|errno| errno.0), Err(libc::EBADF));
    }
    driver.end();
}

fn full_queue<W: ScriptWorld>(world: &mut W) {
    const MANY: u64 = 1 << 20;
    let mut driver = Driver::new(world);
    let file = driver.world.file(&pattern(8, 4096));
    // Without a turn between, some push finds the queue full.
    let first = 1 << 40;
    let mut pushed = 0;
    while pushed < MANY && driver.world.ring().push(Token(first + pushed), Operation::Flush { file }).is_ok()
    {
        pushed += 1;
    }
    assert!(0 < pushed && pushed < MANY, "{pushed} operations found room");
    for number in 0..pushed {
        assert_eq!(driver.wait_finished(Token(first + number)), Ok(()));
    }
    // And there is room again.
    finish(&mut driver, Operation::Flush { file });
    driver.end();
}
