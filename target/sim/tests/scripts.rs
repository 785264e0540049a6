//! The seam's shared scripts, run on the twin: what they promise over io_uring they promise here.

use stampede_ring::script::{self, ClientId, ScriptWorld};
use stampede_ring::{Buffer, Completion, FileId, IoMemory, Ring, SocketId, Wait};
use stampede_sim::{ClientStatus, DiskConfig, DiskId, FaultKind, FaultPlan, SimConfig, SimRing, SimWorld};
use std::net::SocketAddr;

struct Twin {
    world: SimWorld,
    ring: SimRing,
    other: SimRing,
    memory: IoMemory,
    files: Vec<DiskId>,
    listeners: Vec<(SocketId, SocketAddr)>,
    clients: Vec<stampede_sim::ClientId>,
    buffers: u16,
}

impl Twin {
    fn new(config: SimConfig) -> Self {
        let buffers = config.ring.receive_buffers;
        let world = SimWorld::new(config);
        let [ring, other] = [0, 1].map(|shard| {
            let mut ring = world.ring(shard);
            ring.set_blocking(true);
            ring
        });
        let memory = IoMemory::new(16 << 20).expect("memory for a test");
        Self {
            world,
            ring,
            other,
            memory,
            files: Vec::new(),
            listeners: Vec::new(),
            clients: Vec::new(),
            buffers,
        }
    }

    fn client(&self, client: ClientId) -> stampede_sim::ClientId {
        self.clients[client.0 as usize]
    }
}

impl ScriptWorld for Twin {
    type R = SimRing;

    fn ring(&mut self) -> &mut SimRing {
        &mut self.ring
    }

    fn swap_rings(&mut self) {
        std::mem::swap(&mut self.ring, &mut self.other);
    }

    fn now_ns(&self) -> u64 {
        self.world.now()
    }

    fn receive_buffers(&self) -> u16 {
        self.buffers
    }

    fn file(&mut self, contents: &[u8]) -> FileId {
        let config = DiskConfig { alignment: 1, ..DiskConfig::default() };
        let disk = self.world.disk("file", contents.len() as u64, config);
        self.world.fill_disk(disk, 0, contents);
        self.files.push(disk);
        self.ring.open(disk)
    }

    fn file_contents(&mut self, file: FileId) -> Vec<u8> {
        let disk = self.files[file.0 as usize];
        self.world.peek_disk(disk, 0, self.world.disk_len(disk) as usize)
    }

    fn buffer(&mut self, len: u32) -> Buffer {
        self.memory.take(len).expect("enough memory for a script")
    }

    fn listener(&mut self) -> SocketId {
        let address = SocketAddr::from(([10, 0, 0, 1], 3260 + self.listeners.len() as u16));
        let socket = self.ring.listen(address);
        self.listeners.push((socket, address));
        socket
    }

    fn client_connect(&mut self, listener: SocketId) -> ClientId {
        let (_, address) = self.listeners.iter().find(|(socket, _)| *socket == listener).expect("a listener");
        let from = SocketAddr::from(([10, 0, 1, 1], 40_000 + self.clients.len() as u16));
        self.clients.push(self.world.connect(from, *address).expect("somebody listens"));
        ClientId(self.clients.len() as u32 - 1)
    }

    fn client_send(&mut self, client: ClientId, bytes: &[u8]) {
        assert_eq!(self.world.client_send(self.client(client), bytes), bytes.len());
    }

    fn client_receive(&mut self, client: ClientId, max: usize) -> Vec<u8> {
        self.world.client_recv_some(self.client(client), max)
    }

    fn client_saw_end(&mut self, client: ClientId) -> bool {
        self.world.client_status(self.client(client)) != ClientStatus::Open
    }

    fn client_finish(&mut self, client: ClientId) {
        self.world.client_shutdown(self.client(client));
    }

    fn client_reset(&mut self, client: ClientId) {
        self.world.client_reset(self.client(client));
    }

    fn turn(&mut self, batch: &mut Vec<Completion>) {
        let until = self.world.now() + 2_000_000;
        self.ring.submit(Wait::Until(until)).expect("a living ring");
        self.ring.reap(batch);
    }
}

#[test]
fn every_script_holds_in_a_calm_world() {
    for seed in 0..20 {
        for script in script::all::<Twin>() {
            println!("seed {seed}: {}", script.name);
            (script.run)(&mut Twin::new(SimConfig::calm(seed)));
        }
    }
}

#[test]
fn all_scripts_hold_in_one_world() {
    script::run_all(&mut Twin::new(SimConfig::calm(1)));
}

/// Faults that leave every promise of the scripts intact.
#[test]
fn every_script_holds_with_harmless_faults() {
    let plan = FaultPlan::none()
        .with(FaultKind::AtOnce, 500_000)
        .with(FaultKind::ShortRead, 200_000)
        .with(FaultKind::ShortWrite, 200_000)
        .with(FaultKind::ShortSend, 300_000)
        .with(FaultKind::SlowDisk, 50_000)
        .with(FaultKind::SlowNetwork, 50_000)
        .with(FaultKind::SpuriousWake, 50_000)
        .with(FaultKind::SlowRelease, 300_000)
        .with(FaultKind::AdoptFull, 200_000);
    for seed in 0..20 {
        for script in script::all::<Twin>() {
            println!("seed {seed}: {}", script.name);
            (script.run)(&mut Twin::new(SimConfig::calm(seed).with_faults(plan.clone())));
        }
    }
}

/// A world whose files are all in memory.
#[test]
fn every_script_holds_where_everything_is_done_at_once() {
    let plan = FaultPlan::none().with(FaultKind::AtOnce, FaultPlan::MILLION);
    let mut twin = Twin::new(SimConfig::calm(1).with_faults(plan));
    script::run_all(&mut twin);
    assert!(twin.world.faults().count(FaultKind::AtOnce) > 10);
}

/// The scripts about moves meet every fault of moves.
#[test]
fn moves_meet_their_faults() {
    let plan = FaultPlan::none().with(FaultKind::SlowRelease, 300_000).with(FaultKind::AdoptFull, 200_000);
    let mut faults = stampede_sim::FaultCounts::default();
    for seed in 0..20 {
        let mut twin = Twin::new(SimConfig::calm(seed).with_faults(plan.clone()));
        script::run_all(&mut twin);
        faults.add(&twin.world.faults());
    }
    for kind in FaultKind::OF_MOVES {
        assert!(faults.count(*kind) > 0, "{kind:?}\n{faults}");
    }
}
