//! What the operator wants: one [`Config`], from a TOML file, from flags, or from both.
//!
//! ```text
//!   TOML file ──read──► Partial ─┐
//!                                ├─merge (flags win; targets add up)─► Partial ──finish──► Config
//!   flags ────────────► Partial ─┘
//! ```

mod auth;
mod check;
mod cores;
mod error;
mod file;
mod name;
mod print;
mod target;
mod values;

pub use auth::{Algorithm, ChapConfig, PortalAddress, RedirectConfig};
pub use check::{IscsiTarget, iscsi_targets};
pub use cores::{Cores, Numa};
pub use error::{ConfigError, Origin};
pub use file::read;
pub use name::{IscsiName, NAMING_AUTHORITY};
pub use target::{GRACE_DEFAULT, HOLD_DEFAULT, LUN_MAX, TargetConfig};
pub use values::{
    AluaRule, AuthMethod, ByteSize, CloneKind, Encryption, IrqAffinity, LogFormat, OnLost, Period, StageRule,
    SteeringMode, ValueError, WarmRule,
};

use serde::{Deserialize, Serialize};
use stampede_session::ChapAlgorithm;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The port that IANA gave iSCSI.
pub const ISCSI_PORT: u16 = 3260;

/// The most sessions: each has a TSIH of its own, and 0 is none (RFC 7143 11.12.6).
pub const SESSIONS_MAX: u32 = 65_535;

/// What was written in one place: everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// Addresses to listen on; empty when not given.
    pub listen: Vec<SocketAddr>,
    /// Cores with a shard each.
    pub cores: Option<Cores>,
    /// The control thread's core.
    pub control_core: Option<u16>,
    /// What NUMA nodes mean.
    pub numa: Option<Numa>,
    /// How new connections find their shard.
    pub steering: Option<SteeringMode>,
    /// Busy polling.
    pub busy_poll: Option<u32>,
    /// Interrupts of network cards.
    pub irq_affinity: Option<IrqAffinity>,
    /// Memory for ephemeral clones.
    pub arena: Option<ByteSize>,
    /// A folder on a tmpfs for what clones have, to outlive the process.
    pub arena_dir: Option<PathBuf>,
    /// A file or device that clones spill to.
    pub scratch: Option<PathBuf>,
    /// How much of it.
    pub scratch_size: Option<ByteSize>,
    /// Memory for blocks of goldens.
    pub cache: Option<ByteSize>,
    /// What is read into it at the start.
    pub warm: Option<WarmRule>,
    /// I/O buffers per shard.
    pub buffers: Option<ByteSize>,
    /// Where the state store lives.
    pub state_dir: Option<PathBuf>,
    /// The control socket.
    pub control: Option<PathBuf>,
    /// From accept to the end of login.
    pub login_timeout: Option<Period>,
    /// From the first signal to the forced end of sessions.
    pub drain_timeout: Option<Period>,
    /// How long an initiator may be silent before it is asked for a sign of life.
    pub nop_interval: Option<Period>,
    /// Bounds.
    pub limits: PartialLimits,
    /// Filter of log lines.
    pub log: Option<String>,
    /// Form of log lines.
    pub log_format: Option<LogFormat>,
    /// What initiators must prove.
    pub auth: Option<AuthMethod>,
    /// What they must prove for discovery.
    pub discovery_auth: Option<AuthMethod>,
    /// Algorithms of CHAP.
    pub chap_algorithms: Option<Vec<Algorithm>>,
    /// Users, each with the place where it was written.
    pub chap: Vec<(Origin, ChapConfig)>,
    /// As whom targets prove themselves, each with its place.
    pub chap_mutual: Vec<(Origin, ChapConfig)>,
    /// Redirected targets, each with its place.
    pub redirects: Vec<(Origin, RedirectConfig)>,
    /// Targets, each with the place where it was written.
    pub targets: Vec<(Origin, TargetConfig)>,
}

/// Bounds, as far as they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartialLimits {
    /// See [`Limits::connections`].
    pub connections: Option<u32>,
    /// See [`Limits::commands`].
    pub commands: Option<u16>,
    /// See [`Limits::clones`].
    pub clones: Option<u32>,
    /// See [`Limits::logins`].
    pub logins: Option<u32>,
    /// See [`Limits::admissions`].
    pub admissions: Option<u32>,
    /// See [`Limits::sessions`].
    pub sessions: Option<u32>,
}

