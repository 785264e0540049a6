//! What a running target shows of itself. The fields' names are an interface: scripts read them.

mod admission;
mod collect;
mod golden;
mod table;

pub use admission::AdmissionStatus;
pub use collect::{Facts, ImageFacts, collect, initiator_of};
pub use golden::{GoldenStatus, PrefetchStatus, RecordingStatus, golden_table};
pub use table::{clone_table, lun_table, render, session_table};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where epochs are kept; `None` when they do not survive a restart.
    pub state_store: Option<PathBuf>,
    /// How often that store was opened, this time included.
    pub run: u64,
    /// Whether a shutdown is under way.
    pub draining: bool,
    /// Addresses listened on.
    pub listen: Vec<SocketAddr>,
    /// How new connections find their shard.
    pub steering: SteeringStatus,
    /// Memory of the clones' overlays.
    pub arena: Usage,
    /// What of them was spilled, and the scratch space; none without one.
    #[serde(default)]
    pub scratch: Option<ScratchStatus>,
    /// Memory for blocks of goldens.
    #[serde(default)]
    pub cache: Usage,
    /// Logins whose response is held right now.
    pub held_logins: usize,
    /// How logins go, and the limits.
    pub admission: AdmissionStatus,
    /// How the shards share the work, and what was moved for it.
    pub placement: PlacementStatus,
    /// Latencies of all shards together.
    pub latency: LatencyPair,
    /// One by one.
    pub shards: Vec<ShardStatus>,
    /// In the order of the configuration.
    pub targets: Vec<TargetStatus>,
    /// Images beneath clones.
    #[serde(default)]
    pub goldens: Vec<GoldenStatus>,
    /// Live sessions, discovery and logins under way included.
    pub sessions: Vec<SessionStatus>,
    /// One for each initiator that is known on a target with ephemeral clones.
    pub clones: Vec<CloneStatus>,
    /// What the kernel can do.
    pub kernel: Vec<FeatureStatus>,
    /// Interrupts of the network cards that are listened on; none unless `irq-affinity` asks for them.
    pub interrupts: Vec<InterruptStatus>,
    /// The last alerts, the newest last.
    pub alerts: Vec<AlertStatus>,
}

/// How the shards share the work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementStatus {
    /// What each shard carries, by number: clones at their owner, and sessions that have none.
    pub loads: Vec<u32>,
    /// By how much logins let shards differ; what ends may make them differ more, until a rebalance.
    pub bound: u32,
    /// Logins handed to another shard than the one that accepted them.
    pub handed_over: u64,
    /// Logins that should have been, and were not.
    pub hand_overs_failed: u64,
    /// Live sessions moved.
    pub moved: u64,
    /// Live sessions that should have been, and stayed.
    pub moves_failed: u64,
    /// Sessions on their way now, or waiting for their turn.
    pub pending: usize,
    /// Whether a rebalance is under way.
    pub rebalancing: bool,
}

/// How new connections find their shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringStatus {
    /// The step of the ladder: `reuseport-by-cpu`, `plain-reuseport` or `one-shard`.
    pub step: String,
    /// Why it is not `reuseport-by-cpu`; empty when it is.
    pub reason: String,
    /// What the program did, by address; empty without one.
    pub portals: Vec<PortalStatus>,
}

/// What the steering program did for the connections to one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalStatus {
    /// The address.
    pub address: SocketAddr,
    /// The kernel's number of the program.
    pub program: u32,
    /// Connections that went to the shard of the CPU that processed their SYN.
    pub by_cpu: u64,
    /// Those that a hash placed, since that CPU has no shard.
    pub by_hash: u64,
    /// Those that the kernel placed, since the chosen shard did not listen any more.
    pub by_kernel: u64,
}

/// Bytes in use, of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// In use.
    pub used_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
}

/// The scratch space, and what went on with it since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchStatus {
    /// In use.
    pub used_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// Bytes that went there from memory.
    pub spilled_bytes: u64,
    /// Bytes that were read from there.
    pub read_back_bytes: u64,
    /// Writes that failed.
    pub failures: u64,
}

/// Latencies of reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyPair {
    /// From a read command to the last byte queued for sending.
    pub read: Latency,
    /// From a write command to its status queued for sending.
    pub write: Latency,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Commands measured.
    pub count: u64,
    /// Half were faster.
    pub p50_us: f64,
    /// 99 % were faster.
    pub p99_us: f64,
    /// 99.9 % were faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u16,
    /// The core it is pinned to.
    pub core: u16,
    /// Its NUMA node and where its memory is.
    pub home: HomeStatus,
    /// Whether it answered; if not, its other figures are zero.
    pub answered: bool,
    /// Sessions that live on it.
    pub sessions: usize,
    /// I/O buffers.
    pub buffers: Usage,
    /// Its latencies.
    pub latency: LatencyPair,
    /// Its counters since start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A shard's NUMA node, and where its memory was when it had set itself up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// Its core's node.
    pub node: u16,
    /// The node that its memory is taken from; `None` leaves that to the policy the process was started with.
    pub memory_node: Option<u16>,
    /// Pages of its I/O buffers and receive buffers that were looked at and in memory, by node.
    pub pages: BTreeMap<u16, u64>,
    /// Pages that were looked at and not in memory yet: they are taken when first used.
    pub untouched_pages: u64,
    /// What is not as it should be; empty when all is.
    pub note: String,
}

/// One iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name on the wire.
    pub iqn: String,
    /// Sessions with it.
    pub sessions: usize,
    /// Clones that exist, in use or held.
    pub clones: usize,
    /// Its logical units.
    pub luns: Vec<LunStatus>,
}

