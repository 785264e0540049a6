//! One stage of a command alone, in batches of [`BATCH`] commands of 4 KiB.
//!
//! The functions named `measured_...` are what callgrind counts: what a stage needs is made outside of them.

use crate::login;
use stampede_image::overlay::{Overlay, OverlayLimits, Piece};
use stampede_ring::{Buffer, Pool, PoolConfig, SendList};
use stampede_scsi::{Device, DeviceConfig, Identity, NexusId, Step, TransportId};
use stampede_session::{
    Admission, Close, CommandResult, Connection, DataGrant, LoginRequest, ManagementRequest, OutData, Output,
    SessionId, SessionInfo, TaskKey, Transfer,
};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::frame::{Frame, Framer, FramerConfig};
use stampede_wire::pdu::{InitiatorSns, ScsiCommand, TaskAttribute};
use stampede_wire::{BHS_LEN, Bhs, Lun, Sn};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Commands of a batch.
pub const BATCH: u32 = 32;

const BYTES: u32 = 4096;
const BLOCKS: u16 = 8;
const DISK_BLOCKS: u64 = 1 << 21;

/// A stage: runs one batch of commands.
pub trait Stage {
    /// Runs one batch; what must be made for it is made outside of what is counted.
    fn batch(&mut self);
}

/// Every stage by name, in a command's order.
#[must_use]
pub fn all() -> Vec<(&'static str, Box<dyn Stage>)> {
    vec![
        ("parse", Box::new(Parse::new())),
        ("order", Box::new(Order::new())),
        ("decode", Box::new(Decode::new())),
        ("map", Box::new(Map::new())),
        ("build", Box::new(Build::new())),
        ("send", Box::new(Send::new())),
    ]
}

fn cdb(lba: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x28;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&BLOCKS.to_be_bytes());
    cdb
}

/// A batch of READ(10) from this CmdSN on.
fn reads(first: u32, out: &mut Vec<u8>) {
    out.clear();
    for sn in first..first + BATCH {
        let sns = InitiatorSns { cmd_sn: Sn(sn), exp_stat_sn: Sn(0) };
        let lba = sn.wrapping_mul(0x9e37) % (1 << 20);
        let command = ScsiCommand::new(sn, Lun::default(), TaskAttribute::Simple, &cdb(lba), sns);
        append_pdu(out, &command.reading(BYTES), &[], Digests::default());
    }
}

/// Received bytes into headers: the de-framer.
struct Parse {
    framer: Framer,
    bytes: Vec<u8>,
}

impl Parse {
    fn new() -> Self {
        let mut bytes = Vec::new();
        reads(1, &mut bytes);
        Self { framer: Framer::new(FramerConfig::login()), bytes }
    }

    #[inline(never)]
    fn measured_parse(&mut self) {
        let mut input = &self.bytes[..];
        while let Ok(Some(frame)) = self.framer.next(&mut input) {
            if matches!(frame, Frame::Header) {
                black_box(self.framer.header().bhs());
            }
        }
    }
}

impl Stage for Parse {
    fn batch(&mut self) {
        self.measured_parse();
    }
}

/// An output that keeps the keys of the commands and drops everything else.
#[derive(Default)]
struct Quiet {
    ready: Vec<TaskKey>,
    sent: u64,
    admitted: bool,
}

impl Output for Quiet {
    fn send(&mut self, header: &Bhs, data: OutData<'_>) {
        black_box(header);
        self.sent += (BHS_LEN + data.len()) as u64;
    }

    fn admit(&mut self, _: LoginRequest) {
        self.admitted = true;
    }

    fn command(&mut self, task: TaskKey) {
        self.ready.push(task);
    }

    fn manage(&mut self, _: ManagementRequest) {}
    fn release(&mut self, _: TaskKey) {}
    fn digests(&mut self, _: bool, _: bool) {}
    fn full_feature(&mut self, _: &SessionInfo) {}
    fn close(&mut self, _: Close) {}
}

/// A session in full-feature phase, and headers of commands for it.
struct Session {
    connection: Connection,
    framer: Framer,
    output: Quiet,
    next: u32,
    bytes: Vec<u8>,
}

impl Session {
    fn new() -> Self {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (local, peer) = (address(3260), address(40_000));
        let mut session = Self {
            connection: Connection::new(SessionId(1), login::settings(), local, peer, 0),
            framer: Framer::new(FramerConfig::login()),
            output: Quiet::default(),
            next: login::FIRST_CMD_SN,
            bytes: Vec::new(),
        };
        session.log_in();
        session
    }

    fn log_in(&mut self) {
        let mut collected = Vec::new();
        let bytes = login::request();
        let mut input = &bytes[..];
        while let Ok(Some(frame)) = self.framer.next(&mut input) {
            match frame {
                Frame::Header => {
                    let header = self.framer.header();
                    let begun = self.connection.begin_pdu(header, DataGrant::default(), 1, &mut self.output);
                    assert!(begun.is_ok(), "the login request is taken");
                }
                Frame::Data(data) => collected.extend_from_slice(data),
                Frame::End { .. } => {
                    let header = self.framer.header();
                    let ended = self.connection.end_pdu(header, &collected, true, 1, &mut self.output);
                    assert!(ended.is_ok(), "the login request is understood");
                }
            }
        }
        assert!(self.output.admitted, "the login asks for admission");
        self.connection.admitted(Admission::Allow { tsih: 1 }, 1, &mut self.output);
    }

