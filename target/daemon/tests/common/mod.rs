//! A target of the test's own, in a folder of its own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a target may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// The program under test, away from this user's settings.
pub(crate) fn stampede() -> Command {
    own_settings(Command::new(env!("CARGO_BIN_EXE_stampede")))
}

fn own_settings(mut command: Command) -> Command {
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

/// Whether a tool is there; if not, says loudly that a test is skipped, or fails it with STAMPEDE_TESTS_STRICT set.
pub(crate) fn have(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join(tool).is_file());
    if !found {
        skipped(&format!(
            "{tool} is not installed (apt-get install libiscsi-bin qemu-utils qemu-block-extra util-linux)"
        ));
    }
    found
}

/// Says loudly that a test is skipped, or fails it with STAMPEDE_TESTS_STRICT set.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("STAMPEDE_TESTS_STRICT").is_none(), "{why}");
    eprintln!("=== SKIPPED: {why} ===");
}

/// An address that nobody listens on right now.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A running `stampede serve`. It is killed when dropped.
pub(crate) struct Target {
    child: Child,
    address: String,
    targets: Vec<String>,
    folder: tempfile::TempDir,
}

impl Target {
    /// Serves these; images of 64 MiB are made in the target's folder: `golden*` with content, others blank.
    pub(crate) fn start(targets: &[&str]) -> Self {
        Self::start_with(targets, &[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(targets: &[&str], flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), targets, flags, None)
    }

    /// The same with what an unprivileged user has: no capability, and none to be had.
    pub(crate) fn start_without_capabilities(targets: &[&str], flags: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        command.arg(env!("CARGO_BIN_EXE_stampede"));
        Self::launch(tempfile::tempdir().unwrap(), targets, flags, own_settings(command))
    }

    /// The same in a folder that is there already, telling a systemd of the test's own.
    pub(crate) fn start_in(
        folder: tempfile::TempDir,
        targets: &[&str],
        flags: &[&str],
        notify: Option<&Path>,
    ) -> Self {
        let mut command = stampede();
        if let Some(socket) = notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        Self::launch(folder, targets, flags, command)
    }

    fn launch(folder: tempfile::TempDir, targets: &[&str], flags: &[&str], command: Command) -> Self {
        for target in targets {
            let path = folder.path().join(target.split_once('=').unwrap().1.split(',').next().unwrap());
            let file = File::create(&path).unwrap();
            file.set_len(64 << 20).unwrap();
            if path.file_name().unwrap().to_str().unwrap().starts_with("golden") {
                let content: Vec<u8> =
                    (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
                std::fs::write(&path, [content, vec![0; 63 << 20]].concat()).unwrap();
            }
        }
        let targets: Vec<String> = targets
            .iter()
            .map(|target| target.replacen('=', &format!("={}/", folder.path().display()), 1))
            .collect();
        let address = free_address();
        let child = spawn(&folder, &address, &targets, flags, command);
        let mut target = Self { child, address, targets, folder };
        target.wait_ready();
        target
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + LIMIT;
        while !self.log().contains("ready") {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9, and the same target again.
    pub(crate) fn kill_and_restart(&mut self, flags: &[&str]) {
        self.kill_and_restart_by(flags, stampede());
    }

    /// kill -9, and the same target again, started by this command.
    pub(crate) fn kill_and_restart_by(&mut self, flags: &[&str], command: Command) {
        self.end();
        self.start_by(flags, command);
    }

    /// SIGTERM, and the same target again.
    pub(crate) fn stop_and_restart(&mut self, flags: &[&str]) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        self.start_again(flags);
    }

    /// kill -9.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same target again, after its end.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        self.start_by(flags, stampede());
    }

    fn start_by(&mut self, flags: &[&str], command: Command) {
        std::fs::remove_file(self.folder.path().join("log")).unwrap();
        self.child = spawn(&self.folder, &self.address, &self.targets, flags, command);
        self.wait_ready();
    }

    /// Where its images are, its state, its log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The URL of LUN 0 of a target, as libiscsi writes it.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("iscsi://{}/iqn.2026-11.io.stampede:{name}/0", self.address)
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.folder.path().join("log")) {
            file.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Asks it something.
    pub(crate) fn ask(&self, arguments: &[&str]) -> std::process::Output {
        stampede().args(arguments).arg("--state-dir").arg(self.folder.path().join("state")).output().unwrap()
    }

    /// Its status as JSON.
    pub(crate) fn status(&self) -> String {
        let output = self.ask(&["status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its status, parsed.
    pub(crate) fn status_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.status()).unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM; asserts that it ends well.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        assert!(!self.folder.path().join("state/control.sock").exists());
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A `qemu-io` that keeps a LUN open until it is dropped. It answers pings, and never logs out.
pub(crate) struct Holder {
    child: Child,
    _input: ChildStdin,
}

impl Holder {
    /// Opens a LUN.
    pub(crate) fn open(url: &str) -> Self {
        Self::spawn(Command::new("qemu-io"), url)
    }

    /// Opens a LUN from one CPU.
    pub(crate) fn open_on(cpu: u16, url: &str) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu.to_string(), "qemu-io"]);
        Self::spawn(command, url)
    }

    fn spawn(mut command: Command, url: &str) -> Self {
        let mut child = command
            .args(["-f", "raw", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, _input: input }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    folder: &tempfile::TempDir,
    address: &str,
    targets: &[String],
    flags: &[&str],
    mut command: Command,
) -> Child {
    let log = File::create(folder.path().join("log")).unwrap();
    command.args(["serve", "--listen", address, "--state-dir"]).arg(folder.path().join("state")).args(flags);
    if !flags.contains(&"--cores") {
        command.args(["--cores", "0"]);
    }
    for target in targets {
        command.args(["--target", target]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}
