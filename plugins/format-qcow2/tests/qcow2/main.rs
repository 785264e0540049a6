//! QCOW2 images on the model host, with `qemu-img` as the judge.
//!
//! The long tests (`QCOW2_SEEDS`, a number or FROM+COUNT) draw more seeds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod bench;
mod config;
mod crash;
mod differential;
mod draw;
mod hostile;
mod images;
mod judge;
mod repair;
