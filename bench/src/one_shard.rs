//! One shard with one session, fed with batches of commands.

use crate::login;
use crate::replay::{LISTENER, ReplayRing};
use crossbeam::channel::{Receiver, unbounded};
use crossbeam::queue::ArrayQueue;
use stampede_engine::messages::{FromControl, GoldenId, LunAddress, LunId, LunMap, ShardId, ToControl};
use stampede_engine::setup::{DiskSetup, GoldenSetup, ShardConfig};
use stampede_engine::{ControlLink, MeshEnd, Shard};
use stampede_image::align::Alignment;
use stampede_ring::{FileId, IoMemory, Pool, PoolConfig, Wait};
use stampede_scsi::{DeviceConfig, Identity, SavedState};
use stampede_session::Admission;
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::pdu::{DataOut, InitiatorSns, ReadyToTransfer, ScsiCommand, TaskAttribute};
use stampede_wire::{BHS_LEN, Bhs, Lun, Sn};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const BLOCK: u32 = 512;
const DISK_BYTES: u64 = 1 << 30;
const LUN: LunId = LunId(1);
const GOLDEN: GoldenId = GoldenId(1);

/// What the session's logical unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A file in memory: the ring does its reads and writes at once.
    Disk,
    /// A file on a device: its reads and writes complete later, and so take a job.
    Device,
    /// An ephemeral clone of a golden image.
    Clone,
}

/// What the session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// READ(10).
    Read,
    /// WRITE(10) with all of its data immediate.
    Write,
    /// WRITE(10) that sends its data when it is asked for it, by R2T.
    SolicitedWrite,
}

/// One kind of load: batches of `depth` commands of `bytes` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Read or write.
    pub work: Work,
    /// Bytes of a command, a multiple of 512; writes at most 64 KiB, so that all of it is immediate.
    pub bytes: u32,
    /// Commands that arrive together.
    pub depth: u32,
    /// Bytes of the unit that it touches, from the start.
    pub span: u64,
}

/// See the module.
pub struct OneShard {
    shard: Shard<ReplayRing>,
    to_shard: Arc<ArrayQueue<FromControl>>,
    from_shard: Receiver<ToControl>,
    unit: Unit,
    now_ns: u64,
    cmd_sn: u32,
    random: fastrand::Rng,
    batch: Vec<u8>,
    data: Vec<u8>,
    commands: u64,
    turns: u64,
}

