//! Scripts about connections that move from one ring to another.

use super::driver::{Driver, pattern};
use super::{Script, ScriptWorld};
use crate::{Errno, Event, LooseSocket, Operation, Received, Ring, SendList, SocketId};

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    vec![
        Script { name: "a released connection goes on in the ring that adopts it", run: go_on },
        Script { name: "bytes that nobody has received survive the move", run: unread },
        Script { name: "bytes sent while a connection is loose arrive after it is adopted", run: sent_loose },
        Script { name: "a connection moves back and forth under traffic", run: back_and_forth },
        Script { name: "a FIN while a connection is loose ends the receive after its bytes", run: fin_loose },
        Script { name: "a reset while a connection is loose fails the receive", run: reset_loose },
        Script { name: "dropping a loose connection closes it", run: drop_loose },
        Script { name: "a released id is invalid, and only connections are released", run: bad_ids },
    ]
}

fn release<W: ScriptWorld>(driver: &mut Driver<'_, W>, socket: SocketId) -> LooseSocket {
    try_release(driver, socket).expect("the socket is connected")
}

fn try_release<W: ScriptWorld>(driver: &mut Driver<'_, W>, socket: SocketId) -> Result<LooseSocket, Errno> {
    let token = driver.push(Operation::Release { socket });
    match driver.wait(token) {
        Event::Released { result } => result,
        other => panic!("expected Released, got {other:?}"),
    }
}

/// Into the ring under test. A ring may refuse for want of room, and takes it later.
fn adopt<W: ScriptWorld>(driver: &mut Driver<'_, W>, mut loose: LooseSocket) -> SocketId {
    for _ in 0..100 {
        match driver.world.ring().adopt(loose) {
            Ok(socket) => return socket,
            Err((errno, back)) => {
                assert_eq!(errno.0, libc::ENFILE);
                loose = back;
            }
        }
        driver.turn();
    }
    panic!("the ring has no room for a socket");
}

/// Receives `want` bytes, and leaves no receive behind.
fn receive<W: ScriptWorld>(driver: &mut Driver<'_, W>, socket: SocketId, want: usize) -> Vec<u8> {
    let mut receive = None;
    let bytes = driver.receive(socket, &mut receive, want);
    if let Some(receive) = receive {
        assert_eq!(driver.stop_receiving(receive), []);
    }
    bytes
}

fn send<W: ScriptWorld>(driver: &mut Driver<'_, W>, socket: SocketId, bytes: &[u8]) {
    let mut buffer = driver.world.buffer(4096);
    buffer.bytes_mut().expect("a new buffer is not shared")[..bytes.len()].copy_from_slice(bytes);
    let mut list = SendList::new();
    let index = list.pin(buffer);
    list.segment(index, 0, bytes.len() as u32);
    driver.send_all(socket, list);
}

/// Closes a socket of the other ring, and makes the first ring the ring under test again.
fn end<W: ScriptWorld>(mut driver: Driver<'_, W>, socket: SocketId) {
    driver.close(socket);
    driver.world.swap_rings();
    driver.end();
}

fn go_on<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    driver.world.client_send(client, b"before");
    assert_eq!(receive(&mut driver, socket, 6), b"before");
    let loose = release(&mut driver, socket);
    driver.world.swap_rings();
    let socket = adopt(&mut driver, loose);
    driver.world.client_send(client, b"after");
    assert_eq!(receive(&mut driver, socket, 5), b"after");
    send(&mut driver, socket, b"answer");
    assert_eq!(driver.client_receive(client, 6), b"answer");
    assert!(!driver.world.client_saw_end(client));
    end(driver, socket);
}

fn unread<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let sent = pattern(21, 40_000);
    let token = driver.push(Operation::Receive { socket });
    driver.world.client_send(client, &sent);
    // Whatever has come by now is the first ring's; the rest is the second's.
    let mut got = driver.stop_receiving(token);
    let loose = release(&mut driver, socket);
    driver.world.swap_rings();
    let socket = adopt(&mut driver, loose);
    let missing = sent.len() - got.len();
    got.extend(receive(&mut driver, socket, missing));
    assert!(got == sent, "the move lost or changed bytes");
    end(driver, socket);
}

