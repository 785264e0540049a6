//! What was written is read back: JSON bit for bit, CSV field for field; what is not a report is refused with a reason.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stampede_report::{
    Client, CurvePoint, Latency, MismatchEntry, Phase, ReportError, SCHEMA, Second, SessionSummary,
    StormReport, TrafficRecorder, VerifySummary, Watched, csv, rate, read_json, table, write_json,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// A report with something in every field.
fn report(latencies_ns: &[u64], watched: bool, text: &str) -> StormReport {
    let mut reads = TrafficRecorder::default();
    let mut compact = Latency::compact();
    for ns in latencies_ns {
        reads.record(4096, *ns);
        compact.record_ns(*ns);
    }
    let seconds = 1.37;
    let all = reads.report();
    StormReport {
        schema: SCHEMA,
        tool: "storm".into(),
        version: "0.1.0".into(),
        mode: "verify".into(),
        url: text.into(),
        parameters: [("bs".into(), "4k".into()), ("depth".into(), 32.into())].into(),
        seconds,
        iops: rate(all.operations as f64, seconds),
        bytes_per_second: rate(all.bytes as f64, seconds),
        errors: 3,
        writes: TrafficRecorder::default().report(),
        reads: all.clone(),
        all,
        client: Client { cpu_seconds: 0.1 + 0.2 },
        watched: watched.then_some(Watched {
            pid: 77,
            cpu_seconds: 1.0 / 3.0,
            voluntary_switches: u64::MAX,
            involuntary_switches: 2,
            rss_kib: 4096,
        }),
        machine_cpu_seconds: 2.7,
        phases: vec![Phase::new("login", &compact)],
        sessions: vec![SessionSummary::new(0, &compact), SessionSummary::new(1, &Latency::compact())],
        timeline: vec![Second { second: 1, operations: 9, bytes: 36_864 }],
        verify: Some(VerifySummary {
            seed: 5,
            mismatches: 1,
            first_mismatches: vec![MismatchEntry {
                kind: "lost".into(),
                lba: 8,
                found: text.into(),
                ..Default::default()
            }],
            ..VerifySummary::default()
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_report_is_read_back_bit_for_bit(
        latencies in prop::collection::vec(any::<u64>(), 0..200),
        watched: bool,
        text in any::<String>(),
    ) {
        let folder = folder();
        let path = folder.path().join("report.json");
        let wrote = report(&latencies, watched, &text);
        wrote.write(&path).expect("written");
        prop_assert_eq!(StormReport::read(&path).expect("read"), wrote);
    }

    #[test]
    fn csv_is_read_back_field_for_field(rows in prop::collection::vec(any::<[String; 3]>(), 0..20)) {
        let folder = folder();
        let path = folder.path().join("rows.csv");
        csv::write(&path, &["a", "b,c", "d\"e"], &rows).expect("written");
        let read = csv_rows(&path);
        prop_assert_eq!(&read[0], &["a", "b,c", "d\"e"]);
        prop_assert_eq!(read.len(), rows.len() + 1);
        for (found, wanted) in read[1..].iter().zip(&rows) {
            prop_assert_eq!(found, wanted);
        }
    }
}

fn csv_rows(path: &Path) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_path(path).expect("opened");
    reader.records().map(|row| row.expect("a row").iter().map(String::from).collect()).collect()
}

#[test]
fn a_storm_report_as_csv_has_a_line_for_each_thing() {
    let folder = folder();
    let path = folder.path().join("storm.csv");
    let report = report(&[1_000, 2_000, 3_000], true, "u");
    csv::write_storm(&path, &report).expect("written");
    let rows = csv_rows(&path);
    assert!(rows.iter().all(|row| row.len() == csv::STORM_HEADER.len()), "{rows:?}");
    let scopes: Vec<(&str, &str)> = rows[1..].iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(
        scopes,
        [
            ("traffic", "all"),
            ("traffic", "reads"),
            ("traffic", "writes"),
            ("phase", "login"),
            ("session", "0"),
            ("session", "1"),
            ("second", "1"),
        ]
    );
    let all = &rows[1];
    assert_eq!(
        (all[2].as_str(), all[3].as_str(), all[6].as_str(), all[13].as_str()),
        ("3", "12288", "2.000", "3")
    );
    assert!((all[4].parse::<f64>().expect("a rate") - 3.0 / 1.37).abs() < 1e-3);
}

#[test]
fn nulls_and_names_are_those_of_the_schema() {
    let folder = folder();
    let path = folder.path().join("report.json");
    report(&[5_000], false, "u").write(&path).expect("written");
    let json: serde_json::Value = read_json(&path).expect("read");
    assert!(json["watched"].is_null());
    assert_eq!(json["reads"]["latency_us"]["p99_9"], 5.0);
    assert_eq!(json["sessions"][0]["session"], 0);
    assert_eq!(json["timeline"][0]["second"], 1);
    let curve: Vec<CurvePoint> = serde_json::from_value(json["all"]["curve"].clone()).expect("a curve");
    assert_eq!(curve.last(), Some(&CurvePoint { quantile: 1.0, us: 5.0 }));
    assert!(json["writes"].get("curve").is_none());
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.ends_with("}\n"));
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let folder = folder();
    let path: PathBuf = folder.path().join("report.json");
    let says = |wanted: &str| {
        let error = StormReport::read(&path).expect_err("refused").to_string();
        assert!(error.contains(wanted) && error.contains("report.json"), "{error}");
    };
    says("cannot read");
    std::fs::write(&path, "{\"schema\":1,").expect("written");
    says("not a report");
    std::fs::write(&path, "{\"schema\":2,\"new\":true}").expect("written");
    says("has schema 2, this tool reads schema 1");
    std::fs::write(&path, "{\"schema\":1}").expect("written");
    says("missing field");
}

#[test]
fn what_is_no_number_is_not_written() {
    let folder = folder();
    let path = folder.path().join("report.json");
    let mut bad = report(&[1], true, "u");
    bad.sessions[1].latency_us.p90 = f64::NAN;
    let error = bad.write(&path).expect_err("refused");
    assert!(matches!(error, ReportError::Value { .. }) && error.to_string().contains("finite"), "{error}");
    assert!(!path.exists());
    assert_eq!((rate(5.0, 0.0), rate(5.0, 2.0)), (0.0, 2.5));
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let missing = Path::new("/nonexistent-folder/report.json");
    for error in [
        write_json(missing, &1).expect_err("refused"),
        csv::write(missing, &["a"], [["1"]]).expect_err("refused"),
    ] {
        assert!(error.to_string().starts_with("cannot write /nonexistent-folder/report.json"), "{error}");
    }
    let folder = folder();
    let uneven = csv::write(&folder.path().join("x.csv"), &["a"], [vec!["1", "2"]]).expect_err("refused");
    assert!(matches!(uneven, ReportError::Value { .. }), "{uneven}");
}

#[test]
fn the_terminal_table_names_what_was_done() {
    let table = table::storm(&report(&[87_100; 10], true, "u")).to_string();
    assert!(table.contains("reads") && table.contains("login") && table.contains("87.1 us"), "{table}");
    assert!(!table.contains("writes"), "nothing was written:\n{table}");
}
