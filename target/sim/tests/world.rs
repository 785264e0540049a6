//! What the world promises a test beside the seam: clock, wakes, disks' limits, connections' ends, misuse.

#![allow(clippy::panic, reason = "a test's helpers fail by panicking")]

use stampede_ring::{
    Completion, Errno, Event, FileId, IoMemory, Operation, PeerId, Received, Ring, SendList, SocketId, Token,
    Wait,
};
use stampede_sim::{ClientStatus, DiskConfig, FaultKind, FaultPlan, SimConfig, SimRing, SimWorld};
use std::net::SocketAddr;

fn portal() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 3260))
}

fn client() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 999))
}

/// Submits and advances until a completion of this token comes.
fn wait(world: &SimWorld, ring: &mut SimRing, token: Token) -> Event {
    let mut batch = Vec::with_capacity(1);
    ring.submit(Wait::Forever).expect("a living ring");
    for _ in 0..1000 {
        while ring.reap(&mut batch) > 0 {
            for Completion { token: seen, event } in batch.drain(..) {
                if seen == token {
                    return event;
                }
            }
        }
        if !world.advance() {
            break;
        }
    }
    panic!("no completion for {token:?}");
}

fn run(world: &SimWorld, ring: &mut SimRing, operation: Operation) -> Event {
    ring.push(Token(7), operation).expect("an empty queue");
    wait(world, ring, Token(7))
}

fn transfer(world: &SimWorld, ring: &mut SimRing, operation: Operation) -> Result<u32, i32> {
    match run(world, ring, operation) {
        Event::Transferred { result, .. } => result.map_err(|errno| errno.0),
        other => panic!("{other:?}"),
    }
}

fn write(memory: &IoMemory, file: FileId, offset: u64, len: u32, byte: u8) -> Operation {
    let mut buffer = memory.take(len).expect("memory for a test");
    buffer.bytes_mut().expect("a new buffer").fill(byte);
    Operation::Write { file, offset, buffer, start: 0, len }
}

fn read(memory: &IoMemory, file: FileId, offset: u64, len: u32) -> Operation {
    Operation::Read { file, offset, buffer: memory.take(len).expect("memory for a test"), start: 0, len }
}

fn setup() -> (SimWorld, SimRing, IoMemory) {
    let world = SimWorld::new(SimConfig::calm(1));
    let ring = world.ring(0);
    (world, ring, IoMemory::new(1 << 20).expect("memory for a test"))
}

fn accept(world: &SimWorld, ring: &mut SimRing) -> (stampede_sim::ClientId, SocketId) {
    let listener = ring.listen(portal());
    ring.push(Token(1), Operation::Accept { listener }).expect("an empty queue");
    let client = world.connect(client(), portal()).expect("somebody listens");
    match wait(world, ring, Token(1)) {
        Event::Accepted { result: Ok(accepted), .. } => (client, accepted.socket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn shards_wake_each_other_and_sleep_until_their_deadline() {
    let (world, mut one, _) = setup();
    let mut two = world.ring(1);
    two.submit(Wait::Forever).expect("a living ring");
    assert!(!world.is_ready(1));
    one.push(Token(3), Operation::Wake { peer: PeerId(1) }).expect("an empty queue");
    one.push(Token(4), Operation::Wake { peer: PeerId(9) }).expect("an empty queue");
    assert!(matches!(wait(&world, &mut one, Token(4)), Event::Finished { result: Err(Errno(libc::EBADF)) }));
    while world.next_event().is_some() {
        world.advance();
    }
    assert!(world.is_ready(1) && !world.is_ready(0));
    let mut batch = Vec::with_capacity(4);
    assert_eq!(two.reap(&mut batch), 1);
    assert!(matches!(batch[0].event, Event::Woken));

    two.submit(Wait::Until(world.now() + 500)).expect("a living ring");
    assert!(!world.is_ready(1));
    let before = world.now();
    assert!(world.advance());
    assert_eq!(world.now(), before + 500);
    assert!(world.is_ready(1));
    world.wake(0);
    assert!(world.advance() && world.is_ready(0));
}

#[test]
fn a_disk_has_limits() {
    let (world, mut ring, memory) = setup();
    let config = DiskConfig { capacity: Some(8192), ..DiskConfig::default() };
    let disk = world.disk("thin", 64 * 1024, config);
    assert_eq!(world.find_disk("thin"), Some(disk));
    let file = ring.open(disk);
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 0, 8192, 1)), Ok(8192));
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 8192, 512, 2)), Err(libc::ENOSPC));
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 100, 512, 2)), Err(libc::EINVAL));
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 64 * 1024, 512, 2)), Err(libc::ENOSPC));
    assert!(matches!(
        run(&world, &mut ring, Operation::Discard { file, offset: 0, len: 4096 }),
        Event::Finished { result: Ok(()) }
    ));
    assert_eq!(world.disk_allocated(disk), 4096);
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 8192, 512, 2)), Ok(512));
    assert_eq!(world.faults().count(FaultKind::NoSpace), 1);
}

