//! SIGTERM and SIGINT: the first drains, the second ends at once.

use crossbeam::channel::Sender;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stampede_control::thread::Command;
use stampede_ring::clock::monotonic_ns;
use std::io;
use std::time::Duration;

/// Watches from a thread of its own. `before` is done at the first signal, before initiators are asked to log out.
///
/// # Errors
/// Whatever sigaction and clone say.
pub(crate) fn watch(
    commands: Sender<Command>,
    drain_timeout: Duration,
    before: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let body = move || {
        let mut before = Some(before);
        for signal in signals.forever() {
            let Some(before) = before.take() else {
                eprintln!("stampede: signal {signal} again: ending at once");
                std::process::exit(1);
            };
            tracing::info!(
                signal,
                limit_s = drain_timeout.as_secs_f64(),
                "stopping: asking initiators to log out"
            );
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
            before();
            let limit_ns = u64::try_from(drain_timeout.as_nanos()).unwrap_or(u64::MAX);
            let deadline_ns = monotonic_ns().saturating_add(limit_ns);
            // If the control thread is gone, the process is ending already.
            let _ = commands.send(Command::Drain { deadline_ns });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(body).map(drop)
}
