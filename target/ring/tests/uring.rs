//! What only the io_uring side has: wakes between threads, waiting, limits, set-up, moving sockets, the end of a ring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

mod common;

use common::{Config, UringWorld, small_config};
use stampede_ring::script::ScriptWorld;
use stampede_ring::uring::{AddError, SetupError, UringConfig, UringRing};
use stampede_ring::{
    Completion, Errno, Event, IoMemory, Operation, PeerId, Pool, PoolConfig, Received, Ring, SendList, Token,
    Wait, clock,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;

fn ring() -> UringRing {
    UringRing::new(&small_config(), &[]).unwrap()
}

fn in_ms(ms: u64) -> Wait {
    Wait::Until(clock::monotonic_ns() + ms * MS)
}

/// Turns until something is reaped, for up to five seconds.
fn reap_some(ring: &mut UringRing) -> Vec<Completion> {
    let mut batch = Vec::with_capacity(64);
    let deadline = Instant::now() + Duration::from_secs(5);
    while batch.is_empty() && Instant::now() < deadline {
        ring.submit(in_ms(100)).unwrap();
        ring.reap(&mut batch);
    }
    batch
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

#[test]
fn waiting_ends_at_its_time() {
    let mut ring = ring();
    // The first submit arms the waker's poll.
    ring.submit(Wait::No).unwrap();
    for ms in [0, 1, 20] {
        let start = Instant::now();
        ring.submit(in_ms(ms)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(ms), "{ms} ms: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(ms + 500), "{ms} ms: {:?}", start.elapsed());
    }
    let start = Instant::now();
    ring.submit(Wait::Until(1)).unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "a time that is past");
}

#[test]
fn waiting_ends_with_what_is_there_already() {
    let mut ring = ring();
    ring.push(Token(1), Operation::Cancel { target: Token(99) }).unwrap();
    ring.submit(Wait::Forever).unwrap();
    assert_eq!(reap_some(&mut ring)[0].token, Token(1));
}

#[test]
fn a_waker_wakes_a_sleeping_ring_once() {
    let mut ring = ring();
    let waker = ring.waker();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        for _ in 0..50 {
            let () = receiver.recv().unwrap();
            thread::sleep(Duration::from_millis(1));
            for _ in 0..5 {
                waker.wake();
            }
        }
    });
    let mut wakes = 0;
    for _ in 0..50 {
        sender.send(()).unwrap();
        let mut batch = Vec::with_capacity(8);
        while batch.is_empty() {
            ring.submit(Wait::Forever).unwrap();
            ring.reap(&mut batch);
        }
        assert!(batch.iter().all(|completion| matches!(completion.event, Event::Woken)));
        wakes += batch.len();
    }
    thread.join().unwrap();
    assert!((50..=300).contains(&wakes), "{wakes}");
    // Wakes that came between are noticed too; then it is silent.
    ring.submit(Wait::No).unwrap();
    ring.reap(&mut Vec::with_capacity(8));
    let mut batch = Vec::with_capacity(8);
    ring.submit(in_ms(20)).unwrap();
    assert_eq!(ring.reap(&mut batch), 0, "{batch:?}");
}

#[test]
fn a_wake_before_the_ring_looks_is_not_lost() {
    let mut ring = ring();
    ring.waker().wake();
    assert!(matches!(reap_some(&mut ring)[..], [Completion { event: Event::Woken, .. }]));
}

#[test]
fn rings_wake_each_other_and_not_themselves() {
    const ROUNDS: usize = 200;
    let (to_main, from_peer) = mpsc::channel();
    let (to_peer, from_main) = mpsc::channel();
    let peer = thread::spawn(move || {
        let mut ring = ring();
        to_main.send(ring.peer_handle().unwrap()).unwrap();
        ring.connect_peer(PeerId(0), from_main.recv().unwrap());
        for _ in 0..ROUNDS {
            wait_for_wake(&mut ring);
            ring.push(Token(7), Operation::Wake { peer: PeerId(0) }).unwrap();
            ring.submit(Wait::No).unwrap();
        }
    });
    let mut ring = ring();
    to_peer.send(ring.peer_handle().unwrap()).unwrap();
    ring.connect_peer(PeerId(1), from_peer.recv().unwrap());
    for _ in 0..ROUNDS {
        ring.push(Token(8), Operation::Wake { peer: PeerId(1) }).unwrap();
        // Several wakes before a submit are one.
        ring.push(Token(8), Operation::Wake { peer: PeerId(1) }).unwrap();
        wait_for_wake(&mut ring);
    }
    peer.join().unwrap();
}

