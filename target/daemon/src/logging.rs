//! Where events go: to standard error, one line each, by a thread of its own, so that a slow reader of the log never
//! holds up a shard. What the queue has no room for is counted and said later.

use crate::Failure;
use anyhow::anyhow;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use stampede_control::config::{Config, LogFormat};
use stampede_control::logging::{Allowance, RateLimit};
use stampede_ring::clock::monotonic_ns;
use std::fmt::Debug;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that may wait for the writing thread.
const LINES_MAX: usize = 8192;

/// Lines that one peer may cause in [`PEER_WINDOW_NS`].
const PEER_LINES: u32 = 200;
/// Nanoseconds.
const PEER_WINDOW_NS: u64 = 10_000_000_000;

/// Keeps the writing thread; [`Log::finish`] waits for the last line.
pub(crate) struct Log {
    lines: Sender<Line>,
    thread: Option<JoinHandle<()>>,
}

enum Line {
    Text(Vec<u8>),
    End,
}

impl Log {
    /// Sends events to standard error from now on.
    ///
    /// # Errors
    /// The filter makes no sense.
    pub(crate) fn start(config: &Config) -> Result<Self, Failure> {
        let (from, filter) = match std::env::var("RUST_LOG") {
            Ok(filter) if !filter.is_empty() => ("RUST_LOG", filter),
            _ => ("log", config.log.clone()),
        };
        let filter = EnvFilter::try_new(&filter).map_err(|error| {
            Failure::Usage(anyhow!(
                "{from}: `{filter}` is not a filter ({error}): use error, warn, info or debug"
            ))
        })?;
        let (lines, receiver) = bounded(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { lines: lines.clone(), lost: Arc::clone(&lost) };
        let thread =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver, &lost));
        let thread = thread.map_err(Failure::runtime)?;
        let limit = PeerLimit {
            limit: Mutex::new(RateLimit::new(PEER_LINES, PEER_WINDOW_NS)),
            lines: lines.clone(),
            format: config.log_format,
        };
        let registry = tracing_subscriber::registry().with(filter).with(limit);
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
        let installed = match config.log_format {
            LogFormat::Text => {
                let terminal = io::IsTerminal::is_terminal(&io::stderr());
                registry.with(layer.with_ansi(terminal)).try_init()
            }
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        };
        installed.map_err(|error| Failure::Runtime(anyhow!("cannot log: {error}")))?;
        Ok(Self { lines, thread: Some(thread) })
    }

    /// Waits until everything is written.
    pub(crate) fn finish(mut self) {
        if self.lines.send(Line::End).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It writes and returns; if it has panicked, there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64) {
    let mut out = io::stderr();
    while let Ok(Line::Text(line)) = lines.recv() {
        // There is no place to report to that standard error is gone.
        let _ = out.write_all(&line);
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} log lines were lost: whoever reads them is too slow");
        }
    }
}

#[derive(Clone)]
struct Writer {
    lines: Sender<Line>,
    lost: Arc<AtomicU64>,
}

/// One event's text, sent when complete.
struct Event<'a> {
    writer: &'a Writer,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { writer: self, text: Vec::with_capacity(256) }
    }
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if let Err(TrySendError::Full(_)) = self.writer.lines.try_send(Line::Text(text)) {
            self.writer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Leaves out events of a peer that causes too many. A peer is known by the field `peer`.
struct PeerLimit {
    limit: Mutex<RateLimit<IpAddr>>,
    lines: Sender<Line>,
    format: LogFormat,
}

impl<S: Subscriber> Layer<S> for PeerLimit {
    fn event_enabled(&self, event: &tracing::Event<'_>, _: Context<'_, S>) -> bool {
        let mut peer = PeerField(None);
        event.record(&mut peer);
        let Some(peer) = peer.0 else { return true };
        // The table is whole after a panic elsewhere too, which ends the process anyway.
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        match limit.check(peer, monotonic_ns()) {
            Allowance::Write { left_out: 0 } => true,
            Allowance::Write { left_out } => {
                let text = match self.format {
                    LogFormat::Text => format!("{left_out} events of {peer} were left out\n"),
                    LogFormat::Json => format!(
                        "{{\"message\":\"events left out\",\"peer\":\"{peer}\",\"count\":{left_out}}}\n"
                    ),
                };
                drop(self.lines.try_send(Line::Text(text.into_bytes())));
                true
            }
            Allowance::LeaveOut => false,
        }
    }
}

/// Finds the address in an event's field `peer`.
struct PeerField(Option<IpAddr>);

impl Visit for PeerField {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "peer" {
            self.0 = format!("{value:?}").parse::<SocketAddr>().ok().map(|peer| peer.ip());
        }
    }
}

/// A panic is our own mistake: say where, and end at once. What initiators were told is in their disks' files or in
/// the state store, and they log in again.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        eprintln!("stampede: internal error on thread {name}, ending at once: {panic}");
        eprintln!("{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    }));
}
