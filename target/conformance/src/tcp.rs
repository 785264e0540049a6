//! A real `stampede` process on loopback, in a folder of its own, ended by its process id.

use crate::failure::{Failure, Outcome, fail};
use crate::link::{Heard, Link, Patience};
use crate::site::{Site, Target};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a target may take to start.
const START: Duration = Duration::from_secs(30);
/// How long an answer may take.
const LONG: Duration = Duration::from_secs(10);
/// How long something is waited for that should not come.
const SHORT: Duration = Duration::from_millis(150);

/// A running `stampede serve`. It is killed when dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Process {
    /// Starts `program` with the suite's targets.
    ///
    /// # Errors
    /// It does not start, or is not ready in time.
    pub fn start(program: &Path, site: &Site) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--buffers", "16M", "--arena", "16M"]);
        command.arg("--state-dir").arg(folder.path().join("state"));
        command.args(["--cores", &cores(site.shards)?]);
        command.args(["--max-commands", &site.commands.to_string()]);
        command.args(["--login-timeout", &format!("{}s", site.login_timeout_s)]);
        command.args(["--drain-timeout", &format!("{}s", site.drain_timeout_s)]);
        command.arg("--config").arg(site.write_config(folder.path())?);
        let log = folder.path().join("log");
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command
            .spawn()
            .map_err(|error| Failure(format!("{} does not start: {error}", program.display())))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, address, program: program.to_owned(), folder };
        process.address = process.wait_ready(&log)?;
        Ok(process)
    }

    fn wait_ready(&mut self, log: &Path) -> Outcome<SocketAddr> {
        let deadline = Instant::now() + START;
        loop {
            let text = std::fs::read_to_string(log)?;
            let ready = text.lines().find(|line| line.contains("ready"));
            if let Some(address) = ready.and_then(|line| line.split("addresses=[").nth(1)) {
                let address = address.split([']', ',']).next().unwrap_or_default();
                return address.parse().map_err(|_| Failure(format!("no address in its log: {text}")));
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                return fail(format!("the target did not get ready: {text}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The cores of so many shards, as `--cores` wants them.
fn cores(shards: u16) -> Outcome<String> {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    if usize::from(shards) > available {
        return fail(format!("{shards} shards need as many cores, and there are {available}"));
    }
    let cores: Vec<String> = (0..shards).map(|core| core.to_string()).collect();
    Ok(cores.join(","))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target for Process {
    fn connect(&mut self) -> Outcome<Box<dyn Link>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LONG))?;
        Ok(Box::new(Tcp { stream }))
    }

    fn portal(&self) -> String {
        self.address.to_string()
    }

    fn drain(&mut self) -> Outcome {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { fail("kill -TERM failed") }
    }

    fn folder(&self) -> Option<&Path> {
        Some(self.folder.path())
    }

    fn operate(&mut self, arguments: &[&str]) -> Outcome {
        let state = self.folder.path().join("state");
        let done = Command::new(&self.program).args(arguments).arg("--state-dir").arg(state).output()?;
        match done.status.success() {
            true => Ok(()),
            false => fail(format!("stampede {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))),
        }
    }
}

struct Tcp {
    stream: TcpStream,
}

impl Link for Tcp {
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn receive(&mut self, patience: Patience) -> Heard {
        let limit = if patience == Patience::Long { LONG } else { SHORT };
        let mut buffer = vec![0; 64 * 1024];
        if self.stream.set_read_timeout(Some(limit)).is_err() {
            return Heard::Closed;
        }
        match self.stream.read(&mut buffer) {
            Ok(0) => Heard::Closed,
            Ok(len) => {
                buffer.truncate(len);
                Heard::Bytes(buffer)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Heard::Silence
            }
            Err(_) => Heard::Closed,
        }
    }

    fn reset(&mut self) {
        // The standard library cannot set SO_LINGER; a target that sends anything more gets its reset all the same.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
