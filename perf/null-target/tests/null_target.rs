//! The null target on loopback, seen by a client that speaks iSCSI byte by byte.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod common;

use common::Serving;
use stampede_null_target::iscsi::{Connection, Geometry, TARGET_NAME};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::frame::{Frame, Framer, FramerConfig};
use stampede_wire::pdu::{
    DataFlags, DataIn, DataOut, InitiatorSns, LoginRequest, LoginResponse, LoginStep, LogoutRequest,
    LogoutResponse, NopIn, NopOut, Pdu, ReadyToTransfer, Residual, ScsiCommand, ScsiResponse, Stage,
    TaskAttribute, TextRequest, TextResponse, TextStep, status,
};
use stampede_wire::text::{Builder, Pairs};
use stampede_wire::{Bhs, Isid, Lun, Sn, Tsih};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Logical blocks of the unit: one MiB.
const BLOCKS: u64 = 2048;

fn start() -> Serving {
    Serving::start::<Connection>(Geometry { blocks: BLOCKS })
}

struct Client {
    stream: TcpStream,
    framer: Framer,
    digests: Digests,
    received: Vec<u8>,
    cmd_sn: u32,
    tag: u32,
    /// The StatSN that the next status must have.
    stat_sn: Option<Sn>,
}

impl Client {
    fn connect(target: &Serving) -> Self {
        let stream = TcpStream::connect(target.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        let framer = Framer::new(FramerConfig::login());
        Self {
            stream,
            framer,
            digests: Digests::default(),
            received: Vec::new(),
            cmd_sn: 7,
            tag: 0,
            stat_sn: None,
        }
    }

    /// Logs in with these keys; returns the answer's.
    fn login(&mut self, keys: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut text = Builder::new();
        text.push("InitiatorName", "iqn.2026-11.test:client");
        for (key, value) in keys {
            text.push(key, value);
        }
        let step = LoginStep::Transit(Stage::FullFeature);
        let isid = Isid::default();
        let request = LoginRequest::new(isid, Tsih::NEW, 0, 99, Stage::Operational, step, self.sns());
        self.send(&request, text.as_bytes());
        let (bhs, data) = self.receive();
        let response = bhs.try_view::<LoginResponse>().unwrap();
        assert_eq!(response.status(), Ok(stampede_wire::pdu::LoginStatus::Success));
        assert!(response.transit() && response.tsih() != Tsih::NEW);
        assert_eq!(response.sns().exp_cmd_sn, Sn(self.cmd_sn));
        self.stat_sn = Some(response.stat_sn().next());
        Pairs::parse(&data).unwrap().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn sns(&self) -> InitiatorSns {
        InitiatorSns { cmd_sn: Sn(self.cmd_sn), exp_stat_sn: Sn(0) }
    }

    fn send(&mut self, pdu: &impl Pdu, data: &[u8]) {
        let mut bytes = Vec::new();
        append_pdu(&mut bytes, pdu, data, self.digests);
        self.stream.write_all(&bytes).unwrap();
    }

    /// A command whose CDB is `cdb`; returns its tag.
    fn command(&mut self, cdb: &[u8], expects: impl FnOnce(ScsiCommand) -> ScsiCommand, data: &[u8]) -> u32 {
        let mut bytes = [0; 16];
        bytes[..cdb.len()].copy_from_slice(cdb);
        self.tag += 1;
        let command = ScsiCommand::new(self.tag, Lun::ZERO, TaskAttribute::Simple, &bytes, self.sns());
        self.send(&expects(command), data);
        self.cmd_sn += 1;
        self.tag
    }

    fn receive(&mut self) -> (Bhs, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let mut input = &self.received[..];
            while let Some(frame) = self.framer.next(&mut input).unwrap() {
                match frame {
                    Frame::Header => {}
                    Frame::Data(bytes) => data.extend_from_slice(bytes),
                    Frame::End { data_digest_ok } => {
                        assert!(data_digest_ok);
                        let bhs = *self.framer.header().bhs();
                        let left = input.len();
                        self.received.drain(..self.received.len() - left);
                        return (bhs, data);
                    }
                }
            }
            self.received.clear();
            let mut buffer = [0; 65_536];
            let got = self.stream.read(&mut buffer).unwrap();
            assert!(got > 0, "the target closed the connection");
            self.received.extend_from_slice(&buffer[..got]);
        }
    }

    /// Checks and counts a StatSN that is used up, and the window.
    fn check_status(&mut self, stat_sn: Sn, exp_cmd_sn: Sn, max_cmd_sn: Sn) {
        assert_eq!(Some(stat_sn), self.stat_sn);
        self.stat_sn = Some(stat_sn.next());
        assert!(exp_cmd_sn.lte(Sn(self.cmd_sn)) && exp_cmd_sn.distance(max_cmd_sn) == 127);
    }

    fn response(&mut self, tag: u32) -> (u8, Residual, Vec<u8>) {
        let (bhs, data) = self.receive();
        let response = *bhs.try_view::<ScsiResponse>().unwrap();
        assert_eq!(response.initiator_task_tag(), tag);
        let sns = response.sns();
        self.check_status(sns.stat_sn, sns.exp_cmd_sn, sns.max_cmd_sn);
        (response.status(), response.residual(), data)
    }

    /// Gathers the Data-In PDUs of a command: the data, the lengths of the PDUs, the residual.
    fn data_in(&mut self, tag: u32) -> (Vec<u8>, Vec<usize>, Residual) {
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        loop {
            let (bhs, data) = self.receive();
            let pdu = *bhs.try_view::<DataIn>().unwrap();
            assert_eq!(pdu.initiator_task_tag(), tag);
            assert_eq!((pdu.data_sn() as usize, pdu.buffer_offset() as usize), (lengths.len(), all.len()));
            all.extend_from_slice(&data);
            lengths.push(data.len());
            if let Some(found) = pdu.status() {
                assert_eq!(found, status::GOOD);
                assert!(pdu.flags().contains(DataFlags::FINAL));
                let sns = pdu.sns();
                self.check_status(sns.stat_sn, sns.exp_cmd_sn, sns.max_cmd_sn);
                return (all, lengths, pdu.residual());
            }
        }
    }
}

fn read_10(lba: u32, blocks: u16) -> Vec<u8> {
    let mut cdb = vec![0x28, 0];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.push(0);
    cdb.extend_from_slice(&blocks.to_be_bytes());
    cdb
}

fn write_10(lba: u32, blocks: u16) -> Vec<u8> {
    let mut cdb = read_10(lba, blocks);
    cdb[0] = 0x2a;
    cdb
}

const NORMAL: (&str, &str) = ("TargetName", "iqn.2026-11.test:any");

#[test]
fn reads_are_cut_as_agreed_with_the_status_in_the_last_pdu() {
    let target = start();
    let mut client = Client::connect(&target);
    let answer = client.login(&[NORMAL, ("MaxRecvDataSegmentLength", "8192"), ("MaxBurstLength", "20480")]);
    assert!(answer.contains(&("MaxBurstLength".to_owned(), "20480".to_owned())), "{answer:?}");
    let tag = client.command(&read_10(8, 80), |command| command.reading(40_960), &[]);
    let (data, lengths, residual) = client.data_in(tag);
    assert_eq!(data.len(), 40_960);
    assert_eq!(lengths, [8192, 8192, 4096, 8192, 8192, 4096]);
    assert_eq!(residual, Residual::None);
    // The same blocks are the same bytes, and not all alike.
    let tag = client.command(&read_10(24, 2), |command| command.reading(1024), &[]);
    let again = client.data_in(tag).0;
    assert_eq!(again, data[8192..9216]);
    assert!(again.iter().any(|byte| *byte != again[0]));
}

#[test]
fn many_commands_at_once_are_answered_in_order_with_both_digests() {
    let target = start();
    let mut client = Client::connect(&target);
    let answer = client.login(&[NORMAL, ("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C,None")]);
    assert!(answer.contains(&("DataDigest".to_owned(), "CRC32C".to_owned())), "{answer:?}");
    client.digests = Digests { header: true, data: true };
    client.framer.set_digests(true, true);
    let tags: Vec<u32> = (0..32)
        .map(|place| client.command(&read_10(place * 8, 8), |command| command.reading(4096), &[]))
        .collect();
    for tag in tags {
        assert_eq!(client.data_in(tag).0.len(), 4096);
    }
    let tag = client.command(&write_10(0, 1), |command| command.writing(512, false), &[5; 512]);
    assert_eq!(client.response(tag).0, status::GOOD);
}

#[test]
fn writes_are_taken_immediate_unsolicited_and_asked_for() {
    let target = start();
    let mut client = Client::connect(&target);
    let keys = [NORMAL, ("InitialR2T", "No"), ("FirstBurstLength", "8192"), ("MaxBurstLength", "16384")];
    client.login(&keys);
    let lun = Lun::ZERO;
    // 4 KiB immediate, 4 KiB unsolicited, 28 KiB by R2T: 16 KiB and 12 KiB, one after the other.
    let tag = client.command(&write_10(0, 72), |command| command.writing(36_864, true), &[1; 4096]);
    client.send(&DataOut::unsolicited(tag, lun, Sn(0)).at(0, 4096, true), &[2; 4096]);
    for (r2t_sn, offset, len) in [(0, 8192, 16_384), (1, 24_576, 12_288)] {
        let (bhs, _) = client.receive();
        let r2t = *bhs.try_view::<ReadyToTransfer>().unwrap();
        assert_eq!(
            (r2t.r2t_sn(), r2t.buffer_offset(), r2t.desired_data_transfer_length()),
            (r2t_sn, offset, len)
        );
        assert_eq!(r2t.initiator_task_tag(), tag);
        let half = len / 2;
        let out = DataOut::solicited(tag, lun, r2t.target_transfer_tag(), Sn(0));
        client.send(&out.at(0, offset, false), &vec![3; half as usize]);
        client.send(&out.at(1, offset + half, true), &vec![4; half as usize]);
    }
    assert_eq!(client.response(tag), (status::GOOD, Residual::None, Vec::new()));
}

#[test]
fn what_is_wrong_is_told_and_the_session_goes_on() {
    let target = start();
    let mut client = Client::connect(&target);
    client.login(&[NORMAL]);
    let sense = |(found, residual, data): (u8, Residual, Vec<u8>)| {
        assert_eq!((found, residual), (status::CHECK_CONDITION, Residual::Underflow(512)));
        [data[4] & 0x0f, data[14], data[15]]
    };
    let tag = client.command(&read_10(BLOCKS as u32, 1), |command| command.reading(512), &[]);
    assert_eq!(sense(client.response(tag)), [5, 0x21, 0]);
    let tag = client.command(&[0xff], |command| command.reading(512), &[]);
    assert_eq!(sense(client.response(tag)), [5, 0x20, 0]);
    // COMPARE AND WRITE is not taken for done.
    let tag = client.command(&[0x89], |command| command.writing(512, false), &[0; 512]);
    assert_eq!(sense(client.response(tag)), [5, 0x20, 0]);
    let tag = client.command(&read_10(0, 1), |command| command.reading(1024), &[]);
    let (data, _, residual) = client.data_in(tag);
    assert_eq!((data.len(), residual), (512, Residual::Underflow(512)));
}

#[test]
fn pings_discovery_and_logout() {
    let target = start();
    let mut client = Client::connect(&target);
    let answer = client.login(&[("SessionType", "Discovery")]);
    assert!(!answer.iter().any(|(key, _)| key == "TargetPortalGroupTag"), "{answer:?}");
    let ping = NopOut::ping(5, client.sns()).into_immediate();
    client.send(&ping, b"hello");
    let (bhs, data) = client.receive();
    assert_eq!((bhs.try_view::<NopIn>().unwrap().initiator_task_tag(), &data[..]), (5, &b"hello"[..]));
    let mut text = Builder::new();
    text.push("SendTargets", "All");
    client.send(&TextRequest::new(6, TextStep::Final, client.sns()), text.as_bytes());
    client.cmd_sn += 1;
    let (bhs, data) = client.receive();
    assert!(bhs.try_view::<TextResponse>().unwrap().is_final());
    let pairs: Vec<_> = Pairs::parse(&data).unwrap().collect();
    let address = format!("{},1", target.address);
    assert_eq!(pairs, [("TargetName", TARGET_NAME), ("TargetAddress", &*address)]);
    client.send(&LogoutRequest::close_session(7, client.sns()), &[]);
    let (bhs, _) = client.receive();
    assert!(bhs.try_view::<LogoutResponse>().unwrap().response().is_ok());
    assert_eq!(client.stream.read(&mut [0; 8]).unwrap(), 0, "the target closes after the logout");
}

#[test]
fn a_connection_that_breaks_the_protocol_is_dropped_and_others_live() {
    let target = start();
    let mut good = Client::connect(&target);
    good.login(&[NORMAL]);
    let mut bad = Client::connect(&target);
    bad.stream.write_all(&[0xff; 4096]).unwrap();
    // Closed, with or without a reset for the bytes that nobody read.
    assert!(matches!(bad.stream.read(&mut [0; 8]), Ok(0) | Err(_)));
    let tag = good.command(&read_10(0, 8), |command| command.reading(4096), &[]);
    assert_eq!(good.data_in(tag).0.len(), 4096);
    let counters = target.watch.counters.read();
    assert_eq!((counters.connections, counters.dropped, counters.commands), (2, 1, 1));
    assert!(counters.sends <= counters.wakeups);
}
