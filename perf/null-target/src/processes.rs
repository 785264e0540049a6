//! From a command line to running shards: threads on their cores, signals, the counters' file.

use crate::Memory;
use crate::arguments::{Bytes, Cores};
use crate::server::{Connection, Shard, Watch};
use crate::stats::{self, Published};
use anyhow::{Context as _, anyhow, bail};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use stampede_ring::net::{ListenConfig, listen};
use stampede_ring::uring::Waker;
use stampede_ring::{cpu, limits};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What `null-target` and `floor serve` have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// Where to listen; port 0 lets the system choose, and the line on standard output says which
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3260")]
    pub listen: SocketAddr,
    /// Cores, one thread pinned to each; connections are spread over them by the kernel (SO_REUSEPORT). Without it one
    /// thread that is not pinned
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,
    /// Payload that answers are taken from, for each core: more than the processor's caches hold, as a unit in memory is
    #[arg(long, value_name = "SIZE", default_value = "64m")]
    pub canned: Bytes,
    /// Where to write the counters as JSON, at the end and at every SIGUSR1
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
}

/// A shard's thread, seen from outside.
struct Running {
    watch: Arc<Watch>,
    waker: Waker,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// How a server speaks to whoever started it.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Told once where the server listens.
    pub listening: fn(SocketAddr),
    /// Told why a connection is dropped.
    pub dropped: fn(&dyn std::fmt::Display),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Listening, pinning, the ring, or the counters' file failed; the error says which and what to do.
pub fn serve<C>(arguments: &ServeArguments, shared: C::Shared, voice: Voice) -> anyhow::Result<()>
where
    C: Connection + 'static,
    C::Shared: 'static,
{
    let Bytes(canned) = arguments.canned;
    if !(4096..=Memory::CANNED_MAX).contains(&canned) {
        bail!("--canned {}: from 4k to {}", arguments.canned, Bytes(Memory::CANNED_MAX));
    }
    limits::raise_descriptors().context("cannot raise the limit of open files")?;
    let cores: Vec<Option<usize>> = match &arguments.cores {
        Some(Cores(cores)) => cores.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    let shared = Arc::new(shared);
    // Before any thread: the signals come to this one alone.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let listeners = listeners(arguments.listen, cores.len())?;
    let address = listeners.first().map(TcpListener::local_addr).transpose()?.unwrap_or(arguments.listen);
    let mut running = Vec::new();
    for (core, listener) in cores.into_iter().zip(listeners) {
        running.push(start::<C>(core, listener, &shared, (voice, canned))?);
    }
    (voice.listening)(address);
    for signal in &mut signals {
        if signal != SIGUSR1 {
            break;
        }
        write_stats(arguments, &running)?;
    }
    for shard in &running {
        shard.watch.stop.store(true, Ordering::Relaxed);
        shard.waker.wake();
    }
    let watches: Vec<Arc<Watch>> = running.iter().map(|shard| Arc::clone(&shard.watch)).collect();
    for shard in running {
        shard.thread.join().map_err(|_| anyhow!("a shard's thread panicked"))??;
    }
    let counters: Vec<_> = watches.iter().map(|watch| watch.counters.read()).collect();
    arguments.stats.as_ref().map_or(Ok(()), |path| stats::write(path, &counters))
}

fn write_stats(arguments: &ServeArguments, running: &[Running]) -> anyhow::Result<()> {
    let Some(path) = &arguments.stats else { return Ok(()) };
    let counters: Vec<_> = running.iter().map(|shard| shard.watch.counters.read()).collect();
    stats::write(path, &counters)
}

/// One listener for each thread, all on one port.
fn listeners(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpListener>> {
    let config = ListenConfig { reuse_port: count > 1, ..ListenConfig::default() };
    let first = listen(address, &config)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listen(address, &config)?);
    }
    Ok(listeners)
}

fn start<C>(
    core: Option<usize>,
    listener: TcpListener,
    shared: &Arc<C::Shared>,
    (voice, canned): (Voice, u64),
) -> anyhow::Result<Running>
where
    C: Connection + 'static,
    C::Shared: 'static,
{
    let watch = Arc::new(Watch {
        complain: voice.dropped,
        counters: Published::default(),
        stop: AtomicBool::new(false),
    });
    let (shared, for_thread) = (Arc::clone(shared), Arc::clone(&watch));
    let (hello, ready) = mpsc::channel();
    let name = core.map_or_else(|| "shard".to_owned(), |core| format!("shard-{core}"));
    let body = move || {
        let set_up = || -> anyhow::Result<Shard<C>> {
            core.map_or(Ok(()), cpu::pin_current_thread)?;
            Shard::new(listener, shared, for_thread, canned)
        };
        let shard = match set_up() {
            Ok(shard) => shard,
            Err(error) => {
                // Whoever waits for the answer sees the channel close and asks the thread.
                drop(hello);
                return Err(error);
            }
        };
        hello.send(shard.waker()).context("nobody waits for this shard")?;
        let ended = shard.run();
        if ended.is_err() {
            // Ends the others too; joining this one tells why.
            signal_hook::low_level::raise(SIGTERM)?;
        }
        ended
    };
    let thread = std::thread::Builder::new().name(name).spawn(body)?;
    match ready.recv() {
        Ok(waker) => Ok(Running { watch, waker, thread }),
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(error),
            _ => Err(anyhow!("a shard's thread ended while it was set up")),
        },
    }
}
