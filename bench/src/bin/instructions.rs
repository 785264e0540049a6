//! Instructions of one command, counted by callgrind, and judged against the counts that were committed.
//!
//! ```text
//!   instructions measure [--check | --update]   all scenarios, each under valgrind
//!   instructions run SCENARIO BATCHES           one scenario, for valgrind and perf
//! ```

#![forbid(unsafe_code)]

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use stampede_bench::callgrind::Profile;
use stampede_bench::one_shard::{Load, OneShard, Unit, Work};
use stampede_bench::stages;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Batches of 32 commands that are counted.
const BATCHES: u32 = 100;

/// Instructions of one command, without sockets and disks.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Counts every scenario under callgrind.
    Measure {
        /// Fail when a count is further from the baseline than its tolerance, or a lock or an allocation appears.
        #[arg(long, conflicts_with = "update")]
        check: bool,
        /// Write the counts as the new baseline.
        #[arg(long)]
        update: bool,
        /// The baseline.
        #[arg(long, default_value = "bench/instructions.toml")]
        baseline: PathBuf,
        /// Show this many of the dearest functions of each shard scenario.
        #[arg(long, default_value_t = 0)]
        functions: usize,
        /// Only scenarios whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Runs one scenario.
    Run {
        /// Its name, as `measure` shows it.
        scenario: String,
        /// Batches of 32 commands.
        batches: u32,
    },
}

/// `bench/instructions.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// A count may differ by so many percent.
    tolerance_percent: f64,
    /// Instructions of one command, by scenario.
    instructions: BTreeMap<String, u64>,
}

/// What a whole shard does: `shard-UNIT-WORK-SIZE`, `-r2t` for data that was asked for.
const SHARD: &[(&str, Unit, Work, u32)] = &[
    ("shard-disk-read-4k", Unit::Disk, Work::Read, 4096),
    ("shard-disk-write-4k", Unit::Disk, Work::Write, 4096),
    ("shard-disk-write-4k-r2t", Unit::Disk, Work::SolicitedWrite, 4096),
    ("shard-disk-read-64k", Unit::Disk, Work::Read, 65_536),
    ("shard-device-read-4k", Unit::Device, Work::Read, 4096),
    ("shard-device-write-4k", Unit::Device, Work::Write, 4096),
    ("shard-clone-read-4k", Unit::Clone, Work::Read, 4096),
    ("shard-clone-write-4k", Unit::Clone, Work::Write, 4096),
];

fn scenarios() -> Vec<String> {
    let stages = stages::all().into_iter().map(|(name, _)| format!("stage-{name}"));
    stages.chain(SHARD.iter().map(|(name, ..)| (*name).to_owned())).collect()
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().action {
        Action::Run { scenario, batches } => run(&scenario, batches),
        Action::Measure { check, update, baseline, functions, only } => {
            let measured = measure(&only, functions)?;
            if update {
                ensure!(only.is_empty(), "--update needs all scenarios: leave --only away");
                return write(&baseline, &measured.counts);
            }
            if check {
                return judge(&baseline, measured);
            }
            measured.problems.iter().for_each(|problem| println!("{problem}"));
            Ok(())
        }
    }
}

fn run(scenario: &str, batches: u32) -> anyhow::Result<()> {
    if let Some((_, unit, work, bytes)) = SHARD.iter().find(|(name, ..)| *name == scenario) {
        let load = Load { work: *work, bytes: *bytes, depth: stages::BATCH, span: 16 << 20 };
        let mut shard = OneShard::new(*unit);
        // Everything that grows has grown, and the clone's slots that are to be read are written.
        let warm = Load { work: Work::Write, ..load };
        shard.run(&warm, if *unit == Unit::Clone { 1000 } else { 10 });
        shard.run(&load, 10);
        shard.measured(&load, batches);
        return Ok(());
    }
    let wanted = |(name, _): &(&str, Box<dyn stages::Stage>)| format!("stage-{name}") == scenario;
    let Some((_, mut stage)) = stages::all().into_iter().find(wanted) else {
        bail!("there is no scenario `{scenario}`; there are: {}", scenarios().join(", "));
    };
    (0..batches).for_each(|_| stage.batch());
    Ok(())
}