/// Bounds on what initiators may use: as they are configured, and as status shows them. The default is none yet, all zeros;
/// what holds unless configured is said by [`Partial::finish`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Sessions of one shard with targets, those whose login is being decided included.
    pub connections: u32,
    /// Commands of one session at once: its command window.
    pub commands: u16,
    /// Ephemeral clones of one target, in use or held.
    pub clones: u32,
    /// Connections of one shard that are no session with a target: those that log in, and discovery.
    pub logins: u32,
    /// Logins that are being admitted at once, on all shards; further ones wait for their turn.
    pub admissions: u32,
    /// Sessions with targets at once, on all shards.
    pub sessions: u32,
}

/// The effective configuration: everything has a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Cores with a shard each.
    pub cores: Cores,
    /// The control thread's core; `None` has it chosen.
    pub control_core: Option<u16>,
    /// What NUMA nodes mean for cores and memory.
    pub numa: Numa,
    /// How new connections find their shard.
    pub steering: SteeringMode,
    /// How long a shard polls for the next command before it sleeps, at most, in microseconds; 0 never polls.
    pub busy_poll: u32,
    /// What is done about the interrupts of network cards' queues.
    pub irq_affinity: IrqAffinity,
    /// Memory for ephemeral clones, in all.
    pub arena: ByteSize,
    /// A folder on a tmpfs for what clones have, so that it outlives the process; `None` leaves it to the service manager, if
    /// there is one.
    pub arena_dir: Option<PathBuf>,
    /// A file or device that clones spill to when the arena runs full; `None` for none.
    pub scratch: Option<PathBuf>,
    /// How much of it; `None` for all of what there is.
    pub scratch_size: Option<ByteSize>,
    /// Memory for blocks of goldens that are not in memory anyway, in all; 0 for none.
    pub cache: ByteSize,
    /// What is read into it at the start.
    pub warm: WarmRule,
    /// I/O buffers of each shard.
    pub buffers: ByteSize,
    /// Where the state store lives; `None` keeps it in memory.
    pub state_dir: Option<PathBuf>,
    /// The control socket.
    pub control: PathBuf,
    /// From accept to the end of login.
    pub login_timeout: Period,
    /// From the first signal to the forced end of sessions.
    pub drain_timeout: Period,
    /// How long an initiator may be silent before it is asked for a sign of life; 0 never asks.
    pub nop_interval: Period,
    /// Bounds.
    pub limits: Limits,
    /// Filter of log lines, as `RUST_LOG` writes it.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// What initiators must prove, for targets that do not say.
    pub auth: AuthMethod,
    /// What they must prove for a discovery session.
    pub discovery_auth: AuthMethod,
    /// Algorithms of CHAP, the one that is preferred first.
    pub chap_algorithms: Vec<Algorithm>,
    /// Users that may log in by CHAP.
    #[serde(skip)]
    pub chap: Vec<ChapConfig>,
    /// As whom targets prove themselves to initiators that ask.
    #[serde(skip)]
    pub chap_mutual: Vec<ChapConfig>,
    /// Targets that initiators are sent elsewhere for.
    #[serde(rename = "redirect")]
    pub redirects: Vec<RedirectConfig>,
    /// Targets in the order written, the file's first.
    #[serde(rename = "target")]
    pub targets: Vec<TargetConfig>,
}

impl Partial {
    /// Both together: `over` wins where both say something, and its targets come after ours.
    #[must_use]
    pub fn merge(mut self, over: Self) -> Self {
        self.targets.extend(over.targets);
        self.chap.extend(over.chap);
        self.chap_mutual.extend(over.chap_mutual);
        self.redirects.extend(over.redirects);
        Self {
            listen: if over.listen.is_empty() { self.listen } else { over.listen },
            cores: over.cores.or(self.cores),
            control_core: over.control_core.or(self.control_core),
            numa: over.numa.or(self.numa),
            steering: over.steering.or(self.steering),
            busy_poll: over.busy_poll.or(self.busy_poll),
            irq_affinity: over.irq_affinity.or(self.irq_affinity),
            arena: over.arena.or(self.arena),
            arena_dir: over.arena_dir.or(self.arena_dir),
            scratch: over.scratch.or(self.scratch),
            scratch_size: over.scratch_size.or(self.scratch_size),
            cache: over.cache.or(self.cache),
            warm: over.warm.or(self.warm),
            buffers: over.buffers.or(self.buffers),
            state_dir: over.state_dir.or(self.state_dir),
            control: over.control.or(self.control),
            login_timeout: over.login_timeout.or(self.login_timeout),
            drain_timeout: over.drain_timeout.or(self.drain_timeout),
            nop_interval: over.nop_interval.or(self.nop_interval),
            limits: PartialLimits {
                connections: over.limits.connections.or(self.limits.connections),
                commands: over.limits.commands.or(self.limits.commands),
                clones: over.limits.clones.or(self.limits.clones),
                logins: over.limits.logins.or(self.limits.logins),
                admissions: over.limits.admissions.or(self.limits.admissions),
                sessions: over.limits.sessions.or(self.limits.sessions),
            },
            log: over.log.or(self.log),
            log_format: over.log_format.or(self.log_format),
            auth: over.auth.or(self.auth),
            discovery_auth: over.discovery_auth.or(self.discovery_auth),
            chap_algorithms: over.chap_algorithms.or(self.chap_algorithms),
            chap: self.chap,
            chap_mutual: self.chap_mutual,
            redirects: self.redirects,
            targets: self.targets,
        }
    }

