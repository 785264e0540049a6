//! The epoch registry: each rule by itself, and random lives of many machines against what is true of them.

mod random;
mod rules;
mod site;
mod world;
