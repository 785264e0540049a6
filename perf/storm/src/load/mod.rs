//! Which operation comes next.

mod pattern;
mod place;

pub(crate) use pattern::{Next, Pattern, PatternPlan};
pub(crate) use place::Layout;
