//! Child processes that never outlive us, and waiting that Ctrl-C ends.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often waiting looks.
const LOOK: Duration = Duration::from_millis(20);

/// Set by SIGINT and SIGTERM: everything ends as soon as it can, and cleans up.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// An error once a signal has come.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Looks again and again until `done` says so; false when the time is over.
    pub(crate) fn wait_until(
        &self,
        limit: Duration,
        mut done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            self.check()?;
            if done()? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A command on certain cores that dies with us, in a process group of its own: the terminal's Ctrl-C is ours alone.
pub(crate) fn pinned(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    use std::os::unix::process::CommandExt as _;

    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", cores]).arg(program);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// A running child; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
    /// How long it may take to end on SIGTERM before it is killed.
    patience: Duration,
}

impl Running {
    /// Starts a command, with what it prints in a file.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name: name.to_owned(), patience })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn finish(mut self, limit: Duration, interrupt: &Interrupt) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        interrupt.wait_until(limit, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.with_context(|| format!("{} did not end within {} s", self.name, limit.as_secs()))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended: then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let end = Instant::now() + self.patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        // No error helps here: it has ended, or the system will not let us end it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until something listens on the port of this machine; an error when the child ends before.
pub(crate) fn wait_for_port(
    port: u16,
    child: &mut Running,
    log: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let limit = Duration::from_secs(20);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let up = interrupt.wait_until(limit, || {
        if let Some(status) = child.ended()? {
            bail!("{} ended at once ({status}): {}", child.name, tail(log));
        }
        Ok(TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok())
    })?;
    if !up {
        bail!("{} did not listen on {address} within {} s: {}", child.name, limit.as_secs(), tail(log));
    }
    Ok(())
}

/// The last lines of what a child printed.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { "it printed nothing".to_owned() } else { last.join(" | ") }
}

/// Runs a helper program to its end; an error with what it printed when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_pinned_watched_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (log, interrupt) = (folder.path().join("log"), Interrupt::new().unwrap());
        let core = rustix::thread::sched_getcpu().to_string();
        let mut command = pinned(&core, "sh");
        command.args(["-c", "echo hello; taskset -cp $$"]);
        let child = Running::start("sh", command, &log, LOOK).unwrap();
        assert!(child.finish(Duration::from_secs(10), &interrupt).unwrap().success());
        assert!(tail(&log).starts_with("hello |") && tail(&log).ends_with(&core), "{}", tail(&log));
        let mut command = pinned(&core, "sleep");
        command.arg("1000");
        let child = Running::start("sleep", command, &log, Duration::from_secs(5)).unwrap();
        let pid = Pid::from_raw(child.pid() as i32).unwrap();
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_target_that_ends_at_once_is_told_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = pinned("0-1023", "sh");
        command.args(["-c", "echo no such disk; exit 3"]);
        let mut child = Running::start("fake", command, &log, LOOK).unwrap();
        let error = wait_for_port(1, &mut child, &log, &Interrupt::new().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no such disk"), "{error}");
        assert!(
            run(Command::new("sh").args(["-c", "echo bad >&2; false"]))
                .unwrap_err()
                .to_string()
                .contains("bad")
        );
    }
}
