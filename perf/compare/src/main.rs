//! `compare`: the same workloads against several iSCSI targets, alternating in one run.
//!
//! ```text
//!   workloads x rounds x candidates (a target under a client)
//!        │ target: started on its cores, its own port, its own folder ── ended with everything it left
//!        │ client: storm | iscsi-perf | fio | the floor's, on its cores ──► StormReport, the target watched
//!        ▼
//!   Run ──► Figures ──► median and spread ──► tables, JSON, plots, bars
//! ```

#![forbid(unsafe_code)]

mod arguments;
mod bars;
mod client;
mod figures;
mod fio;
mod import;
mod kernel;
mod outcome;
mod process;
mod rounds;
mod target;
mod workload;

use anyhow::{Context as _, bail, ensure};
use arguments::Arguments;
use clap::Parser as _;
use client::Tools;
use outcome::Outcome;
use process::Interrupt;
use rounds::{Bench, Candidate, candidates};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use target::Setup;
use workload::Workload;

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True when every run succeeded and no bar was missed.
fn work(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.workload == ["list"] {
        for workload in workload::ALL {
            println!("{:<12} {}", workload.name, workload.what);
        }
        return Ok(true);
    }
    let mut outcome = match &arguments.from {
        Some(path) => imported(arguments, path)?,
        None => measured(arguments)?,
    };
    outcome.parameters = parameters(arguments);
    println!("{}", outcome.tables());
    if arguments.bars {
        outcome.bars = bars::judge(&outcome.workloads);
        println!("{}", outcome.bars_table());
    }
    if let Some(path) = &arguments.json {
        outcome.write(path)?;
    }
    if let Some(prefix) = &arguments.plot {
        outcome.plot(prefix)?;
    }
    for failure in &outcome.failures {
        println!("FAILED {failure}");
    }
    let errors = outcome.runs.iter().any(|run| run.report.errors > 0);
    let missed = outcome.bars.iter().any(|bar| bar.met == Some(false));
    Ok(outcome.failures.is_empty() && !errors && !missed)
}

