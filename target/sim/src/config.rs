//! What a simulated world is made of, and how often each fault strikes.

use crate::fault::FaultKind;
use std::ops::Range;

/// How often each kind of fault is injected: hits per million opportunities.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    rates: [u32; FaultKind::COUNT],
}

impl FaultPlan {
    /// What a rate counts against.
    pub const MILLION: u32 = 1_000_000;

    /// No fault at all.
    pub fn none() -> Self {
        Self { rates: [0; FaultKind::COUNT] }
    }

    /// Sets how many of a million opportunities for this kind become a fault.
    #[must_use]
    pub fn with(mut self, kind: FaultKind, per_million: u32) -> Self {
        self.rates[kind.index()] = per_million;
        self
    }

    /// Hits per million opportunities. Kinds that arise from other things (such as [`FaultKind::CrashLost`])
    /// ignore their rate.
    pub fn rate(&self, kind: FaultKind) -> u32 {
        self.rates[kind.index()]
    }
}

/// The shape of every shard's ring.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Operations that fit between two submits.
    pub queue_len: u32,
    /// Receive buffers.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer.
    pub receive_buffer_len: u32,
    /// Nanoseconds that accepting, closing, cancelling and waking take.
    pub latency: Range<u64>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { queue_len: 128, receive_buffers: 64, receive_buffer_len: 16 * 1024, latency: 200..2_000 }
    }
}

/// The shape of every connection.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Bytes that one direction of a connection holds between sender and reader.
    pub socket_buffer: u32,
    /// Nanoseconds from sending a byte to its arrival.
    pub latency: Range<u64>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { socket_buffer: 256 * 1024, latency: 5_000..50_000 }
    }
}

/// One disk's nature.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Bytes that a power loss leaves either old or new as a whole: 512 or 4,096.
    pub atom: u32,
    /// What offset and length of reads and writes must be multiples of (else EINVAL); 1 for a buffered file.
    pub alignment: u32,
    /// Whether writes are lost at a crash until they are flushed.
    pub volatile_cache: bool,
    /// Nanoseconds from submission to completion.
    pub latency: Range<u64>,
    /// Bytes that can be allocated before writes to holes fail with ENOSPC; `None` for a disk without holes.
    pub capacity: Option<u64>,
    /// Whether this disk's operations can fail or come up short by the fault plan. Off for disks whose failure
    /// would make a test meaningless.
    pub faulty: bool,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            atom: 512,
            alignment: 512,
            volatile_cache: true,
            latency: 20_000..400_000,
            capacity: None,
            faulty: true,
        }
    }
}

/// Everything that a world is made from.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// What everything is drawn from.
    pub seed: u64,
    /// How often each fault strikes.
    pub faults: FaultPlan,
    /// Every shard's ring.
    pub ring: RingConfig,
    /// Every connection.
    pub network: NetworkConfig,
}

impl SimConfig {
    /// A world with varied timing, but without any fault.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            faults: FaultPlan::none(),
            ring: RingConfig::default(),
            network: NetworkConfig::default(),
        }
    }

    /// A world where everything that can go wrong does, often enough to be seen within some hundred operations
    /// and rarely enough that most operations succeed. Sizes of queues and buffers are drawn from the seed too.
    pub fn storm(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5707_0000_0000_0001);
        let ring = RingConfig {
            queue_len: *pick(&mut rng, &[2, 4, 16, 64, 128]),
            receive_buffers: *pick(&mut rng, &[2, 4, 16, 64]),
            receive_buffer_len: *pick(&mut rng, &[512, 2048, 4096, 16 * 1024]),
            latency: 100..5_000,
        };
        let network = NetworkConfig {
            socket_buffer: *pick(&mut rng, &[4 * 1024, 16 * 1024, 64 * 1024, 256 * 1024]),
            latency: 1_000..100_000,
        };
        Self { seed, faults: Self::storm_plan(), ring, network }
    }

    fn storm_plan() -> FaultPlan {
        use FaultKind::*;
        let rates = [
            (ShortRead, 10_000),
            (ShortWrite, 10_000),
            (ReadError, 5_000),
            (WriteError, 5_000),
            (FlushError, 10_000),
            (DiscardError, 10_000),
            (BadRange, 1_000),
            (NoSpace, 3_000),
            (SlowDisk, 10_000),
            (AtOnce, 500_000),
            (SplitReceive, 200_000),
            (Starved, 5_000),
            (ReceiveEnded, 20_000),
            (AcceptEnded, 100_000),
            (AcceptError, 50_000),
            (ShortSend, 50_000),
            (SlowNetwork, 10_000),
            (ConnectionReset, 500),
            (SpuriousWake, 5_000),
            (QueueFull, 20_000),
            (SlowRelease, 200_000),
            (AdoptFull, 100_000),
        ];
        rates.into_iter().fold(FaultPlan::none(), |plan, (kind, rate)| plan.with(kind, rate))
    }

    /// The same world with another fault plan.
    #[must_use]
    pub fn with_faults(mut self, faults: FaultPlan) -> Self {
        self.faults = faults;
        self
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
