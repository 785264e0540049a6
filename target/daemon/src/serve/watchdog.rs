//! The service manager's watchdog: it hears from us as long as the control thread answers.

use crossbeam::channel::{Sender, bounded};
use sd_notify::NotifyState;
use stampede_control::socket::{Request, Response};
use stampede_control::thread::Command;
use std::io;

/// Starts a thread that asks the control thread and tells the manager, twice in each of the manager's periods; none when it
/// does not watch.
///
/// # Errors
/// Whatever clone says.
pub(super) fn feed(commands: &Sender<Command>) -> io::Result<()> {
    let Some(period) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let (commands, pause) = (commands.clone(), period / 2);
    let body = move || {
        loop {
            let (sender, receiver) = bounded(1);
            // When the control thread is gone the process ends; when it hangs nothing is told.
            if commands.send_timeout(Command::Ask(Request::Ping, sender), pause).is_ok()
                && let Ok(Response::Pong { .. }) = receiver.recv_timeout(pause)
            {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(pause);
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(body).map(drop)
}
