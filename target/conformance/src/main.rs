//! `conformance`: lists the tests, runs them, and makes the table of `docs/conformance.md`.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use stampede_conformance::registry::{Group, Test, all};
use stampede_conformance::run::{Place, Report, Verdict, attempt, run_all_of};
use stampede_conformance::table;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs iSCSI conformance tests against stampede.
#[derive(Debug, Parser)]
#[command(name = "conformance", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tests: group/name, section, what must hold.
    List {
        /// Only those whose group/name has this in it.
        #[arg(long, value_name = "TEXT", default_value = "")]
        filter: String,
    },
    /// Run tests; on both sides unless one is chosen. Exits with 1 when one fails.
    Run(RunArgs),
    /// Print the table of rules, code, tests and mutations; or put it into a file between its markers.
    Table {
        /// The file.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Only those whose group/name has this in it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Against a process, over TCP.
    #[arg(long)]
    tcp: bool,
    /// On the seeded twin.
    #[arg(long)]
    twin: bool,
    /// The program to test [default: the stampede that was built beside this program].
    #[arg(long, value_name = "FILE")]
    stampede: Option<PathBuf>,
    /// The twin's seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Break each test's rule by its mutation: every test that has one must fail then.
    #[arg(long)]
    broken: bool,
    /// Print a summary as JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Print what was said in tests that fail.
    #[arg(long)]
    transcript: bool,
}

fn main() -> ExitCode {
    match obey(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Whoever reads the output may have gone.
            let _ = writeln!(std::io::stderr(), "conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn obey(command: &Command) -> std::io::Result<bool> {
    match command {
        Command::List { filter } => {
            let mut out = stdout().lock();
            for (group, test) in chosen(filter) {
                writeln!(out, "{}/{}: {}: {}", group.folder(), test.name, test.section, test.says)?;
            }
            Ok(true)
        }
        Command::Run(arguments) => run_all(arguments),
        Command::Table { write: None } => write!(stdout().lock(), "{}", table::generate()).map(|()| true),
        Command::Table { write: Some(path) } => {
            let text = std::fs::read_to_string(path)?;
            let replaced = table::replace(&text)
                .ok_or_else(|| std::io::Error::other(format!("{} has no markers", path.display())))?;
            std::fs::write(path, replaced).map(|()| true)
        }
    }
}

fn chosen(filter: &str) -> impl Iterator<Item = (Group, &'static Test)> {
    all().filter(move |(group, test)| format!("{}/{}", group.folder(), test.name).contains(filter))
}

fn run_all(arguments: &RunArgs) -> std::io::Result<bool> {
    let mut places = Vec::new();
    if arguments.twin || !arguments.tcp {
        places.push(Place::Seed(arguments.seed));
    }
    if arguments.tcp || !arguments.twin {
        places.push(match &arguments.stampede {
            Some(path) => Place::Program(path.clone()),
            None => Place::beside(&std::env::current_exe()?),
        });
    }
    if arguments.broken {
        return break_all(arguments, &places);
    }
    let mut reports = Vec::new();
    for place in &places {
        let of_place = run_all_of(&chosen(&arguments.filter).collect::<Vec<_>>(), place);
        if !arguments.json {
            of_place.iter().try_for_each(|report| tell(report, arguments.transcript))?;
        }
        reports.extend(of_place);
    }
    let wrong = reports.iter().filter(|report| report.verdict.is_wrong()).count();
    let known_failures = reports.iter().filter(|report| report.verdict == Verdict::KnownFailure).count();
    let passed = reports.len() - wrong - known_failures;
    let mut out = stdout().lock();
    if arguments.json {
        let summary = serde_json::json!({
            "passed": passed, "failed": wrong, "known": known_failures, "tests": reports,
        });
        writeln!(out, "{summary:#}")?;
    } else {
        writeln!(out, "{passed} passed, {wrong} failed, {known_failures} known to fail")?;
    }
    Ok(wrong == 0)
}

/// Runs every test that has a mutation with it.
fn break_all(arguments: &RunArgs, places: &[Place]) -> std::io::Result<bool> {
    let mut out = stdout().lock();
    let (mut noticed, mut missed) = (0, 0);
    for place in places {
        for (group, test) in chosen(&arguments.filter).filter(|(_, test)| test.runs_on(place.side())) {
            let Some(mutation) = test.mutation else { continue };
            let name = format!("{}/{}: {}", group.folder(), test.name, mutation.what);
            match attempt(test, place, true).0 {
                Err(failure) => {
                    noticed += 1;
                    writeln!(out, "{:4} noticed {name}: {failure}", place.side())?;
                }
                Ok(()) => {
                    missed += 1;
                    writeln!(out, "{:4} MISSED {name}", place.side())?;
                }
            }
        }
    }
    writeln!(out, "{noticed} broken rules noticed, {missed} missed")?;
    Ok(missed == 0)
}

fn tell(report: &Report, transcript: bool) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let Report { group, name, side, verdict, why, .. } = report;
    let word = match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::KnownFailure => "known",
        Verdict::KnownPasses => "PASSES, THOUGH KNOWN TO FAIL",
    };
    writeln!(out, "{side:4} {word} {group}/{name}{}{why}", if why.is_empty() { "" } else { ": " })?;
    if transcript {
        for line in &report.transcript {
            writeln!(out, "       {line}")?;
        }
    }
    Ok(())
}
