//! The same engine and registrar on the seeded twin: nothing real but the code, and time only passes when something
//! is waited for.

use crate::failure::{Failure, Outcome, fail};
use crate::link::{Heard, Link, Patience};
use crate::site::{BLOCK, BLOCKS, CLONE, DATA, ODD, Site, Target};
use crossbeam::channel::{Receiver, unbounded};
use crossbeam::queue::ArrayQueue;
use stampede_control::config::{ConfigError, Partial, read};
use stampede_control::directory::TargetDirectory;
use stampede_control::identity::LunIdentity;
use stampede_control::registrar::{Backing, Outbox, Registrar, TargetLun};
use stampede_engine::messages::{FromControl, GoldenId, LunAddress, LunId, ShardId, ToControl};
use stampede_engine::setup::{DiskSetup, GoldenSetup, JournalSetup, ShardConfig};
use stampede_engine::{ControlLink, MeshEnd, Shard};
use stampede_image::align::Alignment;
use stampede_image::epoch::TargetPolicy;
use stampede_ring::{IoMemory, Pool, PoolConfig, Ring};
use stampede_scsi::{DeviceConfig, SavedState, Space};
use stampede_session::{Entropy, NoEntropy, Settings};
use stampede_sim::{ClientId, ClientStatus, DiskConfig, SimConfig, SimRing, SimWorld};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Messages that a queue between shards holds.
const MESH: usize = 64;
/// Simulated time after which a long wait ends, in nanoseconds.
const LONG_NS: u64 = 60_000_000_000;
/// Simulated time that something is waited for that should not come, in nanoseconds.
const SHORT_NS: u64 = 1_000_000_000;
/// Bytes of a slot of the headers' pool and of the arena.
const SLOT: u32 = 4096;
const SECOND_NS: u64 = 1_000_000_000;

/// A target on the twin.
pub struct Twin {
    house: Rc<RefCell<House>>,
    clients: u16,
}

impl Twin {
    /// Makes a world from `seed`, and the suite's targets in it.
    ///
    /// # Errors
    /// There is no memory.
    pub fn start(seed: u64, site: &Site) -> Outcome<Self> {
        let house = House::build(seed, site)?;
        Ok(Self { house: Rc::new(RefCell::new(house)), clients: 0 })
    }
}

fn portal() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 3260))
}

impl Target for Twin {
    fn connect(&mut self) -> Outcome<Box<dyn Link>> {
        self.clients += 1;
        let from = SocketAddr::from(([192, 0, 2, 9], 40_000 + self.clients));
        let client = self.house.borrow().world.connect(from, portal());
        let client = client.ok_or_else(|| Failure("nobody listens".to_owned()))?;
        Ok(Box::new(Client { house: Rc::clone(&self.house), client }))
    }

    fn portal(&self) -> String {
        portal().to_string()
    }

    fn drain(&mut self) -> Outcome {
        self.house.borrow_mut().drain();
        Ok(())
    }
}

struct Client {
    house: Rc<RefCell<House>>,
    client: ClientId,
}

impl Link for Client {
    fn send(&mut self, mut bytes: &[u8]) {
        let mut house = self.house.borrow_mut();
        loop {
            let sent = house.world.client_send(self.client, bytes);
            bytes = &bytes[sent..];
            let open = house.world.client_status(self.client) == ClientStatus::Open;
            if bytes.is_empty() || !open || (sent == 0 && !house.step()) {
                return;
            }
        }
    }

    fn receive(&mut self, patience: Patience) -> Heard {
        let mut house = self.house.borrow_mut();
        let limit = if patience == Patience::Long { LONG_NS } else { SHORT_NS };
        let deadline = house.world.now().saturating_add(limit);
        loop {
            let bytes = house.world.client_recv(self.client);
            if !bytes.is_empty() {
                return Heard::Bytes(bytes);
            }
            if house.world.client_status(self.client) != ClientStatus::Open {
                return Heard::Closed;
            }
            if house.world.now() >= deadline || !house.step() {
                return Heard::Silence;
            }
        }
    }

    fn reset(&mut self) {
        self.house.borrow().world.client_reset(self.client);
    }
}

/// Random bytes that a seed repeats.
struct Seeded(Mutex<fastrand::Rng>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.lock().map_err(|_| NoEntropy)?.fill(bytes);
        Ok(())
    }
}

