//! fio's JSON as storm's report.

use anyhow::Context as _;
use serde::Deserialize;
use stampede_report::{LatencySummary, SCHEMA, StormReport, Traffic, rate};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Output {
    #[serde(rename = "fio version")]
    version: String,
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    jobname: String,
    error: i64,
    read: Side,
    write: Side,
}

#[derive(Deserialize)]
struct Side {
    io_bytes: u64,
    total_ios: u64,
    /// Milliseconds.
    runtime: u64,
    /// From submission to completion.
    #[serde(default)]
    lat_ns: Times,
    clat_ns: Times,
}

#[derive(Default, Deserialize)]
struct Times {
    min: f64,
    max: f64,
    mean: f64,
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

/// The report of a fio run with one group (`group_reporting`).
///
/// # Errors
/// It is not fio's JSON, has not exactly one group, or a job failed.
pub(crate) fn report(json: &[u8], url: &str) -> anyhow::Result<StormReport> {
    // fio writes notes before its JSON.
    let start = json.iter().position(|byte| *byte == b'{').context("fio wrote no JSON")?;
    let output: Output = serde_json::from_slice(&json[start..]).context("fio's JSON is not as expected")?;
    let [job] = &output.jobs[..] else {
        anyhow::bail!("fio reported {} groups: a job file has one, with group_reporting", output.jobs.len())
    };
    anyhow::ensure!(job.error == 0, "fio's job {} ended with error {}", job.jobname, job.error);
    let (reads, writes) = (traffic(&job.read), traffic(&job.write));
    let seconds = job.read.runtime.max(job.write.runtime) as f64 / 1e3;
    let operations = reads.operations + writes.operations;
    let bytes = reads.bytes + writes.bytes;
    let all = match (reads.operations, writes.operations) {
        (_, 0) => reads.clone(),
        (0, _) => writes.clone(),
        // fio does not say the percentiles of both together.
        _ => Traffic { operations, bytes, latency_us: mean_of(&reads, &writes), curve: Vec::new() },
    };
    Ok(StormReport {
        schema: SCHEMA,
        tool: "fio".to_owned(),
        version: output.version,
        mode: job.jobname.clone(),
        url: url.to_owned(),
        seconds,
        iops: rate(operations as f64, seconds),
        bytes_per_second: rate(bytes as f64, seconds),
        reads,
        writes,
        all,
        ..StormReport::default()
    })
}

fn mean_of(reads: &Traffic, writes: &Traffic) -> LatencySummary {
    let weighed = |side: &Traffic| side.latency_us.mean * side.operations as f64;
    let operations = (reads.operations + writes.operations) as f64;
    LatencySummary {
        mean: (weighed(reads) + weighed(writes)) / operations,
        min: reads.latency_us.min.min(writes.latency_us.min),
        max: reads.latency_us.max.max(writes.latency_us.max),
        ..LatencySummary::default()
    }
}

fn traffic(side: &Side) -> Traffic {
    // Percentiles are of the completion latency, unless the job file asks for those of the whole.
    let percentiles = if side.lat_ns.percentile.is_empty() { &side.clat_ns } else { &side.lat_ns };
    let at = |name: &str| percentiles.percentile.get(name).copied().unwrap_or(0.0) / 1e3;
    let whole = if side.lat_ns.mean > 0.0 { &side.lat_ns } else { &side.clat_ns };
    let latency_us = LatencySummary {
        mean: whole.mean / 1e3,
        min: whole.min / 1e3,
        p50: at("50.000000"),
        p90: at("90.000000"),
        p99: at("99.000000"),
        p99_9: at("99.900000"),
        max: whole.max / 1e3,
    };
    Traffic { operations: side.total_ios, bytes: side.io_bytes, latency_us, curve: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: &str = r#"{"io_bytes":8192000,"total_ios":2000,"runtime":1000,"clat_ns":{"min":9000,"max":99000,
        "mean":20000.0,"percentile":{"50.000000":18000,"90.000000":30000,"99.000000":50000,"99.900000":90000}},
        "lat_ns":{"min":10000,"max":100000,"mean":21000.0}}"#;
    const NONE: &str = r#"{"io_bytes":0,"total_ios":0,"runtime":0,"clat_ns":{"min":0,"max":0,"mean":0.0}}"#;

    fn output(read: &str, write: &str, error: i32) -> Vec<u8> {
        format!(
            r#"note: something {{"fio version":"fio-3.33","jobs":[{{"jobname":"rr","error":{error},"read":{read},"write":{write}}}]}}"#
        )
        .replace("note: something ", "note\n")
        .into_bytes()
    }

    #[test]
    fn a_run_of_reads() {
        let report = report(&output(SIDE, NONE, 0), "url").unwrap();
        assert_eq!((report.iops, report.bytes_per_second), (2000.0, 8_192_000.0));
        assert_eq!((report.all.latency_us.p50, report.all.latency_us.p99_9), (18.0, 90.0));
        assert_eq!(report.all.latency_us.mean, 21.0);
        assert_eq!(report.writes.operations, 0);
    }

    #[test]
    fn a_mixture_has_no_percentiles_of_both() {
        let report = report(&output(SIDE, SIDE, 0), "url").unwrap();
        assert_eq!((report.iops, report.all.operations), (4000.0, 4000));
        assert_eq!((report.all.latency_us.mean, report.all.latency_us.p50), (21.0, 0.0));
        assert_eq!(report.writes.latency_us.p50, 18.0);
    }

    #[test]
    fn failures_are_told() {
        assert!(report(b"fio: no such engine", "url").is_err());
        assert!(report(&output(SIDE, NONE, 5), "url").unwrap_err().to_string().contains("error 5"));
        assert!(
            report(b"{\"fio version\":\"f\",\"jobs\":[]}", "url")
                .unwrap_err()
                .to_string()
                .contains("0 groups")
        );
    }
}
