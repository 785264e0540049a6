//! A house of shards on the twin: the shards, their links, and a stand-in for the control thread.

use crossbeam::channel::{Receiver, unbounded};
use crossbeam::queue::ArrayQueue;
use stampede_engine::messages::{
    ChangeRefusal, FromControl, GoldenId, LunAddress, LunId, LunMap, MoveRefusal, SessionEnd, ShardId,
    ShardReport, ToControl,
};
use stampede_engine::setup::{CacheSetup, DiskSetup, GoldenSetup, JournalSetup, ScratchSetup, ShardConfig};
use stampede_engine::stats::Counters;
use stampede_engine::{ControlLink, MeshEnd, Planted, Shard};
use stampede_image::align::Alignment;
use stampede_image::cipher::{self, Cipher, DataKey};
use stampede_image::scratch::Scratch;
use stampede_ring::{FileId, IoMemory, Pool, PoolConfig, Ring, SocketId};
use stampede_scsi::{DeviceConfig, Identity, SavedState};
use stampede_session::{Admission, Announcement, Directory, LoginStage, LoginStatus, SessionId, Settings};
use stampede_sim::{DiskId, SimRing, SimWorld};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) const TARGET: &str = "iqn.2026-11.io.stampede:twin";
pub(crate) const GOLDEN: GoldenId = GoldenId(0);

thread_local! {
    /// A cache lives as long as its process; so all houses of a thread have one after the other, and what the last one left.
    static CACHE: Arc<Pool> = Pool::with_lanes(PoolConfig { slot_len: 32 << 10, slots: 15 }, 3).unwrap();
}

/// What encrypts with the key of this number, blocks of 512 bytes.
pub(crate) fn cipher(key: u8) -> Arc<Cipher> {
    let mut bytes = [key; cipher::KEY];
    bytes[0] = !key;
    Arc::new(Cipher::new(&DataKey::new(bytes.into()).unwrap(), 512))
}

struct OneTarget;

impl Directory for OneTarget {
    fn contains(&self, target: &str) -> bool {
        target == TARGET
    }

    fn discover(
        &self,
        _: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        if which.is_none_or(|which| which == TARGET) {
            visit(TARGET, &[local.to_string()], 1);
        }
    }

    fn stage_override(&self, _: &str) -> Option<LoginStage> {
        None
    }
}

/// What the store does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreMood {
    /// It keeps it.
    Works,
    /// It keeps nothing, and says so.
    Fails,
    /// It lets it wait.
    Waits,
}

/// What the control thread keeps of one session.
#[derive(Debug)]
struct Known {
    shard: ShardId,
    nexus: (String, [u8; 6]),
}

/// A shard's memory, to see whether all of it comes back.
pub(crate) struct Memory {
    pub(crate) buffers: IoMemory,
    pub(crate) headers: Arc<Pool>,
}

/// A login that waits for the sessions it replaces.
#[derive(Debug)]
struct Newcomer {
    session: SessionId,
    shard: ShardId,
    replaces: BTreeSet<SessionId>,
    /// It is on its way to another shard, and let in there.
    travels: bool,
}

/// A clone that is being replaced by a fresh one.
struct Reset {
    /// `None` until the old one's sessions have ended.
    dropping: Option<LunId>,
    /// Who owns the fresh one.
    owner: ShardId,
}

