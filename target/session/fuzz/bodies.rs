//! What must hold for any bytes. The fuzz targets run these, and so do the property tests of the normal suite.

mod chap;

pub(crate) use chap::chap;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use stampede_session::{
    Admission, Close, CommandResult, Connection, DataGrant, Directory, Disposition, LoginRequest, LoginStage,
    ManagementRequest, ManagementResponse, OutData, Output, Phase, SessionId, SessionInfo, Settings, TaskKey,
    Transfer,
};
use stampede_wire::{
    Bhs, Isid, Lun, Sn, Tsih,
    encode::{Digests, append_pdu},
    frame::{Frame, Framer, FramerConfig},
    pdu::{self, DataOut, InitiatorSns, LoginStep, ReadyToTransfer, ScsiCommand, Stage},
};

/// One target, which everybody sees.
struct One;

const TARGET: &str = "iqn.2026-01.example:disk";

impl Directory for One {
    fn contains(&self, target: &str) -> bool {
        target == TARGET
    }

    fn discover(
        &self,
        _: &str,
        local: SocketAddr,
        _: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        visit(TARGET, &[local.to_string()], 1);
    }

    fn stage_override(&self, _: &str) -> Option<LoginStage> {
        None
    }
}

/// Who has a task, as an engine keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    /// Its data is arriving: so many bytes of memory are granted.
    Collecting(u32),
    Running,
}

/// An engine that checks what it is told.
#[derive(Default)]
struct Engine {
    tasks: BTreeMap<TaskKey, Holder>,
    grant: u32,
    requests: Vec<ManagementRequest>,
    /// R2Ts that nobody answered yet.
    r2ts: Vec<ReadyToTransfer>,
    admissions: usize,
    closed: Option<Close>,
    digests: Option<(bool, bool)>,
    stat_sn: Option<Sn>,
    max_cmd_sn: Option<Sn>,
    /// The last data segment sent.
    last_text: Vec<u8>,
    /// A Login Response granted a next stage.
    transited: bool,
}

impl Output for Engine {
    fn send(&mut self, header: &Bhs, data: OutData<'_>) {
        assert!(self.closed.is_none(), "nothing follows the last PDU");
        assert_eq!(header.data_segment_len() as usize, data.len());
        let response = header.response().expect("a PDU that targets send");
        if let pdu::Response::LoginResponse(login) = response {
            self.transited |= login.transit();
        }
        if let OutData::Bytes(bytes) = data {
            self.last_text = bytes.to_vec();
        }
        if matches!(response, pdu::Response::LoginResponse(login) if login.status() != Ok(pdu::LoginStatus::Success))
        {
            return;
        }
        if let pdu::Response::ReadyToTransfer(r2t) = response {
            self.r2ts.push(*r2t);
        }
        // The three numbers are at one place in every response.
        let sns = header.view::<pdu::NopIn>().sns();
        assert!(
            self.max_cmd_sn.is_none_or(|earlier| earlier.lte(sns.max_cmd_sn)),
            "MaxCmdSN never moves back"
        );
        self.max_cmd_sn = Some(sns.max_cmd_sn);
        if carries_status(response) {
            assert!(
                self.stat_sn.is_none_or(|earlier| earlier.next() == sns.stat_sn),
                "StatSN counts statuses"
            );
            self.stat_sn = Some(sns.stat_sn);
        }
    }

    fn admit(&mut self, _: LoginRequest) {
        self.admissions += 1;
    }

    fn accept(&mut self, task: TaskKey) {
        assert_eq!(self.tasks.insert(task, Holder::Collecting(self.grant)), None, "a new key");
    }

    fn command(&mut self, task: TaskKey) {
        let before = self.tasks.insert(task, Holder::Running);
        assert!(matches!(before, Some(Holder::Collecting(_))), "handed over once");
    }

    fn manage(&mut self, request: ManagementRequest) {
        self.requests.push(request);
    }

    fn release(&mut self, task: TaskKey) {
        assert!(
            matches!(self.tasks.remove(&task), Some(Holder::Collecting(_))),
            "released once, not while it runs"
        );
    }

