//! Scripts about connections: accepting, receiving, cancelling, ending.

use super::driver::{Driver, pattern};
use super::{ClientId, Script, ScriptWorld};
use crate::{Chunk, Event, Operation, Received, SendList, SocketId, Token};
use std::collections::BTreeSet;

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    vec![
        Script { name: "one accept takes many connections until it is cancelled", run: accept_many },
        Script { name: "bytes arrive in order across chunks", run: receive_in_order },
        Script { name: "a FIN ends the receive, and the other direction still works", run: half_close },
        Script { name: "a reset fails the receive", run: reset },
        Script { name: "a cancelled receive loses nothing", run: cancel_receive },
        Script { name: "cancelling what is not there is ENOENT", run: cancel_nothing },
        Script { name: "a receive without buffers starves, and goes on when they return", run: starve },
        Script { name: "parts of chunks outlive the chunks, and no buffer is lost", run: share },
        Script { name: "closing ends the connection", run: close },
        Script { name: "ids of nothing are EBADF, and buffers come back", run: bad_ids },
        Script { name: "a stale id is not the socket that came after", run: stale_id },
        Script { name: "connections do not mix", run: many_connections },
    ]
}

fn accept_many<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let listener = driver.world.listener();
    let accept = driver.push(Operation::Accept { listener });
    let mut sockets = BTreeSet::new();
    let mut peers = BTreeSet::new();
    let mut locals = BTreeSet::new();
    for _ in 0..5 {
        driver.world.client_connect(listener);
        match driver.wait(accept) {
            Event::Accepted { result: Ok(accepted), more } => {
                assert!(more, "an accept goes on");
                sockets.insert(accepted.socket);
                peers.insert(accepted.peer);
                locals.insert(accepted.local);
            }
            other => panic!("expected a connection, got {other:?}"),
        }
    }
    assert_eq!((sockets.len(), peers.len(), locals.len()), (5, 5, 1));
    let cancel = driver.push(Operation::Cancel { target: accept });
    assert_eq!(driver.wait_finished(cancel), Ok(()));
    assert!(matches!(driver.wait(accept), Event::Accepted { result: Err(_), more: false }));
    for socket in sockets.into_iter().chain([listener]) {
        driver.close(socket);
    }
    driver.end();
}

fn receive_in_order<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let mut receive = None;
    for (round, len) in [1, 48, 1000, 8192, 65_536, 7, 60_000].into_iter().enumerate() {
        let bytes = pattern(round as u64, len);
        driver.world.client_send(client, &bytes);
        assert!(driver.receive(socket, &mut receive, len) == bytes, "round {round}");
    }
    if let Some(receive) = receive {
        assert_eq!(driver.stop_receiving(receive), []);
    }
    driver.close(socket);
    driver.end();
}

fn half_close<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    driver.world.client_send(client, b"last words");
    driver.world.client_finish(client);
    let mut receive = None;
    assert_eq!(driver.receive(socket, &mut receive, 10), b"last words");
    let receive = receive.unwrap_or_else(|| driver.push(Operation::Receive { socket }));
    assert!(matches!(driver.wait_received(receive), (Received::End, false)));

    let mut buffer = driver.world.buffer(4096);
    buffer.bytes_mut().expect("a new buffer is not shared")[..6].copy_from_slice(b"answer");
    let mut list = SendList::new();
    let index = list.pin(buffer);
    list.segment(index, 0, 6);
    driver.send_all(socket, list);
    assert_eq!(driver.client_receive(client, 6), b"answer");
    driver.close(socket);
    driver.wait_client_end(client);
    driver.end();
}

fn reset<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let receive = driver.push(Operation::Receive { socket });
    driver.expect_silence(receive);
    driver.world.client_reset(client);
    assert!(matches!(driver.wait_received(receive), (Received::Failed(_), false)));
    driver.close(socket);
    driver.end();
}

fn cancel_receive<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let mut got = Vec::new();
    let mut sent = Vec::new();
    for round in 0..20 {
        let receive = driver.push(Operation::Receive { socket });
        let bytes = pattern(round, 3000);
        driver.world.client_send(client, &bytes);
        sent.extend(bytes);
        if round % 2 == 0 {
            driver.turn();
        }
        got.extend(driver.stop_receiving(receive));
    }
    let missing = sent.len() - got.len();
    let mut receive = None;
    got.extend(driver.receive(socket, &mut receive, missing));
    assert!(got == sent, "cancelling lost or changed bytes");
    if let Some(receive) = receive {
        assert_eq!(driver.stop_receiving(receive), []);
    }
    driver.close(socket);
    driver.end();
}

fn cancel_nothing<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let cancel = driver.push(Operation::Cancel { target: Token(0xdead) });
    assert_eq!(driver.wait_finished(cancel).map_err(|errno| errno.0), Err(libc::ENOENT));
    driver.end();
}

