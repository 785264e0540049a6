//! Two shards do nearly twice the work of one, counted in what each of them does: turns, completions, commands,
//! commands handed to another shard.
//!
//! The twin's shards take no time. Here each turn costs what it did, by the table [`Costs`]; a shard that is busy takes no
//! further turn until it is over. Clients cost nothing, so the shards are the limit. What counts are ratios, and those
//! hardly depend on the table: shards share nothing, so what a command costs is the same beside another shard.

use crate::basics::{initiator, login, pattern, run};
use crate::house::{House, Plan};
use stampede_engine::messages::{FromControl, ShardId};
use stampede_engine::stats::Counters;
use stampede_sim::initiator::{Command, Initiator, Report, Transfer, cdb};
use stampede_sim::{DiskConfig, SimConfig, SimRing, SimWorld};

/// What things cost a shard, in nanoseconds: about what they do on a core of 3 GHz.
struct Costs {
    /// Of a turn: entering the kernel, mostly.
    turn: u64,
    /// Of each completion.
    completion: u64,
    /// Of each command, wherever it is executed.
    command: u64,
    /// Of handing one over, on either side, there and back.
    hand_over: u64,
}

const COSTS: Costs = Costs { turn: 2_000, completion: 300, command: 1_000, hand_over: 600 };

/// How long is measured, in simulated nanoseconds.
const WINDOW_NS: u64 = 20_000_000;

/// Commands that a client keeps under way.
const DEPTH: usize = 120;

/// What the shards did in the window.
#[derive(Debug)]
struct Work {
    /// Commands that clients saw end.
    commands: u64,
    /// Turns of all shards.
    turns: u64,
    /// Commands that went to another shard.
    forwarded: u64,
    /// Share of the window in which the shards were busy, in percent.
    busy: u64,
}

/// Shards, and clients that keep them busy.
struct Bench {
    world: SimWorld,
    house: House<SimRing>,
    hosts: Vec<Initiator>,
    /// When each shard's turn is over.
    busy_until: Vec<u64>,
    sent: u64,
    done: u64,
}

impl Bench {
    /// So many shards; the clients come to these shards, each to a clone of its own, at home or at the next shard.
    fn new(shards: u16, clients: &[u16], at_home: bool) -> Self {
        let world = SimWorld::new(SimConfig::calm(1));
        let disk = world.disk("disk", 4 << 20, DiskConfig::default());
        world.fill_disk(disk, 0, &pattern(4 << 20, 0));
        let plan =
            Plan { shards, clone: true, queue: 1024, memory: 64 << 20, window: 128, ..Plan::new(disk) };
        let mut house = crate::basics::house(&world, &plan);
        house.own_clones = Some(if at_home { |shard| shard } else { |shard| ShardId(1 - shard.0) });
        let mut bench = Self {
            world,
            house,
            hosts: Vec::new(),
            busy_until: vec![0; usize::from(shards)],
            sent: 0,
            done: 0,
        };
        for (number, shard) in (1..).zip(clients) {
            let mut host = initiator(&bench.world, number, |config| {
                config.shard = Some(*shard);
                config.queue_depth = DEPTH;
            });
            login(&mut bench.house, &mut host);
            // All that is read later is in the overlay: no disk is the limit.
            let fill =
                Command::new(0, cdb::write_16(0, 512, false), Transfer::Out(pattern(512 * 512, number)));
            assert!(run(&mut bench.house, &mut host, fill).is_good());
            bench.hosts.push(host);
        }
        bench
    }

    /// Seven reads to three writes of 4 KiB.
    fn feed(&mut self) {
        for host in &mut self.hosts {
            for report in host.poll() {
                let Report::Done(done) = report else { panic!("{report:?}") };
                assert!(done.is_good(), "{done:?}");
                self.done += 1;
            }
            while host.has_room() {
                self.sent += 1;
                let lba = self.sent * 8 * 7 % 512;
                let command = match self.sent % 10 {
                    0..7 => Command::new(0, cdb::read_16(lba, 8), Transfer::In(4096)),
                    _ => Command::new(0, cdb::write_16(lba, 8, false), Transfer::Out(vec![7; 4096])),
                };
                host.command(command).expect("room");
            }
        }
    }

