//! login: logins and logouts, as fast as the target takes them or at a given rate.

mod shard;

use crate::cli::{Common, LoginArguments};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::finish::{self, Parameters};
use crate::modes::io::{cores, sessions_by_shard};
use crate::modes::record::Figures;
use crate::probe::probe_login;
use crate::proc::check_watched;
use crate::progress::Progress;
use crate::run::{Control, Schedule, Shards, check_cores, nanoseconds, share};
use crate::signals::Interrupt;
use shard::{LoginPlan, LoginShard};
use std::sync::Arc;

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that logins failed.
pub(crate) fn run(arguments: &LoginArguments) -> Result<(), Failure> {
    let LoginArguments { common, length, ops, rate, hold } = arguments;
    check_watched(common.watch_pid)?;
    check_cores(cores(common))?;
    let interrupt = Interrupt::listen()?;
    let endpoint = Endpoint::new(common)?;
    probe_login(&endpoint)?;
    let ranges = sessions_by_shard(common);
    let parts = ranges.len() as u64;
    let control = Control::new();
    let mut bodies = Vec::new();
    for (numbers, part) in ranges.into_iter().zip(0..) {
        let plan = LoginPlan {
            endpoint: endpoint.clone(),
            numbers,
            budget: ops.map_or(u64::MAX, |ops| share(ops, parts, part)),
            interval_ns: rate.map(|rate| nanoseconds(parts as f64 / rate)),
            hold_ns: nanoseconds(*hold),
        };
        let control = Arc::clone(&control);
        bodies.push(move || LoginShard::new(plan, &control)?.run());
    }
    let schedule = Schedule { warmup: 0.0, secs: ops.is_none().then_some(length.secs), operations: *ops };
    let progress = Progress::new(common.quiet, Some(ops.unwrap_or((length.secs * 10.0) as u64)));
    let shards = Shards::start(cores(common), &control, bodies)?;
    let window = shards.conduct(&schedule, common.watch_pid, &progress, &interrupt);
    let results = shards.join();
    drop(progress);
    let (window, results) = (window?, results?);
    let window = window.ok_or_else(|| Failure::runtime("the run did not come to its end"))?;
    let mut figures = Figures::default();
    results.into_iter().for_each(|result| figures.merge(result));
    finish::logins(common, parameters(common, arguments), &window, &figures)
}

fn parameters(common: &Common, arguments: &LoginArguments) -> Parameters {
    let mut parameters = Parameters::of(common);
    match arguments.ops {
        Some(ops) => parameters.set("ops", ops),
        None => parameters.set("secs", arguments.length.secs),
    }
    if let Some(rate) = arguments.rate {
        parameters.set("rate", rate);
    }
    parameters.set("hold", arguments.hold);
    parameters
}
