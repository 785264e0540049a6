//! `floor`: request and answer bytes with no protocol at all. See the crate.

#![forbid(unsafe_code)]

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use stampede_null_target::arguments::{Bytes, Cores};
use stampede_null_target::drive::{Load, drive};
use stampede_null_target::floor::{Connection, Sizes};
use stampede_null_target::processes::{ServeArguments, Voice, serve};
use stampede_report::table;
use stampede_ring::{cpu, limits};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a header, as of iSCSI.
const HEADER: u64 = 48;

/// What a machine gives when so many bytes go in and so many come out, with no protocol at all
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    side: Side,
}

#[derive(Debug, Subcommand)]
enum Side {
    /// Answers requests
    Serve {
        #[command(flatten)]
        serve: ServeArguments,
        #[command(flatten)]
        exchange: Exchange,
    },
    /// Sends requests and reports as storm does
    Drive(Drive),
}

/// The sizes of one exchange; both sides are given the same.
#[derive(Debug, Args)]
struct Exchange {
    /// Data of one exchange
    #[arg(long, value_name = "SIZE", default_value = "4k")]
    bs: Bytes,
    /// The data goes to the server, as in a write; else it comes from there
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Args)]
struct Drive {
    #[command(flatten)]
    exchange: Exchange,
    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=i64::from(Load::DEPTH_MAX)))]
    depth: u32,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(Load::CONNECTIONS_MAX)))]
    sessions: u32,
    /// Length of the measuring window, seconds
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    secs: f64,
    /// Seconds before it
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    warmup: f64,
    /// The core to run on
    #[arg(long, value_name = "CORE")]
    cores: Option<Cores>,
    /// The server's process: its CPU time and wake-ups are reported
    #[arg(long, value_name = "PID")]
    watch_pid: Option<u32>,
    /// Where to write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No table
    #[arg(long)]
    quiet: bool,
    /// The server
    #[arg(value_name = "ADDRESS:PORT")]
    address: SocketAddr,
}

impl Exchange {
    fn sizes(&self) -> anyhow::Result<Sizes> {
        let data = HEADER + self.bs.0;
        ensure!(
            self.bs.0 > 0 && data <= u64::from(Sizes::MAX),
            "--bs {}: an exchange has 1 to {} bytes of data",
            self.bs,
            u64::from(Sizes::MAX) - HEADER
        );
        let (header, data) = (u32::try_from(HEADER)?, u32::try_from(data)?);
        Ok(if self.write {
            Sizes { request: data, answer: header }
        } else {
            Sizes { request: header, answer: data }
        })
    }
}

impl Drive {
    fn run(&self) -> anyhow::Result<()> {
        let sizes = self.exchange.sizes()?;
        let seconds = |name: &str, value: f64, least: f64| {
            ensure!((least..=86_400.0).contains(&value), "--{name} {value}: seconds from {least} to 86400");
            Ok((value * 1e9) as u64)
        };
        let (warmup_ns, window_ns) = (seconds("warmup", self.warmup, 0.0)?, seconds("secs", self.secs, 0.1)?);
        limits::raise_descriptors().context("cannot raise the limit of open files")?;
        if let Some(Cores(cores)) = &self.cores {
            let [core] = cores[..] else {
                anyhow::bail!("--cores: the floor's client is one thread: name one core")
            };
            cpu::pin_current_thread(core)?;
        }
        let report = drive(&Load {
            address: self.address,
            sizes,
            data: self.exchange.bs.0,
            depth: self.depth,
            connections: self.sessions,
            warmup_ns,
            window_ns,
            watch_pid: self.watch_pid,
        })?;
        if let Some(path) = &self.json {
            report.write(path)?;
        }
        if !self.quiet {
            println!("{}", table::storm(&report));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> anyhow::Result<()> {
    match Arguments::parse().side {
        Side::Drive(drive) => drive.run(),
        Side::Serve { serve: arguments, exchange } => {
            let voice = Voice {
                listening: |address| println!("listening on {address}"),
                dropped: |why| eprintln!("connection dropped: {why}"),
            };
            serve::<Connection>(&arguments, exchange.sizes()?, voice)
        }
    }
}
