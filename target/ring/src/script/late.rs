//! Scripts about reads for sending: whatever happens between the read and the send, the read's bytes are sent.

use super::driver::{Driver, pattern};
use super::{Script, ScriptWorld};
use crate::{Buffer, Event, FileId, Operation, Ring, SendList};

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    vec![
        Script { name: "what is read for sending is sent", run: sent },
        Script { name: "a change before the send is not sent", run: changed_before },
        Script { name: "a change between push and submit is not sent", run: changed_between },
        Script { name: "a change while a send waits is not sent", run: changed_while_it_waits },
    ]
}

/// Bytes of a read that pays to be sent from the file.
const LEN: usize = 64 << 10;
/// Such stretches of a file.
const STRETCHES: usize = 8;

/// The bytes of a stretch of the file.
pub(super) fn read_for_sending<W: ScriptWorld>(
    driver: &mut Driver<'_, W>,
    file: FileId,
    stretch: usize,
) -> Buffer {
    let buffer = driver.world.buffer(LEN as u32);
    let offset = (stretch * LEN) as u64;
    let read = Operation::Read { file, offset, buffer, start: 0, len: LEN as u32 };
    let (mut event, mut whole) = match driver.world.ring().read_for_sending(read) {
        Ok(event) => (event, 0),
        Err(read) => {
            let token = driver.push(read);
            (driver.wait(token), 0)
        }
    };
    loop {
        let Event::Transferred { result, buffer } = event else { panic!("{event:?}") };
        whole += result.expect("the file is readable");
        if whole as usize == LEN {
            return buffer;
        }
        let (offset, len) = (offset + u64::from(whole), LEN as u32 - whole);
        let token = driver.push(Operation::Read { file, offset, buffer, start: whole, len });
        event = driver.wait(token);
    }
}

fn list_of(buffers: Vec<Buffer>) -> SendList {
    let mut list = SendList::new();
    for buffer in buffers {
        let index = list.pin(buffer);
        // Not in one piece.
        list.segment(index, 0, 1000);
        list.segment(index, 1000, LEN as u32 - 1000);
    }
    list
}

/// Ways to change a part of a stretch.
fn changes<W: ScriptWorld>(driver: &mut Driver<'_, W>, file: FileId, stretch: usize) -> Operation {
    let (offset, len) = ((stretch * LEN) as u64 + 8192, 4096);
    match stretch % 4 {
        0 => Operation::Discard { file, offset, len },
        1 => Operation::Zero { file, offset, len },
        _ => {
            let mut buffer = driver.world.buffer(4096);
            buffer.bytes_mut().expect("a new buffer is not shared").fill(0xee);
            Operation::Write { file, offset, buffer, start: 0, len: len as u32 }
        }
    }
}

/// Changes a stretch: at once where that can be, or by a push; its completion is waited for if `waits`.
fn change<W: ScriptWorld>(driver: &mut Driver<'_, W>, file: FileId, stretch: usize, waits: bool) {
    let operation = changes(driver, file, stretch);
    let operation = match stretch % 4 {
        3 => match driver.world.ring().at_once(operation) {
            Ok(_) => return,
            Err(operation) => operation,
        },
        _ => operation,
    };
    let token = driver.push(operation);
    if waits {
        driver.wait(token);
    }
}

fn sent<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let contents = pattern(11, STRETCHES * LEN);
    let file = driver.world.file(&contents);
    let (socket, client) = driver.connect();
    for stretch in (0..STRETCHES).rev() {
        let buffer = read_for_sending(&mut driver, file, stretch);
        driver.send_all(socket, list_of(vec![buffer]));
        let expected = &contents[stretch * LEN..(stretch + 1) * LEN];
        assert!(driver.client_receive(client, LEN) == expected, "stretch {stretch}");
    }
    driver.close(socket);
    driver.end();
}

