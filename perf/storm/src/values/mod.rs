//! The command line's values: sizes, mixtures, regions, cores and units to drive. Each says what is wrong with a text
//! and what it should be.

mod cores;
mod mixture;
mod size;
mod url;

pub(crate) use cores::parse_cores;
pub(crate) use mixture::Mixture;
pub(crate) use size::{Region, parse_size, size_text};
pub(crate) use url::UnitUrl;

/// What is wrong with a value, as a sentence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(pub(crate) String);

impl Wrong {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