#[test]
fn broken_ranges_fail_until_written() {
    let (world, mut ring, memory) = setup();
    let disk = world.disk("old", 64 * 1024, DiskConfig::default());
    let file = ring.open(disk);
    world.break_reads(disk, 1024..1536);
    world.break_writes(disk, 4096..4608);
    assert_eq!(transfer(&world, &mut ring, read(&memory, file, 0, 1024)), Ok(1024));
    assert_eq!(transfer(&world, &mut ring, read(&memory, file, 0, 4096)), Err(libc::EIO));
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 1024, 512, 9)), Ok(512));
    assert_eq!(transfer(&world, &mut ring, read(&memory, file, 0, 4096)), Ok(4096));
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 4096, 4096, 9)), Err(libc::EIO));
    world.mend_disk(disk);
    assert_eq!(transfer(&world, &mut ring, write(&memory, file, 4096, 4096, 9)), Ok(4096));
}

#[test]
fn a_kill_keeps_and_a_crash_may_lose_what_was_not_flushed() {
    let mut lost = 0;
    for seed in 0..40 {
        let world = SimWorld::new(SimConfig::calm(seed));
        let memory = IoMemory::new(1 << 20).expect("memory for a test");
        let disk = world.disk("disk", 64 * 1024, DiskConfig::default());
        let mut ring = world.ring(0);
        let file = ring.open(disk);
        assert_eq!(transfer(&world, &mut ring, write(&memory, file, 0, 4096, 1)), Ok(4096));
        world.kill();
        assert_eq!(ring.submit(Wait::No), Err(Errno(libc::ENXIO)), "a dead process' ring is dead");
        assert_eq!(world.peek_disk(disk, 0, 4096), [1; 4096]);
        let mut ring = world.ring(0);
        let file = ring.open(disk);
        assert!(matches!(
            run(&world, &mut ring, Operation::Flush { file }),
            Event::Finished { result: Ok(()) }
        ));
        assert_eq!(world.peek_durable(disk, 0, 4096), [1; 4096]);
        assert_eq!(transfer(&world, &mut ring, write(&memory, file, 0, 512, 2)), Ok(512));
        world.crash();
        let byte = world.peek_disk(disk, 0, 1)[0];
        assert!(byte == 1 || byte == 2);
        lost += u32::from(byte == 1);
        assert_eq!(memory.pools().iter().map(|pool| pool.in_use()).sum::<u32>(), 0);
    }
    assert!((5..35).contains(&lost), "{lost}");
}

#[test]
fn connections_end_as_tcp_connections_do() {
    // Closed by the target with everything read: FIN. With something unread: RST.
    for unread in [false, true] {
        let (world, mut ring, _) = setup();
        let (client, socket) = accept(&world, &mut ring);
        if unread {
            world.client_send(client, b"never read");
        }
        run(&world, &mut ring, Operation::Close { socket });
        world.advance_by(1_000_000);
        let expected = if unread { ClientStatus::Reset } else { ClientStatus::Closed };
        assert_eq!(world.client_status(client), expected);
        assert_eq!(world.client_addresses(client), (self::client(), portal()));
    }
    let (world, mut ring, _) = setup();
    let (client, socket) = accept(&world, &mut ring);
    world.client_timeout(client);
    let event = run(&world, &mut ring, Operation::Receive { socket });
    assert!(matches!(
        event,
        Event::Received { received: Received::Failed(Errno(libc::ETIMEDOUT)), more: false }
    ));
    assert_eq!(
        world.connect(self::client(), SocketAddr::from(([10, 0, 0, 1], 1))),
        None,
        "nobody listens there"
    );
}

