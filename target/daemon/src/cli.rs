//! The command line.

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use stampede_control::config::{
    ByteSize, ConfigError, Cores, IrqAffinity, LogFormat, Numa, Origin, Partial, PartialLimits, Period,
    SteeringMode, TargetConfig, ValueError, WarmRule, default_control_socket, read,
};
use stampede_control::socket::AccessName;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The features that this build has, for `--version`.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nfeatures: iscsi (RFC 7143), io_uring, raw images and block devices, ephemeral clones with boot epochs, crc32c digests"
);

/// An iSCSI target for boot storms: one host boots many diskless machines from a few golden images.
#[derive(Debug, Parser)]
#[command(name = "stampede", version, long_version = LONG_VERSION, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 it failed while running, 2 the command line, the configuration or an \
                        image is not right."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve images until a signal: SIGTERM or SIGINT ends it in order, a second one at once.
    Serve(Box<ServeArgs>),
    /// Show what a running stampede does.
    Status(StatusArgs),
    /// Show sockets, nodes, cores, network cards and interrupts, and which shard would go where and why.
    Topology(TopologyArgs),
    /// Look at the clones of initiators, or reset them.
    #[command(subcommand)]
    Clone(CloneCommand),
    /// Look at the sessions of initiators, or move them between shards.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Look at logical units, or change them while initiators use them.
    #[command(subcommand)]
    Lun(LunCommand),
    /// Look at golden images, read them into the cache, or have their boots recorded.
    #[command(subcommand)]
    Golden(GoldenCommand),
    /// Make, look at, check, convert and compare image files.
    Image(crate::image::ImageCommandArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// What to do with clones.
#[derive(Debug, Subcommand)]
pub(crate) enum CloneCommand {
    /// List all clones and boot epochs.
    List(StatusArgs),
    /// End an initiator's boot epoch: its next login gets a fresh clone. Refused while a session uses the clone.
    Reset(ResetArgs),
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List all sessions, with the shard that each lives on.
    List(StatusArgs),
    /// Move a live session to another shard. Its initiator notices nothing but a short wait.
    Move(MoveArgs),
    /// Ask an initiator to log out; most come back at once. One that has not by then is dropped.
    Logout(WithinArgs),
    /// Tell an initiator that its session ends, and end it. A clone of it is held for it.
    Drop(SessionArgs),
    /// Ask an initiator to negotiate its parameters anew. One that has not by then is dropped.
    Renegotiate(WithinArgs),
    /// Move the fewest sessions that bring all shards within the bound of imbalance.
    Rebalance(StatusArgs),
}

/// What to do with logical units.
#[derive(Debug, Subcommand)]
pub(crate) enum LunCommand {
    /// List all targets and their LUNs: size, medium, access state, traffic.
    List(StatusArgs),
    /// Change the capacity: to --size, to which a shorter file is made longer, or else to what its image has. Initiators
    /// hear CAPACITY DATA HAS CHANGED.
    Resize(ResizeArgs),
    /// Take the medium of a removable LUN out. Refused while an initiator prevents it, unless --force is given.
    Eject(EjectArgs),
    /// Put it in: initiators hear that the medium may have changed.
    Load(LunArgs),
    /// Make another image a LUN of a running target: its initiators hear REPORTED LUNS DATA HAS CHANGED. It is there until
    /// stampede stops; what is to stay belongs into the configuration.
    Add(AddArgs),
    /// Take a LUN away, its running commands ending first: initiators hear REPORTED LUNS DATA HAS CHANGED. Refused while one
    /// has it reserved or prevents the removal of its medium, unless --force is given.
    Remove(EjectArgs),
    /// Set the asymmetric access state (ALUA), which tells initiators to use another path.
    Access(AccessArgs),
}

/// What to do with goldens.
#[derive(Debug, Subcommand)]
pub(crate) enum GoldenCommand {
    /// List all goldens: what of them is in memory, what was recorded of their boots, what was read ahead and used.
    List(StatusArgs),
    /// Read what was recorded of a golden's boot into the cache, or all of it where nothing was, and wait for that.
    Warm(WarmArgs),
    /// Record the boot of its next fresh clone, in place of what was recorded before.
    Record(GoldenArgs),
    /// Delete what was recorded of its boot, and record the next one.
    Forget(GoldenArgs),
}

/// Which golden is meant.
#[derive(Debug, Args)]
pub(crate) struct GoldenArgs {
    /// The name that --target gave a LUN whose clones are of it, or its target's IQN.
    #[arg(value_name = "NAME")]
    pub(crate) golden: String,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Arguments of `golden warm`.
#[derive(Debug, Args)]
pub(crate) struct WarmArgs {
    /// Which golden is meant.
    #[command(flatten)]
    pub(crate) golden: GoldenArgs,
    /// The whole image, even if a boot was recorded.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not wait for it.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Which LUN is meant.
#[derive(Debug, Args)]
pub(crate) struct LunArgs {
    /// The LUN's name as --target gave it, or its target's IQN.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The LUN's number, where the target has several.
    #[arg(long, value_name = "N")]
    pub(crate) lun: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Arguments of `lun resize`.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// Which LUN is meant.
    #[command(flatten)]
    pub(crate) lun: LunArgs,
    /// The new capacity, as in 20G; without it the LUN gets the length that its image has now.
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteSize>,
    /// Make it smaller: what initiators keep behind its new end is out of their reach.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `lun add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The target: its IQN, or the name of one of its LUNs.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The image and its options, as `serve --target` takes them; no clones.
    #[arg(value_name = "NAME=PATH[,OPTION]...")]
    pub(crate) lun: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Arguments of `lun eject` and `lun remove`.
#[derive(Debug, Args)]
pub(crate) struct EjectArgs {
    /// Which LUN is meant.
    #[command(flatten)]
    pub(crate) lun: LunArgs,
    /// Even if an initiator prevents the removal of the medium, or, to remove the LUN, has it reserved.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `lun access`.
#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// Which LUN is meant.
    #[command(flatten)]
    pub(crate) lun: LunArgs,
    /// Commands are done in the states active and non-optimized; in standby and unavailable they are refused, and
    /// initiators take another path.
    #[arg(value_name = "STATE", value_parser = PossibleValuesParser::new(AccessName::ALL.map(|(name, _)| name)))]
    state: String,
}

impl AccessArgs {
    /// The state.
    pub(crate) fn state(&self) -> AccessName {
        // clap has compared it with all names.
        AccessName::ALL
            .iter()
            .find(|(name, _)| *name == self.state)
            .map_or(AccessName::Active, |(_, state)| *state)
    }
}

/// Which running stampede is meant.
#[derive(Debug, Args)]
pub(crate) struct SocketArgs {
    /// Its control socket, if `serve` was given one.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Its state directory, if `serve` was given one: the control socket is in it.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl SocketArgs {
    /// The control socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| default_control_socket(self.state_dir.as_deref()))
    }
}

/// Arguments of commands that show something.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Arguments of `clone reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The initiator's name, as `clone list` shows it.
    #[arg(value_name = "INITIATOR")]
    pub(crate) initiator: String,
    /// Only on this target: its name or IQN.
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Arguments of `session move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The session's number, as `session list` shows it; or the name of an initiator that has one session only.
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// The shard that it moves to: 0 is the first core of `--cores`.
    #[arg(long, value_name = "N")]
    pub(crate) shard: u16,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Which session is meant.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// The session's number, as `session list` shows it; or the name of an initiator that has one session only.
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Which running stampede is meant.
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Which session, and how long its initiator has.
#[derive(Debug, Args)]
pub(crate) struct WithinArgs {
    /// Which session is meant.
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// How long the initiator has, in whole seconds.
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    within: Period,
}

impl WithinArgs {
    /// Whole seconds, at least one.
    pub(crate) fn seconds(&self) -> u16 {
        u16::try_from(self.within.0.as_secs().max(1)).unwrap_or(u16::MAX)
    }
}

/// What decides where shards go.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// A TOML file with any of the settings of `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; may be given several times [default: 127.0.0.1:3260].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Cores that get a shard each: 0,2-7 or numa0 (one thread of each core of a node) or numa0,12 or auto [default:
    /// auto, one thread of each core, but for one core].
    #[arg(long, value_name = "CORES")]
    cores: Option<Cores>,
    /// The control thread's core [default: one without a shard].
    #[arg(long, value_name = "CORE")]
    control_core: Option<u16>,
    /// auto: cores of the network card's node first, memory on each shard's node; 0 or 0,2: cores of these nodes only;
    /// off: nodes mean nothing [default: auto].
    #[arg(long, value_name = "NODES")]
    numa: Option<Numa>,
}

impl PlaceArgs {
    /// What the file says, and what the flags say.
    fn partials(&self) -> Result<(Partial, Partial), ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let flags = Partial {
            listen: self.listen.clone(),
            cores: self.cores.clone(),
            control_core: self.control_core,
            numa: self.numa.clone(),
            ..Partial::default()
        };
        Ok((file, flags))
    }
}

/// Arguments of `topology`.
#[derive(Debug, Args)]
pub(crate) struct TopologyArgs {
    /// What decides where shards go.
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Read sys and proc below this folder, such as a copy of another machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) sysroot: PathBuf,
}

impl TopologyArgs {
    /// What file and flags say together.
    ///
    /// # Errors
    /// The file is not right.
    pub(crate) fn partial(&self) -> Result<Partial, ConfigError> {
        let (file, flags) = self.place.partials()?;
        Ok(file.merge(flags))
    }
}

/// Arguments of `serve`. Each overrides the configuration file; targets add up.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// What decides where shards go.
    #[command(flatten)]
    place: PlaceArgs,
    /// Print the effective configuration as TOML, every key with its meaning and default, and exit.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Check the configuration and open the images, then exit.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// An image to serve: NAME=PATH[,clone=ephemeral][,ro][,lun=N][,iqn=IQN][,auth=none|chap]
    /// [,alua=off|implicit|explicit][,sanitize-rate=SIZE][,encryption=aes-xts][,encryption-key=FILE]
    /// [,stage=auto|firmware|os][,on-lost=refuse|fresh][,grace=PERIOD][,hold=PERIOD]; a comma in PATH is written twice. May be given several
    /// times.
    #[arg(long, value_name = "NAME=PATH[,OPTION]...")]
    target: Vec<String>,
    /// How new connections find their shard: cpu (the shard on whose core their SYN was processed; takes CAP_BPF),
    /// plain (the kernel's hash), or auto: cpu if the kernel lets us [default: auto].
    #[arg(long, value_name = "HOW")]
    steering: Option<SteeringMode>,
    /// Microseconds, 1 to 1000, that a shard polls for the next command before it sleeps, as far as that pays [default:
    /// 0, never].
    #[arg(long, value_name = "US")]
    busy_poll: Option<u32>,
    /// Interrupts of network cards' queues: report says where they go and should go; set moves them to the shards' cores,
    /// and back at exit; off does nothing [default: off].
    #[arg(long, value_name = "WHAT")]
    irq_affinity: Option<IrqAffinity>,
    /// Memory for all ephemeral clones [default: 1G].
    #[arg(long, value_name = "SIZE")]
    arena: Option<ByteSize>,
    /// A folder on a tmpfs for that memory, all of which is taken at once: clones then outlive the process [default:
    /// none, and they do where a service manager keeps them].
    #[arg(long, value_name = "DIR")]
    arena_dir: Option<PathBuf>,
    /// A file or block device that ephemeral clones spill to when their memory runs full; it is overwritten
    /// [default: none].
    #[arg(long, value_name = "PATH")]
    scratch: Option<PathBuf>,
    /// How much of it; a file gets that space at once, and is made if it is not there [default: all that it has].
    #[arg(long, value_name = "SIZE")]
    scratch_size: Option<ByteSize>,
    /// Memory for blocks of goldens, each read from its disk once for all clones; 0 for none
    /// [default: 1G].
    #[arg(long, value_name = "SIZE")]
    cache: Option<ByteSize>,
    /// Read goldens into that memory at the start: auto, which the flag alone means, is what was recorded of their boots, or
    /// all of them where nothing was; all; off [default: off].
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    warm: Option<WarmRule>,
    /// I/O buffers of each shard [default: 64M].
    #[arg(long, value_name = "SIZE")]
    buffers: Option<ByteSize>,
    /// Where boot epochs and identities are kept [default: in memory only].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The control socket [default: control.sock in the state directory or in the runtime directory].
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// From accepting a connection to the end of its login [default: 15s].
    #[arg(long, value_name = "PERIOD")]
    login_timeout: Option<Period>,
    /// At a signal: how long initiators have until their sessions are closed [default: 10s].
    #[arg(long, value_name = "PERIOD")]
    drain_timeout: Option<Period>,
    /// Silence after which an initiator is pinged (NOP-In); one that answered before and does not for 30s is dropped. 0:
    /// nobody is pinged [default: 30s].
    #[arg(long, value_name = "PERIOD")]
    nop_interval: Option<Period>,
    /// Sessions of one shard at once [default: 4096].
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<u32>,
    /// Commands of one session at once [default: 128].
    #[arg(long, value_name = "COUNT")]
    max_commands: Option<u16>,
    /// Ephemeral clones of one target at once [default: 4096].
    #[arg(long, value_name = "COUNT")]
    max_clones: Option<u32>,
    /// Connections of one shard at once that log in [default: 1024].
    #[arg(long, value_name = "COUNT")]
    max_logins: Option<u32>,
    /// Logins that are admitted at once; more wait for their turn [default: 256].
    #[arg(long, value_name = "COUNT")]
    max_admissions: Option<u32>,
    /// Sessions of all targets at once [default: 65535].
    #[arg(long, value_name = "COUNT")]
    max_sessions: Option<u32>,
    /// Which events are logged: error, warn, info, debug, or a filter as in RUST_LOG, which wins [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How they are written: text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl ServeArgs {
    /// What file and flags say together.
    ///
    /// # Errors
    /// The file or a `--target` is not right.
    pub(crate) fn partial(&self) -> Result<Partial, ConfigError> {
        let (file, flags) = self.place.partials()?;
        let targets = self.target.iter().map(|text| {
            let at = |ValueError { what, help }: ValueError| ConfigError {
                origin: Origin::Flag("--target"),
                what: format!("in `{text}`: {what}"),
                help,
            };
            Ok((Origin::Flag("--target"), text.parse::<TargetConfig>().map_err(at)?))
        });
        let flags = Partial {
            steering: self.steering,
            busy_poll: self.busy_poll,
            irq_affinity: self.irq_affinity,
            arena: self.arena,
            arena_dir: self.arena_dir.clone(),
            scratch: self.scratch.clone(),
            scratch_size: self.scratch_size,
            cache: self.cache,
            warm: self.warm,
            buffers: self.buffers,
            state_dir: self.state_dir.clone(),
            control: self.control.clone(),
            login_timeout: self.login_timeout,
            drain_timeout: self.drain_timeout,
            nop_interval: self.nop_interval,
            limits: PartialLimits {
                connections: self.max_connections,
                commands: self.max_commands,
                clones: self.max_clones,
                logins: self.max_logins,
                admissions: self.max_admissions,
                sessions: self.max_sessions,
            },
            log: self.log.clone(),
            log_format: self.log_format,
            targets: targets.collect::<Result<_, ConfigError>>()?,
            ..flags
        };
        Ok(file.merge(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
