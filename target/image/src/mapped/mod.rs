//! An image whose format a plugin knows, as the host sees it.
//!
//! The plugin ([`stampede_plugin::Format`]) says where blocks lie and what a change takes; this is what the host keeps of its answers, so that
//! most commands need no plugin at all:
//!
//! - [`ExtentMap`]: where blocks lie, as far as it was asked and until a plan replaces it;
//! - [`Metadata`]: pages of the image's files with all patches of plans applied, and which sectors of them are not durable;
//! - [`Flush`]: those sectors in the order in which they must become durable, as few barriers as that takes, for many plans at once;
//! - [`journal`]: the patches of acknowledged plans, written where they outlive the process, since a page does not.
//!
//! ```text
//!   plan ─► `now` steps done ─► journal.append ─► Metadata::apply, ExtentMap::insert ─► GOOD
//!                                                        │
//!   SYNCHRONIZE CACHE, FUA, timer, close ─► Metadata::begin_flush ─► level 0, barrier, level 1, barrier ... ─► end_flush ─► journal empty
//! ```
//!
//! A start that finds a journal of this boot applies it, flushes, and only then gives the image to a plugin: so nothing that was freed
//! is used again before it is durable that nobody refers to it. A journal of an earlier boot is worth nothing (the power was off: what
//! was not flushed may be gone, and the order of what is there is unknown), and is thrown away.

mod extent_map;
mod flush;
pub mod journal;
mod metadata;
mod order;

pub use extent_map::{ExtentMap, Piece};
pub use flush::{Flush, Level, SectorWrite};
pub use metadata::{ApplyError, Metadata, PAGE, PageKey, ReplayError};

#[cfg(test)]
mod tests;