fn sent_loose<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let loose = release(&mut driver, socket);
    let sent = pattern(22, 30_000);
    driver.world.client_send(client, &sent[..10_000]);
    // They arrive while neither ring has the connection.
    (0..5).for_each(|_| driver.turn());
    driver.world.client_send(client, &sent[10_000..20_000]);
    driver.world.swap_rings();
    let socket = adopt(&mut driver, loose);
    driver.world.client_send(client, &sent[20_000..]);
    assert!(receive(&mut driver, socket, sent.len()) == sent);
    end(driver, socket);
}

fn back_and_forth<W: ScriptWorld>(world: &mut W) {
    const MOVES: u64 = 40;
    let mut driver = Driver::new(world);
    let (mut socket, client) = driver.connect();
    let (mut sent, mut got, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..MOVES {
        let token = driver.push(Operation::Receive { socket });
        let bytes = pattern(round, 1500);
        driver.world.client_send(client, &bytes);
        sent.extend(bytes);
        if round % 3 == 0 {
            driver.turn();
        }
        let answer = pattern(1000 + round, 700);
        send(&mut driver, socket, &answer);
        answered.extend(answer);
        got.extend(driver.stop_receiving(token));
        let loose = release(&mut driver, socket);
        driver.world.swap_rings();
        socket = adopt(&mut driver, loose);
    }
    let missing = sent.len() - got.len();
    got.extend(receive(&mut driver, socket, missing));
    assert!(got == sent, "moving lost or changed bytes");
    assert!(driver.client_receive(client, answered.len()) == answered);
    driver.close(socket);
    driver.wait_client_end(client);
    driver.end();
}

fn fin_loose<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let loose = release(&mut driver, socket);
    driver.world.client_send(client, b"last words");
    driver.world.client_finish(client);
    (0..5).for_each(|_| driver.turn());
    driver.world.swap_rings();
    let socket = adopt(&mut driver, loose);
    let mut receive = None;
    assert_eq!(driver.receive(socket, &mut receive, 10), b"last words");
    let receive = receive.unwrap_or_else(|| driver.push(Operation::Receive { socket }));
    assert!(matches!(driver.wait_received(receive), (Received::End, false)));
    // The other direction still works.
    send(&mut driver, socket, b"answer");
    assert_eq!(driver.client_receive(client, 6), b"answer");
    end(driver, socket);
}

fn reset_loose<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let loose = release(&mut driver, socket);
    driver.world.client_reset(client);
    (0..5).for_each(|_| driver.turn());
    driver.world.swap_rings();
    let socket = adopt(&mut driver, loose);
    let receive = driver.push(Operation::Receive { socket });
    assert!(matches!(driver.wait_received(receive), (Received::Failed(_), false)));
    end(driver, socket);
}

fn drop_loose<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, client) = driver.connect();
    let loose = release(&mut driver, socket);
    (0..5).for_each(|_| driver.turn());
    assert!(!driver.world.client_saw_end(client), "releasing closes nothing");
    drop(loose);
    driver.wait_client_end(client);
    driver.end();
}

fn bad_ids<W: ScriptWorld>(world: &mut W) {
    let mut driver = Driver::new(world);
    let (socket, _) = driver.connect();
    let loose = release(&mut driver, socket);
    assert_eq!(try_release(&mut driver, socket).map(drop), Err(Errno(libc::EBADF)));
    let receive = driver.push(Operation::Receive { socket });
    assert!(matches!(driver.wait_received(receive), (Received::Failed(_), false)));
    let close = driver.push(Operation::Close { socket });
    assert_eq!(driver.wait_finished(close), Err(Errno(libc::EBADF)));
    // Back into the ring that it left, where it has another id.
    let again = adopt(&mut driver, loose);
    assert_ne!(again, socket);
    driver.close(again);

    let listener = driver.world.listener();
    assert_eq!(try_release(&mut driver, listener).map(drop), Err(Errno(libc::EINVAL)));
    driver.close(listener);
    driver.world.swap_rings();
    let foreign = driver.world.ring().adopt(LooseSocket::new("no socket"));
    assert!(matches!(foreign, Err((Errno(libc::EINVAL), _))));
    driver.world.swap_rings();
    driver.end();
}
