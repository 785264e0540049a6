//! A trace in memory.

use crate::limits::{
    BLOCKS_MAX, DEPTH_MAX, EVENTS_MAX, LBA_MAX, NAME_MAX, SESSION_MAX, THINK_US_MAX, TRANSFER_MAX,
};
use crate::{BLOCK, csv};
use std::fmt;

/// Why a trace cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Where a trace comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A real machine did this.
    Recorded,
    /// It was made up from published figures.
    Model,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Recorded { "recorded" } else { "model" })
    }
}

/// Who logs in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// iPXE: one command at a time, no immediate data, segments of 8 KiB.
    Firmware,
    /// An operating system's initiator.
    Os,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Firmware { "firmware" } else { "os" })
    }
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Session `session` logs in, with an ISID of its own; one that stands or stood logs in again with the same
    /// ISID, which reinstates it. The commands that follow are its.
    Login {
        /// Its number.
        session: u8,
        /// Whose login it is.
        stage: Stage,
        /// Since the last completion, microseconds.
        think_us: u64,
    },
    /// The connection of session `session` is closed without a Logout.
    Close {
        /// Its number.
        session: u8,
    },
    /// The commands that follow are those of session `session`, which stands.
    On {
        /// Its number.
        session: u8,
    },
    /// The machine has come so far when all commands before are done.
    Marker {
        /// What it is, such as `multi-user`.
        name: String,
    },
    /// A SCSI command.
    Command(Command),
}

/// A command, and when it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// What it does.
    pub op: Op,
    /// Commands that were outstanding when it was sent.
    pub depth: u16,
    /// If none was: since the last completion, microseconds; else 0.
    pub think_us: u64,
}

/// What a command does. Addresses and lengths are blocks of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// READ.
    Read {
        /// First block.
        lba: u64,
        /// How many, at least 1.
        blocks: u32,
    },
    /// WRITE.
    Write {
        /// First block.
        lba: u64,
        /// How many, at least 1.
        blocks: u32,
        /// The FUA bit.
        fua: bool,
    },
    /// SYNCHRONIZE CACHE of everything.
    Sync,
    /// Any other command without written data.
    Other {
        /// The command descriptor block, with zeros up to 16 bytes.
        cdb: [u8; 16],
        /// Bytes that it may read.
        len: u32,
    },
}

/// What a machine does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// In order.
    pub events: Vec<Event>,
}

/// What all commands of a trace come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Commands.
    pub commands: u64,
    /// READs.
    pub reads: u64,
    /// Blocks read.
    pub blocks_read: u64,
    /// Different blocks read.
    pub blocks_unique: u64,
    /// WRITEs.
    pub writes: u64,
    /// Blocks written.
    pub blocks_written: u64,
    /// Logins.
    pub logins: u64,
    /// Think time, microseconds.
    pub think_us: u64,
    /// The end of the last block read or written.
    pub end_lba: u64,
    /// Commands outstanding at most, the one being sent among them.
    pub depth: u16,
    /// Blocks of the longest WRITE.
    pub write_max: u32,
    /// Blocks of the longest READ.
    pub read_max: u32,
}

impl Trace {
    /// All commands counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut read = Vec::new();
        for event in &self.events {
            match event {
                Event::Login { think_us, .. } => {
                    totals.logins += 1;
                    totals.think_us += think_us;
                }
                Event::Command(command) => totals.add(command, &mut read),
                _ => {}
            }
        }
        read.sort_unstable();
        let mut end = 0;
        for (lba, blocks) in read {
            let from = lba.max(end);
            end = end.max(lba + u64::from(blocks));
            totals.blocks_unique += end - from.min(end);
        }
        totals
    }

    /// Commands and the bytes that they read and write.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let totals = self.totals();
        (totals.blocks_read * BLOCK, totals.blocks_written * BLOCK)
    }

    /// The last marker's name.
    #[must_use]
    pub fn marker(&self) -> Option<&str> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Marker { name } => Some(name.as_str()),
            _ => None,
        })
    }
}

