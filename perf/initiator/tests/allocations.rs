//! A warm client allocates nothing: not per command, not per answer, not per turn.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail it")]

use stampede_initiator::{Client, ClientConfig, Command, Event, SessionConfig, SessionId, Transfer, cdb};
use stampede_ring::{Pool, PoolConfig};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::frame::{Frame, Framer, FramerConfig};
use stampede_wire::pdu::{
    CommandFlags, DataIn, LoginResponse, LoginStep, Request, Residual, ScsiResponse, Stage, TargetSns,
};
use stampede_wire::{Isid, Lun, Sn, Tsih};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

const DEPTH: u16 = 32;
const BLOCKS: u32 = 8;

/// Answers logins, READs and WRITEs with immediate data, and nothing else.
fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut framer = Framer::new(FramerConfig { max_data_segment: 1 << 20, ..FramerConfig::login() });
    let (mut buffer, mut out) = (vec![0; 1 << 18], Vec::new());
    let (mut stat_sn, mut cmd_sn) = (Sn(0), Sn(1));
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        let mut input = &buffer[..len];
        while let Some(frame) = framer.next(&mut input).unwrap() {
            if !matches!(frame, Frame::End { .. }) {
                continue;
            }
            let sns = TargetSns { stat_sn, exp_cmd_sn: cmd_sn, max_cmd_sn: cmd_sn.add(127) };
            stat_sn = stat_sn.next();
            let bhs = framer.header().bhs();
            let tag = bhs.initiator_task_tag();
            match bhs.request().unwrap() {
                Request::LoginRequest(login) => {
                    let (stage, next) = (login.current_stage().unwrap(), login.next_stage().unwrap());
                    let step = LoginStep::Transit(next);
                    let response = LoginResponse::new(login.isid(), Tsih(1), tag, stage, step, sns);
                    let keys = "MaxRecvDataSegmentLength=262144\0FirstBurstLength=65536\0";
                    let keys = if next == Stage::FullFeature { keys } else { "" };
                    append_pdu(&mut out, &response, keys.as_bytes(), Digests::default());
                }
                Request::ScsiCommand(command) => {
                    cmd_sn = cmd_sn.next();
                    if command.flags().contains(CommandFlags::WRITE) {
                        let response = ScsiResponse::new(tag, 0, Residual::None, sns);
                        append_pdu(&mut out, &response, &[], Digests::default());
                    } else {
                        let data = [7; (BLOCKS * 512) as usize];
                        let pdu =
                            DataIn::new(tag, 0, 0, true, sns).with_status(0, Residual::None, sns.stat_sn);
                        append_pdu(&mut out, &pdu, &data, Digests::default());
                    }
                }
                other => unreachable!("{other:?}"),
            }
        }
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}

struct Load {
    client: Client,
    events: Vec<Event>,
    pool: Arc<Pool>,
    submitted: u64,
    completed: u64,
}

impl Load {
    fn turn(&mut self) {
        self.client.turn(self.client.now_ns() + 100_000_000, &mut self.events).unwrap();
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::LoggedIn { session, .. } => (0..DEPTH).for_each(|_| self.submit(session)),
                Event::Completed(completed) => {
                    assert!(completed.outcome.is_good(), "{completed:?}");
                    self.completed += 1;
                    self.submit(completed.session);
                }
                other => unreachable!("{other:?}"),
            }
        }
        self.events = events;
    }

    /// Counted reads, copied reads and writes in turn.
    fn submit(&mut self, session: SessionId) {
        let len = BLOCKS * 512;
        let (cdb, transfer) = match self.submitted % 3 {
            0 => (cdb::read(self.submitted, BLOCKS), Transfer::Count { len }),
            1 => (cdb::read(0, BLOCKS), Transfer::In { buffer: self.pool.take().unwrap(), len }),
            _ => (cdb::write(0, BLOCKS), Transfer::Out { buffer: self.pool.take().unwrap(), start: 0, len }),
        };
        let command = Command { lun: Lun::ZERO, cdb, transfer, tag: self.submitted };
        self.client.submit(session, command).expect("the window is larger than the depth");
        self.submitted += 1;
    }

    fn until(&mut self, completed: u64) {
        while self.completed < completed {
            self.turn();
        }
    }
}

#[test]
fn a_warm_client_allocates_nothing() {
    let address = target();
    let mut load = Load {
        client: Client::new(&ClientConfig::new(8)).unwrap(),
        events: Vec::with_capacity(1024),
        pool: Pool::new(PoolConfig { slot_len: 4096, slots: 1024 }).unwrap(),
        submitted: 0,
        completed: 0,
    };
    for number in 0..4 {
        let names = (format!("iqn.2026-11.io.stampede:{number}"), "iqn.2026-11.io.stampede:t".to_owned());
        let config =
            SessionConfig { depth: DEPTH, ..SessionConfig::new(names.0, names.1, Isid::random(1, number)) };
        load.client.connect(address, Arc::new(config)).unwrap();
    }
    load.until(20_000);
    let info = allocation_counter::measure(|| load.until(60_000));
    assert_eq!(info.count_total, 0, "{info:?}");
    // The measure itself: what does allocate is seen.
    let seen = allocation_counter::measure(|| load.events = Vec::with_capacity(4096));
    assert!(seen.count_total > 0);
}
