//! The shards' threads: each pins itself, makes its ring, meets the others, then runs.
//!
//! ```text
//!   shard-N: pin, make the ring ──waker, handle──► main ──all handles──► shard-N: open files, listen, run
//! ```

use super::cache::Cached;
use super::home;
use super::listen::Listeners;
use crate::Failure;
use anyhow::{Context, anyhow};
use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::queue::ArrayQueue;
use stampede_control::config::Config;
use stampede_control::images::Images;
use stampede_control::journals::Journals;
use stampede_control::keys::Keys;
use stampede_control::plan::{DiskPlan, Plan, alignment};
use stampede_control::scratch::ScratchFile;
use stampede_control::status::HomeStatus;
use stampede_control::thread::{Command, ShardLink};
use stampede_engine::messages::{FromControl, GoldenId, ShardId, ToControl};
use stampede_engine::setup::{DiskSetup, GoldenSetup, JournalSetup, ScratchSetup, ShardConfig, TokenKey};
use stampede_engine::{ControlLink, MeshEnd, Shard};
use stampede_image::cache::Published;
use stampede_image::cipher::Cipher;
use stampede_image::scratch::Scratch;
use stampede_ring::clock::monotonic_ns;
use stampede_ring::file::OpenedFile;
use stampede_ring::uring::{PeerHandle, UringConfig, UringRing, Waker};
use stampede_ring::{IoMemory, PeerId, Pool, PoolConfig, cpu};
use stampede_session::Settings;
use stampede_steer::placement::{Placement, ShardPlace};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages of the control thread that may wait for a shard; more stay with it.
const FROM_CONTROL_MAX: usize = 1024;
/// Commands and answers that may wait between two shards; more stay with their sender.
const MESH_MAX: usize = 1024;
/// Bytes of a slot for headers.
const HEADER_SLOT: u32 = 4096;
/// Runs of zeroed ranges that one overlay remembers.
const TOMBSTONE_RUNS_MAX: u32 = 16_384;
/// Plain LUNs that a shard may be given while it runs.
const LUNS_ADDED_MAX: usize = 256;
/// How long a shard may take to set itself up.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shard may take to leave its loop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What shards are made from.
pub(crate) struct Blueprint<'a> {
    pub(crate) placement: &'a Placement,
    pub(crate) config: &'a Config,
    pub(crate) plan: &'a Plan,
    pub(crate) images: &'a Images,
    pub(crate) journals: &'a Journals,
    pub(crate) keys: &'a Keys,
    pub(crate) settings: Arc<Settings>,
    pub(crate) arena: &'a Arc<Pool>,
    pub(crate) scratch: Option<(&'a ScratchFile, &'a Arc<Scratch>)>,
    pub(crate) token_key: TokenKey,
}

/// One shard before it has a thread.
struct Parts {
    place: ShardPlace,
    busy_poll_ns: u64,
    shard: ShardConfig,
    ring: UringConfig,
    mesh: MeshEnd,
    control: ControlLink,
    listeners: Vec<TcpListener>,
    goldens: Vec<(GoldenId, OpenedFile, Option<Arc<Published>>)>,
    disks: Vec<DiskParts>,
    scratch: Option<(OpenedFile, Arc<Scratch>)>,
}

/// A plain unit before its shard runs.
struct DiskParts {
    plan: DiskPlan,
    image: OpenedFile,
    journal: Option<OpenedFile>,
    cipher: Option<Arc<Cipher>>,
}

/// How others reach a shard.
struct Reach {
    waker: Waker,
    handle: PeerHandle,
    home: HomeStatus,
}

/// What a shard's thread says while it starts.
type Hello = Result<Reach, String>;

/// The shards' threads.
pub(crate) struct Running {
    threads: Vec<JoinHandle<()>>,
    queues: Vec<(Arc<ArrayQueue<FromControl>>, Waker)>,
    homes: Vec<HomeStatus>,
}

impl Running {
    /// The control thread's ways to the shards.
    pub(crate) fn links(&self) -> Vec<ShardLink> {
        let link = |(queue, waker): &(Arc<ArrayQueue<FromControl>>, Waker)| {
            let waker = waker.clone();
            ShardLink::new(Arc::clone(queue), Box::new(move || waker.wake()))
        };
        self.queues.iter().map(link).collect()
    }

    /// The shards' nodes and memory.
    pub(crate) fn homes(&self) -> Vec<HomeStatus> {
        self.homes.clone()
    }

    /// Waits until all shards have stopped; false when one does not in time.
    pub(crate) fn join(self) -> bool {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // A panic has ended the process before it could be seen here.
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
        true
    }
}

