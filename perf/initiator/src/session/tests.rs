//! A session against scripted answers.

use super::{Session, Signal};
use crate::client::SessionId;
use crate::command::{Command, Completed, Outcome, Transfer};
use crate::config::SessionConfig;
use crate::reason::Reason;
use crate::{Sense, cdb};
use proptest::prelude::*;
use stampede_ring::{Buffer, Pool, PoolConfig};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::frame::{Frame, Framer, FramerConfig};
use stampede_wire::pdu::{
    AsyncMessage, DataIn, LoginResponse, LoginStatus, LoginStep, LogoutResponse, LogoutResponseCode, NopIn,
    ReadyToTransfer, Request, Residual, ScsiResponse, Stage, TargetSns, status,
};
use stampede_wire::{Bhs, Isid, Lun, Sn, Tsih};
use std::sync::Arc;

const ISID: Isid = Isid([0x80, 0, 0, 1, 0, 1]);

fn pool(slot_len: u32) -> Arc<Pool> {
    Pool::new(PoolConfig { slot_len, slots: 64 }).unwrap()
}

/// A session and what a target would know.
struct Script {
    session: Session,
    requests: Framer,
    stat_sn: Sn,
    max_cmd_sn: Sn,
    digests: Digests,
    /// Offset and bytes of the pieces that were handed on.
    streamed: Vec<(u32, Vec<u8>)>,
}

impl Script {
    fn new(change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut config = SessionConfig::new("iqn.a:i".into(), "iqn.b:t".into(), ISID);
        change(&mut config);
        let (session, begun) = Session::start(SessionId::default(), Arc::new(config), pool(4096));
        assert_eq!(begun, Ok(()));
        let requests = Framer::new(FramerConfig { max_data_segment: 1 << 20, ..FramerConfig::login() });
        Self {
            session,
            requests,
            stat_sn: Sn(77),
            max_cmd_sn: Sn(32),
            digests: Digests::default(),
            streamed: Vec::new(),
        }
    }

    /// A session that has logged in to a target with these answers.
    fn logged_in(answers: &str, change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut script = Self::new(change);
        let (_, text) = script.sent().remove(0);
        assert!(String::from_utf8(text).unwrap().contains("TargetName=iqn.b:t\0"));
        let security = script.login(Stage::Security, LoginStep::Transit(Stage::Operational));
        assert_eq!(names(&script.take(&security, "AuthMethod=None\0").unwrap()), ["SecurityDone"]);
        assert_eq!(script.sent().len(), 1);
        let last = script.login(Stage::Operational, LoginStep::Transit(Stage::FullFeature));
        assert_eq!(names(&script.take(&last, answers).unwrap()), ["LoggedIn"]);
        let negotiated = *script.session.negotiated();
        script.digests = Digests { header: negotiated.header_digest, data: negotiated.data_digest };
        script.requests.set_digests(script.digests.header, script.digests.data);
        script
    }

    fn login(&mut self, stage: Stage, step: LoginStep) -> Bhs {
        let sns = self.status();
        LoginResponse::new(ISID, Tsih(5), 0, stage, step, sns).into()
    }

    /// The numbers of a PDU with a status, which uses a StatSN up.
    fn status(&mut self) -> TargetSns {
        let sns = self.numbers();
        self.stat_sn = self.stat_sn.next();
        sns
    }

    fn numbers(&self) -> TargetSns {
        TargetSns { stat_sn: self.stat_sn, exp_cmd_sn: Sn(1), max_cmd_sn: self.max_cmd_sn }
    }