/// Sleeps until woken: the ring's own wakes must not end it.
fn wait_for_wake(ring: &mut UringRing) {
    let mut batch = Vec::with_capacity(8);
    for _ in 0..3 {
        ring.submit(Wait::Forever).unwrap();
        ring.reap(&mut batch);
        if let Some(completion) = batch.pop() {
            assert!(matches!(completion.event, Event::Woken), "{completion:?}");
            return;
        }
    }
    panic!("waiting ended without a completion, again and again");
}

#[test]
fn a_wake_that_fails_is_told() {
    let mut ring = ring();
    ring.push(Token(5), Operation::Wake { peer: PeerId(3) }).unwrap();
    let told = reap_some(&mut ring);
    assert!(matches!(told[..], [Completion { token: Token(5), event: Event::Finished { result: Err(_) } }]));

    let gone = thread::spawn(ring_handle_of_a_thread_that_ends).join().unwrap();
    ring.connect_peer(PeerId(3), gone);
    ring.push(Token(6), Operation::Wake { peer: PeerId(3) }).unwrap();
    ring.submit(Wait::No).unwrap();
    let mut batch = Vec::with_capacity(8);
    ring.reap(&mut batch);
    // Older kernels take the message and drop it.
    for completion in batch {
        assert_eq!(completion.token, Token(6));
        assert!(matches!(completion.event, Event::Finished { result: Err(_) }));
    }
}

fn ring_handle_of_a_thread_that_ends() -> stampede_ring::uring::PeerHandle {
    ring().peer_handle().unwrap()
}

#[test]
fn a_signal_ends_a_wait() {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: the handler does nothing, so it may run at any time.
    #[allow(unsafe_code, reason = "std has no signals")]
    let this_thread = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
        libc::pthread_self()
    };
    let mut ring = ring();
    ring.submit(Wait::No).unwrap();
    let signaller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        // SAFETY: the thread waits for this one, so it still lives.
        #[allow(unsafe_code, reason = "std has no signals")]
        unsafe {
            libc::pthread_kill(this_thread, libc::SIGUSR2)
        };
    });
    let start = Instant::now();
    ring.submit(in_ms(5_000)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
    signaller.join().unwrap();
}

