//! `storm trace`: makes traces, and says what is in them.

use crate::failure::Failure;
use clap::{Args, Subcommand, ValueEnum};
use stampede_report::human;
use stampede_trace::{BLOCK, Trace, csv, text, windows};
use std::path::{Path, PathBuf};

/// The kinds of `storm trace`.
#[derive(Subcommand, Debug)]
pub(crate) enum TraceCommand {
    /// Make a trace from the CSV of a recording
    Convert(ConvertArguments),
    /// Make a trace that nobody recorded, from published figures
    Model(ModelArguments),
    /// Say what is in a trace
    Show {
        /// A trace, or the CSV of a recording
        file: PathBuf,
    },
}

/// What convert has.
#[derive(Args, Debug)]
pub(crate) struct ConvertArguments {
    /// The CSV
    csv: PathBuf,
    /// The trace to write
    out: PathBuf,
    /// Its name [default: the CSV's, without its ending]
    #[arg(long)]
    name: Option<String>,
    /// When the machine was up, and what that is called: SECONDS:NAME, such as 55.53:multi-user
    #[arg(long, value_name = "SECONDS:NAME", value_parser = marker)]
    marker: Option<(u64, String)>,
    /// When the firmware's last session was closed; without it that session stays to the end
    #[arg(long, value_name = "SECONDS", value_parser = microseconds)]
    firmware_end: Option<u64>,
}

/// What model has.
#[derive(Args, Debug)]
pub(crate) struct ModelArguments {
    /// What boots
    kind: ModelKind,
    /// The trace to write
    out: PathBuf,
    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Size of the disk that it boots from, such as 4g [default: 40 GB]
    #[arg(long, value_name = "SIZE", value_parser = crate::values::parse_size)]
    size: Option<u64>,
}

/// What can be modelled.
#[derive(Clone, Copy, ValueEnum, Debug)]
enum ModelKind {
    /// A Windows boot of 580 MB in two and a half minutes
    Windows,
}

fn microseconds(text: &str) -> Result<u64, String> {
    crate::cli::seconds_or_none(text).map(|seconds| (seconds * 1e6) as u64)
}

pub(super) fn marker(text: &str) -> Result<(u64, String), String> {
    let (seconds, name) = text.split_once(':').ok_or("write SECONDS:NAME, such as 55.53:multi-user")?;
    Ok((microseconds(seconds)?, name.to_owned()))
}

/// Runs.
///
/// # Errors
/// A file that cannot be read or written, or is no trace.
pub(crate) fn run(command: &TraceCommand) -> Result<(), Failure> {
    match command {
        TraceCommand::Convert(arguments) => convert(arguments),
        TraceCommand::Model(arguments) => model(arguments),
        TraceCommand::Show { file } => {
            println!("{}", describe(&read(file)?));
            Ok(())
        }
    }
}

fn convert(arguments: &ConvertArguments) -> Result<(), Failure> {
    let ConvertArguments { csv: path, out, name, marker, firmware_end } = arguments;
    let name = name.clone().or_else(|| Some(name_of(path)));
    let details = csv::Details { name, marker: marker.clone(), firmware_end_us: *firmware_end };
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let trace = csv::read(&bytes, &details).map_err(|error| unreadable(path, &error))?;
    write(out, &trace, "")
}

fn model(arguments: &ModelArguments) -> Result<(), Failure> {
    let ModelArguments { kind: ModelKind::Windows, out, seed, size } = arguments;
    let trace = windows::model(*seed, size.map(|size| size / BLOCK)).map_err(Failure::Usage)?;
    let comment = format!("A model from published figures, seed {seed}. Nobody recorded this.");
    write(out, &trace, &comment)
}

/// Writes a trace with a line about it, and prints that line.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(path: &Path, trace: &Trace, comment: &str) -> Result<(), Failure> {
    let comment = format!("{}\n{comment}", describe(trace));
    std::fs::write(path, text::write(trace, comment.trim_end()))
        .map_err(|error| Failure::Runtime(format!("cannot write {}: {error}", path.display())))?;
    println!("{}", describe(trace));
    Ok(())
}

pub(super) fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Runtime(format!("cannot read {}: {error}", path.display()))
}

/// A trace's name by its file's: without the ending, and with signs for what a name may not have.
pub(super) fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let legal = |letter: char| if letter.is_ascii_graphic() { letter } else { '-' };
    stem.chars().map(legal).take(stampede_trace::NAME_MAX).collect()
}

/// Reads a trace in either form.
///
/// # Errors
/// It cannot be read, or is none; with the line.
pub(crate) fn read(path: &Path) -> Result<Trace, Failure> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    stampede_trace::read(&bytes).map_err(|error| unreadable(path, &error))
}

/// One line about a trace.
pub(crate) fn describe(trace: &Trace) -> String {
    let totals = trace.totals();
    let bytes = |blocks: u64| human::bytes((blocks * BLOCK) as f64);
    format!(
        "{} ({}): {} commands and {} logins; {} reads of {} ({} different), {} writes of {}; {:.1} s of think time; up at {}",
        trace.name,
        trace.origin,
        totals.commands,
        totals.logins,
        totals.reads,
        bytes(totals.blocks_read),
        bytes(totals.blocks_unique),
        totals.writes,
        bytes(totals.blocks_written),
        totals.think_us as f64 / 1e6,
        trace.marker().unwrap_or("its end")
    )
}