    /// Fills in the defaults and checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// The first mistake found, with its place.
    pub fn finish(self) -> Result<Config, ConfigError> {
        check::something_to_serve(&self.targets)?;
        self.effective()
    }

    /// The same, but there need not be any target.
    ///
    /// # Errors
    /// As [`Partial::finish`].
    pub fn effective(self) -> Result<Config, ConfigError> {
        check::targets(&self.targets)?;
        // Whoever names users wants them to be asked for.
        let by_users = if self.chap.is_empty() { AuthMethod::None } else { AuthMethod::Chap };
        let auth = self.auth.unwrap_or(by_users);
        check::authentication(&self, auth)?;
        let listen = match self.listen.is_empty() {
            true => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, ISCSI_PORT))],
            false => self.listen,
        };
        let control = self.control.unwrap_or_else(|| default_control_socket(self.state_dir.as_deref()));
        let config = Config {
            listen,
            cores: self.cores.unwrap_or(Cores::Auto),
            control_core: self.control_core,
            numa: self.numa.unwrap_or_default(),
            steering: self.steering.unwrap_or(SteeringMode::Auto),
            busy_poll: self.busy_poll.unwrap_or(0),
            irq_affinity: self.irq_affinity.unwrap_or(IrqAffinity::Off),
            arena: self.arena.unwrap_or(ByteSize(1 << 30)),
            arena_dir: self.arena_dir,
            scratch: self.scratch,
            scratch_size: self.scratch_size,
            cache: self.cache.unwrap_or(ByteSize(1 << 30)),
            warm: self.warm.unwrap_or(WarmRule::Off),
            buffers: self.buffers.unwrap_or(ByteSize(64 << 20)),
            state_dir: self.state_dir,
            control,
            login_timeout: self.login_timeout.unwrap_or(Period::seconds(15)),
            drain_timeout: self.drain_timeout.unwrap_or(Period::seconds(10)),
            nop_interval: self.nop_interval.unwrap_or(Period::seconds(30)),
            limits: Limits {
                connections: self.limits.connections.unwrap_or(4096),
                commands: self.limits.commands.unwrap_or(128),
                clones: self.limits.clones.unwrap_or(4096),
                logins: self.limits.logins.unwrap_or(1024),
                admissions: self.limits.admissions.unwrap_or(256),
                sessions: self.limits.sessions.unwrap_or(SESSIONS_MAX),
            },
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            auth,
            discovery_auth: self.discovery_auth.unwrap_or(AuthMethod::None),
            chap_algorithms: self
                .chap_algorithms
                .unwrap_or_else(|| ChapAlgorithm::ALL.into_iter().map(Algorithm).collect()),
            chap: self.chap.into_iter().map(|(_, user)| user).collect(),
            chap_mutual: self.chap_mutual.into_iter().map(|(_, own)| own).collect(),
            redirects: self.redirects.into_iter().map(|(_, redirect)| redirect).collect(),
            targets: self.targets.into_iter().map(|(_, target)| target).collect(),
        };
        check::values(&config)?;
        Ok(config)
    }
}

impl Config {
    /// The same with another target, which is checked against all others.
    ///
    /// # Errors
    /// It contradicts them.
    pub fn with_target(&self, target: TargetConfig) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        config.targets.push(target);
        let targets: Vec<_> =
            config.targets.iter().map(|target| (Origin::Flag("--target"), target.clone())).collect();
        check::targets(&targets)?;
        Ok(config)
    }
}

/// Where the control socket is when nobody says: in the state directory; without one in `/run/stampede` for root
/// and in the user's runtime directory for everybody else.
#[must_use]
pub fn default_control_socket(state_dir: Option<&std::path::Path>) -> PathBuf {
    let directory = match state_dir {
        Some(directory) => directory.to_owned(),
        None => match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(runtime) if !rustix::process::geteuid().is_root() => PathBuf::from(runtime).join("stampede"),
            _ => PathBuf::from("/run/stampede"),
        },
    };
    directory.join("control.sock")
}
