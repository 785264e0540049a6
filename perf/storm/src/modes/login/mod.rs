//! login: logins and logouts, as fast as the target takes them or at a given rate.

mod shard;

use crate::cli::{Common, LoginArguments};
use crate::failure::Failure;
use crate::finish::{self, Parameters};
use crate::modes::io::sessions_by_shard;
use crate::modes::record::Figures;
use crate::probe::probe_login;
use crate::run::{Course, Schedule, nanoseconds, share};
use shard::{LoginPlan, LoginShard};
use std::sync::Arc;

/// Runs and reports.
///
/// # Errors
/// Why there is no run or no report; and, after the report, that logins failed.
pub(crate) fn run(arguments: &LoginArguments) -> Result<(), Failure> {
    let LoginArguments { common, length, ops, rate, hold } = arguments;
    let course = Course::prepare(common)?;
    probe_login(&course.endpoint)?;
    let ranges = sessions_by_shard(common);
    let parts = ranges.len() as u64;
    let mut bodies = Vec::new();
    for (numbers, part) in ranges.into_iter().zip(0..) {
        let plan = LoginPlan {
            endpoint: course.endpoint.clone(),
            numbers,
            budget: ops.map_or(u64::MAX, |ops| share(ops, parts, part)),
            interval_ns: rate.map(|rate| nanoseconds(parts as f64 / rate)),
            hold_ns: nanoseconds(*hold),
        };
        let control = Arc::clone(&course.control);
        bodies.push(move || LoginShard::new(plan, &control)?.run());
    }
    let secs = ops.is_none().then_some(length.secs);
    let schedule = Schedule { warmup: 0.0, secs, operations: *ops, machines: None, afterwards: "log out" };
    let (window, results) = course.run(&schedule, bodies)?;
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