/// Starts all shards; when this returns they run.
///
/// # Errors
/// A shard cannot be set up; the process is to end then.
pub(crate) fn start(
    blueprint: &Blueprint<'_>,
    listeners: Listeners,
    cached: &Cached,
    to_control: &Sender<ToControl>,
    commands: &Sender<Command>,
) -> Result<Running, Failure> {
    let shards = u16::try_from(blueprint.placement.shards.len()).map_err(Failure::runtime)?;
    let (mut threads, mut queues, mut hellos, mut handles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let parts = MeshEnd::mesh(shards, MESH_MAX).into_iter().zip(listeners.by_shard).zip(0..);
    for ((mesh, listeners), number) in parts {
        let queue = Arc::new(ArrayQueue::new(FROM_CONTROL_MAX));
        let control = ControlLink::new(to_control.clone(), Arc::clone(&queue));
        let parts = make_parts(blueprint, ShardId(number), mesh, control, listeners, cached)
            .map_err(Failure::Runtime)?;
        let (hello, hello_receiver) = bounded(1);
        let (peers, peers_receiver) = bounded(1);
        let commands = commands.clone();
        let body = move || live(parts, &hello, &peers_receiver, &commands);
        let thread = std::thread::Builder::new().name(format!("shard-{number}")).spawn(body);
        threads.push(thread.map_err(Failure::runtime)?);
        queues.push(queue);
        hellos.push(hello_receiver);
        handles.push(peers);
    }
    let reaches = hellos.iter().map(greet).collect::<Result<Vec<_>, _>>()?;
    for (number, peers) in handles.iter().enumerate() {
        let others = reaches.iter().enumerate().filter(|(other, _)| *other != number);
        let others = others.map(|(other, reach)| Ok((PeerId(other as u16), reach.handle.try_clone()?)));
        let others = others.collect::<std::io::Result<Vec<_>>>().map_err(Failure::runtime)?;
        peers.send(others).map_err(|_| Failure::Runtime(anyhow!("shard {number} ended while it started")))?;
    }
    let ready = hellos.iter().map(greet).collect::<Result<Vec<_>, _>>()?;
    let homes = ready.into_iter().map(|reach| reach.home).collect();
    let queues = queues.into_iter().zip(reaches).map(|(queue, reach)| (queue, reach.waker)).collect();
    Ok(Running { threads, queues, homes })
}

fn greet(hello: &Receiver<Hello>) -> Result<Reach, Failure> {
    let said = hello.recv_timeout(START_TIMEOUT);
    said.map_err(|_| Failure::Runtime(anyhow!("a shard does not start")))?
        .map_err(|why| Failure::Runtime(anyhow!(why)))
}

fn make_parts(
    blueprint: &Blueprint<'_>,
    id: ShardId,
    mesh: MeshEnd,
    control: ControlLink,
    listeners: Vec<TcpListener>,
    cached: &Cached,
) -> anyhow::Result<Parts> {
    let Blueprint { placement, config, plan, images, journals, keys, settings, arena, scratch, token_key } =
        blueprint;
    let connections = config.limits.connections;
    let file = |at: usize| images.files().get(at).map(OpenedFile::try_clone).transpose();
    let mut goldens = Vec::new();
    for (golden, at) in &plan.goldens {
        let published = cached.published.get(golden).cloned();
        goldens.extend(file(*at)?.map(|file| (*golden, file, published)));
    }
    let mut disks = Vec::new();
    for disk in plan.disks.iter().filter(|disk| disk.owner == id) {
        let journal = journals.of(disk.file).map(OpenedFile::try_clone).transpose()?;
        let cipher = keys.cipher(disk.file);
        disks.extend(file(disk.file)?.map(|image| DiskParts { plan: disk.clone(), image, journal, cipher }));
    }
    let headers = PoolConfig { slot_len: HEADER_SLOT, slots: connections.saturating_mul(2).max(1024) };
    let scratch = scratch.map(|(file, scratch)| Ok((file.file().try_clone()?, Arc::clone(scratch))));
    let scratch = scratch.transpose().map_err(|error: std::io::Error| error)?;
    let files = u32::try_from(goldens.len() + 2 * (disks.len() + LUNS_ADDED_MAX) + 1)?;
    let shard_cores = placement.cores().into_iter().map(usize::from).collect();
    let shard = ShardConfig {
        shard: id,
        settings: Arc::clone(settings),
        memory: IoMemory::new(config.buffers.0)
            .context("cannot reserve I/O buffers: give smaller --buffers")?,
        headers: Pool::new(headers).context("cannot reserve memory for headers")?,
        arena: Arc::clone(arena),
        connections_max: connections,
        logins_max: config.limits.logins,
        connection_bytes_max: config.buffers.0 / 4,
        tombstone_runs_max: TOMBSTONE_RUNS_MAX,
        cache: cached.cache.clone(),
        token_key: token_key.clone(),
    };
    let sockets = shard.sockets_max();
    Ok(Parts {
        place: placement.shards.get(usize::from(id.0)).cloned().context("a shard without a core")?,
        busy_poll_ns: u64::from(config.busy_poll) * 1000,
        shard,
        ring: UringConfig {
            sockets_max: sockets.saturating_add(u32::try_from(listeners.len())?).saturating_add(8),
            files_max: files,
            operations_max: sockets.saturating_mul(4).clamp(16_384, UringConfig::OPERATIONS_LIMIT),
            shard_cores,
            ..UringConfig::default()
        },
        mesh,
        control,
        listeners,
        goldens,
        disks,
        scratch,
    })
}

/// A shard's thread.
fn live(
    parts: Parts,
    hello: &Sender<Hello>,
    peers: &Receiver<Vec<(PeerId, PeerHandle)>>,
    commands: &Sender<Command>,
) {
    let shard = parts.shard.shard;
    match set_up(parts, hello, peers) {
        Ok(mut running) => {
            if let Err(error) = running.run(monotonic_ns) {
                // Without the control thread there is nobody left to tell.
                let _ = commands.send(Command::ShardFailed { shard, why: error.to_string() });
            }
        }
        Err(error) => drop(hello.send(Err(format!("shard {}: {error:#}", shard.0)))),
    }
}

fn set_up(
    parts: Parts,
    hello: &Sender<Hello>,
    peers: &Receiver<Vec<(PeerId, PeerHandle)>>,
) -> anyhow::Result<Shard<UringRing>> {
    cpu::pin_current_thread(usize::from(parts.place.core))?;
    let mut home = home::take(&parts.place);
    // The arena is not registered: hardly anything in it is read from or written to files, and registering would take all
    // of its memory at once.
    let mut ring = UringRing::new(&parts.ring, parts.shard.memory.pools())?;
    let number = parts.shard.shard;
    report(&ring, number);
    let reach = |ring: &UringRing, home: &HomeStatus| {
        Ok::<_, std::io::Error>(Reach {
            waker: ring.waker(),
            handle: ring.peer_handle()?,
            home: home.clone(),
        })
    };
    hello.send(Ok(reach(&ring, &home)?)).context("nobody waits for this shard")?;
    for (peer, handle) in peers.recv_timeout(START_TIMEOUT).context("the other shards did not start")? {
        ring.connect_peer(peer, handle);
    }
    let mut shard = Shard::new(ring, parts.shard, parts.mesh, parts.control)
        .map_err(|error| anyhow!("cannot set up: {error}; give larger --buffers"))?;
    if let Some((file, scratch)) = parts.scratch {
        let file = shard.ring_mut().add_file(file)?;
        shard.add_scratch(ScratchSetup { scratch, file }).context("cannot reserve memory for spilling")?;
    }
    for (golden, file, published) in parts.goldens {
        let (alignment, len_bytes) = (alignment(file.traits()), file.traits().len_bytes);
        let in_memory = file.traits().in_memory;
        let file = shard.ring_mut().add_file(file)?;
        shard.add_golden(GoldenSetup { golden, file, alignment, in_memory, len_bytes, published });
    }
    for DiskParts { plan: DiskPlan { lun, device, saved, .. }, image, journal, cipher } in parts.disks {
        let (aligned, in_memory) = (alignment(image.traits()), image.traits().in_memory);
        let file = shard.ring_mut().add_file(image)?;
        let journal = match journal {
            Some(journal) => {
                let alignment = alignment(journal.traits());
                Some(JournalSetup { file: shard.ring_mut().add_file(journal)?, alignment })
            }
            None => None,
        };
        shard.add_disk(DiskSetup {
            lun,
            file,
            alignment: aligned,
            in_memory,
            device,
            saved,
            cipher,
            journal,
        });
    }
    for listener in parts.listeners {
        let socket = shard.ring_mut().add_listener(listener)?;
        shard.add_listener(socket);
    }
    shard.set_busy_poll(parts.busy_poll_ns);
    home::look(&mut home, number, shard.ring_mut());
    hello.send(Ok(reach(shard.ring_mut(), &home)?)).context("nobody waits for this shard")?;
    Ok(shard)
}

fn report(ring: &UringRing, shard: ShardId) {
    let report = ring.report();
    let reasons =
        [&report.unregistered_reason, &report.unregistered_files_reason, &report.worker_cores_reason];
    for reason in reasons.into_iter().flatten() {
        tracing::info!(shard = shard.0, "{reason}");
    }
}
