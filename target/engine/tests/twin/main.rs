//! The engine on the seam's twin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod basics;
mod house;
mod life;
mod moves;
mod regressions;
mod scaling;
mod storm;
mod variation;
