//! The `stampede` binary: the command line, wiring, signals and systemd. What it wires is in the crates below it.
//!
//! Exit codes: 0 done, 1 it failed while running, 2 the command line, the configuration or an image is not right; 3 and 4 what
//! `image` found.

#![forbid(unsafe_code)]

mod ask;
mod cli;
mod formats;
mod image;
mod logging;
mod place;
mod serve;
mod topology;

use clap::{CommandFactory, Parser};
use cli::{Cli, CloneCommand, Command, GoldenCommand, LunCommand, SessionCommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command came to, for the exit code.
#[derive(Debug)]
enum Failure {
    /// The command line, the configuration or an image is not right.
    Usage(anyhow::Error),
    /// Everything else.
    Runtime(anyhow::Error),
    /// It was done, and the exit code says what was found.
    Found(u8),
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    fn runtime(error: impl Into<anyhow::Error>) -> Self {
        Self::Runtime(error.into())
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve::serve(*arguments),
        Command::Topology(arguments) => topology::topology(&arguments),
        Command::Status(arguments) => ask::status(&arguments),
        Command::Clone(CloneCommand::List(arguments)) => ask::clone_list(&arguments),
        Command::Clone(CloneCommand::Reset(arguments)) => ask::clone_reset(&arguments),
        Command::Session(SessionCommand::List(arguments)) => ask::session_list(&arguments),
        Command::Session(SessionCommand::Move(arguments)) => ask::session_move(&arguments),
        Command::Session(SessionCommand::Logout(arguments)) => ask::session_logout(&arguments),
        Command::Session(SessionCommand::Drop(arguments)) => ask::session_drop(&arguments),
        Command::Session(SessionCommand::Renegotiate(arguments)) => ask::session_renegotiate(&arguments),
        Command::Session(SessionCommand::Rebalance(arguments)) => ask::session_rebalance(&arguments),
        Command::Lun(LunCommand::List(arguments)) => ask::lun_list(&arguments),
        Command::Lun(LunCommand::Resize(arguments)) => ask::lun_resize(&arguments),
        Command::Lun(LunCommand::Eject(arguments)) => ask::lun_eject(&arguments),
        Command::Lun(LunCommand::Add(arguments)) => ask::lun_add(&arguments),
        Command::Lun(LunCommand::Remove(arguments)) => ask::lun_remove(&arguments),
        Command::Lun(LunCommand::Load(arguments)) => ask::lun_load(&arguments),
        Command::Lun(LunCommand::Access(arguments)) => ask::lun_access(&arguments),
        Command::Golden(GoldenCommand::List(arguments)) => ask::golden::list(&arguments),
        Command::Golden(GoldenCommand::Warm(arguments)) => ask::golden::warm(&arguments),
        Command::Golden(GoldenCommand::Record(arguments)) => ask::golden::record(&arguments),
        Command::Golden(GoldenCommand::Forget(arguments)) => ask::golden::forget(&arguments),
        Command::Image(arguments) => image::image(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "stampede", &mut std::io::stdout());
            Ok(())
        }
    };
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Runtime(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
        Err(Failure::Found(code)) => return ExitCode::from(code),
    };
    eprintln!("stampede: {}", chain(&error));
    ExitCode::from(code)
}

/// An error and its causes, as far as they say anything that was not said.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