    fn cost(&self, shard: usize) -> u64 {
        let Counters { turns, completions, commands, forwarded, taken_over, .. } =
            *self.house.shards[shard].counters();
        let executed = commands - forwarded + taken_over;
        turns * COSTS.turn
            + completions * COSTS.completion
            + executed * COSTS.command
            + (forwarded + taken_over) * COSTS.hand_over
    }

    /// Each shard that is due takes a turn, and is busy with it for a while.
    fn step(&mut self) {
        self.house.control();
        self.feed();
        let now = self.world.now();
        let mut due = Vec::new();
        for shard in 0..self.house.shards.len() {
            if !self.world.is_ready(shard as u16) {
                continue;
            }
            if self.busy_until[shard] <= now {
                let before = self.cost(shard);
                self.house.turn(shard);
                self.busy_until[shard] = now + self.cost(shard) - before;
            } else {
                due.push(self.busy_until[shard]);
            }
        }
        let next = due.into_iter().chain(self.world.next_event()).min().expect("something will happen");
        self.world.advance_to(next.max(now));
    }

    /// The work of one window.
    fn measure(&mut self) -> Work {
        let warm = self.world.now() + WINDOW_NS / 4;
        while self.world.now() < warm {
            self.step();
        }
        let sum = |bench: &Self| (0..bench.busy_until.len()).map(|shard| bench.cost(shard)).sum::<u64>();
        let before = (self.done, self.house.count(|c| c.turns), self.house.count(|c| c.forwarded), sum(self));
        let until = self.world.now() + WINDOW_NS;
        while self.world.now() < until {
            self.step();
        }
        Work {
            commands: self.done - before.0,
            turns: self.house.count(|c| c.turns) - before.1,
            forwarded: self.house.count(|c| c.forwarded) - before.2,
            busy: (sum(self) - before.3) * 100 / (WINDOW_NS * self.busy_until.len() as u64),
        }
    }

    /// Moves every session to the shard of its clone, while its client goes on.
    fn move_home(&mut self) {
        let ends = self.house.moved.len() + self.hosts.len();
        for number in 1..=self.hosts.len() {
            let name = format!("iqn.2026-11.example:host{number}");
            let (session, shard) = self.house.session_of(&name).expect("it has logged in");
            self.house.tell(shard, FromControl::Move { session, to: ShardId(1 - shard.0) });
        }
        for _ in 0..1_000_000 {
            if self.house.moved.len() == ends {
                return;
            }
            assert_eq!(self.house.stayed, []);
            self.step();
        }
        panic!("the sessions do not move");
    }
}

#[test]
fn two_shards_do_nearly_twice_the_work_of_one() {
    let one = Bench::new(1, &[0], true).measure();
    let crowded = Bench::new(1, &[0, 0], true).measure();
    let two = Bench::new(2, &[0, 1], true).measure();
    println!(
        "one shard, one client    {one:?}\none shard, two clients   {crowded:?}\ntwo shards, two clients  {two:?}"
    );
    assert!(one.busy >= 90 && two.busy >= 90, "the shards are the limit");
    assert!(two.commands * 10 >= one.commands * 18, "{two:?} is less than 1.8 times {one:?}");
    // The crowded shard spreads a turn's cost over the commands of both clients.
    assert!(two.commands * 10 >= crowded.commands * 17, "{two:?} is less than 1.7 times {crowded:?}");
    // A command takes no more turns beside another shard.
    assert!(two.turns * one.commands * 10 <= one.turns * two.commands * 11, "{two:?} against {one:?}");
    assert_eq!(two.forwarded, 0, "shards share nothing");
}

#[test]
fn sessions_that_move_to_their_clones_need_no_forwarding_any_more() {
    let mut bench = Bench::new(2, &[0, 1], false);
    let away = bench.measure();
    bench.move_home();
    let home = bench.measure();
    let two = Bench::new(2, &[0, 1], true).measure();
    println!(
        "all commands forwarded   {away:?}\nafter moving             {home:?}\nat home from the start   {two:?}"
    );
    assert!(away.forwarded * 10 >= away.commands * 9, "{away:?}");
    assert_eq!(home.forwarded, 0);
    assert!(home.commands > away.commands, "{home:?} should be more than {away:?}");
    assert!(home.commands * 100 >= two.commands * 95, "{home:?} should be as good as {two:?}");
}
