//! The engine on the seam's twin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ahead;
mod atomic;
mod basics;
mod borrow;
mod changes;
mod copies;
mod encrypted;
mod fairness;
mod fences;
mod house;
mod life;
mod moves;
mod order;
mod regressions;
mod sanitize;
mod saving;
mod scaling;
mod spilling;
mod storm;
mod units;
mod variation;
