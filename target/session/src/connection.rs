//! One connection, which is one session.

use std::{net::SocketAddr, sync::Arc};

use stampede_wire::{
    Bhs, Lun,
    frame::Header,
    pdu::{self, Pdu},
};

use crate::{
    Admission, Announcement, Claim, Close, CommandResult, LoginRequest, LoginStatus, ManagementId,
    ManagementResponse, Output, SessionId, SessionInfo, Settings, Task, TaskKey, Violation, ViolationKind,
    full_feature::{FullFeature, Life},
    login::{Login, Progress},
};

/// What the engine grants with the header of a SCSI Command; ignored with other PDUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataGrant {
    /// Bytes of Data-Out the target wants for this command, at most its Expected Data Transfer Length (more is
    /// cut). Bytes beyond are taken off the wire and dropped.
    pub wanted: u32,
}

/// Where the payload of the PDU just begun goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// There is none.
    None,
    /// Into a buffer that is passed to `end_pdu`; its length is DataSegmentLength, which is within bounds.
    Collect,
    /// Into the task's buffer.
    Task {
        /// Whose.
        task: TaskKey,
        /// Where the first byte goes.
        offset: u32,
        /// Bytes to store, at most DataSegmentLength; what follows them is dropped.
        len: u32,
    },
    /// Nowhere: taken off the wire and dropped.
    Discard,
}

/// The phases of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Login requests are being exchanged.
    Login,
    /// The login is done but for the decision ([`Output::admit`]).
    Deciding,
    /// Full-feature phase.
    FullFeature,
    /// A Logout Request came; the Logout Response waits for the last task.
    LoggingOut,
    /// No PDU is taken or sent any more.
    Closed,
}

/// One connection of an initiator, which is one session (MaxConnections = 1).
#[derive(Debug)]
pub struct Connection {
    session: SessionId,
    settings: Arc<Settings>,
    local: SocketAddr,
    peer: SocketAddr,
    accepted_ns: u64,
    heard_ns: u64,
    state: State,
}

/// The state of a connection, with what only that state has.
#[derive(Debug)]
enum State {
    /// Login.
    Login(Box<Login>),
    /// The login waits for [`Connection::admitted`].
    Deciding(Box<Login>),
    /// Full-feature phase, also after its end as long as tasks are left.
    Session(Box<FullFeature>),
    /// The login failed; with what it had said.
    Closed(Option<Box<Login>>),
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(
        session: SessionId,
        settings: Arc<Settings>,
        local: SocketAddr,
        peer: SocketAddr,
        now_ns: u64,
    ) -> Self {
        let state = State::Login(Box::default());
        Self { session, settings, local, peer, accepted_ns: now_ns, heard_ns: now_ns, state }
    }

    /// A PDU's header has arrived, its header digest was right. Says where its payload goes. A PDU without payload acts
    /// at once.
    ///
    /// # Errors
    /// The peer broke the protocol: drop the connection once what is queued is sent.
    pub fn begin_pdu(
        &mut self,
        header: &Header,
        grant: DataGrant,
        now_ns: u64,
        out: &mut impl Output,
    ) -> Result<Disposition, Violation> {
        self.heard_ns = self.heard_ns.max(now_ns);
        match &mut self.state {
            State::Session(session) => session.begin(header, grant, out),
            _ => self.begin_before(header.bhs(), out),
        }
    }

    /// A PDU before the full-feature phase.
    #[inline(never)]
    fn begin_before(&mut self, bhs: &Bhs, out: &mut impl Output) -> Result<Disposition, Violation> {
        let len = bhs.data_segment_len();
        match &self.state {
            State::Login(_) if bhs.try_view::<pdu::LoginRequest>().is_none() => {
                Err(Violation::by(ViolationKind::NotALogin, bhs))
            }
            State::Login(_) if len > self.settings.text_bytes_max => {
                Err(Violation::by(ViolationKind::SegmentTooLong, bhs))
            }
            State::Login(_) if len == 0 => {
                self.login_request(bhs, &[], out);
                Ok(Disposition::None)
            }
            State::Login(_) => Ok(Disposition::Collect),
            State::Deciding(_) => Err(Violation::by(ViolationKind::Impatient, bhs)),
            State::Session(_) | State::Closed(_) => Ok(Disposition::Discard),
        }
    }

