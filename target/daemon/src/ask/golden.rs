//! What is asked about goldens.

use super::{ask, print, print_json, unexpected};
use crate::Failure;
use crate::cli::{GoldenArgs, StatusArgs, WarmArgs};
use anyhow::anyhow;
use stampede_control::socket::{Request, Response};
use stampede_control::status::{GoldenStatus, golden_table};
use std::path::Path;
use std::time::Duration;

/// How often to look how far it is.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn list(arguments: &StatusArgs) -> Result<(), Failure> {
    let goldens = goldens(&arguments.socket.path())?;
    match arguments.json {
        true => print_json(serde_json::to_string_pretty(&goldens)),
        false => print(&golden_table(&goldens)),
    }
}

pub(crate) fn record(arguments: &GoldenArgs) -> Result<(), Failure> {
    tell(arguments, &Request::GoldenRecord { golden: arguments.golden.clone() }).map(drop)
}

pub(crate) fn forget(arguments: &GoldenArgs) -> Result<(), Failure> {
    tell(arguments, &Request::GoldenForget { golden: arguments.golden.clone() }).map(drop)
}

pub(crate) fn warm(arguments: &WarmArgs) -> Result<(), Failure> {
    let (path, golden) = (arguments.golden.socket.path(), &arguments.golden.golden);
    tell(&arguments.golden, &Request::GoldenWarm { golden: golden.clone(), all: arguments.all })?;
    if arguments.no_wait {
        return Ok(());
    }
    let mut shown = None;
    loop {
        let status = goldens(&path)?.into_iter().find(|status| is_meant(status, golden, &path));
        let Some(GoldenStatus { prefetch, .. }) = status else { return Err(unexpected()) };
        let percent = prefetch.done * 100 / prefetch.blocks.max(1);
        if shown.replace(percent / 10) != Some(percent / 10) {
            print(&format!("{} of {} blocks, {percent} %\n", prefetch.done, prefetch.blocks))?;
        }
        match prefetch.state.as_str() {
            _ if prefetch.is_active() => std::thread::sleep(POLL),
            "done" if prefetch.failed == 0 => return Ok(()),
            "done" => {
                return Err(Failure::Runtime(anyhow!(
                    "{} blocks could not be read: look at the log and at the disk of the golden",
                    prefetch.failed
                )));
            }
            "no room" => {
                return Err(Failure::Runtime(anyhow!(
                    "the cache has no room for more than {} of {} blocks beside what is used: give a larger --cache",
                    prefetch.done,
                    prefetch.blocks
                )));
            }
            state => return Err(Failure::Runtime(anyhow!("it has ended: {state}"))),
        }
    }
}

/// Whether a name is that of a golden, by a LUN's name or by the IQN of its target.
fn is_meant(status: &GoldenStatus, name: &str, path: &Path) -> bool {
    if status.names.iter().any(|own| own == name) {
        return true;
    }
    let Ok(Response::Luns(targets)) = ask(path, &Request::LunList) else { return false };
    let targets = targets.iter().filter(|target| target.iqn.eq_ignore_ascii_case(name));
    targets.flat_map(|target| &target.luns).any(|lun| status.names.contains(&lun.name))
}

fn goldens(path: &Path) -> Result<Vec<GoldenStatus>, Failure> {
    match ask(path, &Request::GoldenList)? {
        Response::Goldens(goldens) => Ok(goldens),
        _ => Err(unexpected()),
    }
}

/// Asks for something to be done, and prints what is.
fn tell(arguments: &GoldenArgs, request: &Request) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), request)? {
        Response::Golden(what) => print(&format!("{}: {what}\n", arguments.golden)),
        _ => Err(unexpected()),
    }
}