    fn digests(&mut self, header: bool, data: bool) {
        self.digests = Some((header, data));
    }

    fn full_feature(&mut self, session: &SessionInfo) {
        assert_ne!(session.tsih, 0);
    }

    fn close(&mut self, how: Close) {
        assert!(self.closed.replace(how).is_none(), "closed once");
    }
}

fn carries_status(response: pdu::Response<'_>) -> bool {
    match response {
        pdu::Response::DataIn(data) => data.status().is_some(),
        pdu::Response::NopIn(nop) => nop.initiator_task_tag() != stampede_wire::RESERVED_TAG,
        pdu::Response::ReadyToTransfer(_) => false,
        _ => true,
    }
}

/// A connection and the engine it talks to.
struct World {
    connection: Connection,
    engine: Engine,
    framer: Framer,
    now_ns: u64,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::new(Arc::new(One)))
    }

    fn with(mut settings: Settings) -> Self {
        settings.window = 6;
        settings.ping_interval_ns = 1000;
        settings.ping_timeout_ns = 1000;
        settings.text_bytes_max = 4096;
        let (local, peer) =
            (SocketAddr::from(([192, 0, 2, 1], 3260)), SocketAddr::from(([192, 0, 2, 2], 4000)));
        Self {
            connection: Connection::new(SessionId(1), Arc::new(settings), local, peer, 0),
            engine: Engine::default(),
            framer: Framer::new(FramerConfig::login()),
            now_ns: 0,
        }
    }

    /// Takes bytes off the wire as an engine does. `false` when the connection is over.
    fn receive(&mut self, mut input: &[u8]) -> bool {
        let (mut disposition, mut collected, mut seen) = (Disposition::None, Vec::new(), 0u32);
        loop {
            match self.framer.next(&mut input) {
                Err(_) => return false,
                Ok(None) => return true,
                Ok(Some(Frame::Header)) => {
                    (collected, seen) = (Vec::new(), 0);
                    let Some(where_to) = self.begin() else { return false };
                    disposition = where_to;
                }
                Ok(Some(Frame::Data(piece))) => {
                    seen += piece.len() as u32;
                    match disposition {
                        Disposition::None => panic!("a payload has a place"),
                        Disposition::Collect => collected.extend_from_slice(piece),
                        Disposition::Task { .. } | Disposition::Discard => {}
                    }
                }
                Ok(Some(Frame::End { data_digest_ok })) => {
                    if let Disposition::Task { len, .. } = disposition {
                        assert!(len <= seen);
                    }
                    let (connection, engine) = (&mut self.connection, &mut self.engine);
                    let (header, ok) = (self.framer.header(), data_digest_ok);
                    if connection.end_pdu(header, &collected, ok, self.now_ns, engine).is_err() {
                        return false;
                    }
                    if self.connection.phase() == Phase::Deciding {
                        self.connection.admitted(Admission::Allow { tsih: 1 }, self.now_ns, &mut self.engine);
                    }
                    if let Some((header, data)) = self.engine.digests.take() {
                        self.framer.set_digests(header, data);
                        self.framer.set_max_data_segment(65_536);
                    }
                }
            }
        }
    }

    fn begin(&mut self) -> Option<Disposition> {
        let header = self.framer.header().clone();
        let expected = header.bhs().view::<ScsiCommand>().expected_data_transfer_length();
        // An engine that always wants a little less than it is offered.
        self.engine.grant = expected.min(3000);
        let grant = DataGrant { wanted: self.engine.grant };
        let disposition = self.connection.begin_pdu(&header, grant, self.now_ns, &mut self.engine).ok()?;
        if let Disposition::Task { task, offset, len } = disposition {
            let Some(Holder::Collecting(granted)) = self.engine.tasks.get(&task) else {
                panic!("memory for {task:?}")
            };
            assert!(
                len > 0 && offset.checked_add(len).is_some_and(|end| end <= *granted),
                "within the grant"
            );
        }
        Some(disposition)
    }

    /// What an engine does between PDUs, as `choice` says.
    fn act(&mut self, choice: u8) {
        let (connection, engine) = (&mut self.connection, &mut self.engine);
        self.now_ns += u64::from(choice);
        let running =
            engine.tasks.iter().find(|(_, holder)| **holder == Holder::Running).map(|(task, _)| *task);
        match (choice % 8, running) {
            (0 | 1, Some(task)) => {
                let available = u64::from(choice) * 100;
                let result = CommandResult { status: 0, sense: &[], transfer: Transfer::In { available } };
                connection.respond(task, &result, self.now_ns, engine);
                engine.tasks.remove(&task);
            }
            (2, Some(task)) => {
                let result = CommandResult { status: 2, sense: &[0x70; 18], transfer: Transfer::None };
                connection.respond(task, &result, self.now_ns, engine);
                engine.tasks.remove(&task);
            }
            (3, _) => connection.set_window(u16::from(choice), engine),
            (4, _) => connection.kill(None, engine),
            (5, _) => self.finish_managements(),
            (6, _) => drop(connection.tick(self.now_ns, engine)),
            _ => {}
        }
        assert!(self.connection.tasks_len() <= self.connection.tasks_max());
        assert_eq!(self.connection.tasks_len(), self.engine.tasks.len(), "both sides know the same tasks");
    }

    fn finish_managements(&mut self) {
        let killed: Vec<TaskKey> = self
            .connection
            .tasks()
            .filter(|task| self.connection.task(*task).is_some_and(|t| t.killed()))
            .collect();
        for task in killed {
            self.connection.forget(task);
            self.engine.tasks.remove(&task);
        }
        for request in std::mem::take(&mut self.engine.requests) {
            self.connection.managed(
                request.id(),
                ManagementResponse::Complete,
                self.now_ns,
                &mut self.engine,
            );
        }
    }

    /// The connection is lost: everything ends.
    fn end(mut self) {
        self.engine.closed = None;
        self.connection.disconnect(&mut self.engine);
        for task in self.connection.tasks().collect::<Vec<_>>() {
            assert_eq!(self.engine.tasks.remove(&task), Some(Holder::Running));
            self.connection.forget(task);
        }
        assert!(self.engine.tasks.is_empty() && self.connection.tasks_len() == 0);
        assert!(self.engine.admissions <= 1);
    }
}

