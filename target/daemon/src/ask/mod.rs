//! Commands that ask a running stampede.

pub(crate) mod golden;

use crate::Failure;
use crate::cli::{
    AccessArgs, AddArgs, EjectArgs, LunArgs, MoveArgs, ResetArgs, ResizeArgs, SessionArgs, SocketArgs,
    StatusArgs, WithinArgs,
};
use anyhow::anyhow;
use stampede_control::socket::{Request, Response, call};
use stampede_control::status::{
    LunChangeStatus, PlacementStatus, RebalanceStatus, clone_table, lun_table, render, session_table,
};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a rebalance to end; it goes on when nobody waits.
const REBALANCE_WAIT: Duration = Duration::from_secs(60);
/// How often to look how far it is.
const REBALANCE_POLL: Duration = Duration::from_millis(50);

fn ask(path: &Path, request: &Request) -> Result<Response, Failure> {
    call(path, request).map_err(Failure::runtime)
}

fn unexpected() -> Failure {
    Failure::Runtime(anyhow!(
        "the running stampede gave an answer to another question; is it of the same version?"
    ))
}

/// Prints, and does not mind when the reader of a pipe has gone.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::runtime(error)),
        _ => Ok(()),
    }
}

pub(crate) fn print_json(json: serde_json::Result<String>) -> Result<(), Failure> {
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

pub(crate) fn session_list(arguments: &StatusArgs) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), &Request::SessionList)? {
        Response::Sessions(sessions) if arguments.json => print_json(serde_json::to_string_pretty(&sessions)),
        Response::Sessions(sessions) => print(&session_table(&sessions)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn session_move(arguments: &MoveArgs) -> Result<(), Failure> {
    let request = Request::SessionMove { session: arguments.session.clone(), shard: arguments.shard };
    let Response::Moved(moved) = ask(&arguments.socket.path(), &request)? else {
        return Err(unexpected());
    };
    if arguments.json {
        return print_json(serde_json::to_string_pretty(&moved));
    }
    let (session, initiator, to) = (moved.session, &moved.initiator, moved.to);
    print(&match moved.from == to {
        true => format!("session {session} of {initiator} lives on shard {to} already\n"),
        false => {
            let (from, took_us) = (moved.from, moved.took_us);
            format!(
                "session {session} of {initiator} moved from shard {from} to shard {to} in {took_us} us\n"
            )
        }
    })
}

pub(crate) fn session_logout(arguments: &WithinArgs) -> Result<(), Failure> {
    let (session, seconds) = (arguments.session.session.clone(), arguments.seconds());
    let what = format!("is asked to log out within {seconds} s");
    tell(&arguments.session, &Request::SessionLogout { session, seconds }, &what)
}

pub(crate) fn session_renegotiate(arguments: &WithinArgs) -> Result<(), Failure> {
    let (session, seconds) = (arguments.session.session.clone(), arguments.seconds());
    let what = format!("is asked to renegotiate within {seconds} s");
    tell(&arguments.session, &Request::SessionRenegotiate { session, seconds }, &what)
}

pub(crate) fn session_drop(arguments: &SessionArgs) -> Result<(), Failure> {
    let request = Request::SessionDrop { session: arguments.session.clone() };
    tell(arguments, &request, "is told that its session ends")
}

fn tell(arguments: &SessionArgs, request: &Request, what: &str) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), request)? {
        Response::Told(told) if arguments.json => print_json(serde_json::to_string_pretty(&told)),
        Response::Told(told) => print(&format!("session {}: {} {what}\n", told.session, told.initiator)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn lun_list(arguments: &StatusArgs) -> Result<(), Failure> {
    match ask(&arguments.socket.path(), &Request::LunList)? {
        Response::Luns(targets) if arguments.json => print_json(serde_json::to_string_pretty(&targets)),
        Response::Luns(targets) => print(&lun_table(&targets)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn lun_resize(arguments: &ResizeArgs) -> Result<(), Failure> {
    let (target, lun) = (arguments.lun.target.clone(), arguments.lun.lun);
    let bytes = arguments.size.map(|size| size.0);
    change(&arguments.lun, &Request::LunResize { target, lun, bytes, force: arguments.force })
}

pub(crate) fn lun_eject(arguments: &EjectArgs) -> Result<(), Failure> {
    let (target, lun) = (arguments.lun.target.clone(), arguments.lun.lun);
    change(&arguments.lun, &Request::LunEject { target, lun, force: arguments.force })
}

pub(crate) fn lun_add(arguments: &AddArgs) -> Result<(), Failure> {
    let lun = absolute(&arguments.lun).map_err(Failure::runtime)?;
    let request = Request::LunAdd { target: arguments.target.clone(), lun };
    let changed = ask_change(&arguments.socket, &request)?;
    if arguments.json {
        return print_json(serde_json::to_string_pretty(&changed));
    }
    let (number, target, bytes) = (changed.lun, &changed.target, changed.bytes);
    print(&format!(
        "LUN {number} of {target}: added, {bytes} bytes\nIt is there until stampede stops: put it into the configuration \
         to keep it\n"
    ))
}

/// The image's path from the root on: the running stampede may be in another directory.
fn absolute(lun: &str) -> std::io::Result<String> {
    match lun.split_once('=') {
        Some((name, path)) if !path.starts_with('/') => {
            let here = std::env::current_dir()?.display().to_string().replace(',', ",,");
            Ok(format!("{name}={here}/{path}"))
        }
        _ => Ok(lun.to_owned()),
    }
}

pub(crate) fn lun_remove(arguments: &EjectArgs) -> Result<(), Failure> {
    let (target, lun) = (arguments.lun.target.clone(), arguments.lun.lun);
    change(&arguments.lun, &Request::LunRemove { target, lun, force: arguments.force })
}

pub(crate) fn lun_load(arguments: &LunArgs) -> Result<(), Failure> {
    change(arguments, &Request::LunLoad { target: arguments.target.clone(), lun: arguments.lun })
}

pub(crate) fn lun_access(arguments: &AccessArgs) -> Result<(), Failure> {
    let (target, lun) = (arguments.lun.target.clone(), arguments.lun.lun);
    change(&arguments.lun, &Request::LunAccess { target, lun, state: arguments.state() })
}

fn ask_change(socket: &SocketArgs, request: &Request) -> Result<LunChangeStatus, Failure> {
    match ask(&socket.path(), request)? {
        Response::Changed(changed) => Ok(changed),
        _ => Err(unexpected()),
    }
}

fn change(arguments: &LunArgs, request: &Request) -> Result<(), Failure> {
    let changed = ask_change(&arguments.socket, request)?;
    if arguments.json {
        return print_json(serde_json::to_string_pretty(&changed));
    }
    let (target, lun, done, before, now) =
        (&changed.target, changed.lun, &changed.done, changed.before_bytes, changed.bytes);
    print(&match before == now {
        true if done == "resized" => format!("LUN {lun} of {target} has {now} bytes already\n"),
        true => format!("LUN {lun} of {target}: {done}\n"),
        false => format!("LUN {lun} of {target}: {done} from {before} to {now} bytes\n"),
    })
}

pub(crate) fn session_rebalance(arguments: &StatusArgs) -> Result<(), Failure> {
    let path = arguments.socket.path();
    let before = placement(&path)?;
    let Response::Rebalancing(plan) = ask(&path, &Request::SessionRebalance)? else {
        return Err(unexpected());
    };
    let deadline = Instant::now() + REBALANCE_WAIT;
    let mut after = placement(&path)?;
    while after.rebalancing && Instant::now() < deadline {
        std::thread::sleep(REBALANCE_POLL);
        after = placement(&path)?;
    }
    match arguments.json {
        true => {
            print_json(serde_json::to_string_pretty(&serde_json::json!({ "plan": plan, "after": after })))?
        }
        false => print(&rebalanced(&plan, &before, &after))?,
    }
    if after.rebalancing {
        let seconds = REBALANCE_WAIT.as_secs();
        return Err(Failure::Runtime(anyhow!(
            "still moving sessions after {seconds} s; it goes on, and `stampede status` shows how far it is"
        )));
    }
    match spread(&after.loads) > after.bound {
        true => Err(Failure::Runtime(anyhow!(
            "the shards still differ by more than {}: what is left are clones that no session or several sessions use, \
             or sessions that could not be moved (the log says why)",
            after.bound
        ))),
        false => Ok(()),
    }
}

fn placement(path: &Path) -> Result<PlacementStatus, Failure> {
    match ask(path, &Request::Status)? {
        Response::Status(status) => Ok(status.placement),
        _ => Err(unexpected()),
    }
}

fn spread(loads: &[u32]) -> u32 {
    loads.iter().max().zip(loads.iter().min()).map_or(0, |(most, least)| most - least)
}

fn rebalanced(plan: &RebalanceStatus, before: &PlacementStatus, after: &PlacementStatus) -> String {
    let list = |loads: &[u32]| loads.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if plan.sessions.is_empty() && spread(&plan.before) <= plan.bound {
        return format!("the shards carry {}: within the bound of {}\n", list(&plan.before), plan.bound);
    }
    format!(
        "{} sessions moved, {} not; the shards carried {} and carry {} (bound {})\n",
        after.moved.saturating_sub(before.moved),
        after.moves_failed.saturating_sub(before.moves_failed),
        list(&plan.before),
        list(&after.loads),
        plan.bound
    )
}
