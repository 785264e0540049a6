//! A small iSCSI initiator for tests: one session of one connection, error recovery level 0.
//!
//! ```text
//!   connect() -> Login --> FullFeature --logout()--> LoggingOut --> Idle
//!                  |            |                        |
//!                  +------------+---- connection lost ---+--> Idle (Disconnected)
//! ```
//!
//! A test calls [`Initiator::poll`] whenever it is the initiator's turn: it sends what fits, reads what has come,
//! answers R2Ts and pings, and reports what ended. Whatever the target does against RFC 7143 is noted as a
//! [`Violation`]; a test asserts that there are none.
//!
//! PDUs are built and read by byte offsets of RFC 7143 section 11, on purpose without crate `stampede-wire`: a
//! mistake in its layouts would otherwise cancel out.

pub mod cdb;
mod config;
mod frame;
mod login;
mod receive;
mod report;
mod send;
mod task;

pub use config::InitiatorConfig;
pub use report::{Done, Report, Residual, Violation, ViolationKind};
pub use task::{Command, Tag, Transfer};

use crate::client::{ClientId, ClientStatus};
use crate::world::SimWorld;
use config::Negotiated;
use frame::{Framer, Header};
use login::LoginStep;
use std::collections::{BTreeMap, VecDeque};
use task::Task;

/// The tag that means "no tag".
pub(crate) const NO_TAG: u32 = u32::MAX;

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// No connection.
    Idle,
    /// Connected and logging in.
    Login,
    /// Logged in.
    FullFeature,
    /// Waiting for the answer to a Logout.
    LoggingOut,
}

/// An initiator.
pub struct Initiator {
    world: SimWorld,
    config: InitiatorConfig,
    state: SessionState,
    step: LoginStep,
    client: Option<ClientId>,
    /// Connections made so far; gives each its own port.
    connections: u16,
    framer: Framer,
    /// Bytes to send, and how many were ever queued and sent.
    outgoing: VecDeque<u8>,
    queued: u64,
    sent: u64,
    negotiated: Negotiated,
    tsih: u16,
    cmd_sn: u32,
    exp_stat_sn: u32,
    /// The target's window as last seen; `None` before the login's first response.
    window: Option<Window>,
    next_tag: u32,
    tasks: BTreeMap<Tag, Task>,
    reports: Vec<Report>,
    violations: Vec<Violation>,
    rng: fastrand::Rng,
}

/// ExpCmdSN and MaxCmdSN of the target.
#[derive(Clone, Copy, Debug)]
struct Window {
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
}

/// Whether serial number `a` comes before `b` (RFC 1982).
fn before(a: u32, b: u32) -> bool {
    let ahead = b.wrapping_sub(a);
    ahead != 0 && ahead < 1 << 31
}

