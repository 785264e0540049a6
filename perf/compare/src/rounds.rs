//! The rounds: A B C, A B C, so that what the machine does meanwhile meets all alike.

use crate::arguments::Arguments;
use crate::client::{self, Task, Tools};
use crate::figures::{Boots, Counted, Figures, Idle, Run};
use crate::kernel;
use crate::process::Interrupt;
use crate::target::{self, Setup, Target};
use crate::workload::{AGREEMENT, Pattern, Workload};
use stampede_report::BootReport;
use std::path::Path;

/// A target under a client.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) target: Which,
    pub(crate) client: client::Kind,
    /// The one workload that it is for, if it is not for all.
    pub(crate) only: Option<&'static str>,
}

/// Ours to start, or somebody else's.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Kind(target::Kind),
    External { url: String, pid: u32 },
}

/// Everything that the rounds need.
pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) setup: &'a Setup,
    pub(crate) tools: &'a Tools,
    pub(crate) interrupt: &'a Interrupt,
}

/// What the rounds of one workload came to.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) runs: Vec<Run>,
    pub(crate) left_out: Vec<(String, String)>,
    pub(crate) failures: Vec<String>,
}

/// The candidates that the command line asks for: each target under each client, the floor under its own.
pub(crate) fn candidates(arguments: &Arguments) -> Vec<Candidate> {
    use target::Kind;
    let all =
        [Kind::Stampede, Kind::StampedeClone, Kind::Null, Kind::Floor, Kind::Tgt, Kind::TgtAio, Kind::Istgt];
    let kinds = if arguments.only.is_empty() { &all[..] } else { &arguments.only };
    let named = |name: &str, client: client::Kind| match client {
        client::Kind::Floor => name.to_owned(),
        _ if arguments.client.first() == Some(&client) => name.to_owned(),
        _ => format!("{name} ({})", client.name()),
    };
    let mut candidates = Vec::new();
    for kind in kinds {
        let own = [client::Kind::Floor];
        let clients = if *kind == Kind::Floor { &own[..] } else { &arguments.client[..] };
        for client in clients {
            let name = named(kind.name(), *client);
            candidates.push(Candidate { name, target: Which::Kind(*kind), client: *client, only: None });
        }
    }
    for external in &arguments.target {
        for client in &arguments.client {
            let target = Which::External { url: external.url.clone(), pid: external.pid };
            let name = named(&external.name, *client);
            candidates.push(Candidate { name, target, client: *client, only: None });
        }
    }
    let second = client::Kind::IscsiPerf;
    if arguments.bars && kinds.contains(&Kind::Tgt) && !arguments.client.contains(&second) {
        // For the bar that storm agrees with it.
        let name = named(Kind::Tgt.name(), second);
        let target = Which::Kind(Kind::Tgt);
        candidates.push(Candidate { name, target, client: second, only: Some(AGREEMENT) });
    }
    candidates
}

