//! Plugins as WebAssembly components: compiled once, an instance for each image, everything bounded.
//!
//! ```text
//!   Host ── engine, pool of instances, cache of compiled code, clock of epochs
//!     │ load(bytes)            says what is wrong with a file that is no plugin
//!     ▼
//!   Plugin ── compiled, described, counted
//!     │ image(name)            an instance of its own: memory, budget, counters
//!     ▼
//!   Checked<Component>         a `stampede_plugin::Format`, judged: nobody can tell it from a library
//! ```
//!
//! How it is used: whoever opens images has a `Plugins` (what is shipped, and what a folder adds or replaces), asks it for
//! [`Plugin::image`] and holds the answer as a `Box<dyn Format + Send>`. `open`, `recover` and jobs belong on worker threads, and so does
//! `resolve` of what is not mapped yet where it may take long; a call's budget of processor time ([`Limits`]) says how long it may be at most.
//! A failure of the kind `Broken` is the plugin's, names plugin, image and call, and stays: the instance's memory is given back at once, and the
//! image fails alone. Loading compiles, so it is done at start, on no shard.
//!
//! What a guest can do to us is bounded four times: memory by the pool's slots, time by epochs, what it hands over by fuel of the calls, and
//! what it says by the judge. Epochs are ticked by a thread that sleeps while no call runs. A call that a tick finds is measured by the
//! processor time of its thread, so that a busy machine does not make a plugin look slow.

mod bindings;
mod cache;
mod component;
mod conformance;
mod counters;
mod error;
mod host;
mod limits;
mod plugin;
mod plugins;
mod ticker;

pub use component::Component;
pub use conformance::{Conformance, conformance};
pub use counters::{Call, Counters, Counts};
pub use error::PluginError;
pub use host::Host;
pub use limits::Limits;
pub use plugin::{Plugin, World};
pub use plugins::{Origin, Plugins};
pub use stampede_plugin::Checked;
