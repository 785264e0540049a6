//! Chains of image files, outside the shards: opened by the path policy, read, changed, made, checked, converted and compared.
//!
//! ```text
//!   Chain ─┬─ Layer 0: the image that was named    files + plugin instance + Metadata + ExtentMap
//!          ├─ Layer 1: its parent                  (read-only from here on)
//!          └─ Layer 2 ...
//! ```
//!
//! What lies where is the plugin's to say ([`stampede_plugin::Format`]), what the host keeps of it is pure ([`stampede_image::mapped`]), and this
//! is the plain blocking I/O around both, for worker threads and command lines: one thing after the other, each error with its file.
//!
//! Names that stand inside an image are hints. They are followed only beneath the folders that the caller gives ([`Roots`]), judged by where
//! they end after all links; what has a scheme (`json:`, `nbd://`) is no name. The format of each file is what configuration or its child
//! says, and is never guessed.
#![forbid(unsafe_code)]

mod chain;
mod compare;
mod convert;
mod create;
mod error;
mod info;
mod job;
mod layer;
mod roots;
mod segments;
mod unpack;
mod write;

pub use chain::{Chain, DEPTH_MAX};
pub use compare::{Comparison, compare};
pub use convert::{ConvertOptions, convert};
pub use create::{CreateOptions, ParentOptions, create, fresh_identity, names_of};
pub use error::ChainError;
pub use info::{ChainInfo, LayerInfo, Snapshot};
pub use layer::{Formats, OpenOptions};
pub use roots::Roots;
pub use segments::{Segment, SegmentKind};
pub use unpack::unpack;
