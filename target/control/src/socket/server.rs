//! The answering side.

use super::{REQUEST_MAX, Request, Response};
use crossbeam::channel::bounded;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one client may take for its request, and again for taking its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Clients that are served at once, each by a thread of its own; further ones wait. They all belong to the operator.
const CLIENTS_MAX: usize = 16;
/// Clients that may wait for their turn.
const BACKLOG: i32 = 64;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("another stampede answers at {path}. Stop it, or give this one its own --control or --state-dir", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path} exists and is not a socket. Remove it, or give another --control", path = path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot make the control socket {path}: {source}. Give --control a path in a directory that stampede may write to", path = path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket, with mode 0600. The stale file of a process that was killed is replaced.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source: io::Error| SocketError::Failed { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let listener = match listen(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                listen(path)
            }
            result => result,
        };
        Ok(Self { listener: listener.map_err(failed)?, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers clients by `answer`, several at once, and returns only when the socket fails.
    pub fn serve(&self, answer: impl Fn(Request) -> Response + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let (seat, seats) = bounded(CLIENTS_MAX);
        for client in self.listener.incoming() {
            match client {
                Ok(stream) => {
                    // Waits while all seats are taken; each is free again after CLIENT_TIMEOUT and the answer's own time.
                    if seat.send(()).is_err() {
                        return;
                    }
                    let (answer, own) = (Arc::clone(&answer), seats.clone());
                    let body = move || {
                        // What goes wrong with one client concerns that client.
                        drop(converse(stream, &*answer));
                        let _ = own.try_recv();
                    };
                    if let Err(error) = std::thread::Builder::new().name("client".to_owned()).spawn(body) {
                        tracing::warn!(%error, "a client of the control socket cannot be served");
                        let _ = seats.try_recv();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting on the control socket failed");
                    std::thread::sleep(CLIENT_TIMEOUT);
                }
            }
        }
    }
}

impl ControlSocket {
    /// Removes the file, so that nobody asks any more, while [`ControlSocket::serve`] may still run.
    pub fn remove(&self) {
        // If somebody removed it already, all is well.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.remove();
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // On Linux the file takes its mode from the socket, so there is no moment at which others could open it.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Failed { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full queue of clients also means that somebody is there.
        Ok(_) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

fn converse(mut stream: UnixStream, answer: &impl Fn(Request) -> Response) -> io::Result<()> {
    let response = match read_line(&mut stream)? {
        Ok(line) => match serde_json::from_slice(&line) {
            Ok(request) => answer(request),
            Err(error) => Response::Error(format!("the request is not understood: {error}")),
        },
        Err(why) => Response::Error(why),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    write_all(&mut stream, &line)
}

/// Writes within the time that one answer may take, however little the client takes at once.
fn write_all(stream: &mut UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + CLIENT_TIMEOUT;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to a newline, within the time and size that one request may take.
fn read_line(stream: &mut UnixStream) -> io::Result<Result<Vec<u8>, String>> {
    let deadline = Instant::now() + CLIENT_TIMEOUT;
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err("the request took too long".to_owned()));
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => return Ok(Err("the request ended before its newline".to_owned())),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(Ok(line));
        }
        if line.len() as u64 > REQUEST_MAX {
            return Ok(Err(format!("a request may have {REQUEST_MAX} bytes at most")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CallError, call};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn serving(path: &Path) -> Arc<ControlSocket> {
        let socket = Arc::new(ControlSocket::bind(path).unwrap());
        let server = Arc::clone(&socket);
        std::thread::spawn(move || {
            server.serve(|request| match request {
                Request::Ping => Response::Pong { version: "1".to_owned(), pid: 7 },
                Request::CloneReset { initiator, .. } => Response::Error(format!("no {initiator}")),
                other => Response::Config(format!("{other:?}")),
            });
        });
        socket
    }

    fn raw(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        // The server may answer and close before it has read all of an overlong request.
        let _ = stream.write_all(request);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_round_trip_with_the_right_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/control.sock");
        let _socket = serving(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(call(&path, &Request::Ping).unwrap(), Response::Pong { version: "1".to_owned(), pid: 7 });
        let reset = Request::CloneReset { initiator: "iqn.x".to_owned(), target: None };
        let Err(CallError::Refused(text)) = call(&path, &reset) else { panic!() };
        assert_eq!(text, "no iqn.x");
        assert!(raw(&path, b"{\"op\":\"status\"}\n").contains("Status"));
    }

    #[test]
    fn bad_requests_are_answered_and_harm_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _socket = serving(&path);
        assert!(raw(&path, b"nonsense\n").contains("not understood"));
        assert!(raw(&path, b"{\"op\":\"explode\"}\n").contains("unknown variant"));
        assert!(
            raw(&path, b"{\"op\":\"clone-reset\",\"initiator\":\"x\",\"force\":1}\n")
                .contains("unknown field")
        );
        let _ = raw(&path, &vec![b'x'; 200_000]);
        let _silent: Vec<_> = (0..CLIENTS_MAX - 1).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(call(&path, &Request::Ping).is_ok());
        }
        assert!(begun.elapsed() < CLIENT_TIMEOUT, "those who say nothing hold nobody up");
        let _more = UnixStream::connect(&path).unwrap();
        assert!(call(&path, &Request::Ping).is_ok(), "served after the silent ones' time is up");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "stale");
        let socket = serving(&path);
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(call(&path, &Request::Ping).is_ok(), "the live one was not disturbed");
        drop(socket);
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let error = ControlSocket::bind(&path.join("x/control.sock")).unwrap_err();
        assert!(matches!(error, SocketError::Failed { .. }), "{error}");
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let error = call(Path::new("/nonexistent/control.sock"), &Request::Ping).unwrap_err();
        assert!(error.to_string().contains("Is it running?"), "{error}");
    }

    #[test]
    fn the_file_goes_with_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(ControlSocket::bind(&path).unwrap());
        assert!(!path.exists());
    }
}
