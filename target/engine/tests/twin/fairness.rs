//! A client that reads in bulk does not slow machines that boot: what each of those waits for a small read is told in
//! simulated time, with the bulk reader and without.
//!
//! The twin's shard takes no time of its own. Here each turn costs what it did: entering the kernel, the commands, and each
//! byte that it sent.

use crate::basics::{initiator, login, pattern};
use crate::house::{House, Plan};
use stampede_sim::initiator::{Command, Initiator, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, NetworkConfig, SimConfig, SimRing, SimWorld};

const MACHINES: u8 = 8;

/// Blocks of a machine's read, and of one of the bulk reader's, which has so many under way.
const SMALL: u32 = 32;
const LARGE: u32 = 512;
const DEPTH: usize = 64;

/// How long is measured, in simulated nanoseconds.
const WINDOW_NS: u64 = 100_000_000;

/// Nanoseconds that a shard has spent: about what a core of 3 GHz does.
fn spent_ns(house: &House<SimRing>) -> u64 {
    let counters = house.shards[0].counters();
    counters.turns * 2_000 + counters.completions * 300 + counters.commands * 1_000 + counters.sent_bytes / 5
}

/// One machine: a small read, and when it has come the next one.
struct Machine {
    host: Initiator,
    asked_ns: u64,
    waits_ns: Vec<u64>,
}

/// The machines' waits for a read in nanoseconds, median and longest, and bytes of the bulk reader.
fn measure(bulk: bool) -> (u64, u64, u64) {
    let mut config = SimConfig::calm(3);
    // What a kernel gives a connection that is busy.
    config.network = NetworkConfig { socket_buffer: 4 << 20, latency: 1_000..5_000 };
    let world = SimWorld::new(config);
    let disk = world.disk("disk", 4 << 20, DiskConfig::default());
    world.fill_disk(disk, 0, &pattern(4 << 20, 0));
    let plan = Plan { memory: 64 << 20, connection_bytes: 16 << 20, window: 128, ..Plan::new(disk) };
    let mut house = crate::basics::house(&world, &plan);
    let mut log_in = |number, depth| {
        let mut host = initiator(&world, number, |config| config.queue_depth = depth);
        login(&mut house, &mut host);
        host
    };
    let mut reader = log_in(1, DEPTH);
    let mut machines: Vec<Machine> = (2..2 + MACHINES)
        .map(|number| Machine { host: log_in(number, 1), asked_ns: 0, waits_ns: Vec::new() })
        .collect();
    let (mut busy_until, mut bytes, mut sent) = (0, 0, 0);
    let until = world.now() + WINDOW_NS;
    while world.now() < until {
        house.control();
        for report in reader.poll() {
            let Report::Done(done) = report else { panic!("{report:?}") };
            assert!(done.is_good(), "{done:?}");
            bytes += u64::from(LARGE) * 512;
        }
        while bulk && reader.has_room() {
            sent += 1;
            let read = Command::new(
                0,
                cdb::read_16(sent * u64::from(LARGE) % 8192, LARGE),
                Transfer::In(LARGE * 512),
            );
            reader.command(read).expect("room");
        }
        for machine in &mut machines {
            for report in machine.host.poll() {
                let Report::Done(done) = report else { panic!("{report:?}") };
                assert!(done.is_good(), "{done:?}");
                machine.waits_ns.push(world.now() - machine.asked_ns);
            }
            if machine.host.has_room() {
                machine.asked_ns = world.now();
                sent += 1;
                let read = Command::new(0, cdb::read_16(sent * 97 % 8000, SMALL), Transfer::In(SMALL * 512));
                machine.host.command(read).expect("room");
            }
        }
        let now = world.now();
        let ready = world.is_ready(0);
        if ready && busy_until <= now {
            let before = spent_ns(&house);
            house.turn(0);
            busy_until = now + spent_ns(&house) - before;
        }
        let due = (ready && busy_until > now).then_some(busy_until);
        let next = due.into_iter().chain(world.next_event()).min().expect("something will happen");
        world.advance_to(next.max(now));
    }
    let mut waits: Vec<u64> = machines.into_iter().flat_map(|machine| machine.waits_ns).collect();
    waits.sort_unstable();
    (waits[waits.len() / 2], *waits.last().expect("reads ended"), bytes)
}

#[test]
fn a_bulk_reader_does_not_slow_machines_that_boot() {
    let (alone, alone_max, _) = measure(false);
    let (beside, beside_max, bytes) = measure(true);
    println!(
        "alone {alone} ns, at most {alone_max}; beside a bulk reader {beside} ns, at most {beside_max}; it read {bytes}"
    );
    assert!(beside * 2 < alone * 3, "{beside} ns is too much more than {alone}");
    assert!(beside_max * 2 < alone_max * 3, "{beside_max} ns is too much more than {alone_max}");
    // Nor is it starved: a share of nine.
    assert!(bytes > 20 << 20, "it read {bytes} bytes only");
}