impl OneShard {
    /// A shard whose one session is logged in.
    ///
    /// # Panics
    /// When the shard cannot be made, or refuses the login.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        let (sender, from_shard) = unbounded();
        let to_shard = Arc::new(ArrayQueue::new(16));
        let mut meshes = MeshEnd::mesh(1, 16);
        let pool = |slots| Pool::new(PoolConfig { slot_len: 4096, slots }).expect("memory for a benchmark");
        let config = ShardConfig {
            shard: ShardId(0),
            settings: login::settings(),
            memory: IoMemory::new(64 << 20).expect("memory for a benchmark"),
            headers: pool(4096),
            arena: pool(65_536),
            connections_max: 4,
            logins_max: 4,
            connection_bytes_max: 16 << 20,
            tombstone_runs_max: 1024,
            cache: None,
            token_key: stampede_scsi::copy::TokenKey::new([7; 32]),
        };
        let control = ControlLink::new(sender, Arc::clone(&to_shard));
        let mesh = meshes.pop().expect("a mesh of one");
        let mut shard = Shard::new(ReplayRing::default(), config, mesh, control).expect("a shard");
        shard.ring_mut().set_in_memory(unit != Unit::Device);
        let mut this = Self {
            shard,
            to_shard,
            from_shard,
            unit,
            now_ns: 1,
            cmd_sn: login::FIRST_CMD_SN,
            random: fastrand::Rng::with_seed(7),
            batch: Vec::with_capacity(1 << 20),
            data: vec![0xa5; 64 << 10],
            commands: 0,
            turns: 0,
        };
        this.add_unit();
        this.shard.add_listener(LISTENER);
        this.log_in();
        // The power-on unit attention goes to a command that nobody counts.
        this.run(&Load { work: Work::Read, bytes: BLOCK, depth: 1, span: 4096 }, 2);
        (this.commands, this.turns) = (0, 0);
        this
    }

    fn add_unit(&mut self) {
        let device = DeviceConfig::new(Identity::default(), DISK_BYTES / u64::from(BLOCK));
        let (file, alignment) = (FileId(0), Alignment { memory: 512, offset: 512 });
        match self.unit {
            Unit::Disk | Unit::Device => self.shard.add_disk(DiskSetup {
                cipher: None,
                lun: LUN,
                file,
                alignment,
                in_memory: self.unit == Unit::Disk,
                device,
                saved: SavedState::default(),
                journal: None,
            }),
            Unit::Clone => {
                self.shard.add_golden(GoldenSetup {
                    golden: GOLDEN,
                    file,
                    alignment,
                    in_memory: true,
                    len_bytes: DISK_BYTES,
                    published: None,
                });
                let device = Box::new(device);
                self.tell(FromControl::CreateClone { lun: LUN, golden: GOLDEN, device, kept: None });
            }
        }
    }

    fn tell(&self, message: FromControl) {
        self.to_shard.push(message).expect("room for a message");
    }

    fn log_in(&mut self) {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.settle();
        self.shard.ring_mut().connect(address(40_000), address(3260));
        self.settle();
        self.shard.ring_mut().keep_sent(true);
        self.shard.ring_mut().feed(&login::request());
        self.settle();
        let asked = self.from_shard.try_recv().ok().and_then(|message| match message {
            ToControl::Login { request, .. } => Some(request),
            _ => None,
        });
        let request = asked.expect("the shard asks for admission");
        let owner = ShardId(0);
        let is_clone = self.unit == Unit::Clone;
        let in_memory = self.unit == Unit::Disk;
        let luns = LunMap(vec![(0, LunAddress { lun: LUN, owner, block_size: BLOCK, is_clone, in_memory })]);
        let admission = Admission::Allow { tsih: 1 };
        self.tell(FromControl::Admit { session: request.session, admission, luns: Arc::new(luns) });
        self.settle();
        let sent = self.shard.ring_mut().take_sent();
        assert!(sent.get(36..38) == Some(&[0, 0]), "the login was refused: {sent:02x?}");
        self.shard.ring_mut().keep_sent(false);
    }

    fn sns(&self) -> InitiatorSns {
        InitiatorSns { cmd_sn: Sn(self.cmd_sn), exp_stat_sn: Sn(self.cmd_sn) }
    }

    /// Runs `batches` batches of a load, each to its last answer.
    pub fn run(&mut self, load: &Load, batches: u32) {
        for _ in 0..batches {
            self.offer(load);
            self.settle();
            if load.work == Work::SolicitedWrite {
                self.offer_solicited(load);
                self.settle();
            }
        }
    }

    /// The same, for callgrind, which counts what the shard does from the arrival of a batch to its last answer.
    pub fn measured(&mut self, load: &Load, batches: u32) {
        for _ in 0..batches {
            self.offer(load);
            self.measured_settle();
            if load.work == Work::SolicitedWrite {
                self.offer_solicited(load);
                self.measured_settle();
            }
        }
    }

    #[inline(never)]
    fn measured_settle(&mut self) {
        self.settle();
    }

    /// A batch arrives.
    fn offer(&mut self, load: &Load) {
        self.fill(load);
        self.feed();
        // R2Ts are copied, to be answered: that is counted too, and is some 50 instructions of a command.
        self.shard.ring_mut().keep_sent(load.work == Work::SolicitedWrite);
        self.commands += u64::from(load.depth);
    }

    /// The data arrives that the shard asked for.
    fn offer_solicited(&mut self, load: &Load) {
        let sent = self.shard.ring_mut().take_sent();
        self.shard.ring_mut().keep_sent(false);
        let (r2ts, rest) = sent.as_chunks::<BHS_LEN>();
        assert!(r2ts.len() == load.depth as usize && rest.is_empty(), "one R2T for each command");
        self.batch.clear();
        for r2t in r2ts.iter().map(|bytes| Bhs(*bytes)) {
            let r2t = r2t.view::<ReadyToTransfer>();
            let (tag, transfer) = (r2t.initiator_task_tag(), r2t.target_transfer_tag());
            let pdu = DataOut::solicited(tag, r2t.lun(), transfer, Sn(0)).at(0, r2t.buffer_offset(), true);
            let data = &self.data[..r2t.desired_data_transfer_length() as usize];
            append_pdu(&mut self.batch, &pdu, data, Digests::default());
        }
        self.feed();
    }

    fn feed(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.shard.ring_mut().feed(&batch);
        self.batch = batch;
    }

    /// Writes a batch's PDUs.
    fn fill(&mut self, load: &Load) {
        self.batch.clear();
        for _ in 0..load.depth {
            let places = load.span / u64::from(load.bytes);
            let lba = self.random.u64(..places) * u64::from(load.bytes / BLOCK);
            let mut cdb = [0; 16];
            cdb[0] = if load.work == Work::Read { 0x28 } else { 0x2a };
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[7..9].copy_from_slice(&((load.bytes / BLOCK) as u16).to_be_bytes());
            let command =
                ScsiCommand::new(self.cmd_sn, Lun::default(), TaskAttribute::Simple, &cdb, self.sns());
            let data: &[u8] = &self.data[..load.bytes as usize];
            match load.work {
                Work::Read => {
                    append_pdu(&mut self.batch, &command.reading(load.bytes), &[], Digests::default());
                }
                Work::Write | Work::SolicitedWrite => {
                    let data = if load.work == Work::Write { data } else { &[] };
                    let command = command.writing(load.bytes, false);
                    append_pdu(&mut self.batch, &command, data, Digests::default());
                }
            }
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    /// Turns until there is nothing left to do now.
    fn settle(&mut self) {
        loop {
            self.now_ns += 1000;
            self.turns += 1;
            let turn = self.shard.turn(self.now_ns);
            if turn.wait != Wait::No && !self.shard.ring_mut().is_ready() {
                return;
            }
        }
    }

    /// Commands answered so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Turns so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The shard's counters.
    #[must_use]
    pub fn counters(&self) -> &stampede_engine::stats::Counters {
        self.shard.counters()
    }

    /// Sends so far, and their bytes.
    #[must_use]
    pub fn sends(&mut self) -> (u64, u64) {
        self.shard.ring_mut().sends()
    }
}