    /// Lets the session receive a PDU.
    fn take(&mut self, pdu: &Bhs, data: impl AsRef<[u8]>) -> Result<Vec<Signal<'static>>, Reason> {
        let bytes = self.encode(pdu, data.as_ref());
        let (mut signals, streamed) = (Vec::new(), &mut self.streamed);
        self.session.receive(&bytes, 1000, &mut |signal| {
            if let Some(signal) = lasting(signal, streamed) {
                signals.push(signal);
            }
        })?;
        Ok(signals)
    }

    fn encode(&self, pdu: &Bhs, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match pdu.response().unwrap() {
            stampede_wire::pdu::Response::LoginResponse(pdu) => {
                append_pdu(&mut bytes, pdu, data, self.digests)
            }
            stampede_wire::pdu::Response::DataIn(pdu) => append_pdu(&mut bytes, pdu, data, self.digests),
            stampede_wire::pdu::Response::ScsiResponse(pdu) => {
                append_pdu(&mut bytes, pdu, data, self.digests)
            }
            stampede_wire::pdu::Response::ReadyToTransfer(pdu) => {
                append_pdu(&mut bytes, pdu, data, self.digests)
            }
            stampede_wire::pdu::Response::NopIn(pdu) => append_pdu(&mut bytes, pdu, data, self.digests),
            stampede_wire::pdu::Response::LogoutResponse(pdu) => {
                append_pdu(&mut bytes, pdu, data, self.digests)
            }
            stampede_wire::pdu::Response::AsyncMessage(pdu) => {
                append_pdu(&mut bytes, pdu, data, self.digests)
            }
            other => panic!("{other:?}"),
        }
        bytes
    }

    /// What the session has to send, PDU by PDU.
    fn sent(&mut self) -> Vec<(Bhs, Vec<u8>)> {
        let mut pdus: Vec<(Bhs, Vec<u8>)> = Vec::new();
        while let Some(list) = self.session.outbox.next() {
            let bytes: Vec<u8> = list.slices().flatten().copied().collect();
            self.session.outbox.sent(Ok(bytes.len() as u32), list).unwrap();
            let mut bytes = bytes.as_slice();
            while let Some(frame) = self.requests.next(&mut bytes).unwrap() {
                match frame {
                    Frame::Header => pdus.push((*self.requests.header().bhs(), Vec::new())),
                    Frame::Data(piece) => pdus.last_mut().unwrap().1.extend_from_slice(piece),
                    Frame::End { data_digest_ok } => assert!(data_digest_ok),
                }
            }
        }
        pdus
    }

    fn read(&mut self, len: u32, buffer: Option<Buffer>) -> u32 {
        let transfer = match buffer {
            Some(buffer) => Transfer::In { buffer, len },
            None => Transfer::Count { len },
        };
        let command = Command { lun: Lun::ZERO, cdb: cdb::read(0, len / 512), transfer, tag: 9 };
        self.session.submit(command, 400).unwrap();
        self.sent().remove(0).0.initiator_task_tag()
    }
}

/// The signal without what it borrows; pieces of streamed data go to a list of their own.
fn lasting(signal: Signal<'_>, streamed: &mut Vec<(u32, Vec<u8>)>) -> Option<Signal<'static>> {
    Some(match signal {
        Signal::Data { offset, bytes, .. } => {
            streamed.push((offset, bytes.to_vec()));
            return None;
        }
        Signal::SecurityDone => Signal::SecurityDone,
        Signal::LoggedIn => Signal::LoggedIn,
        Signal::LogoutRequested => Signal::LogoutRequested,
        Signal::LoggedOut => Signal::LoggedOut,
        Signal::Completed(completed) => Signal::Completed(completed),
    })
}

fn names(signals: &[Signal]) -> Vec<&'static str> {
    let name = |signal: &Signal| match signal {
        Signal::SecurityDone => "SecurityDone",
        Signal::Data { .. } => "Data",
        Signal::LoggedIn => "LoggedIn",
        Signal::LogoutRequested => "LogoutRequested",
        Signal::LoggedOut => "LoggedOut",
        Signal::Completed(_) => "Completed",
    };
    signals.iter().map(name).collect()
}

fn completed(mut signals: Vec<Signal>) -> Completed {
    match signals.pop() {
        Some(Signal::Completed(completed)) if signals.is_empty() => completed,
        other => panic!("{other:?} after {signals:?}"),
    }
}

