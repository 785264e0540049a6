//! The targets: started on ports of their own, on the target's cores, and ended with everything they left.

use crate::client::Kind as ClientKind;
use crate::figures::Counted;
use crate::process::{Interrupt, Running, free_port, pinned, run, wait_for_port};
use crate::workload::{Pattern, Workload};
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rustix::process::Signal;
use serde_json::Value;
use stampede_report::watch::Sample;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name that all targets here give to their unit.
const IQN: &str = "iqn.2026-11.io.stampede:compare";

/// A target that we start ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Stampede, serving the disk as it is
    Stampede,
    /// Stampede, serving an ephemeral clone, every block of which was written: it lies in the arena
    StampedeClone,
    /// The null target: iSCSI with nothing behind it
    Null,
    /// Bytes of the same sizes with no protocol
    Floor,
    /// tgt with its default backing store
    Tgt,
    /// tgt with asynchronous I/O
    TgtAio,
    /// istgt
    Istgt,
}

impl Kind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Stampede => "stampede",
            Kind::StampedeClone => "stampede-clone",
            Kind::Null => "null",
            Kind::Floor => "floor",
            Kind::Tgt => "tgt",
            Kind::TgtAio => "tgt-aio",
            Kind::Istgt => "istgt",
        }
    }

    /// Why it is left out of a workload, if it is.
    pub(crate) fn not_for(self, workload: &Workload) -> Option<&'static str> {
        /// A login takes istgt about a second.
        const ISTGT_SESSIONS: u32 = 16;
        match self {
            Kind::Istgt if workload.sessions > ISTGT_SESSIONS => Some("istgt takes a second for each login"),
            Kind::Stampede if workload.pattern == Pattern::Boot => {
                Some("its machines have clones: stampede-clone")
            }
            Kind::StampedeClone if workload.sessions > 1 && workload.pattern != Pattern::Boot => {
                Some("each session would be another machine, with a clone of its own")
            }
            Kind::Floor => workload.not_for(ClientKind::Floor),
            _ => None,
        }
    }
}

/// What targets are started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The target's cores, as taskset takes them.
    pub(crate) cores: String,
    /// The folder of null-target and floor.
    pub(crate) tools: PathBuf,
    pub(crate) stampede: PathBuf,
    /// The disk that all of them serve, one at a time.
    pub(crate) disk: PathBuf,
    pub(crate) disk_bytes: u64,
    /// For logs, sockets and state; a folder in it for each target.
    pub(crate) folder: PathBuf,
}

/// A target that runs.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) pid: u32,
    /// Resident memory when it had just started, KiB.
    pub(crate) rss_before_kib: u64,
    counters: Counters,
    /// Ends it when dropped; none for a target of somebody else.
    _running: Option<Running>,
}

/// Where a target's own counters are.
#[derive(Debug)]
enum Counters {
    None,
    /// `stampede status --json --control SOCKET`.
    Stampede {
        program: PathBuf,
        control: PathBuf,
    },
    /// A file that the process with this number writes on SIGUSR1.
    File {
        path: PathBuf,
        pid: u32,
    },
}

impl Target {
    /// Starts a target. `workload` matters to the floor alone, which is told the sizes.
    pub(crate) fn start(
        kind: Kind,
        setup: &Setup,
        workload: &Workload,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let folder = setup.folder.join(kind.name());
        std::fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let place = Place { setup, folder: &folder, port, interrupt };
        match kind {
            Kind::Stampede => place.stampede(&setup.disk, "", &[]),
            Kind::StampedeClone if workload.pattern == Pattern::Boot => {
                place.stampede_boots(workload.sessions)
            }
            Kind::StampedeClone => place.stampede_clone(),
            Kind::Null => place.null(),
            Kind::Floor => place.floor(workload),
            Kind::Tgt => place.tgt("rdwr"),
            Kind::TgtAio => place.tgt("aio"),
            Kind::Istgt => place.istgt(),
        }
        .with_context(|| format!("cannot start {}", kind.name()))
    }

