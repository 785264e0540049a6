//! A small target for tests: a disk in memory, one thread per connection, and faults on request.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test target that is misused fails its test")]

mod connection;
mod disk;

use connection::Connection;
pub(crate) use disk::Disk;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The target's name.
pub(crate) const NAME: &str = "iqn.2026-11.io.stampede:test";

/// What the target is and how it misbehaves.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Bytes of a logical block.
    pub(crate) block_size: u32,
    /// Logical blocks.
    pub(crate) blocks: u64,
    /// Write data beyond the immediate part waits for R2Ts.
    pub initial_r2t: bool,
    /// Another initiator holds a reservation.
    pub(crate) is_reserved: bool,
    /// Persistent reservation keys that are registered.
    pub(crate) keys: u32,
    /// The unit is write-protected.
    pub(crate) is_read_only: bool,
    /// UNMAP, WRITE SAME and SYNCHRONIZE CACHE are supported.
    pub(crate) has_extras: bool,
    /// The connection breaks after so many SCSI commands, again and again.
    pub(crate) breaks_after: Option<u64>,
    /// READs end with MEDIUM ERROR.
    pub(crate) reads_fail: bool,
    /// What it does wrong with its data.
    pub(crate) bug: Bug,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            block_size: 512,
            blocks: 8192,
            initial_r2t: false,
            is_reserved: false,
            keys: 0,
            is_read_only: false,
            has_extras: true,
            breaks_after: None,
            reads_fail: false,
            bug: Bug::None,
        }
    }
}

/// A planted bug. All but the first strike at each 50th write, so that much else is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// None.
    None,
    /// A write is acknowledged and not done.
    Lost,
    /// Only the first half of a write's last block is written.
    Torn,
    /// A write is undone a while after it was acknowledged and perhaps read.
    Stale,
    /// A write goes to its neighbour.
    Misplaced,
    /// A byte is flipped.
    Flipped,
    /// WRITE SAME does one block only.
    ShortWriteSame,
    /// WRITE SAME does one block too many.
    LongWriteSame,
    /// The last block of a write of several is not written.
    DroppedTail,
    /// A write lands in the other half of the unit as well, where the other session's data is.
    OtherSession,
    /// A read gives the blocks one further on.
    ReadsNeighbour,
    /// A read gives one block less than asked for.
    ShortRead,
    /// No bug: UNMAP does nothing, which a target may do although the unit says that unmapped blocks read as zeros.
    UnmapIgnored,
    /// Unmapped blocks show what lies below the unit.
    UnmapUncovers,
    /// WRITE SAME with the UNMAP bit leaves its blocks as they were.
    UnmapSameKeeps,
}

/// A running target.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its disk.
    pub(crate) disk: Arc<Mutex<Disk>>,
    /// Commands so far.
    pub(crate) commands: Arc<AtomicU64>,
}

impl Target {
    /// Starts one on a free port; its threads end with the test's process.
    pub(crate) fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let disk = Arc::new(Mutex::new(Disk::new(&config)));
        let commands = Arc::new(AtomicU64::new(0));
        let (shared, count) = (Arc::clone(&disk), Arc::clone(&commands));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (config, disk, count) = (config.clone(), Arc::clone(&shared), Arc::clone(&count));
                // A connection that ends in any way is over.
                std::thread::spawn(move || Connection::new(stream, config, disk, count).serve());
            }
        });
        Self { address, disk, commands }
    }

    /// The URL of its unit number `lun`.
    pub(crate) fn url(&self, lun: u16) -> String {
        format!("iscsi://{}/{NAME}/{lun}", self.address)
    }

    /// storm against its first unit: its words, separated by spaces, and `--quiet` and `--json`. What it said, and its
    /// report, if there is one.
    pub(crate) fn storm(&self, words: &str) -> (Output, Value) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_storm"));
        command.args(words.split_whitespace()).args(["--quiet", "--json"]).arg(&path).arg(self.url(0));
        let output = command.output().unwrap();
        (output, report(&path))
    }

    /// SCSI commands so far.
    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }
}

/// A report that storm has written; null where there is none.
pub(crate) fn report(path: &Path) -> Value {
    std::fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}