/// Small pieces, each of which takes a receive buffer, until none is left. What `keep` makes of each chunk, one for each
/// buffer, and all that was sent.
fn use_up_buffers<W: ScriptWorld, T>(
    driver: &mut Driver<'_, W>,
    client: ClientId,
    socket: SocketId,
    mut keep: impl FnMut(&mut Driver<'_, W>, Chunk) -> T,
) -> (Vec<T>, Vec<u8>) {
    let buffers = usize::from(driver.world.receive_buffers());
    let receive = driver.push(Operation::Receive { socket });
    let mut held = Vec::new();
    let mut sent = Vec::new();
    let starved = loop {
        assert!(held.len() <= buffers, "more chunks than buffers");
        let bytes = pattern(sent.len() as u64, 100);
        driver.world.client_send(client, &bytes);
        sent.extend(bytes);
        match driver.wait_received(receive) {
            (Received::Chunk(chunk), true) => held.push(keep(driver, chunk)),
            (Received::Chunk(chunk), false) => {
                held.push(keep(driver, chunk));
                break false;
            }
            (Received::Starved, false) => break true,
            other => panic!("expected a chunk or starvation, got {other:?}"),
        }
    };
    assert_eq!(held.len(), buffers);
    if !starved {
        // The receive ended with the last buffer; a new one starves.
        driver.world.client_send(client, b"x");
        sent.push(b'x');
        let receive = driver.push(Operation::Receive { socket });
        assert!(matches!(driver.wait_received(receive), (Received::Starved, false)));
    }
    (held, sent)
}

/// Parts of chunks outlive the chunks, and then the buffers are used again.
fn share<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let mut before = 0;
    for _ in 0..2 {
        let (shares, sent) = use_up_buffers(&mut driver, client, socket, |driver, chunk| {
            let share = (chunk.buffer().clone(), chunk.len() as usize);
            driver.recycle(chunk);
            share
        });
        let mut got: Vec<u8> = Vec::new();
        for (buffer, len) in &shares {
            got.extend(&buffer.bytes()[..*len]);
        }
        assert!(got == sent[..got.len()], "a shared buffer was written to");
        drop(shares);
        let mut receive = None;
        let rest = driver.receive(socket, &mut receive, sent.len() - got.len());
        assert!(rest == sent[got.len()..], "the last bytes are wrong after {before}");
        if let Some(receive) = receive {
            assert_eq!(driver.stop_receiving(receive), []);
        }
        before += sent.len();
    }
    driver.close(socket);
    driver.end();
}

fn starve<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let (held, sent) = use_up_buffers(&mut driver, client, socket, |_, chunk| chunk);
    let mut got = Vec::new();
    for chunk in held {
        got.extend(driver.consume(chunk));
    }
    let mut receive = None;
    got.extend(driver.receive(socket, &mut receive, sent.len() - got.len()));
    assert!(got == sent, "starvation lost or changed bytes");
    if let Some(receive) = receive {
        assert_eq!(driver.stop_receiving(receive), []);
    }
    driver.close(socket);
    driver.end();
}

fn close<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    assert!(!driver.world.client_saw_end(client));
    driver.close(socket);
    driver.wait_client_end(client);
    // Its id is invalid from now on.
    let close = driver.push(Operation::Close { socket });
    assert_eq!(driver.wait_finished(close).map_err(|errno| errno.0), Err(libc::EBADF));
    driver.end();
}

fn bad_ids<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let socket = SocketId(u32::MAX);
    let accept = driver.push(Operation::Accept { listener: socket });
    assert!(matches!(driver.wait(accept), Event::Accepted { result: Err(_), more: false }));
    let receive = driver.push(Operation::Receive { socket });
    assert!(matches!(driver.wait_received(receive), (Received::Failed(_), false)));
    let mut list = SendList::new();
    let index = list.pin(driver.world.buffer(4096));
    list.segment(index, 0, 10);
    let send = driver.push(Operation::Send { socket, list });
    let (result, list) = driver.wait_sent(send);
    assert_eq!(result.map_err(|errno| errno.0), Err(libc::EBADF));
    assert_eq!((list.buffers_len(), list.bytes()), (1, 10));
    driver.end();
}

fn stale_id<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (first, _) = driver.connect();
    driver.close(first);
    let (second, client) = driver.connect();
    assert_ne!(first, second);
    driver.world.client_send(client, b"for the second");
    let receive = driver.push(Operation::Receive { socket: first });
    assert!(matches!(driver.wait_received(receive), (Received::Failed(_), false)));
    let mut receive = None;
    assert_eq!(driver.receive(second, &mut receive, 14), b"for the second");
    if let Some(receive) = receive {
        assert_eq!(driver.stop_receiving(receive), []);
    }
    driver.close(second);
    driver.end();
}

fn many_connections<W: ScriptWorld>(world: &mut W) {
    const CONNECTIONS: usize = 24;
    let mut driver = Driver::new(world);
    let listener = driver.world.listener();
    let accept = driver.push(Operation::Accept { listener });
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = driver.world.client_connect(listener);
        let socket = driver.wait_accepted(accept).socket;
        let receive = driver.push(Operation::Receive { socket });
        connections.push((client, socket, receive, Vec::new(), Vec::new()));
    }
    for round in 0..4 {
        for (number, (client, _, _, sent, _)) in connections.iter_mut().enumerate() {
            let bytes = pattern((round * CONNECTIONS + number) as u64, 500);
            driver.world.client_send(*client, &bytes);
            sent.extend(bytes);
        }
        for (_, socket, receive, sent, got) in &mut connections {
            while got.len() < sent.len() {
                let (received, more) = driver.wait_received(*receive);
                match received {
                    Received::Chunk(chunk) => got.extend(driver.consume(chunk)),
                    Received::Starved => {}
                    other => panic!("expected bytes, got {other:?}"),
                }
                if !more {
                    *receive = driver.push(Operation::Receive { socket: *socket });
                }
            }
            assert!(got == sent, "connections mixed");
        }
    }
    for (_, socket, receive, _, _) in connections {
        assert_eq!(driver.stop_receiving(receive), []);
        driver.close(socket);
    }
    let cancel = driver.push(Operation::Cancel { target: accept });
    assert_eq!(driver.wait_finished(cancel), Ok(()));
    assert!(matches!(driver.wait(accept), Event::Accepted { result: Err(_), more: false }));
    driver.close(listener);
    driver.end();
}
