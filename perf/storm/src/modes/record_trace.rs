//! `storm record`: makes a trace from a capture of packets, or from a target's own recording of a boot.

use super::trace::{marker, name_of, unreadable, write};
use crate::failure::Failure;
use clap::Args;
use stampede_capture::{CaptureError, Details, recording};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::PathBuf;

/// What record has.
#[derive(Args, Debug)]
pub(crate) struct RecordArguments {
    /// A capture (pcap or pcapng), or a target's recording of a golden's boot (STATE-DIR/recordings/*.boot)
    input: PathBuf,
    /// The trace to write
    out: PathBuf,
    /// Its name [default: the input's, without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Whose boot it is, where several machines are in the capture
    #[arg(long, value_name = "NAME")]
    initiator: Option<String>,
    /// When the machine was up, from its first login on, and what that is called: SECONDS:NAME, such as 55.53:multi-user
    #[arg(long, value_name = "SECONDS:NAME", value_parser = marker)]
    marker: Option<(u64, String)>,
}

/// Runs.
///
/// # Errors
/// A file that cannot be read or written, or holds no boot.
pub(crate) fn run(arguments: &RecordArguments) -> Result<(), Failure> {
    let RecordArguments { input, out, name, initiator, marker } = arguments;
    let wrong = |error: &dyn std::fmt::Display| unreadable(input, error);
    let mut file = File::open(input).map_err(|error| wrong(&error))?;
    let name = name.clone().unwrap_or_else(|| name_of(input));
    let mut head = [0; recording::MAGIC.len()];
    let is_recording = file.read_exact(&mut head).is_ok() && head == *recording::MAGIC;
    file.rewind().map_err(|error| wrong(&error))?;
    if is_recording {
        if initiator.is_some() || marker.is_some() {
            return Err(Failure::usage(
                "a target's recording has no names and times of its own: leave --initiator \
                                       and --marker out",
            ));
        }
        let mut bytes = Vec::new();
        file.take(recording::FILE_MAX).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        let (trace, is_complete) = recording::read(&bytes, &name).map_err(|error| wrong(&error))?;
        if !is_complete {
            eprintln!(
                "storm: the machine went away before it had come to rest: the recording is a part of a boot"
            );
        }
        return write(
            out,
            &trace,
            "From a target's recording: the first use of each block, one after the other.",
        );
    }
    let details = Details { name, initiator: initiator.clone(), marker: marker.clone() };
    let (trace, report) =
        stampede_capture::read(BufReader::new(file), &details).map_err(|error| match error {
            CaptureError::Nothing(_) if initiator.is_some() => {
                Failure::Usage(format!("{}: {error}", input.display()))
            }
            other => wrong(&other),
        })?;
    println!("{report}");
    write(out, &trace, "From a capture of packets.")
}