/// A login from any bytes.
pub(crate) fn login(bytes: &[u8]) {
    let mut world = World::new();
    let _ = world.receive(bytes);
    world.end();
}

/// A session from any bytes: each 24 of them are one PDU, mostly one that an initiator might send now, and what the
/// engine does after it.
pub(crate) fn session(bytes: &[u8]) {
    let mut world = World::new();
    let sns = InitiatorSns::default();
    let step = LoginStep::Transit(Stage::FullFeature);
    let request =
        pdu::LoginRequest::new(Isid([0, 2, 0x3d, 0, 0, 1]), Tsih::NEW, 0, 1, Stage::Operational, step, sns);
    let keys = "InitiatorName=iqn.2026-01.example:host\0TargetName=iqn.2026-01.example:disk\0InitialR2T=No\0\
                FirstBurstLength=1024\0MaxBurstLength=2048\0MaxOutstandingR2T=2\0";
    let mut stream = Vec::new();
    append_pdu(&mut stream, &request, keys.as_bytes(), Digests::default());
    assert!(world.receive(&stream) && world.connection.phase() == Phase::FullFeature);
    let mut initiator = Initiator::default();
    for chunk in bytes.chunks_exact(24) {
        let [kind, shape, tag, choice, data @ ..] = chunk else { break };
        stream.clear();
        initiator.request(&mut world.engine, *kind, *shape, *tag, data, &mut stream);
        if !world.receive(&stream) {
            break;
        }
        world.act(*choice);
    }
    world.end();
}

/// An initiator that mostly keeps to the protocol.
#[derive(Default)]
struct Initiator {
    cmd_sn: u32,
    /// Unsolicited bursts it announced: tag, and bytes sent so far.
    bursts: Vec<(u32, u32)>,
}