    /// The PDU just begun, by this `header`, is complete; only now it acts. `collected` is its payload if that was to
    /// be collected. Does nothing for a PDU without payload, which has acted.
    ///
    /// # Errors
    /// As [`Connection::begin_pdu`].
    pub fn end_pdu(
        &mut self,
        header: &Header,
        collected: &[u8],
        data_digest_ok: bool,
        now_ns: u64,
        out: &mut impl Output,
    ) -> Result<(), Violation> {
        if header.bhs().data_segment_len() == 0 {
            return Ok(());
        }
        self.heard_ns = self.heard_ns.max(now_ns);
        match &mut self.state {
            State::Session(session) => session.end(header, collected, data_digest_ok, out),
            _ => {
                self.login_request(header.bhs(), collected, out);
                Ok(())
            }
        }
    }

    fn login_request(&mut self, bhs: &Bhs, text: &[u8], out: &mut impl Output) {
        let State::Login(login) = &mut self.state else { return };
        match login.receive(pdu::LoginRequest::from_bhs(bhs), text, &self.settings, out) {
            Progress::Answered => {}
            Progress::Refused(status) => {
                self.state = State::Closed(Some(std::mem::take(login)));
                out.close(Close::LoginRefused(status));
            }
            Progress::Redirected => {
                self.state = State::Closed(None);
                out.close(Close::Redirected);
            }
            Progress::Ready => {
                let login = std::mem::take(&mut **login);
                self.decide(login, out);
            }
        }
    }

    /// A discovery session is admitted at once; it gets a TSIH of its own making, which nobody can join.
    fn decide(&mut self, login: Login, out: &mut impl Output) {
        let (isid, tsih, cid) = login.identity();
        let Some(target) = login.names().wanted() else {
            if tsih != 0 {
                return self.refuse(&login, LoginStatus::SessionDoesNotExist, out);
            }
            // 1 to 65,535.
            let tsih = (self.session.0 % u64::from(u16::MAX)) as u16 + 1;
            return self.enter(login, tsih, out);
        };
        let (stage, fingerprint) = login.boot_stage(&self.settings);
        let request = LoginRequest {
            session: self.session,
            initiator: login.names().initiator().to_owned(),
            alias: login.names().alias().map(str::to_owned),
            target: target.to_owned(),
            user: login.user().map(str::to_owned),
            isid,
            tsih,
            cid,
            stage,
            fingerprint,
            peer: self.peer,
            local: self.local,
        };
        self.state = State::Deciding(Box::new(login));
        out.admit(request);
    }

    /// Answers [`Output::admit`]. Ignored in any other phase than [`Phase::Deciding`].
    pub fn admitted(&mut self, admission: Admission, now_ns: u64, out: &mut impl Output) {
        let _ = now_ns;
        let State::Deciding(login) = &mut self.state else { return };
        let login = std::mem::take(&mut **login);
        match admission {
            Admission::Allow { tsih } if tsih != 0 => self.enter(login, tsih, out),
            Admission::Allow { .. } => self.refuse(&login, LoginStatus::TargetError, out),
            Admission::Refuse { status } => self.refuse(&login, status, out),
            Admission::Redirect(to) => {
                login.redirect(&to, out);
                self.state = State::Closed(None);
                out.close(Close::Redirected);
            }
        }
    }

    fn refuse(&mut self, login: &Login, status: LoginStatus, out: &mut impl Output) {
        login.refuse(status, out);
        self.state = State::Closed(None);
        out.close(Close::LoginRefused(status));
    }

