//! Scripts about sending.

use super::driver::{Driver, pattern};
use super::{Script, ScriptWorld, late};
use crate::{Event, Operation, SendList};

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    vec![
        Script { name: "a vectored send keeps its order", run: vectored },
        Script { name: "an empty send sends nothing", run: empty },
        Script { name: "a shared buffer is sent while others hold it", run: shared },
        Script { name: "a slow reader gets everything", run: slow_reader },
        Script {
            name: "a slow reader gets everything that was read for sending",
            run: slow_reader_of_a_file,
        },
        Script { name: "a send that waits can be cancelled", run: cancel_waiting },
        Script { name: "a send from a file that waits can be cancelled", run: cancel_waiting_of_a_file },
        Script { name: "sending to a connection that was reset fails", run: to_reset },
    ]
}

fn vectored<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let mut list = SendList::new();
    for round in 0..5u64 {
        list.clear();
        let mut expected = Vec::new();
        for number in 0..20u64 {
            let mut buffer = driver.world.buffer(4096);
            let bytes = pattern(round * 100 + number, 4096);
            buffer.bytes_mut().expect("a new buffer is not shared")[..4096].copy_from_slice(&bytes);
            let index = list.pin(buffer);
            // Two pieces out of order, with a gap between them.
            let cut = 48 + number as u32 * 7;
            list.segment(index, cut, 1000);
            list.segment(index, 0, 48);
            expected.extend_from_slice(&bytes[cut as usize..cut as usize + 1000]);
            expected.extend_from_slice(&bytes[..48]);
        }
        list = driver.send_all(socket, list);
        assert_eq!(list.buffers_len(), 20, "the buffers come back");
        assert!(driver.client_receive(client, expected.len()) == expected, "round {round}");
    }
    driver.close(socket);
    driver.end();
}

fn empty<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let send = driver.push(Operation::Send { socket, list: SendList::new() });
    assert_eq!(driver.wait_sent(send).0, Ok(0));
    assert_eq!(driver.world.client_receive(client, 1), []);
    driver.close(socket);
    driver.end();
}

fn shared<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (first, first_client) = driver.connect();
    let (second, second_client) = driver.connect();
    let bytes = pattern(5, 4096);
    let mut buffer = driver.world.buffer(4096);
    buffer.bytes_mut().expect("a new buffer is not shared")[..4096].copy_from_slice(&bytes);
    for socket in [first, second] {
        let mut list = SendList::new();
        let index = list.pin(buffer.clone());
        list.segment(index, 0, 4096);
        driver.send_all(socket, list);
    }
    assert!(!buffer.is_shared(), "finished sends let go");
    for client in [first_client, second_client] {
        assert!(driver.client_receive(client, 4096) == bytes);
    }
    driver.close(first);
    driver.close(second);
    driver.end();
}

/// Bytes that no socket buffers as a whole.
const LARGE: usize = 24 << 20;
const LARGE_PIECE: usize = 4096;

/// A list of `LARGE` bytes out of one buffer, again and again; it was read for sending if `of_a_file`.
fn large_list<W: ScriptWorld>(driver: &mut Driver<'_, W>, of_a_file: bool) -> (SendList, Vec<u8>) {
    let piece = pattern(9, LARGE_PIECE);
    let buffer = if of_a_file {
        let file = driver.world.file(&piece.repeat(16));
        late::read_for_sending(driver, file, 0)
    } else {
        let mut buffer = driver.world.buffer(LARGE_PIECE as u32);
        buffer.bytes_mut().expect("a new buffer is not shared")[..LARGE_PIECE].copy_from_slice(&piece);
        buffer
    };
    let mut list = SendList::new();
    let index = list.pin(buffer);
    while list.bytes() < LARGE as u64 {
        list.segment(index, 0, LARGE_PIECE as u32);
    }
    (list, piece)
}

fn slow_reader<W: ScriptWorld>(world: &mut W) {
    read_slowly(world, false);
}

fn slow_reader_of_a_file<W: ScriptWorld>(world: &mut W) {
    read_slowly(world, true);
}

fn read_slowly<W: ScriptWorld>(world: &mut W, of_a_file: bool) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    // More segments than one send may have: each send takes a part.
    let (mut list, piece) = large_list(&mut driver, of_a_file);
    let mut got = 0;
    while !list.is_empty() {
        let send = driver.push(Operation::Send { socket, list });
        let (result, back) = loop {
            let bytes = driver.world.client_receive(client, 1 << 20);
            for (at, &byte) in bytes.iter().enumerate() {
                assert_eq!(byte, piece[(got + at) % LARGE_PIECE], "at {}", got + at);
            }
            got += bytes.len();
            driver.turn();
            if let Some(Event::Sent { result, list }) = driver.try_take(send) {
                break (result, list);
            }
        };
        list = back;
        let sent = result.expect("the client reads");
        assert!(sent > 0);
        list.advance(u64::from(sent));
    }
    let rest = driver.client_receive(client, LARGE - got);
    assert!(rest.iter().enumerate().all(|(at, &byte)| byte == piece[(got + at) % LARGE_PIECE]));
    driver.close(socket);
    driver.end();
}

fn cancel_waiting<W: ScriptWorld>(world: &mut W) {
    wait_and_cancel(world, false);
}

fn cancel_waiting_of_a_file<W: ScriptWorld>(world: &mut W) {
    wait_and_cancel(world, true);
}

fn wait_and_cancel<W: ScriptWorld>(world: &mut W, of_a_file: bool) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let (mut list, _) = large_list(&mut driver, of_a_file);
    let total = list.bytes();
    // The client never reads: sends succeed until its and our socket buffers are full, then one waits.
    let back = loop {
        let send = driver.push(Operation::Send { socket, list });
        for _ in 0..3 {
            driver.turn();
        }
        let event = match driver.try_take(send) {
            Some(event) => event,
            None => {
                let cancel = driver.push(Operation::Cancel { target: send });
                let event = driver.wait(send);
                // ENOENT when it ended by itself before.
                let _ = driver.wait_finished(cancel);
                event
            }
        };
        let Event::Sent { result, list: mut back } = event else {
            panic!("expected Sent, got {event:?}");
        };
        match result {
            Ok(sent) if sent > 0 => {
                back.advance(u64::from(sent));
                assert!(!back.is_empty(), "a client that does not read took {total} bytes");
                list = back;
            }
            other => {
                assert!(other.is_err(), "{other:?}");
                break back;
            }
        }
    };
    assert_eq!(back.buffers_len(), 1, "the buffer comes back");
    driver.world.client_reset(client);
    driver.close(socket);
    driver.end();
}

fn to_reset<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let receive = driver.push(Operation::Receive { socket });
    driver.expect_silence(receive);
    driver.world.client_reset(client);
    driver.wait_received(receive);
    let mut list = SendList::new();
    let index = list.pin(driver.world.buffer(4096));
    list.segment(index, 0, 4096);
    let send = driver.push(Operation::Send { socket, list });
    let (result, list) = driver.wait_sent(send);
    assert!(result.is_err(), "{result:?}");
    assert_eq!(list.buffers_len(), 1);
    driver.close(socket);
    driver.end();
}