const GOOD: Outcome = Outcome::Status { status: status::GOOD, sense: None };

#[test]
fn a_read_is_counted_or_copied() {
    for digests in [false, true] {
        let answers = if digests { "HeaderDigest=CRC32C\0DataDigest=CRC32C\0" } else { "" };
        let mut script = Script::logged_in(answers, |config| {
            (config.header_digest, config.data_digest) = (digests, digests);
        });
        let itt = script.read(1024, pool(4096).take());
        let first = DataIn::new(itt, 0, 0, false, script.numbers()).into();
        assert!(script.take(&first, [1; 600]).unwrap().is_empty());
        let sns = script.status();
        let last = DataIn::new(itt, 1, 600, true, sns).with_status(0, Residual::None, sns.stat_sn).into();
        let done = completed(script.take(&last, [2; 424]).unwrap());
        assert_eq!((done.outcome, done.received, done.latency_ns, done.tag), (GOOD, 1024, 600, 9));
        assert_eq!(done.buffer.unwrap().bytes()[599..601], [1, 2]);
        let itt = script.read(512, None);
        let sns = script.status();
        let last = DataIn::new(itt, 0, 0, true, sns).with_status(0, Residual::None, sns.stat_sn).into();
        let done = completed(script.take(&last, [0; 512]).unwrap());
        assert_eq!((done.outcome, done.received, done.buffer.is_none()), (GOOD, 512, true));
    }
}

#[test]
fn a_write_goes_in_the_agreed_pieces() {
    // Immediate data, InitialR2T and the whole write's pieces: (immediate, Data-Out before the R2T, after it).
    for (answers, immediate, before, after) in [
        ("ImmediateData=Yes\0InitialR2T=No\0FirstBurstLength=8192\0", 4096, 1, 3),
        ("ImmediateData=Yes\0InitialR2T=Yes\0", 4096, 0, 4),
        ("ImmediateData=No\0InitialR2T=No\0FirstBurstLength=8192\0", 0, 2, 3),
        ("ImmediateData=No\0InitialR2T=Yes\0", 0, 0, 5),
    ] {
        let answers = format!("MaxRecvDataSegmentLength=4096\0{answers}");
        let mut script = Script::logged_in(&answers, |_| {});
        let mut buffer = pool(32_768).take().unwrap();
        for (byte, index) in buffer.bytes_mut().unwrap().iter_mut().zip(0u32..) {
            *byte = (index / 7) as u8;
        }
        let expected = buffer.bytes()[512..512 + 20_480].to_vec();
        let transfer = Transfer::Out { buffer, start: 512, len: 20_480 };
        let command = Command { lun: Lun::ZERO, cdb: cdb::write(0, 40), transfer, tag: 1 };
        script.session.submit(command, 0).unwrap();
        let mut sent = script.sent();
        let (header, mut data) = sent.remove(0);
        let Some(Request::ScsiCommand(pdu)) = header.request() else { panic!("{header:?}") };
        assert_eq!((pdu.expected_data_transfer_length(), header.is_final()), (20_480, before == 0));
        assert_eq!((data.len(), sent.len()), (immediate, before), "{answers}");
        let place = |(header, piece): (Bhs, Vec<u8>), data: &mut Vec<u8>, ttt: u32| {
            let Some(Request::DataOut(pdu)) = header.request() else { panic!("{header:?}") };
            assert_eq!((pdu.buffer_offset() as usize, pdu.target_transfer_tag()), (data.len(), ttt));
            data.extend_from_slice(&piece);
            pdu.is_final()
        };
        let finals = sent.into_iter().map(|pdu| place(pdu, &mut data, u32::MAX)).filter(|last| *last).count();
        assert_eq!(finals, usize::from(before > 0));
        let (offset, len) = (data.len() as u32, 20_480 - data.len() as u32);
        let itt = header.initiator_task_tag();
        let r2t = ReadyToTransfer::new(itt, Lun::ZERO, 0x55, 0, offset, len, script.numbers()).into();
        assert!(script.take(&r2t, []).unwrap().is_empty());
        let sent = script.sent();
        assert_eq!(sent.len(), after, "{answers}");
        let finals = sent.into_iter().map(|pdu| place(pdu, &mut data, 0x55)).filter(|last| *last).count();
        assert_eq!((finals, data == expected), (1, true));
        let response = ScsiResponse::new(itt, 0, Residual::None, script.status()).into();
        assert_eq!(completed(script.take(&response, []).unwrap()).outcome, GOOD);
    }
}

