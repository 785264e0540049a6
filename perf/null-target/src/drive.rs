//! The client of the floor: keeps so many requests under way on each connection, and reports as storm does.

use crate::floor::Sizes;
use crate::outbox::{Memory, Outbox};
use anyhow::{Context as _, anyhow, bail};
use stampede_report::watch::{Sample, machine_cpu_seconds};
use stampede_report::{Client, Latency, SCHEMA, StormReport, Traffic, TrafficRecorder, rate};
use stampede_ring::clock::monotonic_ns;
use stampede_ring::uring::{UringConfig, UringRing};
use stampede_ring::{Completion, Event, Operation, Received, Ring, SocketId, Token, Wait};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What to drive, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Bytes of an exchange.
    pub sizes: Sizes,
    /// Bytes of data in one exchange, as counted in the report.
    pub data: u64,
    /// Requests under way on each connection.
    pub depth: u32,
    /// Connections.
    pub connections: u32,
    /// Before the window, nanoseconds.
    pub warmup_ns: u64,
    /// The measuring window, nanoseconds.
    pub window_ns: u64,
    /// The server's process, to be watched.
    pub watch_pid: Option<u32>,
}

impl Load {
    /// The most requests under way on one connection.
    pub const DEPTH_MAX: u32 = 1024;
    /// The most connections.
    pub const CONNECTIONS_MAX: u32 = 1024;
}

/// Bytes of payload that requests are taken from: the client is not what is measured.
const CANNED: u64 = 1 << 20;

/// What was used up to one end of the window.
struct Usage {
    watched: Option<Sample>,
    own: Sample,
    machine_seconds: f64,
    at_ns: u64,
}

impl Usage {
    fn now(load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            watched: load.watch_pid.map(Sample::of).transpose()?,
            own: Sample::of(std::process::id())?,
            machine_seconds: machine_cpu_seconds()?,
            at_ns: monotonic_ns(),
        })
    }
}

struct Conn {
    socket: SocketId,
    outbox: Outbox,
    receiving: bool,
    /// Bytes of an answer that is not complete.
    got: u64,
    /// When the requests under way were sent, oldest first: answers come in order.
    asked_ns: VecDeque<u64>,
}

struct Driver<'a> {
    load: &'a Load,
    ring: UringRing,
    memory: Memory,
    conns: Vec<Conn>,
    recorder: TrafficRecorder,
    now_ns: u64,
}

/// Drives the load from the calling thread.
///
/// # Errors
/// The server cannot be reached, closed a connection, or said nothing for ten seconds; a process cannot be watched.
pub fn drive(load: &Load) -> anyhow::Result<StormReport> {
    let config = UringConfig { sockets_max: Load::CONNECTIONS_MAX + 8, ..UringConfig::default() };
    let mut driver = Driver {
        load,
        ring: UringRing::new(&config, &[])?,
        memory: Memory::new(CANNED)?,
        conns: Vec::new(),
        recorder: TrafficRecorder { bytes: 0, latency: Latency::new() },
        now_ns: monotonic_ns(),
    };
    driver.connect()?;
    driver.run_until(monotonic_ns() + load.warmup_ns)?;
    driver.recorder.clear();
    let start = Usage::now(load)?;
    driver.run_until(start.at_ns + load.window_ns)?;
    let end = Usage::now(load)?;
    Ok(driver.report(&start, &end))
}

