//! Running tests, and saying how they went.

use crate::failure::{Failure, Outcome};
use crate::lab::Lab;
use crate::registry::{Group, Test, known};
use crate::site::Target;
use crate::tcp::Process;
use crate::twin::Twin;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tests at once: most of a test over TCP is waiting.
const THREADS: usize = 4;

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Against a process, over TCP.
    Tcp,
    /// On the seeded twin.
    Twin,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Twin => "twin",
        })
    }
}

/// Where targets come from.
#[derive(Clone, Debug)]
pub enum Place {
    /// This program.
    Program(PathBuf),
    /// Worlds from this seed.
    Seed(u64),
}

impl Place {
    /// Which side it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Program(_) => Side::Tcp,
            Self::Seed(_) => Side::Twin,
        }
    }

    fn target(&self, test: &Test) -> Outcome<Box<dyn Target>> {
        Ok(match self {
            Self::Program(path) => Box::new(Process::start(path, &test.site)?),
            Self::Seed(seed) => Box::new(Twin::start(*seed, &test.site)?),
        })
    }

    /// The `stampede` that was built beside the running program.
    pub fn beside(executable: &Path) -> Self {
        let folder = executable.parent().unwrap_or(Path::new("."));
        Self::Program(folder.join("stampede"))
    }
}

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The rule holds.
    Pass,
    /// It does not.
    Fail,
    /// It does not, as is known.
    KnownFailure,
    /// It does, though it is known not to: the list of known failures is out of date.
    KnownPasses,
}

impl Verdict {
    /// Whether the suite as a whole fails by it.
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Fail | Self::KnownPasses)
    }
}

/// A test that was run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its group's folder.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Where it ran.
    pub side: Side,
    /// How it went.
    pub verdict: Verdict,
    /// Why it failed, or is known to.
    pub why: String,
    /// The last of what was said, where it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<String>,
}

impl Report {
    /// What is to be read of a test that went wrong.
    pub fn explain(&self) -> String {
        let Self { group, name, side, verdict, why, transcript } = self;
        format!("{group}/{name} on {side}: {verdict:?}: {why}\n    {}", transcript.join("\n    "))
    }
}

/// Runs one test.
pub fn run(group: Group, test: &Test, place: &Place) -> Report {
    let (outcome, transcript) = attempt(test, place, false);
    let (verdict, why) = match (outcome, known(test)) {
        (Ok(()), None) => (Verdict::Pass, String::new()),
        (Ok(()), Some(why)) => (Verdict::KnownPasses, why.to_owned()),
        (Err(Failure(why)), None) => (Verdict::Fail, why),
        (Err(Failure(why)), Some(known)) => (Verdict::KnownFailure, format!("{known} ({why})")),
    };
    let transcript = if verdict == Verdict::Fail { transcript } else { Vec::new() };
    Report { group: group.folder(), name: test.name, side: place.side(), verdict, why, transcript }
}

/// Runs all of these tests that run here, several at once, and reports in their order.
pub fn run_all_of(tests: &[(Group, &'static Test)], place: &Place) -> Vec<Report> {
    let here: Vec<_> = tests.iter().filter(|(_, test)| test.runs_on(place.side())).collect();
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        while let Some((at, (group, test))) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            here.get(at).map(|test| (at, *test))
        } {
            let report = run(*group, test, place);
            // A test that panics has ended the run already.
            if let Ok(mut reports) = reports.lock() {
                reports.push((at, report));
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Runs a test, with its rule broken if that is wanted; how it went, and what was said.
pub fn attempt(test: &Test, place: &Place, broken: bool) -> (Outcome, Vec<String>) {
    let target = match place.target(test) {
        Ok(target) => target,
        Err(failure) => return (Err(failure), Vec::new()),
    };
    let mutation = if broken { test.mutation } else { None };
    let mut lab = Lab::new(target, place.side(), mutation);
    let outcome = (test.run)(&mut lab);
    (outcome, lab.transcript())
}