#[test]
fn a_cut_cable_stalls_and_loses_nothing() {
    let (world, mut ring, _) = setup();
    let (client, socket) = accept(&world, &mut ring);
    world.client_cut(client, true);
    world.client_send(client, b"hello");
    ring.push(Token(2), Operation::Receive { socket }).expect("an empty queue");
    ring.submit(Wait::Forever).expect("a living ring");
    world.advance_by(1_000_000_000);
    assert!(!world.is_ready(0));
    world.client_cut(client, false);
    let Event::Received { received: Received::Chunk(chunk), .. } = wait(&world, &mut ring, Token(2)) else {
        panic!("nothing came");
    };
    assert_eq!(chunk.bytes(), b"hello");
    assert_eq!(ring.buffers_in_use(), 1);
    ring.recycle(chunk);
    assert_eq!(ring.buffers_in_use(), 0);
}

#[test]
fn a_client_that_does_not_read_blocks_the_sender() {
    let (world, mut ring, memory) = setup();
    let (client, socket) = accept(&world, &mut ring);
    let send = |from: u8| {
        let mut list = SendList::new();
        let mut buffer = memory.take(200_000).expect("memory for a test");
        buffer.bytes_mut().expect("a new buffer").fill(from);
        let index = list.pin(buffer);
        list.segment(index, 0, 200_000);
        Operation::Send { socket, list }
    };
    let sent = |event: Event| match event {
        Event::Sent { result, .. } => result.expect("a living connection"),
        other => panic!("{other:?}"),
    };
    assert_eq!(sent(run(&world, &mut ring, send(1))), 200_000);
    assert_eq!(sent(run(&world, &mut ring, send(2))), 62_144, "a short send fills the buffer");
    ring.push(Token(5), send(3)).expect("an empty queue");
    ring.submit(Wait::Forever).expect("a living ring");
    world.advance_by(1_000_000_000);
    assert!(!world.is_ready(0));
    assert_eq!(world.faults().count(FaultKind::BlockedSend), 1);
    assert_eq!(world.client_backlog(client), 262_144);
    assert_eq!(world.client_recv_some(client, 1000), [1; 1000]);
    assert_eq!(sent(wait(&world, &mut ring, Token(5))), 1000);
    assert_eq!(world.in_flight(0), 1, "the accept");
}

#[test]
fn misuse_is_noted() {
    let (world, mut ring, memory) = setup();
    let disk = world.disk("disk", 64 * 1024, DiskConfig::default());
    let file = ring.open(disk);
    let (_, socket) = accept(&world, &mut ring);
    assert_eq!(world.misuses(), Vec::<String>::new());
    ring.push(Token(8), Operation::Receive { socket }).expect("room");
    ring.push(Token(9), Operation::Receive { socket }).expect("room");
    run(&world, &mut ring, Operation::Close { socket });
    transfer(&world, &mut ring, write(&memory, FileId(4), 0, 512, 1)).expect_err("no such file");
    let Operation::Read { buffer, .. } = read(&memory, file, 0, 512) else { unreachable!() };
    let shared = buffer.clone();
    let operation = Operation::Read { file, offset: 0, buffer, start: 0, len: 512 };
    assert_eq!(transfer(&world, &mut ring, operation), Err(libc::EINVAL));
    drop(shared);
    let misuses = world.misuses().join("\n");
    for what in ["two receives at once", "operation is in flight", "no such file", "shared buffer"] {
        assert!(misuses.contains(what), "{what} in {misuses}");
    }
}

#[test]
fn a_full_queue_hands_back_and_empties() {
    let mut config = SimConfig::calm(1);
    config.ring.queue_len = 2;
    let world = SimWorld::new(config.with_faults(FaultPlan::none().with(FaultKind::QueueFull, 1_000_000)));
    let disk = world.disk("disk", 4096, DiskConfig::default());
    let mut ring = world.ring(0);
    let file = ring.open(disk);
    for round in 0..10 {
        let mut pushed = 0;
        while ring.push(Token(pushed), Operation::Flush { file }).is_ok() {
            pushed += 1;
        }
        assert!((1..=2).contains(&pushed), "round {round}: {pushed}");
        ring.submit(Wait::No).expect("a living ring");
    }
    assert_eq!(world.faults().count(FaultKind::QueueFull), 10);
}