    /// A target that somebody else started.
    pub(crate) fn external(url: &str, pid: u32) -> Self {
        let rss_before_kib = resident_kib(pid);
        Self { url: url.to_owned(), pid, rss_before_kib, counters: Counters::None, _running: None }
    }

    /// Waits until its memory stays what it is, and notes how much that is: what a target registers with the kernel
    /// may come a moment after it listens, and is no session's.
    pub(crate) fn settle(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        const LOOKS: u32 = 40;
        let mut same = 0;
        for _ in 0..LOOKS {
            interrupt.check()?;
            std::thread::sleep(Duration::from_millis(250));
            let now = resident_kib(self.pid);
            same = if now == self.rss_before_kib { same + 1 } else { 0 };
            self.rss_before_kib = now;
            if same >= 8 {
                break;
            }
        }
        Ok(())
    }

    /// What it has counted since it started, if it counts.
    pub(crate) fn counted(&self, interrupt: &Interrupt) -> anyhow::Result<Option<Counted>> {
        match &self.counters {
            Counters::None => Ok(None),
            Counters::Stampede { program, control } => {
                let mut command = Command::new(program);
                let text = run(command.args(["status", "--json", "--control"]).arg(control))?;
                stampede_counted(&serde_json::from_str(&text)?).map(Some)
            }
            Counters::File { path, pid } => {
                // Removed first: the file that is there then is the answer to our signal.
                let _ = std::fs::remove_file(path);
                let pid = rustix::process::Pid::from_raw(*pid as i32).context("no process number")?;
                rustix::process::kill_process(pid, Signal::USR1)?;
                if !interrupt.wait_until(Duration::from_secs(5), || Ok(path.is_file()))? {
                    bail!("it did not write {}", path.display());
                }
                let file: Value = serde_json::from_slice(&std::fs::read(path)?)?;
                let number = |name: &str| file["total"][name].as_u64().unwrap_or(0);
                let (commands, turns, sends) = (number("commands"), number("wakeups"), number("sends"));
                Ok(Some(Counted { commands, turns, sends }))
            }
        }
    }
}

/// A process that is gone has no memory; the run will say that it is gone.
fn resident_kib(pid: u32) -> u64 {
    Sample::of(pid).map_or(0, |sample| sample.rss_kib)
}

/// The counters of all shards, added up.
fn stampede_counted(status: &Value) -> anyhow::Result<Counted> {
    let shards = status["shards"].as_array().context("the status has no shards")?;
    let sum = |name: &str| -> anyhow::Result<u64> {
        let each = shards.iter().map(|shard| shard["counters"][name].as_u64());
        each.sum::<Option<u64>>().with_context(|| format!("the status has no counter {name:?}"))
    };
    Ok(Counted { commands: sum("commands")?, turns: sum("turns")?, sends: sum("sends")? })
}

/// A place where a target is started.
struct Place<'a> {
    setup: &'a Setup,
    folder: &'a Path,
    port: u16,
    interrupt: &'a Interrupt,
}

