//! Why a test failed: a sentence.

use std::fmt;

/// What did not hold, or what could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// How a test ends.
pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails the test with this sentence.
///
/// # Errors
/// Always.
pub fn fail<T>(why: impl fmt::Display) -> Outcome<T> {
    Err(Failure(why.to_string()))
}

/// Fails the test unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure(format!($($what)+)));
        }
    };
}

/// Fails the test unless two things are equal; says both.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($what:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => {
                if found != wanted {
                    let what = format!($($what)+);
                    return Err($crate::failure::Failure(format!("{what}: {found:?} instead of {wanted:?}")));
                }
            }
        }
    };
}
