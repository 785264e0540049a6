//! What a plugin of Stampede is written against.
//!
//! A **format plugin** maps: it turns ranges of the disk that a guest sees into extents of the image's files, and changes into
//! [`Plan`]s, ordered lists of steps. It does no I/O, has no clock, and never sees a guest's data. The host reads metadata for it
//! ([`Pages`]), carries plans out, and judges each step before it does: inside the file or what the plan allocates, guest data
//! never over metadata.
//!
//! ```text
//!   host                                   plugin ([`Format`])
//!    │ open(mode, file lengths) ─────────────► Halt::Need(spans)     pages are missing: the host reads them
//!    │ open(mode, file lengths) ─────────────► Ok(Opened)            and asks the same again
//!    │ resolve(view, range) ─────────────────► Ok(extents)           cached by the host, until a plan replaces them
//!    │ plan_write(ranges, kind) ─────────────► Ok(Plan)              the host carries `now` out, acknowledges,
//!    │ done(token) ──────────────────────────►                       and makes `meta` durable in order, later
//!    │ released(token) ──────────────────────►                       what `free` named may be allocated again
//! ```
//!
//! A call that answers [`Halt::Need`] or [`Halt::Fail`] has changed nothing in the plugin. There is one call at a time for an image,
//! and between a `plan_write` and its `done` no other `plan_write`.
//!
//! The same types are the host's own: the engine knows a plugin as a `dyn Format`, be it a component in a sandbox or, in tests, the
//! library itself. `plugins/wit` has them as a WIT world for other languages.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "model")]
extern crate std;

#[doc(hidden)]
pub mod convert;
mod extent;
mod format;
mod halt;
mod job;
mod judge;
mod opened;
mod pages;
mod plan;

#[cfg(feature = "model")]
pub mod model;

pub use extent::{Absent, BitOrder, Bitmap, Codec, Extent, Place, Range, View};
pub use format::{Confidence, CreateOption, Description, Format};
pub use halt::{Fail, FailKind, Halt, Outcome};
pub use job::{Created, Identity, Job, JobStep, Likeness, Repair, Report, SnapshotInfo};
pub use judge::{Bounds, Checked, Judge, Purpose, Verdict};
pub use opened::{FileHint, MetadataRange, Mode, OpenRequest, Opened, ParentHint, ParentRef};
pub use pages::{FileId, Pages, PagesExt, Span};
pub use plan::{Change, Free, Patch, PatchId, Plan, Step, Token};