/// The shards of one process, and who controls them.
pub(crate) struct House<R> {
    pub(crate) world: SimWorld,
    pub(crate) shards: Vec<Shard<R>>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) arena: Arc<Pool>,
    pub(crate) scratch: Option<Arc<Scratch>>,
    device: DeviceConfig,
    two_owners: bool,
    to_shards: Vec<Arc<ArrayQueue<FromControl>>>,
    from_shards: Receiver<ToControl>,
    /// What every session sees.
    pub(crate) luns: LunMap,
    sessions: BTreeMap<SessionId, Known>,
    waiting: Vec<Newcomer>,
    reset: Option<Reset>,
    next_tsih: u16,
    pub(crate) ended: Vec<(SessionId, SessionEnd)>,
    pub(crate) drained: usize,
    pub(crate) reports: Vec<ShardReport>,
    /// What recorded clones used.
    pub(crate) recorded: Vec<(LunId, Vec<(u32, u64)>)>,
    pub(crate) probed: u64,
    /// Of these, sessions that gave a sign of life.
    pub(crate) alive: u64,
    /// Clones that were replaced by fresh ones.
    pub(crate) resets: u64,
    /// Logins of so many thousand are refused.
    pub(crate) refusals: u32,
    /// Logins of so many thousand are handed to another shard before they are let in.
    pub(crate) hand_overs: u32,
    /// Every session gets a clone of its own, on the shard that this says from the one that it came to.
    pub(crate) own_clones: Option<fn(ShardId) -> ShardId>,
    /// Moves that were asked for and done, and sessions and why they stayed where they were.
    pub(crate) moved: Vec<(SessionId, ShardId, ShardId, Vec<LunId>)>,
    pub(crate) stayed: Vec<(SessionId, MoveRefusal)>,
    /// What came of changes of units.
    pub(crate) changed: Vec<(u64, Result<(), ChangeRefusal>)>,
    /// Units that were taken away and are gone.
    pub(crate) closed: Vec<LunId>,
    /// What the store has of the unit.
    pub(crate) stored: Vec<u8>,
    /// States on their way there: from which shard, whose, their numbers, their bytes.
    pub(crate) saves: Vec<(ShardId, LunId, u64, Vec<u8>)>,
    /// What becomes of them.
    pub(crate) store: StoreMood,
    /// Which key is in force, as far as the store knows.
    pub(crate) key: Option<u8>,
    /// Keys that are to be destroyed.
    pub(crate) rekeys: Vec<(ShardId, LunId)>,
    /// A planted bug: a login does not wait for the session it replaces.
    pub(crate) hasty: bool,
    rng: fastrand::Rng,
}

/// Makes each shard's ring, opening the disks and the listener on it.
pub(crate) type MakeRing<'a, R> = &'a mut dyn FnMut(SimRing) -> R;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) disk: DiskId,
    /// The unit is a clone of the disk, and not the disk itself.
    pub(crate) clone: bool,
    /// Shards believe that the ring does the disk's transfers at once, as it does for files in memory.
    pub(crate) in_memory: bool,
    /// Who owns the unit.
    pub(crate) owner: u16,
    pub(crate) alignment: u32,
    pub(crate) arena_slots: u32,
    /// Blocks of the golden are cached: about half of them fit.
    pub(crate) cached: bool,
    /// Memory for them that is not shared with other houses.
    pub(crate) cache: Option<Arc<Pool>>,
    /// Bytes of I/O buffers of each shard.
    pub(crate) memory: u64,
    /// Messages that a queue between shards holds.
    pub(crate) queue: usize,
    pub(crate) window: u16,
    /// Bytes that one connection may hold.
    pub(crate) connection_bytes: u64,
    /// Silence after which initiators are pinged, in nanoseconds; 0 for never.
    pub(crate) ping_interval_ns: u64,
    /// Connections that a shard has at most.
    pub(crate) connections: u32,
    /// A planted bug: every shard owns the disk for its own sessions.
    pub(crate) two_owners: bool,
    /// A planted bug in how sessions move.
    pub(crate) planted: Option<Planted>,
    /// What the disk had saved before.
    pub(crate) saved: Vec<u8>,
    /// Bytes a second that it is sanitized with at most; 0 for no limit.
    pub(crate) sanitize_bytes_s: u64,
    /// Where its atomic writes are announced.
    pub(crate) journal: Option<DiskId>,
    /// Which key its blocks are encrypted with.
    pub(crate) key: Option<u8>,
    /// Where clones spill to when the arena is short.
    pub(crate) scratch: Option<DiskId>,
}