impl Totals {
    fn add(&mut self, command: &Command, read: &mut Vec<(u64, u32)>) {
        self.commands += 1;
        self.think_us += command.think_us;
        self.depth = self.depth.max(command.depth + 1);
        match command.op {
            Op::Read { lba, blocks } => {
                self.reads += 1;
                self.blocks_read += u64::from(blocks);
                self.read_max = self.read_max.max(blocks);
                self.end_lba = self.end_lba.max(lba + u64::from(blocks));
                read.push((lba, blocks));
            }
            Op::Write { lba, blocks, .. } => {
                self.writes += 1;
                self.blocks_written += u64::from(blocks);
                self.write_max = self.write_max.max(blocks);
                self.end_lba = self.end_lba.max(lba + u64::from(blocks));
            }
            Op::Sync | Op::Other { .. } => {}
        }
    }
}

/// Gathers events and refuses what no replay could do. Each error says what, for people.
#[derive(Debug)]
pub struct Gatherer {
    trace: Trace,
    /// Which sessions stand, a bit for each.
    standing: u16,
    /// Whose commands come.
    current: Option<u8>,
}

impl Gatherer {
    /// A trace of this name without events.
    ///
    /// # Errors
    /// No legal name.
    pub fn new(name: &str, origin: Origin) -> Result<Self, String> {
        check_name(name)?;
        let trace = Trace { name: name.to_owned(), origin, events: Vec::new() };
        Ok(Self { trace, standing: 0, current: None })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// It cannot follow those before, or is beyond the limits of a trace.
    pub fn push(&mut self, mut event: Event) -> Result<(), String> {
        if self.trace.events.len() >= EVENTS_MAX {
            return Err(format!("more than {EVENTS_MAX} events"));
        }
        match &mut event {
            Event::Login { session, think_us, .. } => {
                let bit = bit(*session)?;
                check_think(*think_us)?;
                self.standing |= bit;
                self.current = Some(*session);
            }
            Event::Close { session } => {
                let bit = self.standing_bit(*session)?;
                self.standing &= !bit;
                self.current = self.current.filter(|current| *current != *session);
            }
            Event::On { session } => {
                self.standing_bit(*session)?;
                self.current = Some(*session);
            }
            Event::Marker { name } => check_name(name)?,
            Event::Command(command) => {
                if self.current.is_none() {
                    return Err("a command, and no session stands that it could go to".to_owned());
                }
                check(command)?;
                if command.depth > 0 {
                    // It waits for no time, but for others' ends.
                    command.think_us = 0;
                }
            }
        }
        self.trace.events.push(event);
        Ok(())
    }

    fn standing_bit(&self, session: u8) -> Result<u16, String> {
        let bit = bit(session)?;
        if self.standing & bit == 0 {
            return Err(format!("session {session} does not stand"));
        }
        Ok(bit)
    }

    /// The trace.
    ///
    /// # Errors
    /// It has no commands.
    pub fn finish(self) -> Result<Trace, String> {
        if !self.trace.events.iter().any(|event| matches!(event, Event::Command(_))) {
            return Err("a trace without commands".to_owned());
        }
        Ok(self.trace)
    }
}

fn bit(session: u8) -> Result<u16, String> {
    if session > SESSION_MAX {
        return Err(format!("session {session}: the highest number is {SESSION_MAX}"));
    }
    Ok(1 << session)
}

fn check_think(think_us: u64) -> Result<(), String> {
    if think_us > THINK_US_MAX {
        return Err(format!("{think_us} us to think: more than a day"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let is_good = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good {
        Ok(())
    } else {
        Err(format!("a name has 1 to {NAME_MAX} letters, digits and signs, and no spaces"))
    }
}

fn check(command: &Command) -> Result<(), String> {
    check_think(command.think_us)?;
    if command.depth >= DEPTH_MAX {
        return Err(format!("{} commands outstanding: at most {}", command.depth, DEPTH_MAX - 1));
    }
    match command.op {
        Op::Read { lba, blocks } | Op::Write { lba, blocks, .. } => {
            if !(1..=BLOCKS_MAX).contains(&blocks) {
                return Err(format!("{blocks} blocks in one command: 1 to {BLOCKS_MAX}"));
            }
            if lba > LBA_MAX - u64::from(blocks) {
                return Err(format!("block {lba} lies beyond what a trace may address"));
            }
        }
        Op::Sync => {}
        Op::Other { cdb, len } => {
            if len > TRANSFER_MAX {
                return Err(format!(
                    "{len} bytes of another command than READ and WRITE: at most {TRANSFER_MAX}"
                ));
            }
            if csv::WRITES_DATA.contains(&cdb[0]) {
                return Err(format!("operation code {:#04x} writes, and its data is not known", cdb[0]));
            }
        }
    }
    Ok(())
}
