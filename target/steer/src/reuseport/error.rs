//! Why the kernel would not let a program choose the listener.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

/// What failed, and the kernel's reason.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}{help}")]
pub struct SteerError {
    what: String,
    reason: String,
    help: &'static str,
    /// What the kernel said, if it was asked.
    kind: Option<io::ErrorKind>,
}

/// The longest reason, in characters.
const REASON_MAX: usize = 500;
/// What to do about a lack of permission.
const NEEDS: &str = ". It takes the capability CAP_BPF (systemd: `AmbientCapabilities=CAP_BPF`), or root outside of a container";

impl SteerError {
    pub(super) fn new(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        let help = if kind == Some(io::ErrorKind::PermissionDenied) { NEEDS } else { "" };
        Self { what: what.into(), reason: chain(error), help, kind }
    }

    pub(super) fn at(what: &str, portal: SocketAddr, error: &(dyn Error + 'static)) -> Self {
        Self::new(format!("{what} of {portal}"), error)
    }

    pub(super) fn missing(what: &str) -> Self {
        let what = format!("the embedded program has no `{what}`");
        Self { what, reason: "it is not the one that this loader is for".to_owned(), help: "", kind: None }
    }

    /// Whether a capability is all that is missing: the kernel could do it for another process.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.kind == Some(io::ErrorKind::PermissionDenied)
    }

    /// Whether what was asked about is not there any more.
    pub(super) fn is_gone(&self) -> bool {
        self.kind == Some(io::ErrorKind::NotFound)
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error with its causes, as far as they say anything new, in one line: the kernel's verifier writes many.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let cause = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::maps::MapError;

    #[test]
    fn the_kernels_reason_is_said_and_what_to_do() {
        let denied =
            MapError::CreateError { name: "LISTENERS".to_owned(), io_error: io::Error::from_raw_os_error(1) };
        let error = SteerError::new("cannot load the steering program", &denied);
        let text = error.to_string();
        assert!(error.is_denied());
        assert!(text.contains("Operation not permitted") && text.contains("CAP_BPF"), "{text}");
        let other = MapError::OutOfBounds { index: 3, max_entries: 2 };
        let error = SteerError::at("cannot fill the map", "127.0.0.1:1".parse().unwrap(), &other);
        assert!(!error.is_denied());
        assert!(!error.to_string().contains("CAP_BPF"), "{error}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