impl Plan {
    pub(crate) fn new(disk: DiskId) -> Self {
        Self {
            shards: 1,
            disk,
            clone: false,
            in_memory: true,
            owner: 0,
            alignment: 512,
            arena_slots: 4096,
            cached: false,
            cache: None,
            memory: 8 << 20,
            queue: 64,
            window: 32,
            connection_bytes: 4 << 20,
            ping_interval_ns: 0,
            connections: 64,
            two_owners: false,
            planted: None,
            saved: Vec::new(),
            sanitize_bytes_s: 0,
            journal: None,
            key: None,
            scratch: None,
        }
    }
}

impl<R: Ring> House<R> {
    pub(crate) fn build(world: &SimWorld, portal: SocketAddr, plan: &Plan, make: MakeRing<'_, R>) -> Self {
        let (sender, from_shards) = unbounded();
        let arena = Pool::new(PoolConfig { slot_len: 4096, slots: plan.arena_slots }).unwrap();
        let mut settings = Settings::new(Arc::new(OneTarget));
        settings.window = plan.window;
        settings.ping_interval_ns = plan.ping_interval_ns;
        settings.ping_timeout_ns = 1_000_000_000;
        let settings = Arc::new(settings);
        let mut to_shards = Vec::new();
        let (mut shards, mut memory) = (Vec::new(), Vec::new());
        let blocks = world.disk_len(plan.disk) / 512;
        let mut device = DeviceConfig::new(Identity::default(), blocks);
        device.durable = !plan.clone;
        device.sanitize_bytes_s = plan.sanitize_bytes_s;
        device.encrypted = plan.key.is_some();
        device.max_atomic_blocks = if plan.clone || plan.journal.is_some() { 256 } else { 0 };
        let alignment = Alignment { memory: plan.alignment, offset: plan.alignment };
        let pool = || plan.cache.clone().unwrap_or_else(|| CACHE.with(Arc::clone));
        let cache = plan.cached.then(|| CacheSetup::with_pool(pool(), plan.shards));
        let scratch_blocks = |disk| Arc::new(Scratch::new((world.disk_len(disk) / 4096) as u32));
        let scratch = plan.scratch.map(scratch_blocks);
        let published = cache.as_ref().and_then(|_| CacheSetup::publish(world.disk_len(plan.disk)));
        for (number, mesh) in (0..plan.shards).zip(MeshEnd::mesh(plan.shards, plan.queue)) {
            let mut ring = world.ring(number);
            let file: FileId = ring.open(plan.disk);
            let journal = plan.journal.map(|disk| JournalSetup { file: ring.open(disk), alignment });
            let spills = plan.scratch.map(|disk| ring.open(disk)).zip(scratch.clone());
            let listener: SocketId = ring.listen(portal);
            let from = Arc::new(ArrayQueue::new(1024));
            to_shards.push(Arc::clone(&from));
            let config = ShardConfig {
                shard: ShardId(number),
                settings: Arc::clone(&settings),
                memory: IoMemory::new(plan.memory).unwrap(),
                headers: Pool::new(PoolConfig { slot_len: 4096, slots: 1024 }).unwrap(),
                arena: Arc::clone(&arena),
                connections_max: plan.connections,
                logins_max: 64,
                connection_bytes_max: plan.connection_bytes,
                tombstone_runs_max: 1024,
                cache: cache.clone(),
                token_key: stampede_scsi::copy::TokenKey::new([7; 32]),
            };
            memory.push(Memory { buffers: config.memory.clone(), headers: Arc::clone(&config.headers) });
            let control = ControlLink::new(sender.clone(), from);
            let mut shard = Shard::new(make(ring), config, mesh, control).unwrap();
            shard.add_listener(listener);
            if let Some((file, scratch)) = spills {
                shard.add_scratch(ScratchSetup { scratch, file }).unwrap();
            }
            if let Some(bug) = plan.planted {
                shard.plant(bug);
            }
            if plan.clone {
                let (len_bytes, published) = (world.disk_len(plan.disk), published.clone());
                let in_memory = plan.in_memory;
                let golden = GOLDEN;
                shard.add_golden(GoldenSetup { golden, file, alignment, in_memory, len_bytes, published });
            } else if number == plan.owner || plan.two_owners {
                shard.add_disk(DiskSetup {
                    lun: LunId(1),
                    file,
                    alignment,
                    in_memory: plan.in_memory,
                    device: device.clone(),
                    saved: SavedState::decode(&plan.saved).unwrap(),
                    journal,
                    cipher: plan.key.map(cipher),
                });
            }
            if plan.clone && number == plan.owner {
                let device = Box::new(device.clone());
                let create = FromControl::CreateClone { lun: LunId(1), golden: GOLDEN, device, kept: None };
                to_shards[usize::from(number)].push(create).unwrap();
            }
            shards.push(shard);
        }
        let owner = ShardId(plan.owner);
        let (is_clone, in_memory) = (plan.clone, plan.in_memory && !plan.clone);
        let address = LunAddress { lun: LunId(1), owner, block_size: 512, is_clone, in_memory };
        Self {
            world: world.clone(),
            shards,
            memory,
            arena,
            scratch,
            device,
            stored: plan.saved.clone(),
            saves: Vec::new(),
            store: StoreMood::Works,
            key: plan.key,
            rekeys: Vec::new(),
            two_owners: plan.two_owners,
            to_shards,
            from_shards,
            luns: LunMap(vec![(0, address)]),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            reset: None,
            next_tsih: 1,
            ended: Vec::new(),
            drained: 0,
            reports: Vec::new(),
            recorded: Vec::new(),
            probed: 0,
            alive: 0,
            resets: 0,
            refusals: 0,
            hand_overs: 0,
            own_clones: None,
            moved: Vec::new(),
            stayed: Vec::new(),
            changed: Vec::new(),
            closed: Vec::new(),
            hasty: false,
            rng: world.fork_rng(7),
        }
    }

