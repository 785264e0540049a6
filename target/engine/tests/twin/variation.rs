//! What a seed makes of a house: its shards, its logical unit, its limits and its initiators.

use crate::house::Plan;
use stampede_sim::initiator::InitiatorConfig;
use stampede_sim::workload::WorkloadConfig;
use stampede_sim::{DiskConfig, DiskId, SimWorld, Stamp, Value};
use std::net::SocketAddr;
use std::sync::LazyLock;

/// 512-byte sectors of the logical unit.
pub(crate) const SECTORS: u64 = 2048;

/// What every sector of a golden image holds.
pub(crate) const GOLDEN_VALUE: Value = Value::Written { writer: 0, generation: 77 };

/// A golden image's content.
pub(crate) static GOLDEN_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| match GOLDEN_VALUE {
    Value::Written { writer, generation } => Stamp::write(0, SECTORS, writer, generation),
    Value::Zero => vec![0; SECTORS as usize * 512],
});

/// Everything that is drawn from the seed before anything happens.
#[derive(Debug)]
pub(crate) struct Variation {
    pub(crate) plan: Plan,
    pub(crate) workload: WorkloadConfig,
    pub(crate) initiators: Vec<InitiatorConfig>,
    /// Logins that are refused, of a thousand.
    pub(crate) refusals: u32,
    /// Logins that are handed to another shard before they are let in, of a thousand.
    pub(crate) hand_overs: u32,
    /// With several shards a session is moved every so many steps.
    pub(crate) move_every: u32,
}

pub(crate) fn portal() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 3260))
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// What the unit holds at first.
pub(crate) fn initial(clone: bool) -> Value {
    if clone { GOLDEN_VALUE } else { Value::Zero }
}

impl Variation {
    /// Draws a house with so many shards, and makes its disk.
    pub(crate) fn draw(world: &SimWorld, shards: u16, rng: &mut fastrand::Rng) -> Self {
        let clone = rng.bool();
        let alignment = pick(rng, &[512, 512, 4096]);
        let disk = make_disk(world, clone, alignment, rng);
        let plan = Plan {
            shards,
            clone,
            owner: rng.u16(..shards),
            alignment,
            cached: clone && rng.bool(),
            arena_slots: pick(rng, &[24, 128, 512, 4096, 4096]),
            memory: pick(rng, &[1 << 20, 1 << 20, 8 << 20]),
            queue: pick(rng, &[1, 2, 8, 64]),
            window: pick(rng, &[1, 3, 32]),
            connection_bytes: pick(rng, &[128 << 10, 512 << 10, 4 << 20]),
            ping_interval_ns: pick(rng, &[0, 0, 20_000_000]),
            ..Plan::new(disk)
        };
        let plan = if clone && rng.bool() { spilling(world, plan, rng) } else { plan };
        let workload = WorkloadConfig {
            sectors_max: pick(rng, &[16, 48, 128]),
            span: pick(rng, &[128, 256, SECTORS]),
            fua: 150,
            atomic_max: if clone { 128 } else { 0 },
            flushes: 40,
            zeroes: 15,
            task_sets: 3,
            ordered: pick(rng, &[0, 0, 150]),
            ..WorkloadConfig::default()
        };
        let initiators = (0..rng.u8(1..4)).map(|index| draw_initiator(index, shards, rng)).collect();
        let refusals = pick(rng, &[0, 0, 50]);
        let (hand_overs, move_every) = (pick(rng, &[0, 300, 700]), pick(rng, &[200, 1_000, 4_000]));
        let plan = Plan { in_memory: rng.u8(..4) > 0, ..plan };
        let plan = Plan { key: (!clone && rng.bool()).then_some(1), ..plan };
        Self { plan, workload, initiators, refusals, hand_overs, move_every }
    }
}

/// The arena holds a part of what is written, and scratch space some or all of the rest.
fn spilling(world: &SimWorld, plan: Plan, rng: &mut fastrand::Rng) -> Plan {
    let config = DiskConfig { atom: 4096, alignment: pick(rng, &[512, 4096]), ..DiskConfig::default() };
    let scratch = world.disk("scratch", pick(rng, &[16, 64, 512]) * 4096, config);
    Plan { scratch: Some(scratch), arena_slots: pick(rng, &[24, 48, 128]), ..plan }
}

fn make_disk(world: &SimWorld, clone: bool, alignment: u32, rng: &mut fastrand::Rng) -> DiskId {
    let atom = alignment.max(pick(rng, &[512, 4096]));
    let config = DiskConfig { atom, alignment, ..DiskConfig::default() };
    let disk = world.disk("disk", SECTORS * 512, config);
    if clone {
        world.fill_disk(disk, 0, &GOLDEN_BYTES);
    }
    disk
}

fn draw_initiator(index: u8, shards: u16, rng: &mut fastrand::Rng) -> InitiatorConfig {
    let address = SocketAddr::from(([10, 0, 0, 10 + index], 1000));
    let name = format!("iqn.2026-11.io.stampede:client-{index}");
    let mut config = InitiatorConfig::new(&name, crate::house::TARGET, address, portal());
    if rng.bool() {
        config = config.varied(rng);
    } else {
        config.queue_depth = pick(rng, &[2, 4, 16]);
        config.data_digest = rng.bool();
    }
    // Some initiators always come to one shard, others to any.
    config.shard = rng.bool().then(|| rng.u16(..shards));
    config.read_most = pick(rng, &[None, None, None, Some(2048)]);
    config
}