#[test]
fn a_tiny_socket_buffer_makes_a_send_wait_not_fail() {
    let mut ring = ring();
    let memory = IoMemory::new(1 << 20).unwrap();
    let (ours, mut client) = connected();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    let socket = ring.add_socket(ours).unwrap();
    let mut list = SendList::new();
    let mut expected = Vec::new();
    for number in 0..40u8 {
        let mut buffer = memory.take(4096).unwrap();
        buffer.bytes_mut().unwrap()[..4096].fill(number);
        expected.extend_from_slice(&buffer.bytes()[..4096]);
        let index = list.pin(buffer);
        list.segment(index, 0, 4096);
    }
    ring.push(Token(1), Operation::Send { socket, list }).unwrap();
    let reader = thread::spawn(move || {
        let mut got = vec![0; 40 * 4096];
        thread::sleep(Duration::from_millis(20));
        client.read_exact(&mut got).unwrap();
        got
    });
    let Event::Sent { result, list } = reap_some(&mut ring).remove(0).event else { panic!() };
    assert_eq!(result, Ok(40 * 4096), "the kernel goes on by itself after short sends");
    assert_eq!(list.buffers_len(), 40);
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_socket_moves_to_another_thread_with_its_unread_bytes() {
    let (ours, mut client) = connected();
    let mut first = ring();
    let socket = first.add_socket(ours).unwrap();
    client.write_all(b"unread").unwrap();
    first.push(Token(1), Operation::Release { socket }).unwrap();
    let Event::Released { result: Ok(moved) } = reap_some(&mut first).remove(0).event else { panic!() };
    thread::spawn(move || {
        let mut second = ring();
        let socket = second.adopt(moved).unwrap();
        second.push(Token(1), Operation::Receive { socket }).unwrap();
        let mut told = reap_some(&mut second);
        let Event::Received { received: Received::Chunk(chunk), more: true } = told.remove(0).event else {
            panic!()
        };
        assert_eq!(chunk.bytes(), b"unread");
        second.recycle(chunk);
    })
    .join()
    .unwrap();
}

#[test]
fn a_forged_chunk_reaches_nothing() {
    let mut world = UringWorld::new(Config::default());
    let other = Pool::new(PoolConfig { slot_len: 4096, slots: 4 }).unwrap();
    let forged = stampede_ring::Chunk::new(other.take().unwrap(), 4096);
    world.ring().recycle(forged);
    assert_eq!(other.in_use(), 0, "it was dropped, and not offered to the kernel");
    // And every buffer still works, once.
    stampede_ring::script::run_all(&mut world);
}

#[test]
fn tables_have_limits() {
    let config = UringConfig { sockets_max: 2, ..small_config() };
    let mut ring = UringRing::new(&config, &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = ring.add_listener(listener).unwrap();
    ring.push(Token(1), Operation::Accept { listener }).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let told = reap_some(&mut ring);
    assert!(matches!(told[0].event, Event::Accepted { result: Ok(_), more: true }));
    let mut second = TcpStream::connect(address).unwrap();
    let told = reap_some(&mut ring);
    assert!(matches!(told[0].event, Event::Accepted { result: Err(Errno(libc::ENFILE)), more: true }));
    assert_eq!(second.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    let (ours, _client) = connected();
    let error = ring.add_socket(ours).unwrap_err();
    assert!(matches!(error, AddError::Full { limit: 2, .. }), "{error}");
}

#[test]
fn impossible_limits_are_named() {
    let cases = [
        (UringConfig { entries: 100, ..UringConfig::default() }, "entries"),
        (UringConfig { completions: 1024, ..UringConfig::default() }, "completions"),
        (UringConfig { operations_max: 0, ..UringConfig::default() }, "operations_max"),
        (UringConfig { receive_buffers: 100, ..UringConfig::default() }, "receive_buffers"),
        (UringConfig { receive_buffer_len: 1000, ..UringConfig::default() }, "receive_buffer_len"),
        (UringConfig { sockets_max: 0, ..UringConfig::default() }, "sockets_max"),
        (UringConfig { files_max: u32::MAX, ..UringConfig::default() }, "files_max"),
    ];
    for (config, expected) in cases {
        let error = UringRing::new(&config, &[]).unwrap_err();
        assert!(matches!(error, SetupError::Config { setting, .. } if setting == expected), "{error}");
    }
}

#[test]
fn registered_memory_and_workers_are_reported() {
    let memory = IoMemory::new(1 << 20).unwrap();
    let ring =
        UringRing::new(&UringConfig { shard_cores: vec![0], ..small_config() }, memory.pools()).unwrap();
    let report = ring.report();
    assert_eq!(report.registered_bytes > 0, report.unregistered_reason.is_none(), "{report:?}");
    assert_eq!(report.worker_cores.is_some(), report.worker_cores_reason.is_none(), "{report:?}");
    if let Some(cores) = &report.worker_cores {
        assert!(!cores.starts_with('0'), "{cores}");
    }
}

#[test]
fn dropping_a_ring_in_the_middle_gives_everything_back() {
    let memory = IoMemory::new(1 << 20).unwrap();
    let (ours, client) = connected();
    let (listener, address) = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let mut ring = UringRing::new(&small_config(), memory.pools()).unwrap();
    let listener = ring.add_listener(listener).unwrap();
    let socket = ring.add_socket(ours).unwrap();
    ring.push(Token(1), Operation::Accept { listener }).unwrap();
    ring.push(Token(2), Operation::Receive { socket }).unwrap();
    let mut list = SendList::new();
    let index = list.pin(memory.take(256 << 10).unwrap());
    for _ in 0..1000 {
        list.segment(index, 0, 64 << 10);
    }
    ring.push(Token(3), Operation::Send { socket, list }).unwrap();
    ring.submit(Wait::No).unwrap();
    ring.push(Token(4), Operation::Cancel { target: Token(1) }).unwrap();
    let start = Instant::now();
    drop(ring);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(memory.pools().iter().all(|pool| pool.in_use() == 0), "the send's buffer came back");
    // The port is free at once.
    TcpListener::bind(address).unwrap();
    drop(client);
}

#[test]
fn connections_come_and_go_without_leaks() {
    let mut world = UringWorld::new(Config::default());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let listener = world.listener();
    let address = world.address(listener);
    let ring = world.ring();
    ring.push(Token(1), Operation::Accept { listener }).unwrap();
    let mut before = 0;
    for round in 0..600u64 {
        if round == 100 {
            before = descriptors();
        }
        let client = TcpStream::connect(address).unwrap();
        let told = reap_some(ring).remove(0);
        let Event::Accepted { result: Ok(accepted), more: true } = told.event else { panic!("{told:?}") };
        let socket = accepted.socket;
        ring.push(Token(2), Operation::Receive { socket }).unwrap();
        if round % 2 == 0 {
            // An unclean end.
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let told = reap_some(ring).remove(0);
        assert!(matches!(told.event, Event::Received { more: false, .. }), "{told:?}");
        ring.push(Token(3), Operation::Close { socket }).unwrap();
        assert!(matches!(reap_some(ring)[0].event, Event::Finished { result: Ok(()) }));
    }
    // Other tests run beside this one, in the same process.
    assert!(descriptors() < before + 100, "{before} descriptors became {}", descriptors());
}

#[test]
fn more_completions_than_the_queue_holds_are_not_lost() {
    let config = UringConfig { entries: 8, completions: 16, operations_max: 512, ..small_config() };
    let mut ring = UringRing::new(&config, &[]).unwrap();
    let (ours, _client) = connected();
    let socket = ring.add_socket(ours).unwrap();
    // Many receives on one socket wait; cancelling makes far more completions than the queue has places.
    let mut batch = Vec::with_capacity(4);
    let push = |ring: &mut UringRing, token: u64, make: &dyn Fn() -> Operation| {
        while ring.push(Token(token), make()).is_err() {
            ring.submit(Wait::No).unwrap();
        }
    };
    for token in 0..100 {
        push(&mut ring, token, &|| Operation::Receive { socket });
    }
    for token in 0..100 {
        push(&mut ring, 1000 + token, &|| Operation::Cancel { target: Token(token) });
    }
    let mut ended = [0; 2];
    let deadline = Instant::now() + Duration::from_secs(5);
    while ended != [100, 100] && Instant::now() < deadline {
        ring.submit(in_ms(10)).unwrap();
        let count = ring.reap(&mut batch);
        assert!(count <= 4, "no more than the batch has room for");
        for completion in batch.drain(..) {
            match completion.event {
                Event::Received { received: Received::Cancelled, more: false } => ended[0] += 1,
                Event::Finished { result: Ok(()) } => ended[1] += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(ended, [100, 100]);
}

#[test]
fn an_idle_ring_sleeps() {
    let mut world = UringWorld::new(Config::default());
    let listener = world.listener();
    world.ring().push(Token(1), Operation::Accept { listener }).unwrap();
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = cpu();
    let mut turns = 0;
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        world.ring().submit(in_ms(100)).unwrap();
        assert_eq!(world.ring().reap(&mut Vec::with_capacity(8)), 0);
        turns += 1;
    }
    let after = cpu();
    let spent_ns = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
    assert!(turns <= 6, "{turns} turns in 300 ms");
    assert!(spent_ns < 10_000_000, "{spent_ns} ns of CPU time");
}
