//! `storm`: a load generator for iSCSI targets.
//!
//! ```text
//!   main: command line ──► probe the unit ──► shards (one thread and ring per core) ──► report
//! ```
//!
//! Exit codes: 0 done, 1 the run failed or found errors, 2 the command line is not right.

#![forbid(unsafe_code)]

mod cli;
mod endpoint;
mod failure;
mod finish;
mod load;
mod modes;
mod probe;
mod proc;
mod progress;
mod run;
mod signals;
mod values;

use clap::Parser;
use cli::{Cli, Mode};
use failure::Failure;
use modes::io::{self, Kind};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.mode {
        Mode::Rand(arguments) => io::run(Kind::Rand, arguments),
        Mode::Seq(arguments) => io::run(Kind::Seq, arguments),
        Mode::Mix(arguments) => io::run(Kind::Mix, arguments),
        Mode::Login(arguments) => modes::login::run(arguments),
        Mode::Idle(arguments) => modes::idle::run(arguments),
        Mode::Verify(arguments) => modes::verify::run(arguments),
        Mode::Boot(arguments) => modes::boot::run(arguments),
        Mode::Golden(arguments) => modes::boot::golden::make(arguments),
        Mode::Record(arguments) => modes::record_trace::run(arguments),
        Mode::Trace(command) => modes::trace::run(command),
    };
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Runtime(text)) => (text, 1),
        Err(Failure::Usage(text)) => (text, 2),
    };
    eprintln!("storm: {text}");
    ExitCode::from(code)
}