    fn prepare(&mut self) {
        reads(self.next, &mut self.bytes);
        self.next += BATCH;
        self.output.ready.clear();
    }

    /// The batch enters the session.
    fn enter(&mut self) {
        let mut input = &self.bytes[..];
        while let Ok(Some(frame)) = self.framer.next(&mut input) {
            let (connection, output) = (&mut self.connection, &mut self.output);
            let taken = match frame {
                Frame::Header => {
                    connection.begin_pdu(self.framer.header(), DataGrant::default(), 2, output).map(drop)
                }
                Frame::Data(_) => Ok(()),
                Frame::End { .. } => connection.end_pdu(self.framer.header(), &[], true, 2, output),
            };
            assert!(taken.is_ok(), "commands in order are taken");
        }
    }

    /// The batch is answered.
    fn answer(&mut self) {
        let transfer = Transfer::In { available: u64::from(BYTES) };
        for index in 0..self.output.ready.len() {
            let task = self.output.ready[index];
            let result = CommandResult { status: 0, sense: &[], transfer };
            self.connection.respond(task, &result, 3, &mut self.output);
        }
    }
}

/// Headers into tasks: CmdSN order and the task table. Includes the de-framer, whose own cost is `parse`.
struct Order(Session);

impl Order {
    fn new() -> Self {
        Self(Session::new())
    }

    #[inline(never)]
    fn measured_order(&mut self) {
        self.0.enter();
    }
}

impl Stage for Order {
    fn batch(&mut self) {
        self.0.prepare();
        self.measured_order();
        assert!(self.0.output.ready.len() == BATCH as usize, "every command is there");
        self.0.answer();
    }
}

/// Results into PDUs: Data-In with status, StatSN and the window.
struct Build(Session);

impl Build {
    fn new() -> Self {
        Self(Session::new())
    }

    #[inline(never)]
    fn measured_build(&mut self) {
        self.0.answer();
    }
}

impl Stage for Build {
    fn batch(&mut self) {
        self.0.prepare();
        self.0.enter();
        let before = self.0.output.sent;
        self.measured_build();
        assert!(self.0.output.sent > before, "answers are sent");
    }
}

/// CDBs into work on the medium: the device server.
struct Decode {
    device: Device,
    cdbs: Vec<[u8; 16]>,
}

impl Decode {
    fn new() -> Self {
        let mut device = Device::new(DeviceConfig::new(Identity::default(), DISK_BLOCKS));
        let transport =
            TransportId { initiator_name: "iqn.2026-11.io.stampede:client".to_owned(), isid: [0; 6] };
        device.attach(NexusId(1), transport);
        // The power-on unit attention.
        device.start(NexusId(1), &cdb(0), 0, &[]);
        Self { device, cdbs: (0..BATCH).map(|lba| cdb(lba * 64)).collect() }
    }

    #[inline(never)]
    fn measured_decode(&mut self) {
        for cdb in &self.cdbs {
            let step = self.device.start(NexusId(1), cdb, 0, &[]);
            assert!(matches!(black_box(step), Step::Media(_)), "a read works on the medium");
        }
    }
}

impl Stage for Decode {
    fn batch(&mut self) {
        self.measured_decode();
    }
}

/// Guest ranges into places: the overlay of a clone, half of whose touched slots are written.
struct Map {
    overlay: Overlay<u64>,
    places: Vec<u64>,
}

impl Map {
    fn new() -> Self {
        let limits = OverlayLimits { tombstone_runs_max: 1024, size_bytes: DISK_BLOCKS * 512 };
        let mut overlay = Overlay::new(limits);
        for slot in (0..65_536).step_by(2) {
            overlay.install(slot, slot, 0xff);
        }
        let places = (0..u64::from(BATCH)).map(|n| n * 0x9e37 % 65_536 * 8).collect();
        Self { overlay, places }
    }

    #[inline(never)]
    fn measured_map(&mut self) {
        for place in &self.places {
            self.overlay.resolve(*place, u32::from(BLOCKS), |piece: Piece<'_, u64>| {
                black_box(piece);
            });
        }
    }
}

impl Stage for Map {
    fn batch(&mut self) {
        self.measured_map();
    }
}

/// PDUs into one vectored send: headers copied, payload pinned.
struct Send {
    pool: Arc<Pool>,
    payload: Vec<Buffer>,
    list: SendList,
}

impl Send {
    fn new() -> Self {
        let slots = BATCH + 1;
        let pool = Pool::new(PoolConfig { slot_len: 4096, slots }).expect("memory for a benchmark");
        let payload = (0..BATCH).filter_map(|_| pool.take()).collect();
        Self { pool, payload, list: SendList::new() }
    }

    #[inline(never)]
    fn measured_send(&mut self) {
        let header = self.pool.take().expect("a slot is free");
        let index = self.list.pin(header);
        for (payload, at) in self.payload.iter().zip(0..) {
            let start = at * BHS_LEN as u32;
            let header = self.list.buffer_mut(index).and_then(Buffer::bytes_mut).expect("it is not shared");
            header[start as usize..][..BHS_LEN].copy_from_slice(&[at as u8; BHS_LEN]);
            self.list.segment(index, start, BHS_LEN as u32);
            let payload = self.list.pin(payload.clone());
            self.list.segment(payload, 0, BYTES);
        }
        let bytes = self.list.bytes();
        self.list.advance(bytes);
        self.list.clear();
    }
}

impl Stage for Send {
    fn batch(&mut self) {
        self.measured_send();
    }
}
