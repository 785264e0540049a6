//! The command line.

use crate::modes::boot::arguments::{BootArguments, GoldenArguments};
use crate::modes::record_trace::RecordArguments;
use crate::modes::trace::TraceCommand;
use crate::values::{Mixture, Region, UnitUrl, parse_cores};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A load generator for iSCSI targets.
#[derive(Parser, Debug)]
#[command(name = "storm", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 the run failed or found errors, 2 the command line is not right."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

/// What to do to the target.
#[derive(Subcommand, Debug)]
pub(crate) enum Mode {
    /// Random reads (and writes), uniform or with a Zipf distribution
    #[command(after_help = "Example: storm rand --bs 4k --depth 32 --sessions 8 --secs 10 --json out.json \
                            iscsi://192.0.2.1/iqn.2026-11.io.stampede:data/0")]
    Rand(IoArguments),
    /// Sequential reads (or writes), each session in its own part of the region
    Seq(IoArguments),
    /// A mixture of block sizes, reads and writes
    Mix(IoArguments),
    /// Stamped blocks, written, read back and compared: finds lost, torn, stale and foreign data
    Verify(VerifyArguments),
    /// Logins and logouts, as many as the target takes or at a given rate
    Login(LoginArguments),
    /// Idle sessions, and what they cost
    Idle(IdleArguments),
    /// A boot storm: many machines, each of which does what a recorded boot did, and checks what it reads
    #[command(
        after_help = "Example: storm golden golden.raw --size 2560m; then, with the target serving clones of it: storm boot \
                            --clients 200 --think 0 --report storm.html iscsi://192.0.2.1/iqn.2026-11.io.stampede:golden/0"
    )]
    Boot(BootArguments),
    /// Make an image for storm boot, each block of which tells its place
    Golden(GoldenArguments),
    /// Make a trace from a capture of packets (pcap, pcapng), or from a target's own recording of a boot
    Record(RecordArguments),
    /// Make traces: from a recording's CSV, or from a model
    #[command(subcommand)]
    Trace(TraceCommand),
}

/// What every mode has.
#[derive(Args, Debug, Clone)]
pub(crate) struct Common {
    /// The unit to drive: iscsi://HOST[:PORT]/IQN/LUN
    pub(crate) url: UnitUrl,
    /// Sessions at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) sessions: u32,
    /// Cores of the client's threads, one thread each: 1 or 0,2 or 2-5; without it one thread that is not pinned
    #[arg(long, value_name = "LIST", value_parser = CoresParser)]
    pub(crate) cores: Option<Cores>,
    /// InitiatorName; an n in braces, as in the default, stands for the session's number
    #[arg(long, value_name = "TEMPLATE", default_value = "iqn.2026-11.io.stampede:storm-{n}")]
    pub(crate) initiator_name: String,
    /// Demand CRC32C header digests
    #[arg(long)]
    pub(crate) header_digest: bool,
    /// Demand CRC32C data digests
    #[arg(long)]
    pub(crate) data_digest: bool,
    /// How long a login, or a logout, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) login_timeout: u64,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Draw the latency distribution as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = svg_path)]
    pub(crate) plot: Option<PathBuf>,
    /// No progress bar and no table
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Also report CPU time, wake-ups and memory of this process (the target)
    #[arg(long, value_name = "PID")]
    pub(crate) watch_pid: Option<u32>,
}

impl Common {
    /// The cores to pin to; none without `--cores`.
    pub(crate) fn cores(&self) -> &[usize] {
        self.cores.as_ref().map_or(&[], |cores| cores.0.as_slice())
    }
}

/// A list of cores.
#[derive(Clone, Debug)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

#[derive(Clone)]
struct CoresParser;

impl clap::builder::TypedValueParser for CoresParser {
    type Value = Cores;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Cores, clap::Error> {
        let parser = clap::builder::StringValueParser::new().try_map(|text| parse_cores(&text).map(Cores));
        parser.parse_ref(command, argument, value)
    }
}

/// How long a run is.
#[derive(Args, Debug, Clone)]
pub(crate) struct Length {
    /// Length of the measuring window
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) secs: f64,
}

/// What rand, seq and mix have.
#[derive(Args, Debug, Clone)]
pub(crate) struct IoArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Operations of the measuring window, instead of seconds
    #[arg(long, value_name = "N", conflicts_with = "secs", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: Option<u64>,
    /// Run so long before the measuring window begins
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds_or_none)]
    pub(crate) warmup: f64,
    /// Block size, or a mixture: SIZE[:WEIGHT][,SIZE[:WEIGHT]]... [default: 4k; seq 256k; mix 4k:60,16k:20,64k:20]
    #[arg(long, value_name = "SIZE[:WEIGHT],..")]
    pub(crate) bs: Option<Mixture>,
    /// Commands in flight per session
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) depth: u16,
    /// Share of reads [default: 100; mix 70]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read: Option<u8>,
    /// Zipf distribution of the addresses with this exponent, instead of a uniform one (not seq)
    #[arg(long, value_name = "THETA", value_parser = theta)]
    pub(crate) zipf: Option<f64>,
    /// Only these bytes of the unit: START-END, such as 0-64m
    #[arg(long, value_name = "START-END")]
    pub(crate) region: Option<Region>,
    /// Allow writes that destroy what is on the unit, and the use of a unit that somebody else has reserved
    #[arg(long)]
    pub(crate) destroy: bool,
    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What verify has.
#[derive(Args, Debug, Clone)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Operations, instead of seconds
    #[arg(long, value_name = "N", conflicts_with = "secs", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: Option<u64>,
    /// Commands in flight per session
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) depth: u16,
    /// The bytes of the unit to write to: START-END, such as 0-64m. All that is there is lost
    #[arg(long, value_name = "START-END")]
    pub(crate) region: Option<Region>,
    /// Use the whole unit, or one that somebody else has reserved
    #[arg(long)]
    pub(crate) destroy: bool,
    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What login has.
#[derive(Args, Debug, Clone)]
pub(crate) struct LoginArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Logins in all, instead of seconds
    #[arg(long, value_name = "N", conflicts_with = "secs", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: Option<u64>,
    /// Begin so many logins per second, whether earlier ones are done or not; without it each session logs in again as
    /// soon as it is out
    #[arg(long, value_name = "PER-SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Stay logged in for so long before the logout
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds_or_none)]
    pub(crate) hold: f64,
}

/// What idle has.
#[derive(Args, Debug, Clone)]
pub(crate) struct IdleArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Wait so long between the last login and the measuring window
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds_or_none)]
    pub(crate) settle: f64,
}

/// A day and more is a mistake.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.05, SECONDS_MAX)
}

pub(crate) fn seconds_or_none(text: &str) -> Result<f64, String> {
    number(text, 0.0, SECONDS_MAX)
}

fn theta(text: &str) -> Result<f64, String> {
    number(text, 0.01, 5.0)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1e6)
}

pub(crate) fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number from {low} to {high}"))
}

fn svg_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("svg") => Ok(path),
        _ => Err(format!("`{text}` does not end in .svg, the form in which plots are drawn")),
    }
}