fn changed_before<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let contents = pattern(12, STRETCHES * LEN);
    let file = driver.world.file(&contents);
    let (socket, client) = driver.connect();
    let buffers: Vec<_> =
        (0..STRETCHES).map(|stretch| read_for_sending(&mut driver, file, stretch)).collect();
    (0..STRETCHES).for_each(|stretch| change(&mut driver, file, stretch, true));
    assert!(driver.world.file_contents(file) != contents);
    for (stretch, buffer) in buffers.into_iter().enumerate() {
        let expected = &contents[stretch * LEN..(stretch + 1) * LEN];
        if stretch < STRETCHES / 2 {
            assert!(buffer.bytes()[..LEN] == *expected, "stretch {stretch}");
        }
        driver.send_all(socket, list_of(vec![buffer]));
        assert!(driver.client_receive(client, LEN) == expected, "stretch {stretch}");
    }
    driver.close(socket);
    driver.end();
}

fn changed_between<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let contents = pattern(13, STRETCHES * LEN);
    let file = driver.world.file(&contents);
    let (socket, client) = driver.connect();
    for stretch in 0..STRETCHES {
        let buffer = read_for_sending(&mut driver, file, stretch);
        // The change is not in flight beside the send where that is possible: it is done at once.
        let operation = changes(&mut driver, file, 3);
        let send = driver.push(Operation::Send { socket, list: list_of(vec![buffer]) });
        let Operation::Write { file, buffer, start, len, .. } = operation else { unreachable!() };
        let write = Operation::Write { file, offset: (stretch * LEN) as u64 + 500, buffer, start, len };
        let _ = driver.world.ring().at_once(write);
        let (result, mut list) = driver.wait_sent(send);
        list.advance(result.expect("the client reads").into());
        driver.send_all(socket, list);
        let expected = &contents[stretch * LEN..(stretch + 1) * LEN];
        assert!(driver.client_receive(client, LEN) == expected, "stretch {stretch}");
    }
    driver.close(socket);
    driver.end();
}

fn changed_while_it_waits<W: ScriptWorld>(world: &mut W) {
    // More than any socket buffers.
    const ROUNDS: usize = 48;
    let mut driver = Driver::new(world);
    let contents = pattern(14, STRETCHES * LEN);
    let file = driver.world.file(&contents);
    let (socket, client) = driver.connect();
    let buffers: Vec<_> =
        (0..STRETCHES).map(|stretch| read_for_sending(&mut driver, file, stretch)).collect();
    let mut list = SendList::new();
    for _ in 0..ROUNDS {
        for buffer in &buffers {
            let index = list.pin(buffer.clone());
            list.segment(index, 0, LEN as u32);
        }
    }
    drop(buffers);
    let mut got = 0;
    for turn in 0.. {
        if list.is_empty() {
            break;
        }
        let send = driver.push(Operation::Send { socket, list });
        // Nobody reads at first: then it waits.
        (0..3).for_each(|_| driver.turn());
        if turn < STRETCHES {
            change(&mut driver, file, turn, true);
        }
        let (result, back) = loop {
            driver.turn();
            if let Some(Event::Sent { result, list }) = driver.try_take(send) {
                break (result, list);
            }
            got += receive(&mut driver, client, got, &contents);
        };
        list = back;
        list.advance(result.expect("the client reads").into());
    }
    while got < ROUNDS * STRETCHES * LEN {
        driver.turn();
        got += receive(&mut driver, client, got, &contents);
    }
    assert!(driver.world.file_contents(file) != contents);
    driver.close(socket);
    driver.end();
}

/// What the client receives now, which is the file's contents again and again.
fn receive<W: ScriptWorld>(
    driver: &mut Driver<'_, W>,
    client: super::ClientId,
    got: usize,
    contents: &[u8],
) -> usize {
    let bytes = driver.world.client_receive(client, 1 << 20);
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte, contents[(got + at) % contents.len()], "byte {}", got + at);
    }
    bytes.len()
}