    /// Sends the last Login Response and begins the full-feature phase.
    fn enter(&mut self, login: Login, tsih: u16, out: &mut impl Output) {
        let (isid, _, cid) = login.identity();
        let (stage, fingerprint) = login.boot_stage(&self.settings);
        let names = login.names();
        let info = SessionInfo {
            session: self.session,
            kind: names.kind(),
            initiator: names.initiator().to_owned(),
            alias: names.alias().map(str::to_owned),
            target: names.wanted().map(str::to_owned),
            user: login.user().map(str::to_owned),
            isid,
            tsih,
            cid,
            stage,
            fingerprint,
            peer: self.peer,
            local: self.local,
            parameters: login.parameters(),
        };
        let Some(numbers) = login.finish(tsih, out) else {
            self.state = State::Closed(None);
            return;
        };
        out.digests(info.parameters.header_digest, info.parameters.data_digest);
        out.full_feature(&info);
        self.state = State::Session(Box::new(FullFeature::new(Arc::clone(&self.settings), info, numbers)));
    }

    /// The task of this key, if it is still in the table.
    #[must_use]
    #[inline]
    pub fn task(&self, task: TaskKey) -> Option<&Task> {
        self.full_feature()?.tasks().at(task)
    }

    /// A command has ended: sends its data and status, frees its slot and opens the window. A killed task is only
    /// forgotten. A dead key is ignored.
    pub fn respond(&mut self, task: TaskKey, result: &CommandResult<'_>, now_ns: u64, out: &mut impl Output) {
        let _ = now_ns;
        if let State::Session(session) = &mut self.state {
            session.respond(task, result, out);
        }
    }

    /// The I/O of a killed task is over: frees its slot. A dead key is ignored.
    pub fn forget(&mut self, task: TaskKey) {
        if let State::Session(session) = &mut self.state {
            session.forget(task);
        }
    }

    /// Another session's task management (CLEAR TASK SET, a reset) covers tasks of this one: kills those on `lun`
    /// (all, if `None`). Those that were collecting data are released; those that run are marked killed. Their
    /// initiator gets no status; it learns by a unit attention, and where TaskReporting=FastAbort was agreed on by an
    /// Asynchronous Message.
    pub fn kill(&mut self, lun: Option<Lun>, out: &mut impl Output) {
        if let State::Session(session) = &mut self.state {
            session.kill_for_other(lun, out);
        }
    }

    /// Answers [`Output::manage`]: sends the response. An unknown id is ignored.
    pub fn managed(
        &mut self,
        id: ManagementId,
        response: ManagementResponse,
        now_ns: u64,
        out: &mut impl Output,
    ) {
        let _ = now_ns;
        if let State::Session(session) = &mut self.state {
            session.managed(id, response, out);
        }
    }

    /// Pings the initiator by NOP-In, unless a ping is under way or the session is not in the full-feature phase.
    pub fn ping(&mut self, now_ns: u64, out: &mut impl Output) {
        if let State::Session(session) = &mut self.state {
            session.ping(now_ns, out);
        }
    }

    /// Whether a whole Login Request has come: who connects and says nothing, or says it a byte at a time, has not spoken.
    #[must_use]
    pub fn has_spoken(&self) -> bool {
        match &self.state {
            State::Login(login) => login.has_begun(),
            State::Deciding(_) | State::Session(_) | State::Closed(_) => true,
        }
    }

    /// When the last PDU (or part of one) came.
    #[must_use]
    pub fn last_heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Whether the initiator answers pings; `None` until it was tried.
    #[must_use]
    pub fn answers_pings(&self) -> Option<bool> {
        self.full_feature()?.answers_pings()
    }

    /// Tells the initiator something by an Asynchronous Message (RFC 7143 11.9). Ignored outside of the full-feature phase.
    pub fn announce(&mut self, what: Announcement, now_ns: u64, out: &mut impl Output) {
        if let State::Session(session) = &mut self.state {
            session.announce(what, now_ns, out);
        }
    }