    pub(crate) fn tell(&self, shard: ShardId, message: FromControl) {
        self.to_shards[usize::from(shard.0)].push(message).expect("room for control messages");
        self.world.wake(shard.0);
    }

    /// The control thread's turn: lets everybody in, one session for each initiator port.
    pub(crate) fn control(&mut self) {
        while let Ok(message) = self.from_shards.try_recv() {
            match message {
                ToControl::Login { shard, request } => {
                    let nexus = (request.initiator.clone(), request.isid.0);
                    self.login(request.session, shard, nexus);
                }
                ToControl::SessionEnded { session, end, .. } => {
                    self.sessions.remove(&session);
                    self.ended.push((session, end));
                    self.waiting.retain(|newcomer| newcomer.session != session);
                    for newcomer in &mut self.waiting {
                        newcomer.replaces.remove(&session);
                    }
                }
                ToControl::Drained { .. } => self.drained += 1,
                ToControl::Recorded { lun, uses } => self.recorded.push((lun, uses)),
                ToControl::Closed { lun } => self.closed.push(lun),
                ToControl::Report(report) => self.reports.push(*report),
                ToControl::Changed { request, result, .. } => self.changed.push((request, result)),
                ToControl::Save { shard, lun, number, state } => {
                    self.saves.push((shard, lun, number, state));
                }
                ToControl::Rekey { shard, lun } => self.rekeys.push((shard, lun)),
                ToControl::Probed { alive, .. } => {
                    self.probed += 1;
                    self.alive += u64::from(alive);
                }
                ToControl::CloneDropped { lun } => self.dropped(lun),
                // Everybody here sees the same units.
                ToControl::TargetReset { session } => {
                    for (other, known) in self.sessions.iter().filter(|(other, _)| **other != session) {
                        let what = Announcement::DropSession;
                        self.tell(known.shard, FromControl::Announce { session: *other, what });
                    }
                }
                ToControl::Moved { session, from, to, luns } => self.moved(session, from, to, luns),
                ToControl::MoveFailed { session, why, .. } => {
                    self.arrived(session, None);
                    self.stayed.push((session, why));
                }
            }
        }
        if self.store != StoreMood::Waits {
            self.store_saves();
        }
        self.go_on_resetting();
        self.let_in();
    }

