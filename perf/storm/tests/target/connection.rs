//! One connection of the test target: login, commands, data, logout. No digests.

use super::disk::{Answer, Disk};
use super::{Config, NAME};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::frame::{Frame, Framer, FramerConfig};
use stampede_wire::pdu::{
    DataIn, DataOut, LoginRequest, LoginResponse, LoginStatus, LoginStep, LogoutResponse, LogoutResponseCode,
    NopIn, Pdu, ReadyToTransfer, Request, Residual, ScsiCommand, ScsiResponse, Stage, TargetSns, status,
};
use stampede_wire::text::{Builder, Pairs};
use stampede_wire::{Bhs, Lun, Sn, Tsih};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Data that this target takes and sends per PDU, bytes.
const SEGMENT: usize = 8192;
/// MaxBurstLength, bytes.
const BURST: u32 = 32_768;
/// FirstBurstLength, bytes.
const FIRST_BURST: u32 = 16_384;
/// Commands beyond the acknowledged ones.
const WINDOW: u32 = 64;

/// A write whose data is still coming.
struct Gathering {
    command: ScsiCommand,
    data: Vec<u8>,
    /// Bytes that were asked for or come unasked.
    announced: usize,
    r2ts: u32,
}

pub(crate) struct Connection {
    stream: TcpStream,
    config: Config,
    disk: Arc<Mutex<Disk>>,
    commands: Arc<AtomicU64>,
    seen: u64,
    framer: Framer,
    segment: Vec<u8>,
    out: Vec<u8>,
    stat_sn: Sn,
    exp_cmd_sn: Sn,
    gathering: BTreeMap<u32, Gathering>,
}

