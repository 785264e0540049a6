//! Plots as SVG files. Text stays text in them, so drawing needs no font of this machine; the viewer brings one.

mod bars;
mod chart;
mod lines;

pub use bars::{Bar, bars};
pub use lines::{Series, latency_cdf, throughput};
pub(crate) use lines::{bytes_svg, latency_svg, shares_svg};