    /// Stores what waits, or says that it cannot be stored.
    pub(crate) fn store_saves(&mut self) {
        for (shard, lun) in std::mem::take(&mut self.rekeys) {
            let destroyed = self.store != StoreMood::Fails;
            if destroyed {
                self.key = self.key.map(|key| key + 1);
            }
            let cipher = self.key.filter(|_| destroyed).map(cipher);
            self.tell(shard, FromControl::Rekeyed { lun, cipher, destroyed });
        }
        for (shard, lun, number, state) in std::mem::take(&mut self.saves) {
            let durable = self.store != StoreMood::Fails;
            if durable {
                self.stored = state;
            }
            self.tell(shard, FromControl::Saved { lun, number, durable });
        }
    }

    fn login(&mut self, session: SessionId, shard: ShardId, nexus: (String, [u8; 6])) {
        let mut replaces = BTreeSet::new();
        for (old, known) in self.sessions.iter().filter(|(_, known)| known.nexus == nexus) {
            self.tell(known.shard, FromControl::CloseSession { session: *old });
            replaces.insert(*old);
        }
        if self.hasty {
            replaces.clear();
        }
        self.sessions.insert(session, Known { shard, nexus });
        let mut travels = false;
        if self.shards.len() > 1 && self.rng.u32(..1000) < self.hand_overs {
            let to = self.another_shard(shard);
            self.tell(shard, FromControl::Move { session, to });
            // Some admissions come to the shard that the login has left, or is about to.
            travels = self.rng.bool();
        }
        self.waiting.push(Newcomer { session, shard, replaces, travels });
    }

    /// Any shard but this one.
    pub(crate) fn another_shard(&mut self, shard: ShardId) -> ShardId {
        let others = self.shards.len() as u16 - 1;
        ShardId((shard.0 + 1 + self.rng.u16(..others)) % (others + 1))
    }

    fn moved(&mut self, session: SessionId, from: ShardId, to: ShardId, luns: Vec<LunId>) {
        for (_, address) in &mut self.luns.0 {
            if luns.contains(&address.lun) {
                address.owner = to;
            }
        }
        self.arrived(session, Some(to));
        self.moved.push((session, from, to, luns));
    }

