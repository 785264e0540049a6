//! The command line.

use crate::client;
use crate::target;
use crate::workload::{self, Pattern, Workload};
use std::path::PathBuf;

/// The same workloads against several iSCSI targets, alternating in one run
///
/// Starts the targets itself, on ports and in folders of their own, lets storm (or another client) do the same work to
/// one after the other, round by round, and says what each round cost. Figures are medians over the rounds.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Workloads, separated by commas; `list` shows them. Without it all of them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Only the workloads that the bars are about
    #[arg(long, conflicts_with = "workload")]
    pub(crate) quick: bool,
    /// Targets to start, separated by commas. Without it all of them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<target::Kind>,
    /// A further target that is up already, with the number of its process
    #[arg(long, value_name = "NAME=URL,pid=PID", value_parser = external)]
    pub(crate) target: Vec<External>,
    /// Clients, separated by commas: each drives each target
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum, default_value = "storm")]
    pub(crate) client: Vec<client::Kind>,
    /// Rounds over all targets
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Length of each measuring window, seconds
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) secs: f64,
    /// Seconds before each window
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    pub(crate) warmup: f64,
    /// Machines of the boot storm, instead of 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: Option<u32>,
    /// Cores of the targets, as taskset takes them
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub(crate) target_cores: String,
    /// Cores of the client
    #[arg(long, value_name = "LIST", default_value = "1")]
    pub(crate) client_cores: String,
    /// Size of the disk, which lies in /dev/shm, MiB; boot storms have one of 2,560 at least
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    pub(crate) size: u64,
    /// The candidate that ratios are to
    #[arg(long, value_name = "NAME", default_value = "null")]
    pub(crate) base: String,
    /// Judges the bars of docs/performance.md, and fails when one is missed
    #[arg(long)]
    pub(crate) bars: bool,
    /// Where to write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where to write plots: FILE-cpu.svg, FILE-iops.svg, FILE-latency.svg
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// The folder of storm, null-target and floor. Without it that of this program
    #[arg(long, value_name = "FOLDER")]
    pub(crate) tools: Option<PathBuf>,
    /// The daemon to compare. Without it the one beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) stampede: Option<PathBuf>,
    /// A fio with the libiscsi engine, for --client fio
    #[arg(long, value_name = "FILE")]
    pub(crate) fio: Option<PathBuf>,
    /// fio's job file, with a section for each workload
    #[arg(long, value_name = "FILE", default_value = "perf/fio/libiscsi.fio")]
    pub(crate) fio_jobs: PathBuf,
    /// Measures nothing: shows runs that another tool measured. A JSON object for each line: `workload`, `candidate`,
    /// `round`, and `report` (as storm writes it) or `fio` (fio's JSON) with `watched` and `machine_cpu_seconds`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "quick", "only", "target", "client"])]
    pub(crate) from: Option<PathBuf>,
    /// Says nothing while it runs
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A target that somebody else started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) pid: u32,
}

fn external(text: &str) -> Result<External, String> {
    const FORM: &str = "a target is NAME=iscsi://HOST:PORT/IQN/LUN,pid=PID";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let (url, pid) = rest.rsplit_once(",pid=").ok_or(FORM)?;
    if name.is_empty() || !url.starts_with("iscsi://") {
        return Err(FORM.to_owned());
    }
    let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process number: {FORM}"))?;
    Ok(External { name: name.to_owned(), url: url.to_owned(), pid })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is no number of seconds from 0 to 3600")),
    }
}

impl Arguments {
    /// The workloads asked for.
    pub(crate) fn workloads(&self) -> Result<Vec<Workload>, String> {
        let mut workloads = self.named_workloads()?;
        if let Some(clients) = self.clients {
            let boots = workloads.iter_mut().filter(|workload| workload.pattern == Pattern::Boot);
            boots.for_each(|workload| workload.sessions = clients);
        }
        Ok(workloads)
    }

    fn named_workloads(&self) -> Result<Vec<Workload>, String> {
        if self.quick {
            return Ok(workload::ALL.iter().filter(|workload| workload.quick).copied().collect());
        }
        if self.workload.is_empty() {
            return Ok(workload::ALL.to_vec());
        }
        self.workload.iter().map(|name| workload::named(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let quick = Arguments::try_parse_from(["compare", "--quick"]).unwrap();
        let names: Vec<&str> = quick.workloads().unwrap().iter().map(|workload| workload.name).collect();
        assert_eq!(
            names,
            [
                "rr4k_qd1",
                "rr4k_qd32",
                "rw4k_qd32",
                "rr64k_qd16",
                "sr4k_qd32",
                "sr256k_qd8",
                "mix4k_64s",
                "idle_1000s"
            ]
        );
        assert!(Arguments::try_parse_from(["compare", "--rounds", "0"]).is_err());
        assert!(Arguments::try_parse_from(["compare", "--only", "scst"]).is_err());
        let wrong = Arguments::try_parse_from(["compare", "--workload", "rr4k_qd33"]).unwrap();
        assert!(wrong.workloads().is_err());
    }

    #[test]
    fn external_targets_have_a_name_a_url_and_a_process() {
        let read = external("spdk=iscsi://h:3260/iqn.x:y/0,pid=12").unwrap();
        assert_eq!(
            (read.name.as_str(), read.url.as_str(), read.pid),
            ("spdk", "iscsi://h:3260/iqn.x:y/0", 12)
        );
        for wrong in
            ["spdk", "=iscsi://h/i/0,pid=1", "a=http://x,pid=1", "a=iscsi://h/i/0", "a=iscsi://h/i/0,pid=x"]
        {
            assert!(external(wrong).is_err(), "{wrong}");
        }
    }
}