impl Bench<'_> {
    /// Does one workload with all candidates.
    ///
    /// # Errors
    /// Interrupted. A candidate that fails is told in what is returned.
    pub(crate) fn workload(&self, workload: &Workload, candidates: &[Candidate]) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut up: Vec<(&Candidate, Target)> = Vec::new();
        let wanted = |candidate: &&Candidate| candidate.only.is_none_or(|only| only == workload.name);
        for candidate in candidates.iter().filter(wanted) {
            let kind_says = match candidate.target {
                Which::Kind(kind) => kind.not_for(workload),
                Which::External { .. } => None,
            };
            if let Some(why) = kind_says.or(workload.not_for(candidate.client)) {
                done.left_out.push((candidate.name.clone(), why.to_owned()));
                continue;
            }
            match self.start(candidate, workload) {
                Ok(target) => up.push((candidate, target)),
                Err(error) => self.failed(&mut done, workload, candidate, &error)?,
            }
        }
        // Round 0 warms up: caches, memory that is touched first, the processor's clock.
        for round in 0..=self.arguments.rounds {
            for (candidate, target) in &up {
                match self.run(workload, candidate, target, round) {
                    Ok(run) if round > 0 => {
                        self.say(&run);
                        done.runs.push(run);
                    }
                    Ok(_) => {}
                    Err(error) => self.failed(&mut done, workload, candidate, &error)?,
                }
            }
        }
        Ok(done)
    }

    fn failed(
        &self,
        done: &mut Done,
        workload: &Workload,
        candidate: &Candidate,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        self.interrupt.check()?;
        let words = format!("{} on {}: {error:#}", workload.name, candidate.name);
        eprintln!("compare: {words}");
        done.failures.push(words);
        Ok(())
    }

    fn start(&self, candidate: &Candidate, workload: &Workload) -> anyhow::Result<Target> {
        match &candidate.target {
            Which::External { url, pid } => Ok(Target::external(url, *pid)),
            Which::Kind(kind) => {
                // One folder each, also where two clients drive the same kind.
                let folder = self.setup.folder.join(format!("{}-{}", workload.name, candidate.client.name()));
                let setup = Setup { folder, ..self.setup.clone() };
                let mut target = Target::start(*kind, &setup, workload, self.interrupt)?;
                if workload.pattern == Pattern::Idle {
                    target.settle(self.interrupt)?;
                }
                Ok(target)
            }
        }
    }

    fn run(
        &self,
        workload: &Workload,
        candidate: &Candidate,
        target: &Target,
        round: u32,
    ) -> anyhow::Result<Run> {
        /// Seconds of the round that warms up.
        const WARMING: f64 = 1.0;
        let task = Task {
            workload,
            url: &target.url,
            pid: target.pid,
            seconds: if round == 0 { self.arguments.secs.min(WARMING) } else { self.arguments.secs },
            warmup: self.arguments.warmup,
            cores: &self.arguments.client_cores,
            folder: self.client_folder(),
            own_disks: matches!(
                candidate.target,
                Which::Kind(target::Kind::StampedeClone | target::Kind::Null)
            ),
        };
        let before = target.counted(self.interrupt)?;
        let report = client::run(candidate.client, self.tools, &task, self.interrupt)?;
        let after = target.counted(self.interrupt)?;
        let counted = before.zip(after).map(|(before, after)| Counted {
            commands: after.commands - before.commands,
            turns: after.turns - before.turns,
            sends: after.sends - before.sends,
        });
        let idle = (workload.pattern == Pattern::Idle).then(|| Idle {
            sessions: workload.sessions,
            rss_before_kib: target.rss_before_kib,
            kernel_bytes: kernel::socket_bytes(),
        });
        let boots = (workload.pattern == Pattern::Boot).then(|| self.boots()).transpose()?;
        let (workload, candidate) = (workload.name.to_owned(), candidate.name.clone());
        Ok(Run { workload, candidate, round, report, counted, idle, boots })
    }

    /// What storm's report says of its machines.
    fn boots(&self) -> anyhow::Result<Boots> {
        let BootReport { boot, .. } = stampede_report::read_json(&client::report_in(self.client_folder()))?;
        Ok(Boots {
            clients: boot.clients,
            last_marker_seconds: boot.last_marker_seconds,
            slowest_over_median: boot.slowest_over_median,
        })
    }

    fn client_folder(&self) -> &Path {
        &self.setup.folder
    }

    fn say(&self, run: &Run) {
        if self.arguments.quiet {
            return;
        }
        let figures = Figures::of(run);
        if let Some(percent) = figures.idle_core_percent {
            let kib = figures.idle_rss_kib.unwrap_or_default();
            eprintln!(
                "  {} round {} {:<18} {percent:>9.3}% of a core  {kib:>8.1} KiB for each session",
                run.workload, run.round, run.candidate
            );
            return;
        }
        if let Some(ms) = figures.boot_cpu_ms {
            let last = figures.boot_last_s.unwrap_or_default();
            eprintln!(
                "  {} round {} {:<18} {ms:>9.2} ms CPU for each machine  all up after {last:.2} s",
                run.workload, run.round, run.candidate
            );
            return;
        }
        let cpu = figures.target_cpu_ms.map_or("-".to_owned(), |ms| format!("{ms:.2}"));
        eprintln!(
            "  {} round {} {:<18} {:>9.0} IOPS  {cpu:>8} us CPU per I/O",
            run.workload, run.round, run.candidate, run.report.iops
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn names(arguments: &[&str]) -> Vec<String> {
        let arguments = Arguments::try_parse_from([&["compare"], arguments].concat()).unwrap();
        candidates(&arguments).into_iter().map(|candidate| candidate.name).collect()
    }

    #[test]
    fn every_target_meets_every_client_and_the_floor_its_own() {
        let all = ["stampede", "stampede-clone", "null", "floor", "tgt", "tgt-aio", "istgt"];
        assert_eq!(names(&[]), all);
        let two =
            ["--only", "floor,tgt", "--client", "storm,iscsi-perf", "--target", "x=iscsi://h/i/0,pid=1"];
        assert_eq!(names(&["--only", "tgt,null", "--bars"]), ["tgt", "null", "tgt (iscsi-perf)"]);
        assert_eq!(names(&two), ["floor", "tgt", "tgt (iscsi-perf)", "x", "x (iscsi-perf)"]);
    }
}
