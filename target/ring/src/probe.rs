//! What the running kernel can do, found out by doing it.

use crate::clock;
use crate::memory::{IoMemory, Pool};
use crate::seam::{Event, Operation, PeerId, Received, Ring, SocketId, Token, Wait};
use crate::send_list::SendList;
use crate::uring::{SetupError, UringConfig, UringRing};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// Whether the target can run without a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot run without; the feature is there since this kernel version.
    Fatal {
        /// First kernel version that has it.
        since: &'static str,
    },
    /// It runs, and this is what it costs.
    Optional {
        /// What is lost without.
        consequence: &'static str,
    },
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// How much it is needed.
    pub need: Need,
    /// `Ok`, or the reason: the kernel's answer.
    pub result: Result<(), String>,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.result, self.need) {
            (Ok(()), _) => write!(f, "{}: ok", self.name),
            (Err(reason), Need::Fatal { since }) => {
                write!(f, "{}: missing ({reason}); needed, Linux {since} or later has it", self.name)
            }
            (Err(reason), Need::Optional { consequence }) => {
                write!(f, "{}: missing ({reason}); {consequence}", self.name)
            }
        }
    }
}

/// All features that were tried, in the order they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// One by one.
    pub features: Vec<Feature>,
}

impl ProbeReport {
    /// The missing features without which the target cannot run.
    pub fn fatal(&self) -> impl Iterator<Item = &Feature> {
        self.features
            .iter()
            .filter(|feature| feature.result.is_err() && matches!(feature.need, Need::Fatal { .. }))
    }

    /// The missing features that only cost something.
    pub fn degraded(&self) -> impl Iterator<Item = &Feature> {
        self.features
            .iter()
            .filter(|feature| feature.result.is_err() && matches!(feature.need, Need::Optional { .. }))
    }
}

impl fmt::Display for ProbeReport {
    /// One line per feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, feature) in self.features.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{feature}")?;
        }
        Ok(())
    }
}

/// Tries every feature, in milliseconds, on rings and loopback connections of its own. What depends on something
/// that is missing is not tried.
pub fn run() -> ProbeReport {
    let mut probe = Probe { report: ProbeReport::default() };
    // Without a ring there is nothing to try.
    let _ = probe.run();
    probe.report
}

struct Probe {
    report: ProbeReport,
}

/// A feature that is needed is missing: its dependants cannot be tried.
struct Missing;