#[test]
fn the_window_holds_commands_back() {
    let mut script = Script::logged_in("", |_| {});
    // The first CmdSN is 1 and MaxCmdSN 32, which is also the depth.
    let tags: Vec<u32> = (0..32).map(|_| script.read(512, None)).collect();
    assert!(script.session.is_window_closed() && !script.session.has_room());
    let command =
        Command { lun: Lun::ZERO, cdb: cdb::read(0, 1), transfer: Transfer::Count { len: 512 }, tag: 3 };
    assert!(script.session.submit(command, 0).is_err_and(|back| back.is_ok_and(|command| command.tag == 3)));
    let sns = script.status();
    let end = DataIn::new(tags[0], 0, 0, true, sns).with_status(0, Residual::None, sns.stat_sn).into();
    completed(script.take(&end, [0; 512]).unwrap());
    assert!(!script.session.has_room(), "a task is free, the window is closed");
    script.max_cmd_sn = Sn(33);
    let open = NopIn::notify(script.numbers()).into();
    assert!(script.take(&open, []).unwrap().is_empty());
    assert!(script.session.has_room());
    script.max_cmd_sn = Sn(20);
    let older = NopIn::notify(script.numbers()).into();
    script.take(&older, []).unwrap();
    assert!(script.session.has_room(), "the window never shrinks");
}

#[test]
fn sense_data_is_read() {
    let mut script = Script::logged_in("", |_| {});
    let itt = script.read(512, None);
    let mut data = vec![0, 18, 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0];
    data.resize(20, 0);
    let response = ScsiResponse::new(itt, status::CHECK_CONDITION, Residual::None, script.status()).into();
    let done = completed(script.take(&response, data).unwrap());
    assert_eq!(done.outcome.sense(), Some(Sense { key: 5, asc: 0x21, ascq: 0 }));
    assert_eq!(done.outcome.to_string(), "CHECK CONDITION, ILLEGAL REQUEST 05/21/00");
}

#[test]
fn pings_are_answered_and_logouts_asked_for() {
    let mut script = Script::logged_in("", |_| {});
    let ping = NopIn::ping(0x99, Lun::ZERO, script.numbers()).into();
    assert!(script.take(&ping, b"ping").unwrap().is_empty());
    let (header, data) = script.sent().remove(0);
    let Some(Request::NopOut(pong)) = header.request() else { panic!("{header:?}") };
    assert_eq!((pong.target_transfer_tag(), pong.immediate(), data.as_slice()), (0x99, true, &b"ping"[..]));
    let mut mute = Script::logged_in("", |config| config.answers_pings = false);
    let ping = NopIn::ping(0x99, Lun::ZERO, mute.numbers()).into();
    mute.take(&ping, b"ping").unwrap();
    assert!(mute.sent().is_empty());
    let please = AsyncMessage::logout_request(3, script.status()).into();
    assert_eq!(names(&script.take(&please, []).unwrap()), ["LogoutRequested"]);
    script.session.logout().unwrap();
    assert!(!script.session.has_room());
    let (header, _) = script.sent().remove(0);
    let Some(Request::LogoutRequest(logout)) = header.request() else { panic!("{header:?}") };
    assert_eq!(logout.exp_stat_sn(), script.stat_sn);
    let tag = header.initiator_task_tag();
    let bye = LogoutResponse::new(tag, LogoutResponseCode::Success, 0, 0, script.status()).into();
    assert_eq!(names(&script.take(&bye, []).unwrap()), ["LoggedOut"]);
}