/// What was counted.
struct Measured {
    /// Instructions of one command, by scenario.
    counts: BTreeMap<String, u64>,
    /// Locks and allocations where none may be.
    problems: Vec<String>,
}

fn measure(only: &str, functions: usize) -> anyhow::Result<Measured> {
    let (mut counts, mut problems) = (BTreeMap::new(), Vec::new());
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["scenario", "instructions", "by stage"]);
    for scenario in scenarios().into_iter().filter(|name| name.contains(only)) {
        let profile = count(&scenario)?;
        let each = |count: u64| count / u64::from(BATCHES * stages::BATCH);
        let is_shard = scenario.starts_with("shard");
        if is_shard {
            for (name, cost) in profile.dearest(functions) {
                println!("{:>8}  {name}", each(cost));
            }
            for (what, names) in [("takes locks", profile.locks()), ("allocates", profile.heap())] {
                if !names.is_empty() {
                    problems.push(format!("{scenario}: the hit path {what}: {}", names.join(", ")));
                }
            }
        }
        let stages: Vec<String> =
            profile.stages().into_iter().map(|(stage, cost)| format!("{stage} {}", each(cost))).collect();
        let stages = if is_shard { stages.join(", ") } else { String::new() };
        let total = if is_shard { profile.total() } else { profile.all() };
        table.add_row([scenario.clone(), each(total).to_string(), stages]);
        counts.insert(scenario, each(total));
    }
    println!("{table}");
    Ok(Measured { counts, problems })
}

/// Runs this program under callgrind, which counts only inside of functions that are called `measured_...`.
fn count(scenario: &str) -> anyhow::Result<Profile> {
    let directory = tempfile::tempdir().context("a folder for the profile")?;
    let file = directory.path().join("callgrind.out");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--demangle=no", "--compress-pos=no", "--toggle-collect=*measured_*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["run", scenario, &BATCHES.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start valgrind: install it, for example by `scripts/setup --bench`")?;
    ensure!(status.success(), "{scenario} failed under valgrind: {status}; run it without to see why");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{scenario}: no profile"))?;
    let profile =
        Profile::parse(&text).map_err(|why| anyhow::anyhow!("{scenario}: callgrind's output: {why}"))?;
    ensure!(profile.all() > 0, "{scenario}: nothing was counted");
    Ok(profile)
}

fn write(path: &Path, measured: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let tolerance_percent = read(path).map_or(5.0, |baseline| baseline.tolerance_percent);
    let baseline = Baseline { tolerance_percent, instructions: measured.clone() };
    let text = toml::to_string_pretty(&baseline)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: run this from the repository's root", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a baseline", path.display()))
}

fn judge(path: &Path, measured: Measured) -> anyhow::Result<()> {
    let baseline = read(path)?;
    let mut bad = measured.problems;
    for (scenario, now) in &measured.counts {
        let Some(was) = baseline.instructions.get(scenario) else {
            bad.push(format!("{scenario}: {now}, and the baseline lacks it"));
            continue;
        };
        let change = (*now as f64 / (*was).max(1) as f64 - 1.0) * 100.0;
        if change.abs() > baseline.tolerance_percent {
            bad.push(format!("{scenario}: {now}, was {was} ({change:+.1}%)"));
        }
    }
    ensure!(
        bad.is_empty(),
        "more than {}% away from {}, or not allowed:\n  {}\nIf that is meant, run `scripts/bench --update` and say why in \
         the commit",
        baseline.tolerance_percent,
        path.display(),
        bad.join("\n  ")
    );
    println!("all counts are within {}% of the baseline", baseline.tolerance_percent);
    Ok(())
}