impl Probe {
    fn run(&mut self) -> Result<(), Missing> {
        let memory = IoMemory::new(1 << 20).map_err(|error| errno_of(&error));
        let pools = memory.as_ref().map_or(&[][..], IoMemory::pools);
        let mut ring = self.set_up(pools)?;
        self.optional_parts(&ring);
        self.needed("waiting with a time limit (EXT_ARG)", "5.11", wait(&mut ring))?;
        self.needed("messages between rings (MSG_RING)", "5.18", message(&mut ring))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| errno_of(&error));
        let connection = listener.and_then(|listener| accept(&mut ring, listener));
        let (client, socket) =
            self.needed("accepting many connections at once (multishot)", "5.19", connection)?;
        let received = receive(&mut ring, &client, socket);
        let receive = self.needed("receiving into provided buffers (multishot)", "6.0", received)?;
        self.needed("cancelling", "5.5", cancel(&mut ring, receive))?;
        let sent = memory.and_then(|memory| send(&mut ring, &memory, client, socket));
        self.needed("vectored sends", "5.3", sent)
    }

    fn set_up(&mut self, pools: &[Arc<Pool>]) -> Result<UringRing, Missing> {
        let config = UringConfig {
            entries: 8,
            completions: 16,
            operations_max: 16,
            sockets_max: 8,
            files_max: 8,
            receive_buffers: 2,
            receive_buffer_len: 4096,
            ..UringConfig::default()
        };
        let ring = match UringRing::new(&config, pools) {
            Ok(ring) => Ok(ring),
            // Its own feature, with its own first version.
            Err(SetupError::Missing { feature, since, source }) => {
                return self.needed(feature, since, Err(errno_of(&source)));
            }
            Err(SetupError::Forbidden { source } | SetupError::Resources { source, .. }) => {
                Err(errno_of(&source))
            }
            Err(SetupError::Config { .. }) => Err(libc::EINVAL),
        };
        self.needed("io_uring with one issuer and deferred work (SINGLE_ISSUER, DEFER_TASKRUN)", "6.1", ring)
    }

    fn optional_parts(&mut self, ring: &UringRing) {
        let report = ring.report();
        let parts = [
            (
                "registered memory",
                &report.unregistered_reason,
                "each transfer past the cache pins its pages anew, which costs CPU (see `ulimit -l`)",
            ),
            (
                "registered descriptors",
                &report.unregistered_files_reason,
                "each operation looks its descriptor up, which costs CPU (see `ulimit -n`)",
            ),
            (
                "placing the kernel's worker threads",
                &report.worker_cores_reason,
                "flushing and discarding may run on a shard's core",
            ),
        ];
        for (name, missing, consequence) in parts {
            let result = missing.clone().map_or(Ok(()), Err);
            self.report.features.push(Feature { name, need: Need::Optional { consequence }, result });
        }
    }

    fn needed<T>(
        &mut self,
        name: &'static str,
        since: &'static str,
        result: Result<T, i32>,
    ) -> Result<T, Missing> {
        let (told, value) = match result {
            Ok(value) => (Ok(()), Ok(value)),
            Err(errno) => (Err(io::Error::from_raw_os_error(errno).to_string()), Err(Missing)),
        };
        self.report.features.push(Feature { name, need: Need::Fatal { since }, result: told });
        value
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Waits for the next event, for a second at most.
fn next(ring: &mut UringRing) -> Result<Event, i32> {
    let mut batch = Vec::with_capacity(1);
    let deadline = clock::monotonic_ns().saturating_add(1_000_000_000);
    while clock::monotonic_ns() < deadline {
        ring.submit(Wait::Until(deadline)).map_err(|errno| errno.0)?;
        ring.reap(&mut batch);
        if let Some(completion) = batch.pop() {
            return Ok(completion.event);
        }
    }
    Err(libc::ETIMEDOUT)
}

fn push(ring: &mut UringRing, token: Token, operation: Operation) -> Result<(), i32> {
    ring.push(token, operation).map_err(|_| libc::EAGAIN)
}

fn wait(ring: &mut UringRing) -> Result<(), i32> {
    // The first call also submits what the ring itself wants.
    for _ in 0..2 {
        let deadline = clock::monotonic_ns().saturating_add(1_000_000);
        ring.submit(Wait::Until(deadline)).map_err(|errno| errno.0)?;
    }
    Ok(())
}

fn message(ring: &mut UringRing) -> Result<(), i32> {
    let own = PeerId(0);
    ring.connect_peer(own, ring.peer_handle().map_err(|error| errno_of(&error))?);
    push(ring, Token(1), Operation::Wake { peer: own })?;
    match next(ring)? {
        Event::Woken => Ok(()),
        Event::Finished { result: Err(errno) } => Err(errno.0),
        _ => Err(libc::EPROTO),
    }
}

fn accept(ring: &mut UringRing, listener: TcpListener) -> Result<(TcpStream, SocketId), i32> {
    let address = listener.local_addr().map_err(|error| errno_of(&error))?;
    let listener = ring.add_listener(listener).map_err(|_| libc::ENFILE)?;
    push(ring, Token(2), Operation::Accept { listener })?;
    let client = TcpStream::connect(address).map_err(|error| errno_of(&error))?;
    match next(ring)? {
        Event::Accepted { result: Ok(accepted), more: true } => Ok((client, accepted.socket)),
        Event::Accepted { result: Err(errno), .. } => Err(errno.0),
        _ => Err(libc::EPROTO),
    }
}

fn receive(ring: &mut UringRing, mut client: &TcpStream, socket: SocketId) -> Result<Token, i32> {
    let token = Token(3);
    push(ring, token, Operation::Receive { socket })?;
    client.write_all(b"probe").map_err(|error| errno_of(&error))?;
    match next(ring)? {
        Event::Received { received: Received::Chunk(chunk), more: true } => {
            ring.recycle(chunk);
            Ok(token)
        }
        Event::Received { received: Received::Failed(errno), .. } => Err(errno.0),
        _ => Err(libc::EPROTO),
    }
}

fn cancel(ring: &mut UringRing, target: Token) -> Result<(), i32> {
    push(ring, Token(4), Operation::Cancel { target })?;
    let mut cancelled = false;
    for _ in 0..2 {
        match next(ring)? {
            Event::Finished { result } => result.map_err(|errno| errno.0)?,
            Event::Received { received: Received::Cancelled, more: false } => cancelled = true,
            _ => return Err(libc::EPROTO),
        }
    }
    if cancelled { Ok(()) } else { Err(libc::EPROTO) }
}

fn send(ring: &mut UringRing, memory: &IoMemory, mut client: TcpStream, socket: SocketId) -> Result<(), i32> {
    let mut list = SendList::new();
    let index = list.pin(memory.take(4096).ok_or(libc::ENOMEM)?);
    list.segment(index, 0, 48);
    list.segment(index, 1024, 512);
    push(ring, Token(5), Operation::Send { socket, list })?;
    match next(ring)? {
        Event::Sent { result, .. } => result.map_err(|errno| errno.0)?,
        _ => return Err(libc::EPROTO),
    };
    client.read_exact(&mut [0; 560]).map_err(|error| errno_of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_is_needed() {
        let report = run();
        assert_eq!(report.fatal().count(), 0, "{report}");
        assert_eq!(report.features.len(), 10, "{report}");
        assert!(report.to_string().lines().all(|line| line.contains(": ")));
    }

    #[test]
    fn a_missing_feature_is_said_plainly() {
        let need = Need::Fatal { since: "6.1" };
        let feature = Feature { name: "something", need, result: Err("EINVAL".to_owned()) };
        assert_eq!(feature.to_string(), "something: missing (EINVAL); needed, Linux 6.1 or later has it");
        let need = Need::Optional { consequence: "slower" };
        let feature = Feature { name: "another", need, result: Err("EPERM".to_owned()) };
        let report = ProbeReport { features: vec![feature] };
        assert_eq!((report.fatal().count(), report.degraded().count()), (0, 1));
    }
}