/// What initiators did with a logical unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Reads completed.
    pub reads: u64,
    /// Writes completed, zeroing and unmapping included.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands that failed for a medium error or lack of space.
    pub failed: u64,
}

/// One logical unit of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LunStatus {
    /// The LUN number.
    pub lun: u16,
    /// What the operator calls it.
    pub name: String,
    /// `disk`, `read-only` or `clone`.
    pub kind: String,
    /// The image.
    pub path: PathBuf,
    /// Its capacity.
    pub bytes: u64,
    /// Whether what is in the image is encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// `in` or `out` for a removable medium; empty for others, and for clones.
    pub medium: String,
    /// The asymmetric access state: `active`, `non-optimized`, `standby` or `unavailable`; empty for clones.
    pub access: String,
    /// Whether it bypasses the page cache; if not, why.
    pub direct_io: bool,
    /// Why it does not bypass the page cache.
    pub buffered_reason: Option<String>,
    /// The owning shard; `None` for clones, which each have their own.
    pub shard: Option<u16>,
    /// What initiators did with it; for clones the sum of those that exist.
    pub traffic: Traffic,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number in this run.
    pub session: u64,
    /// The shard it lives on.
    pub shard: u16,
    /// The shard it is on its way to.
    pub moving_to: Option<u16>,
    /// How often it was moved since its login.
    pub moves: u32,
    /// Its initiator; empty before login.
    pub initiator: String,
    /// The CHAP name that it proved; empty without one.
    pub user: String,
    /// Its target; empty for discovery.
    pub target: String,
    /// The peer's address.
    pub peer: SocketAddr,
    /// `firmware` or `os`; empty before login and for discovery.
    pub stage: String,
    /// TSIH; 0 before login and for discovery.
    pub tsih: u16,
    /// Commands completed.
    pub commands: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands in progress.
    pub tasks: u32,
}

/// One initiator's boot epoch and its clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneStatus {
    /// The target's IQN.
    pub target: String,
    /// The initiator's name.
    pub initiator: String,
    /// The number of its boot epoch.
    pub epoch: u64,
    /// The furthest stage of that boot: `firmware` or `os`.
    pub stage: String,
    /// `attached`, `held`, `lost` (with an earlier run) or `dropped`.
    pub state: String,
    /// The shard that owns the clone.
    pub shard: Option<u16>,
    /// Sessions on it.
    pub sessions: usize,
    /// Memory of its overlays.
    pub overlay_bytes: u64,
    /// What of its overlay is in scratch space, in bytes.
    #[serde(default)]
    pub spilled_bytes: u64,
    /// Seconds until a held clone is dropped.
    pub expires_in_s: Option<u64>,
    /// What its initiator did with it.
    pub traffic: Traffic,
}

/// A feature of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureStatus {
    /// Which.
    pub feature: String,
    /// Whether it works here.
    pub works: bool,
    /// What it costs to be without, and the kernel's reason; empty when it works.
    pub note: String,
}

/// The interrupt of a network card's queue, as it was found when stampede had started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptStatus {
    /// Its number.
    pub irq: u32,
    /// The network card.
    pub nic: String,
    /// The queue: `rx 3`, `tx 3` or `rx+tx 3`.
    pub queue: String,
    /// What the driver calls it.
    pub name: String,
    /// The cores that it could go to before anything was moved, as in `0-3,8`.
    pub before: String,
    /// The core that it should go to.
    pub core: u16,
    /// The shard there.
    pub shard: u16,
    /// `there` (from the start), `elsewhere`, `moved`, or `refused`.
    pub state: String,
    /// Why it could not be moved; empty otherwise.
    pub note: String,
}

/// Something that the operator should act upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertStatus {
    /// Seconds since it happened last.
    pub age_s: u64,
    /// How often it happened.
    pub count: u64,
    /// What happened, in a word or two.
    pub event: String,
    /// The target concerned.
    pub target: String,
    /// The initiator concerned; may be empty.
    pub initiator: String,
    /// The details, and what to do.
    pub text: String,
}

/// What `clone reset` did on one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetStatus {
    /// The target's IQN.
    pub target: String,
    /// Whether the epoch is over; if not, a session at `in_use_by` has the clone.
    pub reset: bool,
    /// The address of the machine that uses the clone.
    pub in_use_by: Option<std::net::IpAddr>,
}

/// Who is told by `session logout`, `session drop` and `session renegotiate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldStatus {
    /// The session's number.
    pub session: u64,
    /// Its initiator's name.
    pub initiator: String,
}

/// What the commands that change a LUN did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LunChangeStatus {
    /// The target's IQN.
    pub target: String,
    /// The LUN number.
    pub lun: u16,
    /// What the operator calls it.
    pub name: String,
    /// `added`, `removed`, `resized`, `ejected`, `loaded` or `access STATE`.
    pub done: String,
    /// Its capacity before.
    pub before_bytes: u64,
    /// Its capacity now.
    pub bytes: u64,
}

/// What came of `session move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// The session's number.
    pub session: u64,
    /// Its initiator.
    pub initiator: String,
    /// Where it was.
    pub from: u16,
    /// Where it is; the same when it was there already.
    pub to: u16,
    /// From the request to the news that it is there, in microseconds.
    pub took_us: u64,
}

/// What `session rebalance` is going to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceStatus {
    /// What each shard carries: clones at their owner, and sessions that have none.
    pub before: Vec<u32>,
    /// What it will carry when every move succeeds.
    pub after: Vec<u32>,
    /// By how much shards may differ.
    pub bound: u32,
    /// The sessions that move.
    pub sessions: Vec<u64>,
}