#[test]
fn a_logout_waits_for_the_last_command() {
    let mut script = Script::logged_in("", |_| {});
    let itt = script.read(512, None);
    script.session.logout().unwrap();
    assert!(script.sent().is_empty() && !script.session.has_room());
    let sns = script.status();
    let end = DataIn::new(itt, 0, 0, true, sns).with_status(0, Residual::None, sns.stat_sn).into();
    assert!(completed(script.take(&end, [0; 512]).unwrap()).outcome.is_good());
    let (header, _) = script.sent().remove(0);
    assert!(matches!(header.request(), Some(Request::LogoutRequest(_))), "{header:?}");
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    type Breach = fn(&mut Script, u32) -> (Bhs, Vec<u8>);
    let breaches: [(Breach, &str); 8] = [
        (|s, itt| (DataIn::new(itt, 0, 512, true, s.numbers()).into(), vec![0; 512]), "out of its place"),
        (|s, itt| (DataIn::new(itt, 0, 0, true, s.numbers()).into(), vec![0; 1024]), "more Data-In"),
        (|s, _| (DataIn::new(0x7777, 0, 0, true, s.numbers()).into(), vec![0; 512]), "no command"),
        (|s, itt| (ScsiResponse::new(itt + 1, 0, Residual::None, s.numbers()).into(), vec![]), "no command"),
        (
            |s, itt| {
                s.stat_sn = s.stat_sn.next();
                (ScsiResponse::new(itt, 0, Residual::None, s.numbers()).into(), vec![])
            },
            "StatSN",
        ),
        (|s, itt| (ReadyToTransfer::new(itt, Lun::ZERO, 1, 0, 0, 512, s.numbers()).into(), vec![]), "R2T"),
        (|s, _| (NopIn::reply(4, s.numbers()).into(), vec![]), "ping"),
        (|s, _| (s.login(Stage::Operational, LoginStep::Stay), vec![]), "answers nothing"),
    ];
    for (breach, says) in breaches {
        let mut script = Script::logged_in("", |_| {});
        let itt = script.read(512, None);
        let (pdu, data) = breach(&mut script, itt);
        let reason = script.take(&pdu, data).unwrap_err().to_string();
        assert!(reason.contains(says), "{reason} says nothing of {says}");
    }
}

#[test]
fn refusals_say_why() {
    let mut script = Script::new(|_| {});
    let (header, _) = script.sent().remove(0);
    let Some(Request::LoginRequest(request)) = header.request() else { panic!("{header:?}") };
    let moved = LoginResponse::refused(request, LoginStatus::TargetMovedTemporarily).into();
    let reason = script.take(&moved, "TargetAddress=192.0.2.7:3260,1\0").unwrap_err();
    let Reason::Refused(refused) = &reason else { panic!("{reason:?}") };
    assert_eq!(refused.address.as_deref(), Some("192.0.2.7:3260,1"));
    let mut script = Script::new(|_| {});
    let chap = script.login(Stage::Security, LoginStep::Stay);
    assert!(matches!(script.take(&chap, "AuthMethod=CHAP\0"), Err(Reason::Authentication(_))));
}

#[test]
fn a_digest_that_is_not_agreed_is_no_login() {
    let mut script = Script::new(|config| config.data_digest = true);
    let security = script.login(Stage::Security, LoginStep::Transit(Stage::Operational));
    script.take(&security, "").unwrap();
    let last = script.login(Stage::Operational, LoginStep::Transit(Stage::FullFeature));
    assert_eq!(script.take(&last, "DataDigest=None\0").unwrap_err(), Reason::NoDigest("DataDigest"));
}

#[test]
fn a_continued_answer_is_put_together() {
    let mut script = Script::new(|_| {});
    script.sent();
    let part = script.login(Stage::Security, LoginStep::Continue);
    assert!(script.take(&part, "AuthMet").unwrap().is_empty());
    assert_eq!(script.sent().len(), 1);
    let rest = script.login(Stage::Security, LoginStep::Transit(Stage::Operational));
    assert_eq!(names(&script.take(&rest, "hod=None\0").unwrap()), ["SecurityDone"]);
}

