//! Mistakes in the configuration: where, what, and what to do about it.

use super::values::ValueError;
use std::fmt;
use std::path::PathBuf;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a TOML file, at a line that counts from 1; 0 means the file as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// By a flag.
    Flag(&'static str),
    /// Known by its key only: it may come from the file or from a flag.
    Setting(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Setting(key) => write!(f, "{key}"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {what}: {help}")]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl ConfigError {
    pub(crate) fn new(origin: Origin, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { origin, what: what.into(), help: help.into() }
    }

    pub(crate) fn at(origin: &Origin, error: ValueError) -> Self {
        Self::new(origin.clone(), error.what, error.help)
    }
}