impl Initiator {
    /// An initiator without a connection. `seed` draws its choices (tags, how much unsolicited data it sends).
    pub fn new(world: SimWorld, config: InitiatorConfig, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x1517);
        Self {
            world,
            negotiated: Negotiated::offered(&config),
            framer: Framer::new(),
            state: SessionState::Idle,
            step: LoginStep::default(),
            client: None,
            connections: 0,
            outgoing: VecDeque::new(),
            queued: 0,
            sent: 0,
            tsih: 0,
            cmd_sn: rng.u32(..),
            exp_stat_sn: 0,
            window: None,
            next_tag: rng.u32(..0x1000),
            tasks: BTreeMap::new(),
            reports: Vec::new(),
            violations: Vec::new(),
            rng,
            config,
        }
    }

    /// The configuration, which applies from the next login on.
    pub fn config_mut(&mut self) -> &mut InitiatorConfig {
        &mut self.config
    }

    /// Where the session stands.
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The connection, while there is one.
    pub fn client(&self) -> Option<ClientId> {
        self.client
    }

    /// The session's TSIH once logged in; 0 before.
    pub fn tsih(&self) -> u16 {
        self.tsih
    }

    /// Commands that have no status yet, oldest tag first.
    pub fn outstanding(&self) -> Vec<Tag> {
        self.tasks.keys().copied().collect()
    }

    /// Whether [`Initiator::command`] would take a command now: logged in, the window open, the queue not full.
    pub fn has_room(&self) -> bool {
        let open = self.window.is_some_and(|window| !before(window.max_cmd_sn, self.cmd_sn));
        self.state == SessionState::FullFeature && open && self.tasks.len() < self.config.queue_depth
    }

    /// Expects no status for this command any more: a unit attention said that it was dropped.
    pub fn forget(&mut self, tag: Tag) {
        self.tasks.remove(&tag);
    }

    /// What the target did against the standard since the last call.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Connects and begins to log in. A connection that still exists is forgotten as it is (the target may still
    /// believe in it: session reinstatement). `false` when nobody listens.
    pub fn connect(&mut self) -> bool {
        self.lose(false);
        let mut address = self.config.address;
        address.set_port(address.port().wrapping_add(self.connections));
        self.connections = self.connections.wrapping_add(1);
        self.client = match self.config.shard {
            Some(shard) => self.world.connect_to_shard(address, self.config.portal, shard),
            None => self.world.connect(address, self.config.portal),
        };
        if self.client.is_some() {
            self.begin_login();
        }
        self.client.is_some()
    }

    /// Sends, receives, and reports what ended.
    pub fn poll(&mut self) -> Vec<Report> {
        self.flush();
        let Some(client) = self.client else { return std::mem::take(&mut self.reports) };
        let bytes = self.world.client_recv_some(client, self.config.read_most.unwrap_or(usize::MAX));
        self.framer.feed(&bytes);
        self.consume();
        self.flush();
        if self.client == Some(client) && self.world.client_status(client) != ClientStatus::Open {
            // What arrived before the end still counts.
            let rest = self.world.client_recv(client);
            self.framer.feed(&rest);
            self.consume();
            self.lose(true);
        }
        std::mem::take(&mut self.reports)
    }

    /// Closes the connection without a logout (FIN).
    pub fn close(&mut self) {
        if let Some(client) = self.client {
            self.world.client_close(client);
        }
        self.lose(true);
    }

    /// Resets the connection (RST).
    pub fn reset(&mut self) {
        if let Some(client) = self.client {
            self.world.client_reset(client);
        }
        self.lose(true);
    }

    /// Vanishes: the connection stays as it is, but nobody reads or answers any more.
    pub fn vanish(&mut self) -> Option<ClientId> {
        let client = self.client;
        self.lose(true);
        client
    }

    /// Sends raw bytes, for what a well-behaved initiator would never send.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.queue(bytes);
        self.flush();
    }

    /// The connection is no more; reports it if asked.
    fn lose(&mut self, report: bool) {
        let had = self.client.take().is_some();
        let outstanding: Vec<Tag> = std::mem::take(&mut self.tasks).into_keys().collect();
        if had && (report || !outstanding.is_empty()) {
            self.reports.push(Report::Disconnected { outstanding });
        }
        self.state = SessionState::Idle;
        self.framer = Framer::new();
        self.outgoing.clear();
        self.sent = self.queued;
        self.window = None;
        self.tsih = 0;
    }

    fn violation(&mut self, kind: ViolationKind, detail: impl Into<String>) {
        self.violations.push(Violation { kind, detail: detail.into() });
    }

    fn check(&mut self, right: bool, kind: ViolationKind, detail: impl FnOnce() -> String) -> bool {
        if !right {
            self.violation(kind, detail());
        }
        right
    }

    /// Lets complete PDUs take effect.
    fn consume(&mut self) {
        while self.client.is_some() {
            match self.framer.next() {
                Ok(Some((header, data))) => self.receive(&header, &data),
                Ok(None) => return,
                Err(violation) => {
                    self.violations.push(violation);
                    return self.reset();
                }
            }
        }
    }

    fn receive(&mut self, header: &Header, data: &[u8]) {
        match self.state {
            SessionState::Login => self.receive_login(header, data),
            SessionState::FullFeature | SessionState::LoggingOut => self.receive_full_feature(header, data),
            SessionState::Idle => {}
        }
    }
}