    /// A session has come to where it lives now, or stays.
    fn arrived(&mut self, session: SessionId, at: Option<ShardId>) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.shard = at.unwrap_or(known.shard);
        }
        for newcomer in self.waiting.iter_mut().filter(|newcomer| newcomer.session == session) {
            newcomer.shard = at.unwrap_or(newcomer.shard);
            newcomer.travels = false;
        }
    }

    /// Lets those in who wait for nobody any more.
    fn let_in(&mut self) {
        if self.reset.is_some() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|newcomer| newcomer.replaces.is_empty() && !newcomer.travels);
        self.waiting = waiting;
        for Newcomer { session, shard, .. } in ready {
            self.admit(session, shard);
        }
    }

    fn admit(&mut self, session: SessionId, shard: ShardId) {
        let admission = if self.rng.u32(..1000) < self.refusals {
            Admission::Refuse { status: LoginStatus::ServiceUnavailable }
        } else {
            let tsih = self.next_tsih;
            self.next_tsih = self.next_tsih.checked_add(1).unwrap_or(1);
            Admission::Allow { tsih }
        };
        let mut luns = self.luns.clone();
        if let Some(place) = self.own_clones {
            luns = self.own_clone(place(shard));
        }
        if self.two_owners {
            luns.0[0].1.owner = shard;
        }
        self.tell(shard, FromControl::Admit { session, admission, luns: Arc::new(luns) });
    }

    fn own_clone(&self, owner: ShardId) -> LunMap {
        let lun = LunId(1000 + u32::from(self.next_tsih));
        let device = Box::new(self.device.clone());
        self.tell(owner, FromControl::CreateClone { lun, golden: GOLDEN, device, kept: None });
        LunMap(vec![(0, LunAddress { lun, owner, block_size: 512, is_clone: true, in_memory: false })])
    }

    /// Begins to replace the clone by a fresh one, owned by this shard: ends its sessions, holds logins, drops it.
    pub(crate) fn reset_clone(&mut self, owner: ShardId) {
        if self.reset.is_some() {
            return;
        }
        self.reset = Some(Reset { dropping: None, owner });
        for (session, known) in &self.sessions {
            if self.waiting.iter().all(|newcomer| newcomer.session != *session) {
                self.tell(known.shard, FromControl::CloseSession { session: *session });
            }
        }
    }

    pub(crate) fn is_resetting(&self) -> bool {
        self.reset.is_some()
    }

    fn go_on_resetting(&mut self) {
        let (owner, lun) = (self.luns.0[0].1.owner, self.luns.0[0].1.lun);
        let only_newcomers = self.sessions.len() == self.waiting.len();
        if let Some(reset) = &mut self.reset
            && reset.dropping.is_none()
            && only_newcomers
        {
            reset.dropping = Some(lun);
            self.tell(owner, FromControl::DropClone { lun });
        }
    }

    fn dropped(&mut self, lun: LunId) {
        let Some(reset) = self.reset.take_if(|reset| reset.dropping == Some(lun)) else { return };
        self.resets += 1;
        let fresh = LunId(lun.0 + 1);
        let device = Box::new(self.device.clone());
        self.tell(reset.owner, FromControl::CreateClone { lun: fresh, golden: GOLDEN, device, kept: None });
        let address = &mut self.luns.0[0].1;
        (address.lun, address.owner) = (fresh, reset.owner);
    }

    /// A live session, drawn at random.
    pub(crate) fn any_session(&mut self) -> Option<(SessionId, ShardId)> {
        let sessions: Vec<_> = self.sessions.iter().map(|(id, known)| (*id, known.shard)).collect();
        self.rng.choice(sessions)
    }

    /// Where the session of an initiator lives, as far as the control thread knows.
    pub(crate) fn session_of(&self, name: &str) -> Option<(SessionId, ShardId)> {
        let mut sessions = self.sessions.iter();
        sessions.find(|(_, known)| known.nexus.0 == name).map(|(id, known)| (*id, known.shard))
    }

    /// Prints who is in and who waits.
    pub(crate) fn explain(&self) {
        println!("sessions {:#?}\nnewcomers {:#?}", self.sessions, self.waiting);
    }

    /// Sessions that have asked for admission and have not ended.
    pub(crate) fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// What all shards have counted, by one of their counters.
    pub(crate) fn count(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| counter(shard.counters())).sum()
    }

    /// One turn of one shard, as its loop would do it.
    pub(crate) fn turn(&mut self, shard: usize) {
        let turn = self.shards[shard].turn(self.world.now());
        self.shards[shard].ring_mut().submit(turn.wait).expect("the twin's ring works");
    }

    /// Turns every shard that has something to do, the control thread, and the clock.
    pub(crate) fn step(&mut self) -> bool {
        self.control();
        let mut turned = false;
        for shard in 0..self.shards.len() {
            if self.world.is_ready(shard as u16) {
                self.turn(shard);
                turned = true;
            }
        }
        turned || self.world.advance()
    }
}