fn parameters(arguments: &Arguments) -> std::collections::BTreeMap<String, String> {
    [
        ("rounds", arguments.rounds.to_string()),
        ("secs", arguments.secs.to_string()),
        ("warmup", arguments.warmup.to_string()),
        ("target_cores", arguments.target_cores.clone()),
        ("client_cores", arguments.client_cores.clone()),
        ("size_mib", arguments.size.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn imported(arguments: &Arguments, path: &Path) -> anyhow::Result<Outcome> {
    let runs = import::read(path)?;
    let mut workloads: Vec<(String, String)> = Vec::new();
    let mut candidates: Vec<String> = Vec::new();
    for run in &runs {
        if !workloads.iter().any(|(name, _)| *name == run.workload) {
            let what =
                workload::named(&run.workload).map_or_else(|_| String::new(), |known| known.what.to_owned());
            workloads.push((run.workload.clone(), what));
        }
        if !candidates.contains(&run.candidate) {
            candidates.push(run.candidate.clone());
        }
    }
    Ok(Outcome::new(runs, &workloads, &candidates, &arguments.base))
}

fn measured(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let workloads = arguments.workloads().map_err(anyhow::Error::msg)?;
    ensure!(arguments.secs >= 0.5, "--secs {}: a window of half a second at least", arguments.secs);
    let candidates = candidates(arguments);
    let interrupt = Interrupt::new()?;
    let memory = tempfile::Builder::new().prefix("stampede-compare.").tempdir_in("/dev/shm")?;
    let folder = tempfile::Builder::new().prefix("stampede-compare.").tempdir()?;
    let tools = tools(arguments)?;
    let ours = candidates.iter().any(|candidate| matches!(candidate.target, rounds::Which::Kind(_)));
    let disk = memory.path().join("disk.raw");
    let boots = workloads.iter().any(|workload| workload.pattern == workload::Pattern::Boot);
    let disk_bytes = (arguments.size << 20).max(if boots { workload::BOOTS_DISK } else { 0 });
    if ours {
        fill(&disk, disk_bytes, &interrupt)?;
    }
    let setup = Setup {
        cores: arguments.target_cores.clone(),
        tools: tools.folder.clone(),
        stampede: arguments.stampede.clone().unwrap_or_else(|| tools.folder.join("stampede")),
        disk,
        disk_bytes,
        folder: folder.path().to_owned(),
    };
    check(&tools, &setup, &candidates)?;
    let bench = Bench { arguments, setup: &setup, tools: &tools, interrupt: &interrupt };
    let (mut runs, mut failures, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for workload in &workloads {
        let done = bench.workload(workload, &candidates)?;
        runs.extend(done.runs);
        failures.extend(done.failures);
        left_out.push(done.left_out);
    }
    let named = |workload: &Workload| (workload.name.to_owned(), workload.what.to_owned());
    let workloads: Vec<_> = workloads.iter().map(named).collect();
    let names: Vec<_> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
    let mut outcome = Outcome::new(runs, &workloads, &names, &arguments.base);
    outcome.failures = failures;
    for (compared, left_out) in outcome.workloads.iter_mut().zip(left_out) {
        compared.left_out = left_out;
    }
    Ok(outcome)
}

fn tools(arguments: &Arguments) -> anyhow::Result<Tools> {
    let own = || -> anyhow::Result<PathBuf> {
        let exe = std::env::current_exe().context("cannot find this program's own folder: give --tools")?;
        Ok(exe.parent().context("this program has no folder: give --tools")?.to_owned())
    };
    let folder = arguments.tools.clone().map_or_else(own, Ok)?;
    Ok(Tools { folder, fio: arguments.fio.clone(), fio_jobs: arguments.fio_jobs.clone() })
}

/// Says what is missing before anything is measured.
fn check(tools: &Tools, setup: &Setup, candidates: &[Candidate]) -> anyhow::Result<()> {
    use rounds::Which;
    let mut wanted: Vec<PathBuf> = Vec::new();
    for candidate in candidates {
        wanted.push(match candidate.target {
            Which::Kind(target::Kind::Stampede | target::Kind::StampedeClone) => setup.stampede.clone(),
            Which::Kind(target::Kind::Null) => tools.folder.join("null-target"),
            Which::Kind(target::Kind::Floor) => tools.folder.join("floor"),
            Which::Kind(target::Kind::Tgt | target::Kind::TgtAio) => "tgtd".into(),
            Which::Kind(target::Kind::Istgt) => "istgt".into(),
            Which::External { .. } => continue,
        });
        wanted.push(match candidate.client {
            client::Kind::Storm => tools.folder.join("storm"),
            client::Kind::Floor => tools.folder.join("floor"),
            client::Kind::IscsiPerf => "iscsi-perf".into(),
            client::Kind::Fio => {
                tools.fio.clone().context("--client fio needs --fio FILE; scripts/fio gives it")?
            }
        });
    }
    wanted.extend(["setpriv".into(), "taskset".into()]);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|program| !is_there(program))
        .map(|program| program.display().to_string())
        .collect();
    if let Some(first) = missing.first() {
        let hint =
            if first.contains('/') { "build it: cargo build --release" } else { "scripts/setup --perf" };
        bail!("{first} is missing: {hint}");
    }
    Ok(())
}

/// A file with this path, or a program that PATH finds.
fn is_there(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Fills the disk with pages that are no holes: 16 MiB of noise, repeated.
fn fill(path: &Path, bytes: u64, interrupt: &Interrupt) -> anyhow::Result<()> {
    const PIECE: u64 = 16 << 20;
    let make = || -> anyhow::Result<()> {
        let mut noise = Vec::with_capacity(PIECE as usize);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        while (noise.len() as u64) < PIECE {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        let mut file = std::fs::File::create(path)?;
        for start in (0..bytes).step_by(PIECE as usize) {
            interrupt.check()?;
            file.write_all(&noise[..PIECE.min(bytes - start) as usize])?;
        }
        Ok(())
    };
    make().with_context(|| {
        format!("cannot make the disk of {} MiB in /dev/shm: give a smaller --size", bytes >> 20)
    })
}
