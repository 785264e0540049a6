//! The asking side, for the command line.

use super::{RESPONSE_MAX, Request, Response};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error(
        "no stampede answers at {path} ({source}). Is it running? Give the same --control or --state-dir as to \
         `stampede serve`",
        path = path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error("no permission to use {path}: run this as the user that runs `stampede serve`, or as root", path = path.display())]
    NoPermission {
        /// The socket.
        path: PathBuf,
    },
    /// The conversation broke off.
    #[error("the answer from {path} broke off: {source}", path = path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The other side could not do it.
    #[error("{0}")]
    Refused(String),
}

/// Asks the stampede behind `path` once.
///
/// # Errors
/// See [`CallError`]; an answer [`Response::Error`] becomes [`CallError::Refused`].
pub fn call(path: &Path, request: &Request) -> Result<Response, CallError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => CallError::NoPermission { path: path.to_owned() },
        _ => CallError::NotRunning { path: path.to_owned(), source },
    })?;
    match exchange(stream, request) {
        Ok(Response::Error(text)) => Err(CallError::Refused(text)),
        Ok(response) => Ok(response),
        Err(source) => Err(CallError::Broken { path: path.to_owned(), source }),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream).take(RESPONSE_MAX).read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}
