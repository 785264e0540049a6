//! What a test finds: targets, logical units and limits, the same on both sides.

use crate::failure::Outcome;
use crate::link::Link;

/// The name before each target's own.
pub const PREFIX: &str = "iqn.2026-11.io.stampede:";
/// A target whose LUN 0 is a disk.
pub const DATA: &str = "iqn.2026-11.io.stampede:data";
/// A target without a LUN 0: its disk is LUN 1.
pub const ODD: &str = "iqn.2026-11.io.stampede:odd";
/// A target whose LUN 0 is an ephemeral clone for each initiator.
pub const CLONE: &str = "iqn.2026-11.io.stampede:clone";
/// The portal group of all.
pub const PORTAL_GROUP: u16 = 1;
/// Logical blocks of every unit.
pub const BLOCKS: u64 = 8192;
/// Bytes of a logical block.
pub const BLOCK: usize = 512;

/// What a test wants of the target it runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Shards; the units are dealt out to them.
    pub shards: u16,
    /// Commands of one session at once.
    pub commands: u16,
    /// From accepting a connection to the end of its login, seconds.
    pub login_timeout_s: u32,
    /// At the end: how long initiators have until their sessions are closed, seconds.
    pub drain_timeout_s: u32,
    /// Silence after which an initiator is pinged, seconds; 0 for never. The daemon has no such setting: on the twin
    /// alone.
    pub ping_interval_s: u32,
}

impl Site {
    /// An ordinary one.
    pub const PLAIN: Self =
        Self { shards: 1, commands: 128, login_timeout_s: 15, drain_timeout_s: 10, ping_interval_s: 0 };

    /// One where a session may have four commands at once.
    pub const NARROW: Self = Self { commands: 4, ..Self::PLAIN };
}

/// A target to test.
pub trait Target {
    /// Connects to its portal.
    ///
    /// # Errors
    /// Nobody listens.
    fn connect(&mut self) -> Outcome<Box<dyn Link>>;

    /// The portal as TargetAddress writes it, without the group.
    fn portal(&self) -> String;

    /// Begins to end it in order, as at a shutdown: initiators are asked to log out.
    ///
    /// # Errors
    /// It cannot be told.
    fn drain(&mut self) -> Outcome;
}
