//! A house of shards on the twin: the shards, their links, and a stand-in for the control thread.

use crossbeam::channel::{Receiver, unbounded};
use crossbeam::queue::ArrayQueue;
use stampede_engine::messages::{
    FromControl, GoldenId, LunAddress, LunId, LunMap, SessionEnd, ShardId, ToControl,
};
use stampede_engine::setup::{DiskSetup, GoldenSetup, ShardConfig};
use stampede_engine::{ControlLink, MeshEnd, Shard};
use stampede_image::align::Alignment;
use stampede_ring::{FileId, IoMemory, Pool, PoolConfig, Ring, SocketId};
use stampede_scsi::{DeviceConfig, Identity};
use stampede_session::{Admission, Directory, LoginStage, SessionId, Settings};
use stampede_sim::{DiskId, SimRing, SimWorld};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) const TARGET: &str = "iqn.2026-11.io.stampede:twin";
pub(crate) const GOLDEN: GoldenId = GoldenId(0);

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

/// What the control thread keeps of one session.
#[derive(Debug)]
struct Known {
    shard: ShardId,
    nexus: (String, [u8; 6]),
}

/// The shards of one process, and who controls them.
pub(crate) struct House<R> {
    pub(crate) world: SimWorld,
    pub(crate) shards: Vec<Shard<R>>,
    to_shards: Vec<Arc<ArrayQueue<FromControl>>>,
    from_shards: Receiver<ToControl>,
    /// What every session sees.
    pub(crate) luns: LunMap,
    sessions: BTreeMap<SessionId, Known>,
    /// Logins that wait for the session they replace.
    waiting: Vec<(SessionId, SessionId, ShardId)>,
    next_tsih: u16,
    pub(crate) ended: Vec<(SessionId, SessionEnd)>,
    pub(crate) drained: usize,
}

/// Makes each shard's ring, opening the disks and the listener on it.
pub(crate) type MakeRing<'a, R> = &'a mut dyn FnMut(SimRing) -> R;

pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) disk: DiskId,
    /// The unit is a clone of the disk, and not the disk itself.
    pub(crate) clone: bool,
    /// Who owns the unit.
    pub(crate) owner: u16,
    pub(crate) alignment: u32,
    pub(crate) arena_slots: u32,
    /// Bytes of I/O buffers of each shard.
    pub(crate) memory: u64,
    /// Messages that a queue between shards holds.
    pub(crate) queue: usize,
    pub(crate) window: u16,
}

impl Plan {
    pub(crate) fn new(disk: DiskId) -> Self {
        Self {
            shards: 1,
            disk,
            clone: false,
            owner: 0,
            alignment: 512,
            arena_slots: 4096,
            memory: 8 << 20,
            queue: 64,
            window: 32,
        }
    }
}

impl<R: Ring> House<R> {
    pub(crate) fn build(world: &SimWorld, portal: SocketAddr, plan: &Plan, make: MakeRing<'_, R>) -> Self {
        let (sender, from_shards) = unbounded();
        let arena = Pool::new(PoolConfig { slot_len: 4096, slots: plan.arena_slots }).unwrap();
        let mut settings = Settings::new(Arc::new(OneTarget));
        settings.window = plan.window;
        let settings = Arc::new(settings);
        let mut to_shards = Vec::new();
        let mut shards = Vec::new();
        let blocks = world.disk_len(plan.disk) / 512;
        let alignment = Alignment { memory: plan.alignment, offset: plan.alignment };
        for (number, mesh) in (0..plan.shards).zip(MeshEnd::mesh(plan.shards, plan.queue)) {
            let mut ring = world.ring(number);
            let file: FileId = ring.open(plan.disk);
            let listener: SocketId = ring.listen(portal);
            let from = Arc::new(ArrayQueue::new(1024));
            to_shards.push(Arc::clone(&from));
            let config = ShardConfig {
                shard: ShardId(number),
                settings: Arc::clone(&settings),
                memory: IoMemory::new(plan.memory).unwrap(),
                headers: Pool::new(PoolConfig { slot_len: 4096, slots: 1024 }).unwrap(),
                arena: Arc::clone(&arena),
                connections_max: 64,
                connection_bytes_max: 4 << 20,
                tombstone_runs_max: 1024,
            };
            let control = ControlLink::new(sender.clone(), from);
            let mut shard = Shard::new(make(ring), config, mesh, control).unwrap();
            shard.add_listener(listener);
            let device = DeviceConfig::new(Identity::default(), blocks);
            if plan.clone {
                shard.add_golden(GoldenSetup { golden: GOLDEN, file, alignment });
            } else if number == plan.owner {
                shard.add_disk(DiskSetup { lun: LunId(1), file, alignment, device: device.clone() });
            }
            if plan.clone && number == plan.owner {
                let device = Box::new(device);
                let create = FromControl::CreateClone { lun: LunId(1), golden: GOLDEN, device };
                to_shards[usize::from(number)].push(create).unwrap();
            }
            shards.push(shard);
        }
        let owner = ShardId(plan.owner);
        let address = LunAddress { lun: LunId(1), owner, block_size: 512, is_clone: plan.clone };
        Self {
            world: world.clone(),
            shards,
            to_shards,
            from_shards,
            luns: LunMap(vec![(0, address)]),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            next_tsih: 1,
            ended: Vec::new(),
            drained: 0,
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
                    let old = self
                        .sessions
                        .iter()
                        .find(|(id, known)| known.nexus == nexus && **id != request.session)
                        .map(|(id, known)| (*id, known.shard));
                    self.sessions.insert(request.session, Known { shard, nexus });
                    match old {
                        Some((old, old_shard)) => {
                            self.waiting.push((request.session, old, shard));
                            self.tell(old_shard, FromControl::CloseSession { session: old });
                        }
                        None => self.admit(request.session, shard),
                    }
                }
                ToControl::SessionEnded { session, end, .. } => {
                    self.sessions.remove(&session);
                    self.ended.push((session, end));
                    let (over, waiting) = std::mem::take(&mut self.waiting)
                        .into_iter()
                        .partition(|(_, old, _)| *old == session);
                    self.waiting = waiting;
                    let over: Vec<(SessionId, SessionId, ShardId)> = over;
                    for (new, _, shard) in over {
                        self.admit(new, shard);
                    }
                }
                ToControl::Drained { .. } => self.drained += 1,
                _ => {}
            }
        }
    }

    fn admit(&mut self, session: SessionId, shard: ShardId) {
        let tsih = self.next_tsih;
        self.next_tsih = self.next_tsih.checked_add(1).unwrap_or(1);
        let luns = Arc::new(self.luns.clone());
        self.tell(shard, FromControl::Admit { session, admission: Admission::Allow { tsih }, luns });
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
