//! One session with its one connection, without any I/O: bytes in, PDUs into the outbox, events out.
//!
//! ```text
//!   Login ──success──► FullFeature ──logout()──► Draining ──no command left──► LoggingOut ──response──► (ends)
//! ```

mod login;
mod negotiation;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use crate::client::SessionId;
use crate::command::{Completed, Outcome, Tasks};
use crate::config::{Negotiated, SessionConfig};
use crate::outbox::{NoHeaders, Outbox};
use crate::reason::Reason;
use login::Login;
use stampede_ring::Pool;
use stampede_wire::Sn;
use stampede_wire::frame::{Framer, FramerConfig};
use stampede_wire::pdu::InitiatorSns;
use std::sync::Arc;

/// The session's first CmdSN.
const FIRST_CMD_SN: Sn = Sn(1);
/// The tag of the logout: a place that the table of tasks never has.
const LOGOUT_TAG: u32 = 0xffff;

/// Where the session is.
#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    FullFeature,
    /// The logout is sent when the last command is over.
    Draining,
    LoggingOut,
}

/// What a session tells its connection.
#[derive(Debug)]
pub(crate) enum Signal<'a> {
    /// The target let us into the security stage's successor at this time.
    SecurityDone,
    /// The login is complete.
    LoggedIn,
    /// The target asks for a logout (RFC 7143 11.9.1).
    LogoutRequested,
    /// The logout is complete.
    LoggedOut,
    /// A command is over.
    Completed(Completed),
    /// A piece of what a streaming command reads.
    Data {
        /// The command's.
        tag: u64,
        /// Of the piece within what is read, bytes.
        offset: u32,
        /// As received.
        bytes: &'a [u8],
    },
}

/// What the PDU under way is for.
#[derive(Clone, Copy, Debug)]
enum Incoming {
    /// Its data segment is gathered.
    Gathered,
    /// Its data belongs to the task with this tag.
    ReadData { itt: u32 },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    config: Arc<SessionConfig>,
    phase: Phase,
    framer: Framer,
    pub(crate) outbox: Outbox,
    tasks: Tasks,
    negotiated: Negotiated,
    cmd_sn: Sn,
    exp_stat_sn: Sn,
    max_cmd_sn: Sn,
    incoming: Incoming,
    /// The data segment of the PDU under way, unless it is read data.
    segment: Vec<u8>,
    /// Pings of the target that were answered.
    pings: u64,
}

impl Session {
    /// A session that has its first login request to send, unless there is no memory for it.
    pub(crate) fn start(
        id: SessionId,
        config: Arc<SessionConfig>,
        headers: Arc<Pool>,
    ) -> (Self, Result<(), Reason>) {
        let mut session = Self {
            id,
            phase: Phase::Login(Box::new(Login::new())),
            framer: Framer::new(FramerConfig::login()),
            outbox: Outbox::new(headers),
            tasks: Tasks::new(config.depth),
            negotiated: Negotiated::before(&config),
            cmd_sn: FIRST_CMD_SN,
            exp_stat_sn: Sn(0),
            max_cmd_sn: FIRST_CMD_SN,
            incoming: Incoming::Gathered,
            segment: Vec::new(),
            pings: 0,
            config,
        };
        let begun = session.begin_login();
        (session, begun)
    }

    /// Whether a command can be sent now: the session stands, it has a free task and its window is open.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.stands() && !self.tasks.is_full() && self.cmd_sn.lte(self.max_cmd_sn)
    }

    /// Whether the target's window alone keeps commands from being sent.
    pub(crate) fn is_window_closed(&self) -> bool {
        !self.cmd_sn.lte(self.max_cmd_sn)
    }

    /// Commands under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// Pings of the target that were answered.
    pub(crate) fn pings(&self) -> u64 {
        self.pings
    }

    /// Whether commands may be sent, as far as the session's phase goes.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.phase, Phase::FullFeature)
    }

    pub(crate) fn is_logging_in(&self) -> bool {
        matches!(self.phase, Phase::Login(_))
    }

    pub(crate) fn is_logging_out(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::LoggingOut)
    }

    pub(crate) fn config(&self) -> &SessionConfig {
        &self.config
    }

    pub(crate) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Ends every command, since the session has.
    pub(crate) fn lose_all(&mut self, now_ns: u64, mut sink: impl FnMut(Completed)) {
        for itt in self.tasks.tags() {
            if let Some(completed) = self.tasks.finish(itt, self.id, Outcome::Lost, now_ns) {
                sink(completed);
            }
        }
    }

    fn sns(&self) -> InitiatorSns {
        InitiatorSns { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn }
    }
}

impl From<NoHeaders> for Reason {
    fn from(_: NoHeaders) -> Self {
        Self::NoHeaders
    }
}
