//! All tests, and what each is for.

use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::Mutation;
use crate::run::Side;
use crate::site::Site;

/// A group of tests, after the groups of UNH-IOL's procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The login phase, without authentication.
    Login,
    /// The full-feature phase.
    FullFeature,
    /// Errors, and what is left after them at ErrorRecoveryLevel 0.
    Recovery,
    /// Authentication by CHAP.
    Chap,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 4] = [Self::Login, Self::FullFeature, Self::Recovery, Self::Chap];

    /// Its folder, and the first half of its tests' names.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::FullFeature => "full_feature",
            Self::Recovery => "recovery",
            Self::Chap => "chap",
        }
    }

    /// Its heading in the table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Login => "Login phase",
            Self::FullFeature => "Full-feature phase",
            Self::Recovery => "Errors at ErrorRecoveryLevel 0",
            Self::Chap => "CHAP",
        }
    }

    /// Its files' tests.
    const fn files(self) -> &'static [&'static [Test]] {
        match self {
            Self::Login => crate::login::FILES,
            Self::FullFeature => crate::full_feature::FILES,
            Self::Recovery => crate::recovery::FILES,
            Self::Chap => crate::chap::FILES,
        }
    }

    /// Its tests.
    pub fn tests(self) -> impl Iterator<Item = &'static Test> {
        self.files().iter().copied().flatten()
    }
}

/// A test, declared where it is written.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// What must hold.
    pub name: &'static str,
    /// Where the RFC says so, such as "RFC 7143 4.2.2.1".
    pub section: &'static str,
    /// What it says, in words of our own.
    pub says: &'static str,
    /// The code that keeps the rule: a file below `target/`, `#`, and a name in it.
    pub code: &'static str,
    /// Numbers of the list of thirty things that go wrong, which is in `docs/conformance.md`.
    pub must: &'static [u8],
    /// What it wants of its target.
    pub site: Site,
    /// Where it runs, if not on both sides, and why.
    pub only: Option<(Side, &'static str)>,
    /// The rule broken on purpose.
    pub mutation: Option<Mutation>,
    /// The test.
    pub run: fn(&mut Lab) -> Outcome,
}

impl Test {
    /// A test of one rule, on an ordinary target.
    pub const fn new(
        name: &'static str,
        section: &'static str,
        says: &'static str,
        code: &'static str,
        run: fn(&mut Lab) -> Outcome,
    ) -> Self {
        Self { name, section, says, code, must: &[], site: Site::PLAIN, only: None, mutation: None, run }
    }

    /// It tests these of the thirty.
    #[must_use]
    pub const fn must(mut self, numbers: &'static [u8]) -> Self {
        self.must = numbers;
        self
    }

    /// It wants another target.
    #[must_use]
    pub const fn on(mut self, site: Site) -> Self {
        self.site = site;
        self
    }

    /// It runs on one side only.
    #[must_use]
    pub const fn only(mut self, side: Side, why: &'static str) -> Self {
        self.only = Some((side, why));
        self
    }

    /// It fails when the target does this.
    #[must_use]
    pub const fn broken_by(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    /// Whether it runs on this side.
    pub fn runs_on(&self, side: Side) -> bool {
        self.only.is_none_or(|(only, _)| only == side)
    }
}

/// Declares a test by its function.
#[macro_export]
macro_rules! test {
    ($run:ident, $section:literal, $says:literal, $code:literal) => {
        $crate::registry::Test::new(stringify!($run), $section, $says, $code, $run)
    };
}

/// Every test, with its group.
pub fn all() -> impl Iterator<Item = (Group, &'static Test)> {
    Group::ALL.into_iter().flat_map(|group| group.tests().map(move |test| (group, test)))
}

/// A test that fails because the target is not right yet.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name.
    pub test: &'static str,
    /// Why it fails.
    pub why: &'static str,
}

/// The tests that are known to fail. One that passes is an error: its line has to go.
pub const KNOWN: &[Known] = &[];

/// Why a test is known to fail, if it is.
pub fn known(test: &Test) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.test == test.name).map(|known| known.why)
}