impl Initiator {
    fn request(
        &mut self,
        engine: &mut Engine,
        kind: u8,
        shape: u8,
        tag: u8,
        data: &[u8],
        stream: &mut Vec<u8>,
    ) {
        let immediate = shape & 0x40 != 0;
        let mut sns = InitiatorSns { cmd_sn: Sn(self.cmd_sn), exp_stat_sn: Sn(0) };
        if shape == 0xff {
            sns.cmd_sn = Sn(self.cmd_sn.wrapping_add(u32::from(tag)).wrapping_sub(128)); // lost count
        }
        let itt = u32::from(tag % 16);
        let lun = Lun([0, tag >> 7, 0, 0, 0, 0, 0, 0]);
        let long = data.repeat(usize::from(shape % 64));
        let mut header: Bhs = match kind % 16 {
            0 => pdu::NopOut::ping(itt, sns).into(),
            1 => pdu::TextRequest::new(itt, pdu::TextStep::Final, sns).into(),
            2 => {
                let function = pdu::TaskManagementFunction::try_from(shape % 14);
                let function = function.unwrap_or(pdu::TaskManagementFunction::AbortTask);
                let request = pdu::TaskManagementRequest::new(function, 99, lun, sns);
                request.with_reference(itt, Sn(u32::from(shape))).into()
            }
            3 if shape > 250 => pdu::LogoutRequest::close_session(itt, sns).into(),
            3 | 4 => pdu::NopOut::notify(sns).into(),
            5..=10 => return self.command(kind, shape, itt, lun, sns, &long, stream),
            _ => return self.data_out(engine, shape, &long, stream),
        };
        let immediate = immediate || header.immediate();
        header.0[0] |= if immediate { 0x40 } else { 0 };
        self.cmd_sn = self.cmd_sn.wrapping_add(u32::from(!immediate));
        let small =
            if kind % 16 == 1 { b"SendTargets=\0X=1\0" } else { &data[..usize::from(shape) % data.len()] };
        append(stream, header, small);
    }

    #[expect(clippy::too_many_arguments, reason = "one call, of the bytes that make a command")]
    fn command(
        &mut self,
        kind: u8,
        shape: u8,
        itt: u32,
        lun: Lun,
        sns: InitiatorSns,
        data: &[u8],
        stream: &mut Vec<u8>,
    ) {
        let command = ScsiCommand::new(itt, lun, pdu::TaskAttribute::Simple, &[shape; 16], sns);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        if kind.is_multiple_of(3) {
            return append(stream, command.reading(u32::from(shape) * 64).into(), &[]);
        }
        let (more, len) = (shape & 0x80 != 0, u32::from(shape) * 32);
        let data = if kind % 3 == 1 { &[] } else { &data[..data.len().min(len as usize).min(900)] };
        if more {
            self.bursts.push((itt, data.len() as u32));
        }
        append(stream, command.writing(len, more).into(), data);
    }

    /// Goes on with an unsolicited burst, or answers an R2T; rarely wrong.
    fn data_out(&mut self, engine: &mut Engine, shape: u8, data: &[u8], stream: &mut Vec<u8>) {
        let wrong = if shape == 0xff { 1 } else { 0 };
        if let Some((itt, sent)) = self.bursts.pop() {
            let data = &data[..data.len().min(100 + wrong * 2000)];
            let pdu = DataOut::unsolicited(itt, Lun::ZERO, Sn(0)).at(0, sent, true);
            return append(stream, pdu.into(), data);
        }
        if engine.r2ts.is_empty() {
            return;
        }
        let at = if shape % 32 == 31 { usize::from(shape) % engine.r2ts.len() } else { 0 };
        let r2t = engine.r2ts.remove(at);
        let len = r2t.desired_data_transfer_length() as usize + wrong;
        let (itt, tag) = (r2t.initiator_task_tag(), r2t.target_transfer_tag());
        let pdu = DataOut::solicited(itt, r2t.lun(), tag, Sn(0)).at(wrong as u32, r2t.buffer_offset(), true);
        append(stream, pdu.into(), &vec![0x5a; len]);
    }
}

fn append(stream: &mut Vec<u8>, mut header: Bhs, data: &[u8]) {
    header.set_data_segment_len(data.len() as u32);
    stream.extend_from_slice(&header.0);
    stream.extend_from_slice(data);
    stream.resize(stream.len().next_multiple_of(4), 0);
}
