//! Commands that ask a running stampede.

use crate::Failure;
use crate::cli::{ResetArgs, StatusArgs};
use anyhow::anyhow;
use stampede_control::socket::{Request, Response, call};
use stampede_control::status::{clone_table, render};
use std::io::Write;
use std::path::Path;

fn ask(path: &Path, request: &Request) -> Result<Response, Failure> {
    call(path, request).map_err(Failure::runtime)
}

fn unexpected() -> Failure {
    Failure::Runtime(anyhow!(
        "the running stampede gave an answer to another question; is it of the same version?"
    ))
}

/// Prints, and does not mind when the reader of a pipe has gone.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::runtime(error)),
        _ => Ok(()),
    }
}

fn print_json(json: serde_json::Result<String>) -> Result<(), Failure> {
    print(&format!("{}\n", json.map_err(Failure::runtime)?))
}

pub(crate) fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), &Request::Status)? {
        Response::Status(status) if arguments.json => print_json(serde_json::to_string_pretty(&status)),
        Response::Status(status) => print(&render(&status)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn clone_list(arguments: &StatusArgs) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), &Request::CloneList)? {
        Response::Clones(clones) if arguments.json => print_json(serde_json::to_string_pretty(&clones)),
        Response::Clones(clones) => print(&clone_table(&clones)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn clone_reset(arguments: &ResetArgs) -> Result<(), Failure> {
    let request =
        Request::CloneReset { initiator: arguments.initiator.clone(), target: arguments.target.clone() };
    let Response::Reset(outcomes) = ask(&arguments.socket.path(), &request)? else {
        return Err(unexpected());
    };
    let mut refused = false;
    let mut text = String::new();
    for outcome in outcomes {
        let (initiator, target) = (&arguments.initiator, &outcome.target);
        text.push_str(&match outcome.in_use_by {
            Some(address) => format!(
                "{target}: not reset: a session from {address} uses the clone of {initiator}; shut that machine down first\n"
            ),
            None => format!("{target}: reset: the next login of {initiator} gets a fresh clone\n"),
        });
        refused |= !outcome.reset;
    }
    print(&text)?;
    match refused {
        true => Err(Failure::Runtime(anyhow!("not everything was reset"))),
        false => Ok(()),
    }
}