impl Driver<'_> {
    fn connect(&mut self) -> anyhow::Result<()> {
        for key in 0..self.load.connections as usize {
            let stream = TcpStream::connect_timeout(&self.load.address, Duration::from_secs(5))
                .with_context(|| {
                    format!("cannot connect to {}: is `floor serve` running there?", self.load.address)
                })?;
            stream.set_nodelay(true)?;
            let socket = self.ring.add_socket(stream)?;
            let asked_ns = VecDeque::with_capacity(self.load.depth as usize);
            self.conns.push(Conn { socket, outbox: Outbox::default(), receiving: false, got: 0, asked_ns });
            self.now_ns = monotonic_ns();
            self.ask(key, self.load.depth)?;
            self.settle(key)?;
        }
        Ok(())
    }

    fn run_until(&mut self, end_ns: u64) -> anyhow::Result<()> {
        /// Silence after which the server is taken for dead.
        const SILENCE_NS: u64 = 10_000_000_000;
        let mut batch = Vec::with_capacity(512);
        let mut heard_ns = monotonic_ns();
        loop {
            let wait = Wait::Until(end_ns.min(heard_ns + SILENCE_NS));
            self.ring.submit(wait).map_err(|error| anyhow!("the ring is broken: {error}"))?;
            self.now_ns = monotonic_ns();
            if self.ring.reap(&mut batch) > 0 {
                heard_ns = self.now_ns;
            } else if self.now_ns >= heard_ns + SILENCE_NS {
                bail!("{} has said nothing for ten seconds", self.load.address);
            }
            for Completion { token, event } in batch.drain(..) {
                self.complete(token.0 as usize >> 1, event)?;
            }
            for key in 0..self.conns.len() {
                self.settle(key)?;
            }
            if self.now_ns >= end_ns {
                return Ok(());
            }
        }
    }

    fn complete(&mut self, key: usize, event: Event) -> anyhow::Result<()> {
        let Some(conn) = self.conns.get_mut(key) else { return Ok(()) };
        match event {
            Event::Sent { result, list } => {
                conn.outbox.sent(result, list).map_err(|error| anyhow!("sending failed: {error}"))
            }
            Event::Received { received: Received::Chunk(chunk), more } => {
                conn.receiving = more;
                let len = u64::from(chunk.len());
                self.ring.recycle(chunk);
                self.answered(key, len)
            }
            Event::Received { received: Received::Starved, .. } => {
                conn.receiving = false;
                Ok(())
            }
            Event::Received { received, .. } => {
                bail!("the server ended a connection ({received:?}): do both sides have the same sizes?")
            }
            _ => Ok(()),
        }
    }

    fn answered(&mut self, key: usize, len: u64) -> anyhow::Result<()> {
        let conn = &mut self.conns[key];
        let answer = u64::from(self.load.sizes.answer);
        conn.got += len;
        let complete = conn.got / answer;
        conn.got %= answer;
        for _ in 0..complete {
            let asked_ns = conn.asked_ns.pop_front().context("the server answers what nobody asked")?;
            self.recorder.record(self.load.data, self.now_ns.saturating_sub(asked_ns));
        }
        self.ask(key, complete as u32)
    }

    fn ask(&mut self, key: usize, count: u32) -> anyhow::Result<()> {
        let (conn, request) = (&mut self.conns[key], self.load.sizes.request);
        for place in 0..u64::from(count) {
            conn.outbox.make_room()?;
            conn.outbox.canned(place * u64::from(request), request, &self.memory);
            conn.asked_ns.push_back(self.now_ns);
        }
        Ok(())
    }

    fn settle(&mut self, key: usize) -> anyhow::Result<()> {
        let conn = &mut self.conns[key];
        let socket = conn.socket;
        let token = |kind| Token((key as u64) << 1 | kind);
        let full = || anyhow!("the ring's queue is full: use fewer connections");
        if let Some(list) = conn.outbox.next_list() {
            self.ring.push(token(0), Operation::Send { socket, list }).map_err(|_| full())?;
        }
        if !std::mem::replace(&mut conn.receiving, true) {
            self.ring.push(token(1), Operation::Receive { socket }).map_err(|_| full())?;
        }
        Ok(())
    }

    fn report(&self, start: &Usage, end: &Usage) -> StormReport {
        let seconds = (end.at_ns - start.at_ns) as f64 / 1e9;
        let traffic = self.recorder.report();
        let reading = self.load.sizes.answer >= self.load.sizes.request;
        let (reads, writes) = if reading {
            (traffic.clone(), Traffic::default())
        } else {
            (Traffic::default(), traffic.clone())
        };
        let parameter = |name: &str, value: u64| (name.to_owned(), value.into());
        StormReport {
            schema: SCHEMA,
            tool: "floor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: "floor".to_owned(),
            url: self.load.address.to_string(),
            parameters: [
                parameter("request", self.load.sizes.request.into()),
                parameter("answer", self.load.sizes.answer.into()),
                parameter("depth", self.load.depth.into()),
                parameter("connections", self.load.connections.into()),
            ]
            .into(),
            seconds,
            iops: rate(traffic.operations as f64, seconds),
            bytes_per_second: rate(traffic.bytes as f64, seconds),
            reads,
            writes,
            all: traffic,
            client: Client { cpu_seconds: start.own.until(&end.own).cpu_seconds },
            watched: start.watched.zip(end.watched).map(|(start, end)| start.until(&end)),
            machine_cpu_seconds: end.machine_seconds - start.machine_seconds,
            ..StormReport::default()
        }
    }
}