/// The targets as the daemon would see them, from the same configuration.
fn directory(seed: u64, site: &Site) -> Outcome<TargetDirectory> {
    let folder = tempfile::tempdir()?;
    let path = site.write_config(folder.path())?;
    let wrong = |error: ConfigError| Failure(format!("the suite's configuration: {error}"));
    let config = read(&path).and_then(Partial::finish).map_err(wrong)?;
    let entropy = Seeded(Mutex::new(fastrand::Rng::with_seed(seed)));
    TargetDirectory::new(&config, Arc::new(entropy)).map_err(wrong)
}

/// Shards, and the control thread's part of the work.
struct House {
    world: SimWorld,
    shards: Vec<Shard<SimRing>>,
    to_shards: Vec<Arc<ArrayQueue<FromControl>>>,
    from_shards: Receiver<ToControl>,
    registrar: Registrar,
    drain_ns: u64,
    arena: Arc<Pool>,
    /// Slots of the arena in use when the shards were last told of space.
    told_slots: Option<u32>,
}

impl House {
    fn build(seed: u64, site: &Site) -> Outcome<Self> {
        let world = SimWorld::new(SimConfig::calm(seed));
        let len = BLOCKS * BLOCK as u64;
        let disks = ["data", "odd", "golden"].map(|name| world.disk(name, len, DiskConfig::default()));
        let journals = ["data-journal", "odd-journal"]
            .map(|name| world.disk(name, stampede_image::intent::JOURNAL, DiskConfig::default()));
        let settings = Arc::new(Settings {
            window: site.commands,
            login_timeout_ns: u64::from(site.login_timeout_s) * SECOND_NS,
            ping_interval_ns: u64::from(site.ping_interval_s) * SECOND_NS,
            ping_timeout_ns: SECOND_NS,
            ..Settings::new(Arc::new(directory(seed, site)?))
        });
        let arena = pool(1024)?;
        let (sender, from_shards) = unbounded();
        let (mut shards, mut to_shards) = (Vec::new(), Vec::new());
        for (number, mesh) in (0..site.shards).zip(MeshEnd::mesh(site.shards, MESH)) {
            let mut ring = world.ring(number);
            let listener = ring.listen(portal());
            let files = disks.map(|disk| ring.open(disk));
            let journals = journals.map(|disk| ring.open(disk));
            let from = Arc::new(ArrayQueue::new(1024));
            to_shards.push(Arc::clone(&from));
            let config = ShardConfig {
                shard: ShardId(number),
                settings: Arc::clone(&settings),
                memory: IoMemory::new(16 << 20).map_err(|error| Failure(error.to_string()))?,
                headers: pool(1024)?,
                arena: Arc::clone(&arena),
                connections_max: 64,
                logins_max: 64,
                connection_bytes_max: 4 << 20,
                tombstone_runs_max: 1024,
                cache: None,
                token_key: stampede_scsi::copy::TokenKey::new([7; 32]),
            };
            let link = ControlLink::new(sender.clone(), from);
            let mut shard = Shard::new(ring, config, mesh, link)
                .map_err(|error| Failure(format!("a shard does not start: {error:?}")))?;
            shard.add_listener(listener);
            let alignment = Alignment { memory: 512, offset: 512 };
            for unit in units(site.shards).iter().filter(|unit| unit.owner == ShardId(number)) {
                let file = files[unit.lun.0 as usize];
                let mut device = device(unit.iqn, unit.number, false);
                if unit.iqn == DATA {
                    device.sanitize_bytes_s = site.sanitize_rate;
                }
                shard.add_disk(DiskSetup {
                    cipher: None,
                    lun: unit.lun,
                    file,
                    alignment,
                    in_memory: true,
                    device,
                    saved: SavedState::default(),
                    journal: Some(JournalSetup { file: journals[unit.lun.0 as usize], alignment }),
                });
            }
            shard.add_golden(GoldenSetup {
                golden: GoldenId(0),
                file: files[2],
                alignment,
                in_memory: false,
                len_bytes: 0,
                published: None,
            });
            shards.push(shard);
        }
        let registrar = Registrar::new(targets(site), Vec::new(), LunId(2), site.shards);
        let drain_ns = u64::from(site.drain_timeout_s) * SECOND_NS;
        Ok(Self { world, shards, to_shards, from_shards, registrar, drain_ns, arena, told_slots: None })
    }