impl Place<'_> {
    /// Starts the process and waits until it listens.
    fn up(&self, name: &str, command: Command, patience: Duration) -> anyhow::Result<Running> {
        let log = self.folder.join("log");
        let mut running = Running::start(name, command, &log, patience)?;
        wait_for_port(self.port, &mut running, &log, self.interrupt)?;
        Ok(running)
    }

    fn target(&self, running: Running, lun: u16, counters: Counters) -> Target {
        let url = format!("iscsi://127.0.0.1:{}/{IQN}/{lun}", self.port);
        let pid = running.pid();
        Target { url, pid, rss_before_kib: resident_kib(pid), counters, _running: Some(running) }
    }

    fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The limits read as much memory as the disk has, or enough of it that no cache holds it.
    fn canned(&self) -> String {
        const ENOUGH: u64 = 256 << 20;
        self.setup.disk_bytes.min(ENOUGH).to_string()
    }

    /// Every block of the clone is written before it is measured, so that none is read from the golden.
    fn stampede_clone(&self) -> anyhow::Result<Target> {
        const WRITE: u64 = 256 << 10;
        // The disk itself is open for writing by others. The golden is a hole of its size: all of it is written over.
        let golden = self.folder.join("golden.raw");
        std::fs::File::create(&golden)?.set_len(self.setup.disk_bytes)?;
        let mut target = self.stampede(&golden, ",clone=ephemeral,stage=os,on-lost=fresh", &[])?;
        let mut storm = Command::new(self.setup.tools.join("storm"));
        storm.args(["seq", "--bs", "256k", "--depth", "8", "--read", "0", "--destroy", "--quiet"]);
        storm.args(["--ops", &self.setup.disk_bytes.div_ceil(WRITE).to_string()]).arg(&target.url);
        run(&mut storm)?;
        target.rss_before_kib = resident_kib(target.pid);
        Ok(target)
    }

    /// The disk as a golden: each machine has a clone of its own, and several sessions at once.
    fn stampede_boots(&self, machines: u32) -> anyhow::Result<Target> {
        let (connections, clones) = ((machines * 4 + 64).to_string(), (machines + 64).to_string());
        let options = ["--max-connections", &connections, "--max-clones", &clones];
        self.stampede(&self.setup.disk, ",clone=ephemeral", &options)
    }

    fn stampede(&self, image: &Path, options: &str, further: &[&str]) -> anyhow::Result<Target> {
        let program = self.setup.stampede.clone();
        let control = self.folder.join("control");
        let state = self.folder.join("state");
        std::fs::create_dir_all(&state)?;
        let mut command = pinned(&self.setup.cores, &program);
        command.args(["serve", "--listen", &self.listen(), "--cores", &self.setup.cores]);
        command.arg("--state-dir").arg(&state).arg("--control").arg(&control);
        command.arg("--target").arg(format!("compare={}{options}", image.display()));
        if !options.is_empty() {
            command.args(["--arena", &(self.setup.disk_bytes + (64 << 20)).to_string()]);
        }
        command.args(further);
        let running = self.up("stampede", command, Duration::from_secs(10))?;
        Ok(self.target(running, 0, Counters::Stampede { program, control }))
    }

    fn null(&self) -> anyhow::Result<Target> {
        let stats = self.folder.join("stats.json");
        let mut command = pinned(&self.setup.cores, self.setup.tools.join("null-target"));
        command.args(["--listen", &self.listen(), "--cores", &self.setup.cores]);
        command.args(["--size", &self.setup.disk_bytes.to_string(), "--canned", &self.canned()]);
        command.arg("--stats").arg(&stats);
        let running = self.up("null-target", command, Duration::from_secs(5))?;
        let pid = running.pid();
        Ok(self.target(running, 0, Counters::File { path: stats, pid }))
    }

    fn floor(&self, workload: &Workload) -> anyhow::Result<Target> {
        let stats = self.folder.join("stats.json");
        let mut command = pinned(&self.setup.cores, self.setup.tools.join("floor"));
        command.args(["serve", "--listen", &self.listen(), "--cores", &self.setup.cores]);
        command.args(["--bs", workload.bs, "--canned", &self.canned()]).arg("--stats").arg(&stats);
        if workload.writes() {
            command.arg("--write");
        }
        let running = self.up("floor", command, Duration::from_secs(5))?;
        let pid = running.pid();
        let counters = Counters::File { path: stats, pid };
        let rss_before_kib = resident_kib(pid);
        Ok(Target { url: self.listen(), pid, rss_before_kib, counters, _running: Some(running) })
    }

    fn tgt(&self, backing: &str) -> anyhow::Result<Target> {
        // Its control sockets lie where this says, so that nothing stays in /var/run.
        let socket = self.folder.join("socket");
        let mut command = pinned(&self.setup.cores, "tgtd");
        command.env("TGT_IPC_SOCKET", &socket);
        command.args(["-f", "-C", "1", "--iscsi", &format!("portal={}", self.listen())]);
        // tgtd does not end while sessions are open.
        let running = self.up("tgtd", command, Duration::from_secs(2))?;
        let disk = self.setup.disk.to_string_lossy();
        let steps: [&[&str]; 3] = [
            &["--op", "new", "--mode", "target", "--tid", "1", "-T", IQN],
            &[
                "--op",
                "new",
                "--mode",
                "logicalunit",
                "--tid",
                "1",
                "--lun",
                "1",
                "-b",
                &disk,
                "--bstype",
                backing,
            ],
            &["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"],
        ];
        for step in steps {
            let mut command = Command::new("tgtadm");
            run(command.env("TGT_IPC_SOCKET", &socket).args(["-C", "1", "--lld", "iscsi"]).args(step))?;
        }
        Ok(self.target(running, 1, Counters::None))
    }

    fn istgt(&self) -> anyhow::Result<Target> {
        let (configuration, authentication) = (self.folder.join("istgt.conf"), self.folder.join("auth.conf"));
        std::fs::write(&authentication, "[AuthGroup1]\n")?;
        std::fs::write(&configuration, self.istgt_configuration(&authentication))?;
        let mut command = pinned(&self.setup.cores, "istgt");
        command.arg("-D").arg("-c").arg(&configuration).arg("-p").arg(self.folder.join("pid"));
        let running = self.up("istgt", command, Duration::from_secs(3))?;
        Ok(self.target(running, 0, Counters::None))
    }

    /// As Debian's example has it, with the limits that its text allows.
    fn istgt_configuration(&self, authentication: &Path) -> String {
        let Self { setup, folder, .. } = self;
        format!(
            "[Global]\n  NodeBase \"{IQN}\"\n  PidFile {folder}/pid\n  AuthFile {authentication}\n  \
             MediaDirectory {folder}\n  LogFacility \"local7\"\n  Timeout 30\n  NopInInterval 20\n  \
             DiscoveryAuthMethod None\n  MaxSessions 64\n  MaxConnections 4\n  MaxR2T 32\n  MaxOutstandingR2T 16\n  \
             DefaultTime2Wait 2\n  DefaultTime2Retain 60\n  FirstBurstLength 262144\n  MaxBurstLength 262144\n  \
             MaxRecvDataSegmentLength 262144\n  InitialR2T Yes\n  ImmediateData Yes\n  DataPDUInOrder Yes\n  \
             DataSequenceInOrder Yes\n  ErrorRecoveryLevel 0\n\
             [UnitControl]\n  AuthMethod None\n\
             [PortalGroup1]\n  Portal DA1 {listen}\n\
             [InitiatorGroup1]\n  InitiatorName \"ALL\"\n  Netmask 127.0.0.0/8\n\
             [LogicalUnit1]\n  TargetName {IQN}\n  Mapping PortalGroup1 InitiatorGroup1\n  AuthMethod None\n  \
             UseDigest Auto\n  UnitType Disk\n  QueueDepth 128\n  LUN0 Storage {disk} Auto\n",
            folder = folder.display(),
            authentication = authentication.display(),
            listen = self.listen(),
            disk = setup.disk.display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_shards_are_added() {
        let shard = r#"{"counters":{"commands":5,"turns":2,"sends":1,"other":7}}"#;
        let status = serde_json::from_str(&format!("{{\"shards\":[{shard},{shard}]}}")).unwrap();
        assert_eq!(stampede_counted(&status).unwrap(), Counted { commands: 10, turns: 4, sends: 2 });
        let error = stampede_counted(&serde_json::json!({"shards": [{"counters": {}}]})).unwrap_err();
        assert!(error.to_string().contains("commands"), "{error}");
    }

    #[test]
    fn what_cannot_be_done_is_left_out_with_a_reason() {
        let of = |name| crate::workload::named(name).unwrap();
        assert!(
            Kind::Istgt.not_for(&of("mix4k_64s")).is_some() && Kind::Istgt.not_for(&of("mix4k_8s")).is_none()
        );
        assert!(
            Kind::Floor.not_for(&of("mix4k_8s")).is_some() && Kind::Tgt.not_for(&of("mix4k_64s")).is_none()
        );
    }
}