/// The connection is over.
struct Over;

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        config: Config,
        disk: Arc<Mutex<Disk>>,
        commands: Arc<AtomicU64>,
    ) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            config,
            disk,
            commands,
            seen: 0,
            framer: Framer::new(FramerConfig::login()),
            segment: Vec::new(),
            out: Vec::new(),
            stat_sn: Sn(1),
            exp_cmd_sn: Sn(1),
            gathering: BTreeMap::new(),
        }
    }

    /// Until the initiator, or a planted fault, ends the connection.
    pub(crate) fn serve(mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            let len = match self.stream.read(&mut buffer) {
                Ok(len @ 1..) => len,
                _ => return,
            };
            let mut input = &buffer[..len];
            while let Some(frame) = self.framer.next(&mut input).unwrap() {
                match frame {
                    Frame::Header => self.segment.clear(),
                    Frame::Data(piece) => self.segment.extend_from_slice(piece),
                    Frame::End { .. } => {
                        if self.pdu().is_err() {
                            // What was answered before still goes out.
                            let _ = self.stream.write_all(&self.out);
                            return;
                        }
                    }
                }
            }
            if self.stream.write_all(&self.out).is_err() {
                return;
            }
            self.out.clear();
        }
    }

    fn send<P: Pdu>(&mut self, pdu: &P, data: &[u8]) {
        append_pdu(&mut self.out, pdu, data, Digests::default());
    }

    fn numbers(&self) -> TargetSns {
        let max_cmd_sn = Sn(self.exp_cmd_sn.0.wrapping_add(WINDOW - 1));
        TargetSns { stat_sn: self.stat_sn, exp_cmd_sn: self.exp_cmd_sn, max_cmd_sn }
    }

    fn status(&mut self) -> TargetSns {
        let sns = self.numbers();
        self.stat_sn = self.stat_sn.next();
        sns
    }

    fn pdu(&mut self) -> Result<(), Over> {
        let bhs: Bhs = *self.framer.header().bhs();
        match bhs.request().unwrap() {
            Request::LoginRequest(request) => self.login(request),
            Request::ScsiCommand(command) => self.command(command),
            Request::DataOut(data) => {
                self.data_out(data);
                Ok(())
            }
            Request::NopOut(nop) if nop.wants_reply() => {
                let reply = NopIn::reply(nop.initiator_task_tag(), self.status());
                self.send(&reply, &[]);
                Ok(())
            }
            Request::NopOut(_) => Ok(()),
            Request::LogoutRequest(request) => {
                let (tag, sns) = (request.initiator_task_tag(), self.status());
                self.send(&LogoutResponse::new(tag, LogoutResponseCode::Success, 0, 0, sns), &[]);
                Err(Over)
            }
            other => panic!("storm sent {other:?}"),
        }
    }

    fn login(&mut self, request: &LoginRequest) -> Result<(), Over> {
        let segment = std::mem::take(&mut self.segment);
        let mut answers = Builder::new();
        for (key, value) in Pairs::parse(&segment).unwrap() {
            let at_most = |ours: u32| value.parse::<u32>().unwrap().min(ours);
            match key {
                "TargetName" if value != NAME => {
                    self.send(&LoginResponse::refused(request, LoginStatus::NotFound), &[]);
                    return Err(Over);
                }
                "AuthMethod" | "HeaderDigest" | "DataDigest" => {
                    answers.push(key, "None");
                }
                "InitialR2T" => {
                    answers.push(key, if self.config.initial_r2t { "Yes" } else { "No" });
                }
                "MaxRecvDataSegmentLength" => {
                    answers.push(key, SEGMENT);
                }
                "MaxBurstLength" => {
                    answers.push(key, at_most(BURST));
                }
                "FirstBurstLength" => {
                    answers.push(key, at_most(FIRST_BURST));
                }
                "MaxOutstandingR2T" => {
                    answers.push(key, 1);
                }
                _ => {}
            }
        }
        let stage = request.current_stage().unwrap();
        let next = request.next_stage().unwrap();
        let sns = self.status();
        let (tag, step) = (request.initiator_task_tag(), LoginStep::Transit(next));
        let response = LoginResponse::new(request.isid(), Tsih(1), tag, stage, step, sns);
        if next == Stage::FullFeature {
            self.framer.set_max_data_segment(SEGMENT as u32);
        }
        self.send(&response, answers.as_bytes());
        Ok(())
    }

    fn command(&mut self, command: &ScsiCommand) -> Result<(), Over> {
        assert_eq!(command.cmd_sn(), self.exp_cmd_sn, "commands come in order");
        self.exp_cmd_sn = self.exp_cmd_sn.next();
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.seen += 1;
        if self.config.breaks_after.is_some_and(|limit| self.seen > limit) {
            return Err(Over);
        }
        let expected = command.expected_data_transfer_length() as usize;
        let data = std::mem::take(&mut self.segment);
        if !command.flags().contains(stampede_wire::pdu::CommandFlags::WRITE) || data.len() == expected {
            self.execute(command, &data);
            return Ok(());
        }
        let unasked = if command.bhs().is_final() { data.len() } else { expected.min(FIRST_BURST as usize) };
        let tag = command.initiator_task_tag();
        self.gathering.insert(tag, Gathering { command: *command, data, announced: unasked, r2ts: 0 });
        self.gather(tag);
        Ok(())
    }

    fn data_out(&mut self, pdu: &DataOut) {
        let tag = pdu.initiator_task_tag();
        let gathering = self.gathering.get_mut(&tag).expect("data for a write");
        assert_eq!(pdu.buffer_offset() as usize, gathering.data.len(), "data comes in order");
        gathering.data.extend_from_slice(&self.segment);
        assert_eq!(pdu.is_final(), gathering.data.len() == gathering.announced, "F ends what was announced");
        self.gather(tag);
    }

    /// Asks for what is missing once all that was announced is here, or executes.
    fn gather(&mut self, tag: u32) {
        let gathering = self.gathering.get_mut(&tag).expect("a write");
        if gathering.data.len() < gathering.announced {
            return;
        }
        let expected = gathering.command.expected_data_transfer_length() as usize;
        if gathering.data.len() == expected {
            let Gathering { command, data, .. } = self.gathering.remove(&tag).expect("a write");
            return self.execute(&command, &data);
        }
        let offset = gathering.data.len();
        let len = (expected - offset).min(BURST as usize);
        gathering.announced = offset + len;
        gathering.r2ts += 1;
        let (number, lun) = (gathering.r2ts - 1, gathering.command.lun());
        let sns = self.numbers();
        self.send(&ReadyToTransfer::new(tag, lun, 0x42, number, offset as u32, len as u32, sns), &[]);
    }

    fn execute(&mut self, command: &ScsiCommand, data: &[u8]) {
        let lun = Lun::decode(command.lun()).expect("a LUN that storm can be given");
        let answer = self.disk.lock().unwrap().execute(lun, command.cdb(), data);
        let tag = command.initiator_task_tag();
        match answer {
            Answer::Good(data) => self.good(command, data),
            Answer::Check(key, asc, ascq) => {
                let mut sense = vec![0, 18, 0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq];
                sense.resize(20, 0);
                let sns = self.status();
                self.send(&ScsiResponse::new(tag, status::CHECK_CONDITION, Residual::None, sns), &sense);
            }
            Answer::Conflict => {
                let sns = self.status();
                self.send(&ScsiResponse::new(tag, status::RESERVATION_CONFLICT, Residual::None, sns), &[]);
            }
        }
    }

    /// Data-In in pieces, the last with the status.
    fn good(&mut self, command: &ScsiCommand, mut data: Vec<u8>) {
        let tag = command.initiator_task_tag();
        let expected = command.expected_data_transfer_length() as usize;
        let is_read = command.flags().contains(stampede_wire::pdu::CommandFlags::READ);
        data.truncate(if is_read { expected } else { 0 });
        if data.is_empty() {
            let sns = self.status();
            return self.send(&ScsiResponse::new(tag, status::GOOD, Residual::None, sns), &[]);
        }
        let residual = Residual::of(expected as u32, data.len() as u64);
        let pieces = data.chunks(SEGMENT).count();
        for (index, piece) in data.chunks(SEGMENT).enumerate() {
            let offset = (index * SEGMENT) as u32;
            if index + 1 < pieces {
                let sns = self.numbers();
                self.send(&DataIn::new(tag, index as u32, offset, false, sns), piece);
            } else {
                let sns = self.status();
                let pdu = DataIn::new(tag, index as u32, offset, true, sns);
                self.send(&pdu.with_status(status::GOOD, residual, sns.stat_sn), piece);
            }
        }
    }
}
