//! The initiator against a puppet: what it sends, and that it notices each thing a target must not do.

#![allow(clippy::panic, reason = "a test's helpers fail by panicking")]

use stampede_ring::{Event, IoMemory, Operation, Received, Ring, SendList, SocketId, Token, Wait};
use stampede_sim::initiator::{
    Command, Done, Initiator, InitiatorConfig, Report, Residual, SessionState, Tag, Transfer, ViolationKind,
    cdb,
};
use stampede_sim::{SimConfig, SimRing, SimWorld};
use std::net::SocketAddr;

type Header = [u8; 48];

/// A target that does what the test says.
struct Puppet {
    world: SimWorld,
    ring: SimRing,
    memory: IoMemory,
    socket: SocketId,
    received: Vec<u8>,
    receiving: bool,
    digests: bool,
    stat_sn: u32,
    exp_cmd_sn: u32,
    initiator: Initiator,
    reports: Vec<Report>,
}

fn put(header: &mut Header, at: usize, value: u32) {
    header[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn word(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes(header[at..at + 4].try_into().expect("4 bytes"))
}

impl Puppet {
    /// A session with these answers to the operational keys.
    fn new(keys: &str, change: impl FnOnce(&mut InitiatorConfig)) -> Self {
        let mut puppet = Self::connected(change);
        puppet.login(keys);
        assert_eq!(puppet.initiator.state(), SessionState::FullFeature);
        assert!(matches!(puppet.reports.pop(), Some(Report::LoggedIn { tsih: 1, .. })));
        assert_eq!(puppet.initiator.take_violations(), []);
        puppet
    }

    fn connected(change: impl FnOnce(&mut InitiatorConfig)) -> Self {
        let world = SimWorld::new(SimConfig::calm(3));
        let mut ring = world.ring(0);
        ring.set_blocking(true);
        let portal = SocketAddr::from(([10, 0, 0, 1], 3260));
        let listener = ring.listen(portal);
        let mut config =
            InitiatorConfig::new("iqn.a:i", "iqn.a:t", SocketAddr::from(([10, 0, 0, 2], 5)), portal);
        config.security_stage = false;
        change(&mut config);
        let mut initiator = Initiator::new(world.clone(), config, 5);
        assert!(initiator.connect());
        ring.push(Token(1), Operation::Accept { listener }).expect("room");
        let mut batch = Vec::with_capacity(1);
        ring.submit(Wait::Forever).expect("a connection");
        ring.reap(&mut batch);
        let Some(Event::Accepted { result: Ok(accepted), .. }) =
            batch.pop().map(|completion| completion.event)
        else {
            panic!("no connection");
        };
        let memory = IoMemory::new(1 << 20).expect("memory for a test");
        Self {
            world,
            ring,
            memory,
            socket: accepted.socket,
            received: Vec::new(),
            receiving: false,
            digests: false,
            stat_sn: 100,
            exp_cmd_sn: 0,
            initiator,
            reports: Vec::new(),
        }
    }

    fn login(&mut self, keys: &str) {
        let (request, text) = self.next().expect("a login request");
        assert_eq!((request[0], request[1]), (0x43, 0x87));
        let text = String::from_utf8(text).expect("text");
        for key in
            ["InitiatorName=iqn.a:i\0", "TargetName=iqn.a:t\0", "SessionType=Normal\0", "MaxBurstLength="]
        {
            assert!(text.contains(key), "{key} in {text}");
        }
        self.exp_cmd_sn = word(&request, 24);
        let mut response = [0; 48];
        response[0] = 0x23;
        response[1] = 0x87;
        response[8..14].copy_from_slice(&request[8..14]);
        response[15] = 1;
        response[16..20].copy_from_slice(&request[16..20]);
        self.send(response, keys.as_bytes());
        self.digests = keys.contains("HeaderDigest=CRC32C");
    }

    /// Sends a PDU with the next StatSN, which it uses up.
    fn send(&mut self, mut header: Header, data: &[u8]) {
        put(&mut header, 24, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.send_unnumbered(header, data);
    }

    /// Sends a PDU that carries no status.
    fn send_plain(&mut self, mut header: Header, data: &[u8]) {
        put(&mut header, 24, self.stat_sn);
        self.send_unnumbered(header, data);
    }

    fn send_unnumbered(&mut self, mut header: Header, data: &[u8]) {
        put(&mut header, 28, self.exp_cmd_sn);
        put(&mut header, 32, self.exp_cmd_sn.wrapping_add(8));
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut bytes = header.to_vec();
        if self.digests {
            bytes.extend(crc32c::crc32c(&header).to_le_bytes());
        }
        let start = bytes.len();
        bytes.extend_from_slice(data);
        bytes.resize(start + data.len().next_multiple_of(4), 0);
        if self.digests && !data.is_empty() {
            bytes.extend(crc32c::crc32c(&bytes[start..]).to_le_bytes());
        }
        let mut list = SendList::new();
        let mut buffer = self.memory.take(bytes.len() as u32).expect("memory for a test");
        buffer.bytes_mut().expect("a new buffer")[..bytes.len()].copy_from_slice(&bytes);
        let index = list.pin(buffer);
        list.segment(index, 0, bytes.len() as u32);
        self.ring.push(Token(3), Operation::Send { socket: self.socket, list }).expect("room");
        self.turns();
    }

    fn turns(&mut self) {
        for _ in 0..20 {
            if !self.receiving {
                self.receiving = true;
                self.ring.push(Token(2), Operation::Receive { socket: self.socket }).expect("room");
            }
            self.ring.submit(Wait::Until(self.world.now() + 100_000)).expect("a living ring");
            let mut batch = Vec::with_capacity(8);
            self.ring.reap(&mut batch);
            for completion in batch {
                if let Event::Received { received, more } = completion.event {
                    self.receiving = more;
                    if let Received::Chunk(chunk) = received {
                        self.received.extend_from_slice(chunk.bytes());
                        self.ring.recycle(chunk);
                    }
                }
            }
            self.reports.extend(self.initiator.poll());
        }
    }

    /// The next PDU of the initiator.
    fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        self.turns();
        let header: Header = *self.received.first_chunk()?;
        let digest = if self.digests { 4 } else { 0 };
        let len = (word(&header, 4) & 0xff_ffff) as usize;
        let end = 48 + digest + len.next_multiple_of(4) + if len > 0 { digest } else { 0 };
        assert!(self.received.len() >= end, "half a PDU");
        let pdu: Vec<u8> = self.received.drain(..end).collect();
        if self.digests {
            assert_eq!(pdu[48..52], crc32c::crc32c(&header).to_le_bytes());
        }
        if header[0] & 0x40 == 0 && header[0] == 1 {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
        Some((header, pdu[48 + digest..48 + digest + len].to_vec()))
    }

    fn command(&mut self, cdb: [u8; 16], transfer: Transfer) -> (Tag, Header, Vec<u8>) {
        let tag = self.initiator.command(Command::new(0, cdb, transfer)).expect("room");
        let (header, data) = self.next().expect("a command");
        assert_eq!((header[0], word(&header, 16)), (1, tag.0));
        (tag, header, data)
    }

    fn violations(&mut self) -> Vec<ViolationKind> {
        self.initiator.take_violations().into_iter().map(|violation| violation.kind).collect()
    }

    fn done(&mut self) -> Done {
        match self.reports.pop() {
            Some(Report::Done(done)) => done,
            other => panic!("{other:?}"),
        }
    }
}

const KEYS: &str = "TargetPortalGroupTag=1\0HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength=4096\0\
    DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0MaxConnections=1\0InitialR2T=Yes\0\
    ImmediateData=No\0MaxBurstLength=8192\0FirstBurstLength=8192\0MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0\
    DataSequenceInOrder=Yes\0";

fn answer(opcode: u8, tag: Tag) -> Header {
    let mut header = [0; 48];
    header[0] = opcode;
    header[1] = 0x80;
    put(&mut header, 16, tag.0);
    header
}

fn data_in(tag: Tag, data_sn: u32, offset: u32) -> Header {
    let mut header = answer(0x25, tag);
    put(&mut header, 36, data_sn);
    put(&mut header, 40, offset);
    header
}

fn good(tag: Tag, data_pdus: u32) -> Header {
    let mut header = answer(0x21, tag);
    put(&mut header, 36, data_pdus);
    header
}

fn r2t(tag: Tag, sn: u32, offset: u32, len: u32) -> Header {
    let mut header = answer(0x31, tag);
    put(&mut header, 20, 0x77);
    put(&mut header, 36, sn);
    put(&mut header, 40, offset);
    put(&mut header, 44, len);
    header
}

#[test]
fn a_read_comes_together() {
    let mut puppet = Puppet::new(KEYS, |_| {});
    let (tag, header, _) = puppet.command(cdb::read_16(3, 2), Transfer::In(1024));
    assert_eq!((header[1], word(&header, 20)), (0xc1, 1024));
    puppet.send_plain(data_in(tag, 0, 0), &[1; 512]);
    let mut last = data_in(tag, 1, 512);
    last[1] = 0x81;
    puppet.send(last, &[2; 512]);
    let done = puppet.done();
    assert!(done.is_good());
    assert_eq!(done.data, [[1; 512], [2; 512]].concat());
    assert_eq!(puppet.violations(), []);
    assert_eq!(puppet.initiator.outstanding(), []);
}

#[test]
fn underflow_and_sense_are_reported() {
    let mut puppet = Puppet::new(KEYS, |_| {});
    let (tag, ..) = puppet.command(cdb::inquiry(None, 255), Transfer::In(255));
    puppet.send_plain(data_in(tag, 0, 0), &[7; 36]);
    let mut header = good(tag, 1);
    header[1] |= 2;
    put(&mut header, 44, 219);
    puppet.send(header, &[]);
    assert_eq!(puppet.done().residual, Residual::Underflow(219));
    let (tag, ..) = puppet.command(cdb::test_unit_ready(), Transfer::None);
    let mut header = good(tag, 0);
    header[3] = 2;
    let mut sense = vec![0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1];
    sense.resize(20, 0);
    puppet.send(header, &sense);
    assert_eq!(puppet.done().sense_code(), Some((6, 0x29, 1)));
    assert_eq!(puppet.violations(), []);
}

#[test]
fn writes_go_as_negotiated() {
    let keys =
        KEYS.replace("InitialR2T=Yes", "InitialR2T=No").replace("ImmediateData=No", "ImmediateData=Yes");
    let mut puppet = Puppet::new(&keys, |_| {});
    for round in 0..10 {
        let bytes: Vec<u8> = (0..20_480u32).map(|index| (index / 7) as u8).collect();
        let (tag, header, mut got) =
            puppet.command(cdb::write_16(0, 40, false), Transfer::Out(bytes.clone()));
        assert!(got.len() <= 4096, "MaxRecvDataSegmentLength");
        assert_eq!(header[1] & 0x80, 0, "unsolicited data follows");
        let mut data_sn = 0;
        loop {
            let (header, data) = puppet.next().expect("Data-Out");
            assert_eq!((header[0], word(&header, 20), word(&header, 36)), (5, u32::MAX, data_sn));
            assert_eq!(word(&header, 40) as usize, got.len());
            got.extend(data);
            data_sn += 1;
            if header[1] & 0x80 != 0 {
                break;
            }
        }
        assert_eq!(got.len(), 8192, "FirstBurstLength, round {round}");
        for (sn, (offset, len)) in [(8192, 8192), (16_384, 4096)].into_iter().enumerate() {
            puppet.send_plain(r2t(tag, sn as u32, offset, len), &[]);
            let mut asked = len;
            while asked > 0 {
                let (header, data) = puppet.next().expect("Data-Out");
                assert_eq!((word(&header, 20), word(&header, 40) as usize), (0x77, got.len()));
                asked -= data.len() as u32;
                assert_eq!(header[1] & 0x80 != 0, asked == 0);
                got.extend(data);
            }
        }
        assert_eq!(got, bytes);
        puppet.send(good(tag, 2), &[]);
        assert!(puppet.done().is_good());
        assert_eq!(puppet.violations(), []);
    }
}

#[test]
fn digests_go_both_ways_and_wrong_ones_are_seen() {
    let keys = KEYS.replace("Digest=None", "Digest=CRC32C");
    let mut puppet = Puppet::new(&keys, |config| (config.header_digest, config.data_digest) = (true, true));
    let (tag, ..) = puppet.command(cdb::read_16(0, 1), Transfer::In(512));
    puppet.send_plain(data_in(tag, 0, 0), &[1; 512]);
    puppet.send(good(tag, 1), &[]);
    assert!(puppet.done().is_good());
    assert_eq!(puppet.violations(), []);
    let (tag, ..) = puppet.command(cdb::read_16(0, 1), Transfer::In(512));
    puppet.digests = false;
    puppet.send_plain(data_in(tag, 0, 0), &[1; 512]);
    assert_eq!(puppet.violations(), [ViolationKind::Format]);
    assert_eq!(puppet.initiator.state(), SessionState::Idle);
    assert!(matches!(&puppet.reports[..], [Report::Disconnected { outstanding }] if *outstanding == [tag]));
}

/// Each wrong answer, and what the initiator says of it.
#[test]
fn wrong_answers_are_seen() {
    use ViolationKind::*;
    type Wrong = fn(&mut Puppet, Tag);
    let cases: [(&str, ViolationKind, Wrong); 14] = [
        ("a repeated status", UnknownTask, |puppet, tag| {
            puppet.send(good(tag, 0), &[]);
            puppet.send(good(tag, 0), &[]);
        }),
        ("data after the status", UnknownTask, |puppet, tag| {
            puppet.send(good(tag, 0), &[]);
            puppet.send_plain(data_in(tag, 0, 0), &[0; 512]);
        }),
        ("a gap in StatSN", StatSn, |puppet, tag| {
            puppet.stat_sn += 1;
            puppet.send(good(tag, 0), &[]);
        }),
        ("a repeated StatSN", StatSn, |puppet, _| {
            puppet.stat_sn -= 1;
            puppet.send(answer(0x32, Tag(u32::MAX)), &[]);
        }),
        ("an ExpCmdSN that nobody sent", CmdWindow, |puppet, tag| {
            puppet.exp_cmd_sn = puppet.exp_cmd_sn.wrapping_add(1);
            puppet.send(good(tag, 0), &[]);
        }),
        ("a window that moves back", CmdWindow, |puppet, tag| {
            puppet.exp_cmd_sn = puppet.exp_cmd_sn.wrapping_sub(2);
            puppet.send_plain(data_in(tag, 0, 0), &[0; 512]);
        }),
        ("a gap in DataSN", DataSn, |puppet, tag| puppet.send_plain(data_in(tag, 1, 0), &[0; 512])),
        ("a wrong ExpDataSN", DataSn, |puppet, tag| puppet.send(good(tag, 3), &[])),
        ("a gap in the data", DataIn, |puppet, tag| puppet.send_plain(data_in(tag, 0, 512), &[0; 512])),
        ("too much data", DataIn, |puppet, tag| puppet.send_plain(data_in(tag, 0, 0), &[0; 2048])),
        ("too little data", Residual, |puppet, tag| puppet.send(good(tag, 0), &[])),
        ("an R2T for a read", R2t, |puppet, tag| puppet.send_plain(r2t(tag, 0, 0, 512), &[])),
        ("CHECK CONDITION without sense", Status, |puppet, tag| {
            let mut header = good(tag, 0);
            header[3] = 2;
            puppet.send(header, &[]);
        }),
        ("a segment too long", Format, |puppet, tag| puppet.send_plain(data_in(tag, 0, 0), &[0; 70_000])),
    ];
    for (what, kind, wrong) in cases {
        let mut puppet = Puppet::new(KEYS, |_| {});
        let (tag, ..) = puppet.command(cdb::read_16(0, 2), Transfer::In(1024));
        wrong(&mut puppet, tag);
        let seen = puppet.violations();
        assert!(seen.contains(&kind), "{what}: {seen:?}");
    }
}

#[test]
fn wrong_r2ts_are_seen() {
    for (offset, len, sn) in [(512, 512, 0), (0, 16_384, 0), (0, 0, 0), (0, 512, 1), (16_384, 512, 0)] {
        let mut puppet = Puppet::new(KEYS, |_| {});
        let (tag, ..) = puppet.command(cdb::write_16(0, 32, false), Transfer::Out(vec![1; 16_384]));
        puppet.send_plain(r2t(tag, sn, offset, len), &[]);
        assert_eq!(puppet.violations().len(), 1, "{len} at {offset}, R2TSN {sn}");
    }
}

#[test]
fn wrong_logins_are_seen() {
    let mut puppet = Puppet::connected(|_| {});
    puppet.login(
        &KEYS.replace("MaxBurstLength=8192", "MaxBurstLength=999999").replace("ErrorRecoveryLevel=0\0", ""),
    );
    assert_eq!(puppet.violations(), [ViolationKind::Key, ViolationKind::Key]);
    let mut puppet = Puppet::connected(|_| {});
    let (request, _) = puppet.next().expect("a login request");
    let mut refusal = [0; 48];
    refusal[0] = 0x23;
    refusal[8..14].copy_from_slice(&request[8..14]);
    refusal[16..20].copy_from_slice(&request[16..20]);
    refusal[36..38].copy_from_slice(&[2, 3]);
    puppet.send(refusal, &[]);
    assert_eq!(puppet.violations(), []);
    assert_eq!(puppet.reports, [Report::LoginFailed { class: 2, detail: 3, keys: vec![] }]);
    assert_eq!(puppet.initiator.state(), SessionState::Idle);
}

#[test]
fn task_management_ends_tasks() {
    let mut puppet = Puppet::new(KEYS, |_| {});
    let (one, header, _) = puppet.command(cdb::read_16(0, 1), Transfer::In(512));
    let (two, ..) = puppet.command(cdb::read_16(0, 1), Transfer::In(512));
    let abort = puppet.initiator.task_management(1, 0, Some(one)).expect("logged in");
    let (request, _) = puppet.next().expect("a TMF");
    assert_eq!((request[0], request[1], word(&request, 20)), (0x42, 0x81, one.0));
    assert_eq!(word(&request, 32), word(&header, 24), "RefCmdSN");
    puppet.send(answer(0x22, abort), &[]);
    assert_eq!(
        puppet.reports,
        [Report::Aborted { tag: one }, Report::TaskManagement { tag: abort, response: 0 }]
    );
    puppet.reports.clear();
    let reset = puppet.initiator.task_management(5, 0, None).expect("logged in");
    puppet.next().expect("a TMF");
    puppet.send(answer(0x22, reset), &[]);
    assert_eq!(
        puppet.reports,
        [Report::Aborted { tag: two }, Report::TaskManagement { tag: reset, response: 0 }]
    );
    assert_eq!(puppet.violations(), []);
    puppet.send(good(two, 0), &[]);
    assert_eq!(puppet.violations(), [ViolationKind::UnknownTask], "no status after the reset's answer");
}

#[test]
fn pings_text_and_logout() {
    let mut puppet = Puppet::new(KEYS, |_| {});
    let mut ping = answer(0x20, Tag(u32::MAX));
    put(&mut ping, 20, 0x1234);
    puppet.send_plain(ping, &[]);
    let (pong, _) = puppet.next().expect("an answer to the ping");
    assert_eq!((pong[0], word(&pong, 16), word(&pong, 20)), (0x40, u32::MAX, 0x1234));
    let nop = puppet.initiator.nop(b"data").expect("logged in");
    let (_, data) = puppet.next().expect("a NOP-Out");
    puppet.send(answer(0x20, nop), &data);
    assert_eq!(puppet.reports.pop(), Some(Report::Nop { tag: nop, data: b"data".to_vec() }));
    let text = puppet.initiator.text(&[("SendTargets", "")]).expect("logged in");
    let (_, data) = puppet.next().expect("a Text Request");
    assert_eq!(data, b"SendTargets=\0");
    let mut more = answer(0x24, text);
    more[1] = 0x40;
    put(&mut more, 20, 9);
    puppet.send(more, b"TargetName=iqn.a:t\0Target");
    let (next, _) = puppet.next().expect("another Text Request");
    assert_eq!(word(&next, 20), 9);
    let mut last = answer(0x24, text);
    put(&mut last, 20, u32::MAX);
    puppet.send(last, b"Address=10.0.0.1:3260,1\0");
    let Some(Report::Text { keys, .. }) = puppet.reports.pop() else { panic!("no text") };
    assert_eq!(keys[1], ("TargetAddress".to_owned(), "10.0.0.1:3260,1".to_owned()));
    let logout = puppet.initiator.logout().expect("logged in");
    puppet.next().expect("a Logout");
    puppet.send(answer(0x26, logout), &[]);
    assert_eq!(puppet.reports.pop(), Some(Report::LoggedOut { response: 0 }));
    assert_eq!((puppet.initiator.state(), puppet.violations()), (SessionState::Idle, vec![]));
}
