//! The epoch registry: each rule by itself, and random lives of many machines against what is true of them.
#![allow(clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod random;
mod rules;
mod site;
mod world;
