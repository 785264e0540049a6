//! A session with its socket: when what happened, and how it ends.

use crate::client::{Event, SessionId};
use crate::command::ReadSink;
use crate::reason::{Ending, Reason};
use crate::session::{Session, Signal};
use stampede_ring::SocketId;

/// How long the stages of a login took, nanoseconds. Each begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoginTimes {
    /// Until the connection stood and the first request was with the kernel.
    pub connect_ns: u64,
    /// The security stage.
    pub security_ns: u64,
    /// The operational stage, until the final response.
    pub operational_ns: u64,
}

impl LoginTimes {
    /// All of it.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.connect_ns + self.security_ns + self.operational_ns
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) socket: SocketId,
    /// A receive is under way.
    pub(crate) receiving: bool,
    /// It is in the client's list of those that have something to send.
    pub(crate) is_dirty: bool,
    /// It is being closed, and why.
    pub(crate) closing: Option<Ending>,
    /// The start of the stage under way: of the login, or of the logout.
    stage_since_ns: u64,
    /// The start of the login or of the logout.
    since_ns: u64,
    /// When something came last, or when a command was sent and none was waiting.
    active_ns: u64,
    times: LoginTimes,
}

impl Connection {
    pub(crate) fn new(id: SessionId, session: Session, socket: SocketId, now_ns: u64) -> Self {
        Self {
            id,
            session,
            socket,
            receiving: false,
            is_dirty: false,
            closing: None,
            stage_since_ns: now_ns,
            since_ns: now_ns,
            active_ns: now_ns,
            times: LoginTimes::default(),
        }
    }

    /// The first send went: the connection stands.
    pub(crate) fn connected(&mut self, now_ns: u64) {
        if self.times.connect_ns == 0 {
            self.times.connect_ns = now_ns.saturating_sub(self.stage_since_ns).max(1);
            self.stage_since_ns = now_ns;
        }
    }

    /// A command is about to be sent.
    #[inline]
    pub(crate) fn submitting(&mut self, now_ns: u64) {
        if self.session.in_flight() == 0 {
            self.active_ns = now_ns;
        }
    }

    pub(crate) fn logout(&mut self, now_ns: u64) -> Result<(), Reason> {
        self.since_ns = now_ns;
        self.session.logout()
    }

    /// Takes received bytes in; an ending when the session is over.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        events: &mut Vec<Event>,
        data: &mut dyn ReadSink,
    ) -> Option<Ending> {
        self.active_ns = now_ns;
        let (id, mut logged_out) = (self.id, false);
        let (times, since) = (&mut self.times, &mut self.stage_since_ns);
        let result = self.session.receive(bytes, now_ns, &mut |signal| match signal {
            Signal::Completed(completed) => events.push(Event::Completed(completed)),
            Signal::Data { tag, offset, bytes } => data.data(id, tag, offset, bytes),
            Signal::SecurityDone => {
                times.security_ns = now_ns.saturating_sub(*since);
                *since = now_ns;
            }
            Signal::LoggedIn => {
                times.operational_ns = now_ns.saturating_sub(*since);
                events.push(Event::LoggedIn { session: id, times: *times });
            }
            Signal::LogoutRequested => events.push(Event::LogoutRequested { session: id }),
            Signal::LoggedOut => logged_out = true,
        });
        match result {
            _ if logged_out => Some(Ending::LoggedOut),
            Err(reason) => Some(Ending::Lost(reason)),
            Ok(()) => None,
        }
    }

    /// Why the session is given up by now, if it is.
    pub(crate) fn overdue(&self, now_ns: u64) -> Option<Reason> {
        const NS_PER_S: u64 = 1_000_000_000;
        let config = self.session.config();
        let (login, silence) = (config.login_timeout_ns, config.silence_timeout_ns);
        let since = now_ns.saturating_sub(self.since_ns);
        if self.session.is_logging_in() {
            return (since > login).then_some(Reason::LoginTimeout(login / NS_PER_S));
        }
        if self.session.is_logging_out() {
            return (since > login).then_some(Reason::LogoutTimeout(login / NS_PER_S));
        }
        let silent = self.session.in_flight() > 0 && now_ns.saturating_sub(self.active_ns) > silence;
        silent.then_some(Reason::Silent(silence / NS_PER_S))
    }
}