    /// The engine's back-pressure: commands the session may have in the target at once; 0 closes the window as far
    /// as promises already made allow. MaxCmdSN never moves back. When a closed window reopens, the initiator is
    /// told by NOP-In.
    pub fn set_window(&mut self, commands: u16, out: &mut impl Output) {
        if let State::Session(session) = &mut self.state {
            session.set_window(commands, out);
        }
    }

    /// When [`Connection::tick`] wants to be called next; 0 means at once.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        match &self.state {
            State::Login(..) => Some(self.accepted_ns.saturating_add(self.settings.login_timeout_ns)),
            State::Session(session) => session.deadline_ns(self.heard_ns),
            State::Deciding(_) | State::Closed(_) => None,
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// A time limit of the peer's is over: drop the connection.
    pub fn tick(&mut self, now_ns: u64, out: &mut impl Output) -> Result<(), Violation> {
        match &mut self.state {
            State::Login(..) if now_ns.saturating_sub(self.accepted_ns) >= self.settings.login_timeout_ns => {
                Err(Violation::new(ViolationKind::LoginTimeout))
            }
            State::Session(session) => session.tick(now_ns, self.heard_ns, out),
            State::Login(..) | State::Deciding(_) | State::Closed(_) => Ok(()),
        }
    }

    /// The TCP connection is gone, or is being dropped: tasks collecting data are released, the others are marked
    /// killed, and nothing is sent any more.
    pub fn disconnect(&mut self, out: &mut impl Output) {
        match &mut self.state {
            State::Session(session) => session.disconnect(out),
            State::Closed(_) => {}
            state => *state = State::Closed(None),
        }
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Login(..) => Phase::Login,
            State::Deciding(_) => Phase::Deciding,
            State::Session(session) => match session.life() {
                Life::Active => Phase::FullFeature,
                Life::LoggingOut => Phase::LoggingOut,
                Life::Over => Phase::Closed,
            },
            State::Closed(_) => Phase::Closed,
        }
    }

    /// What a login had said that was refused before a decision was asked for.
    #[must_use]
    pub fn refused(&self) -> Option<Claim<'_>> {
        match &self.state {
            State::Closed(Some(login)) => Some(login.claim()),
            _ => None,
        }
    }

    /// The engine's number of this connection.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session, from the full-feature phase on.
    #[must_use]
    pub fn info(&self) -> Option<&SessionInfo> {
        Some(self.full_feature()?.info())
    }

    /// The keys of all tasks, by index. What was killed and released is none, though its data may still be on its way.
    pub fn tasks(&self) -> impl Iterator<Item = TaskKey> + '_ {
        let lives = |session: &FullFeature, key: TaskKey| {
            session.tasks().at(key).is_some_and(|task| !task.is_draining())
        };
        self.full_feature()
            .into_iter()
            .flat_map(move |session| session.tasks().keys().filter(move |key| lives(session, *key)))
    }

    /// How many those are.
    #[must_use]
    pub fn tasks_len(&self) -> usize {
        self.full_feature().map_or(0, FullFeature::tasks_len)
    }

    /// Gives back memory that a connection which does nothing needs not hold: it grows again with use.
    pub fn shrink(&mut self) {
        if let State::Session(session) = &mut self.state {
            session.shrink();
        }
    }

    /// Slots of the task table, from the full-feature phase on: every [`TaskKey::index`] is below it.
    #[must_use]
    pub fn tasks_max(&self) -> usize {
        self.full_feature().map_or(0, |session| session.tasks().capacity())
    }

    #[inline]
    fn full_feature(&self) -> Option<&FullFeature> {
        match &self.state {
            State::Session(session) => Some(session),
            State::Login(..) | State::Deciding(_) | State::Closed(_) => None,
        }
    }
}