#[test]
fn what_is_under_way_is_lost_with_the_session() {
    let mut script = Script::logged_in("", |_| {});
    script.read(512, None);
    script.read(512, None);
    let mut lost = Vec::new();
    script.session.lose_all(500, |completed| lost.push(completed.outcome));
    assert_eq!((lost, script.session.in_flight()), (vec![Outcome::Lost; 2], 0));
}

proptest! {
    /// However a stream of answers is cut, the same comes out.
    #[test]
    fn cuts_change_nothing(cuts in prop::collection::vec(1usize..200, 0..60), digests: bool) {
        let answers = if digests { "HeaderDigest=CRC32C\0DataDigest=CRC32C\0" } else { "" };
        let mut script = Script::logged_in(answers, |config| {
            (config.header_digest, config.data_digest) = (digests, digests);
        });
        let buffers = pool(4096);
        let mut stream = Vec::new();
        for index in 0..8u8 {
            let itt = script.read(512, buffers.take());
            let sns = script.status();
            let pdu = DataIn::new(itt, 0, 0, true, sns).with_status(0, Residual::None, sns.stat_sn).into();
            stream.extend(script.encode(&pdu, &[index; 512]));
        }
        let mut found = Vec::new();
        let (mut rest, mut cuts) = (stream.as_slice(), cuts.into_iter());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
            rest = left;
            script.session.receive(piece, 1, &mut |signal| found.push(completed(lasting(signal, &mut Vec::new()).into_iter().collect()))).unwrap();
        }
        prop_assert_eq!(found.len(), 8);
        for (done, index) in found.into_iter().zip(0u8..) {
            prop_assert!(done.outcome.is_good());
            let buffer = done.buffer.unwrap();
            prop_assert_eq!(&buffer.bytes()[..512], &[index; 512]);
        }
    }
}

#[test]
fn streamed_data_is_handed_on_in_order() {
    let mut script = Script::logged_in("", |_| {});
    let transfer = Transfer::Stream { len: 1024 };
    let command = Command { lun: Lun::ZERO, cdb: cdb::read(0, 2), transfer, tag: 9 };
    script.session.submit(command, 400).unwrap();
    let itt = script.sent().remove(0).0.initiator_task_tag();
    let sns = script.numbers();
    script.take(&DataIn::new(itt, 0, 0, false, sns).into(), [1; 512]).unwrap();
    let sns = script.status();
    let last = DataIn::new(itt, 1, 512, true, sns).with_status(0, Residual::None, sns.stat_sn);
    assert_eq!(completed(script.take(&last.into(), [2; 512]).unwrap()).outcome, GOOD);
    assert_eq!(script.streamed, [(0, vec![1; 512]), (512, vec![2; 512])]);
}

#[test]
fn firmware_and_operating_systems_log_in_in_their_own_ways() {
    let mut firmware = Script::new(|config| (config.initial_r2t, config.immediate_data) = (true, false));
    firmware.sent();
    let security = firmware.login(Stage::Security, LoginStep::Transit(Stage::Operational));
    firmware.take(&security, "AuthMethod=None\0").unwrap();
    let text = String::from_utf8(firmware.sent().remove(0).1).unwrap();
    assert!(text.contains("InitialR2T=Yes\0ImmediateData=No\0"), "{text}");
    let mut one_stage = Script::new(|config| config.security_stage = false);
    let (_, text) = one_stage.sent().remove(0);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("TargetName=iqn.b:t\0") && text.contains("ErrorRecoveryLevel=0\0"), "{text}");
    let last = one_stage.login(Stage::Operational, LoginStep::Transit(Stage::FullFeature));
    assert_eq!(names(&one_stage.take(&last, "ImmediateData=Yes\0").unwrap()), ["LoggedIn"]);
}
