//! What the measuring tools report, and how: latency histograms, the JSON that `storm` writes and `compare` reads, CSV,
//! SVG plots and terminal tables.
//!
//! ```text
//!   Latency (HDR, ns) ──summary()──► LatencySummary (us) ─┐
//!           └─────────curve()──────► CurvePoint ..        ├─► StormReport ──► write_json / read_json
//!   counters, CPU, verify ────────────────────────────────┘        ├─► csv::write
//!                                                                  ├─► plot::{latency_cdf, throughput, bars}
//!                                                                  └─► table::storm
//! ```
//!
//! Every time is in the unit that its name ends with, rates are per second, sizes are bytes. The JSON has a version
//! ([`SCHEMA`]): a field may be added without a new one, never renamed or given another meaning.

#![forbid(unsafe_code)]

pub mod csv;
pub mod html;
pub mod human;
pub mod plot;
pub mod table;
pub mod watch;

mod boot;
mod error;
mod json;
mod latency;
mod storm;

pub use boot::{BootReport, BootSummary, MachineSummary, PhaseCurve, Retries, Spread, TraceSummary};
pub use error::ReportError;
pub use json::{read_json, write_json};
pub use latency::{CurvePoint, Latency, LatencySummary};
pub use storm::{
    Client, MismatchEntry, Phase, SCHEMA, Second, SessionSummary, StormReport, Traffic, TrafficRecorder,
    VerifySummary, Watched, rate,
};