    /// Turns every shard that has something to do, the control thread, and the clock. `false` when nothing is going to
    /// happen without an initiator's doing.
    fn step(&mut self) -> bool {
        self.control();
        let mut turned = false;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if self.world.is_ready(number as u16) {
                let turn = shard.turn(self.world.now());
                // The twin's ring takes every submission.
                let _ = shard.ring_mut().submit(turn.wait);
                turned = true;
            }
        }
        turned || self.advance()
    }

    /// Lets time pass until something is due, for shards or for the registrar.
    fn advance(&mut self) -> bool {
        let now = self.world.now();
        match (self.registrar.next_deadline(), self.world.next_event()) {
            (Some(deadline), event) if deadline > now && event.is_none_or(|event| deadline < event) => {
                self.world.advance_to(deadline);
                true
            }
            _ => self.world.advance(),
        }
    }

    fn control(&mut self) {
        let (mut out, now) = (Outbox::default(), self.world.now());
        while let Ok(message) = self.from_shards.try_recv() {
            match message {
                ToControl::Report(_) | ToControl::Drained { .. } | ToControl::Changed { .. } => {}
                // A target lives once here, so its store need not keep anything.
                ToControl::Save { shard, lun, number, .. } => {
                    self.tell(shard, FromControl::Saved { lun, number, durable: true });
                }
                // No unit is encrypted here.
                ToControl::Rekey { .. } => {}
                message => self.registrar.receive(message, now, &mut out),
            }
        }
        self.registrar.tick(now, &mut out);
        self.tell_space();
        for (shard, message) in out.messages {
            self.tell(shard, message);
        }
    }

    /// What the real control thread finds out about the space of thin units.
    fn tell_space(&mut self) {
        let slots = self.arena.in_use();
        if self.told_slots.replace(slots) == Some(slots) {
            return;
        }
        let space = Space { used_bytes: BLOCKS * BLOCK as u64, available_bytes: 1 << 30 };
        for shard in 0..self.shards.len() as u16 {
            let own = units(self.shards.len() as u16).into_iter().filter(|unit| unit.owner.0 == shard);
            let units = own.map(|unit| (unit.lun, space)).collect();
            self.tell(ShardId(shard), FromControl::Space { units });
        }
    }

    fn tell(&self, shard: ShardId, message: FromControl) {
        // A test has few sessions: the queues never fill.
        let _ = self.to_shards[usize::from(shard.0)].push(message);
        self.world.wake(shard.0);
    }

    fn drain(&mut self) {
        self.registrar.drain();
        let deadline_ns = self.world.now() + self.drain_ns;
        for shard in 0..self.shards.len() {
            self.tell(ShardId(shard as u16), FromControl::Drain { deadline_ns });
        }
    }
}

fn pool(slots: u32) -> Outcome<Arc<Pool>> {
    Pool::new(PoolConfig { slot_len: SLOT, slots }).or_else(fail)
}

/// A plain logical unit.
struct Unit {
    iqn: &'static str,
    number: u16,
    lun: LunId,
    owner: ShardId,
}

/// The plain logical units, dealt out to the shards in turn.
fn units(shards: u16) -> [Unit; 2] {
    [
        Unit { iqn: DATA, number: 0, lun: LunId(0), owner: ShardId(0) },
        Unit { iqn: ODD, number: 1, lun: LunId(1), owner: ShardId(1 % shards) },
    ]
}

fn device(iqn: &str, number: u16, clone: bool) -> DeviceConfig {
    let mut device = DeviceConfig::new(LunIdentity::derive(iqn, number).to_scsi(iqn, clone), BLOCKS);
    device.thin = true;
    device.durable = !clone;
    device.max_atomic_blocks = 256;
    device
}

fn targets(site: &Site) -> Vec<stampede_control::registrar::Target> {
    use stampede_control::registrar::Target;
    let plain = |unit: Unit| {
        let (is_clone, in_memory) = (false, true);
        let address =
            LunAddress { lun: unit.lun, owner: unit.owner, block_size: BLOCK as u32, is_clone, in_memory };
        let luns = vec![TargetLun {
            number: unit.number,
            name: unit.iqn.to_owned(),
            backing: Backing::Plain(address),
        }];
        Target { iqn: unit.iqn.to_owned(), luns, policy: TargetPolicy::default() }
    };
    let mut targets: Vec<Target> = units(site.shards).into_iter().map(plain).collect();
    let backing = Backing::Clone {
        golden: GoldenId(0),
        device: Box::new(device(CLONE, 0, true)),
        identity: LunIdentity::derive(CLONE, 0),
    };
    let luns = vec![TargetLun { number: 0, name: "clone".to_owned(), backing }];
    let policy = TargetPolicy { max_clones: site.clones, ..TargetPolicy::default() };
    targets.push(Target { iqn: CLONE.to_owned(), luns, policy });
    targets
}
