//! Tests of what the host keeps of an image: each part against something simpler.

mod extent_map;
mod journal;
mod metadata;
