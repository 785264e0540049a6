//! The command line of boot and golden.

use super::arrival::Arrival;
use crate::cli::{Common, number, seconds_or_none};
use crate::values::parse_size;
use clap::Args;
use std::path::PathBuf;

/// What boot has.
#[derive(Args, Debug, Clone)]
#[command(mut_arg("sessions", |arg| arg.long("clients").help("Machines that boot")))]
#[command(mut_arg("plot", |arg| arg.help("Draw the latencies of the phases as SVG; --report has more")))]
pub(crate) struct BootArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What each machine does: a trace, or the CSV of a recording [default: a Debian 12 boot and shutdown]
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Think times are multiplied by this: 1 is the recorded machine, 0 waits for answers alone
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = think)]
    pub(crate) think: f64,
    /// When machines are switched on: all, ramp:SECONDS, poisson:PER-SECOND or groups:SIZE:SECONDS
    #[arg(long, value_name = "HOW", default_value = "all")]
    pub(crate) arrival: Arrival,
    /// The image that the machines boot from, to compare with what they read. Not needed for one of `storm golden`
    #[arg(long, value_name = "FILE", conflicts_with = "no_check")]
    pub(crate) golden: Option<PathBuf>,
    /// Do not look at what is read
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Leave the trace's writes out
    #[arg(long, conflicts_with_all = ["small_writes", "read_back"])]
    pub(crate) no_writes: bool,
    /// Behind so many of the trace's writes, write 1 to 7 blocks somewhere near and read what is around them
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_value_t = 0, default_missing_value = "25",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) small_writes: u8,
    /// At the end each machine reads all that it wrote
    #[arg(long)]
    pub(crate) read_back: bool,
    /// Machines stay on for so long after their trace's end
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds_or_none)]
    pub(crate) stay: f64,
    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the report as one HTML page with its plots
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}

/// What golden has.
#[derive(Args, Debug)]
pub(crate) struct GoldenArguments {
    /// The image to make
    pub(crate) file: PathBuf,
    /// Its size, such as 2560m: the default trace needs as much
    #[arg(long, value_name = "SIZE", default_value = "2560m", value_parser = parse_size)]
    pub(crate) size: u64,
    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

fn think(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0)
}
