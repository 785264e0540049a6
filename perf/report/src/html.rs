//! A boot storm as one HTML page: figures, plots and tables, with nothing from elsewhere and no script.

use crate::plot::{self, Series};
use crate::{BootReport, BootSummary, LatencySummary, ReportError, Spread, human};
use std::fmt::Write as _;
use std::path::Path;

/// Machines that the page lists: the slowest ones.
const LISTED_MAX: usize = 20;
/// How the page looks.
const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}\
td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}\
svg{max-width:100%;height:auto}.bad{color:#b00020;font-weight:600}.good{color:#00695c;font-weight:600}";

/// Writes the page to `path`.
///
/// # Errors
/// The file cannot be written, or a plot not be drawn.
pub fn write_boot(path: &Path, report: &BootReport) -> Result<(), ReportError> {
    let page = page(path, report)?;
    std::fs::write(path, page).map_err(|error| ReportError::writing(path, error))
}

fn page(path: &Path, report: &BootReport) -> Result<String, ReportError> {
    let BootReport { report: storm, boot } = report;
    let title = format!("{} machines boot {}", boot.clients, boot.trace.name);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n",
        escape(&title)
    );
    verdict(&mut out, report);
    table(&mut out, &["", ""], &overview(report));
    heading(&mut out, "How long machines took");
    let spread = |name: &str, spread: &Spread| {
        let Spread { count, min, p50, p90, p99, max } = *spread;
        let mut row = vec![name.to_owned(), count.to_string()];
        row.extend([min, p50, p90, p99, max].map(|seconds| format!("{seconds:.2} s")));
        row
    };
    let rows =
        [spread(&boot.trace.marker, &boot.marker_seconds), spread("end of the trace", &boot.end_seconds)];
    table(&mut out, &["to", "machines", "first", "median", "90%", "99%", "last"], &rows);
    out.push_str(&plots(path, report)?);
    heading(&mut out, "Latencies");
    let latency = |name: &str, operations: u64, latency: &LatencySummary| {
        let LatencySummary { mean, p50, p90, p99, p99_9, max, .. } = *latency;
        let mut row = vec![name.to_owned(), operations.to_string()];
        row.extend([mean, p50, p90, p99, p99_9, max].map(human::micros));
        row
    };
    let phases = boot.phases.iter().map(|phase| latency(&phase.name, phase.operations, &phase.latency_us));
    let sides = [("reads", &storm.reads), ("writes", &storm.writes)];
    let sides = sides.iter().map(|(name, side)| latency(name, side.operations, &side.latency_us));
    let logins = storm.phases.iter().map(|phase| latency(&phase.name, phase.operations, &phase.latency_us));
    let rows: Vec<_> = phases.chain(sides).chain(logins).collect();
    table(&mut out, &["", "operations", "mean", "median", "90%", "99%", "99.9%", "longest"], &rows);
    slowest(&mut out, boot);
    mismatches(&mut out, boot);
    heading(&mut out, "Parameters");
    let parameters = storm.parameters.iter().map(|(name, value)| vec![name.clone(), value.to_string()]);
    table(&mut out, &["option", "value"], &parameters.collect::<Vec<_>>());
    let _ = writeln!(out, "<p>storm {}</p></body></html>", escape(&storm.version));
    Ok(out)
}

/// The one sentence that matters.
fn verdict(out: &mut String, report: &BootReport) {
    let BootReport { report: storm, boot } = report;
    let is_good = boot.mismatches == 0 && boot.gave_up == 0 && storm.errors == 0;
    let checked = match boot.golden.as_str() {
        "none" => "What they read was not looked at.".to_owned(),
        _ => format!(
            "{} read and compared, {} wrong reads.",
            human::bytes(boot.checked_bytes as f64),
            boot.mismatches
        ),
    };
    let text = format!(
        "{} of {} machines came up and {} to their end; {} errors. {checked}",
        boot.up, boot.clients, boot.done, storm.errors
    );
    let class = if is_good { "good" } else { "bad" };
    let _ = writeln!(out, "<p class=\"{class}\">{}</p>", escape(&text));
}

fn overview(report: &BootReport) -> Vec<Vec<String>> {
    let BootReport { report: storm, boot } = report;
    let trace = &boot.trace;
    let mut rows = vec![
        ("target", storm.url.clone()),
        (
            "trace",
            format!(
                "{} ({}): {} commands, {} read ({} different), {} written, {:.1} s of think time",
                trace.name,
                trace.origin,
                trace.commands,
                human::bytes(trace.read_bytes as f64),
                human::bytes(trace.unique_bytes as f64),
                human::bytes(trace.written_bytes as f64),
                trace.think_seconds
            ),
        ),
        ("whole storm", format!("{:.2} s", storm.seconds)),
        ("last machine up after", format!("{:.2} s", boot.last_marker_seconds)),
        ("slowest machine / median", format!("{:.2}", boot.slowest_over_median)),
        (
            "moved",
            format!("{}, {}/s", human::bytes(storm.all.bytes as f64), human::bytes(storm.bytes_per_second)),
        ),
        (
            "logins",
            format!("{}, {} put off, {} sessions lost", boot.logins, boot.logins_put_off, boot.sessions_lost),
        ),
        (
            "sent again",
            format!(
                "{} unit attentions, {} BUSY, {} TASK SET FULL, {} other",
                boot.retries.unit_attention,
                boot.retries.busy,
                boot.retries.task_set_full,
                boot.retries.other
            ),
        ),
        (
            "storm's own CPU and memory",
            format!("{:.2} s, {}", storm.client.cpu_seconds, human::bytes(boot.client_rss_bytes as f64)),
        ),
    ];
    if let Some(watched) = &storm.watched {
        let each = watched.cpu_seconds / f64::from(boot.clients.max(1)) * 1e6;
        let memory = human::bytes(watched.rss_kib as f64 * 1024.0);
        rows.push((
            "target's CPU and memory",
            format!("{:.2} s, {} a machine; {memory}", watched.cpu_seconds, human::micros(each)),
        ));
    }
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn plots(path: &Path, report: &BootReport) -> Result<String, ReportError> {
    let BootReport { report: storm, boot } = report;
    let mut out = String::new();
    let times = |of: fn(&crate::MachineSummary) -> Option<f64>| -> Vec<f64> {
        boot.machines.iter().filter_map(|machine| of(machine).map(|end| end - machine.on_seconds)).collect()
    };
    let (marker, end) = (times(|machine| machine.marker_seconds), times(|machine| machine.end_seconds));
    if !marker.is_empty() {
        let series = vec![(boot.trace.marker.as_str(), marker), ("end of the trace", end)];
        out.push_str(&plot::shares_svg(path, "Time to boot", boot.machines.len(), series)?);
    }
    if !storm.timeline.is_empty() {
        out.push_str(&plot::bytes_svg(path, "Bytes read and written", &storm.timeline)?);
    }
    let series: Vec<Series<'_, _>> = boot
        .phases
        .iter()
        .filter(|phase| !phase.curve.is_empty())
        .map(|phase| Series { name: phase.name.as_str(), points: &phase.curve })
        .collect();
    if !series.is_empty() {
        out.push_str(&plot::latency_svg(path, "Latencies of commands", &series)?);
    }
    Ok(out)
}

fn slowest(out: &mut String, boot: &BootSummary) {
    let mut machines: Vec<_> = boot.machines.iter().collect();
    let seconds = |machine: &crate::MachineSummary| {
        machine.end_seconds.map_or(f64::INFINITY, |end| end - machine.on_seconds)
    };
    machines.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    machines.truncate(LISTED_MAX);
    heading(out, "The slowest machines");
    let time = |at: Option<f64>, on: f64| at.map_or("-".to_owned(), |at| format!("{:.2} s", at - on));
    let rows: Vec<_> = machines
        .iter()
        .map(|machine| {
            vec![
                machine.machine.to_string(),
                format!("{:.2} s", machine.on_seconds),
                time(machine.marker_seconds, machine.on_seconds),
                time(machine.end_seconds, machine.on_seconds),
                machine.retries.to_string(),
                machine.logins_put_off.to_string(),
                machine.failure.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let marker = format!("to {}", boot.trace.marker);
    let header = ["machine", "on at", &marker, "to the end", "sent again", "logins put off", "gave up"];
    table(out, &header, &rows);
}

fn mismatches(out: &mut String, boot: &BootSummary) {
    if boot.first_mismatches.is_empty() {
        return;
    }
    heading(out, "Wrong reads");
    let rows: Vec<_> = boot
        .first_mismatches
        .iter()
        .map(|wrong| {
            vec![
                wrong.kind.clone(),
                wrong.session.to_string(),
                wrong.lba.to_string(),
                wrong.expected.clone(),
                wrong.found.clone(),
            ]
        })
        .collect();
    table(out, &["kind", "machine", "block", "expected", "found"], &rows);
}

fn heading(out: &mut String, text: &str) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(text));
}

fn table(out: &mut String, header: &[&str], rows: &[Vec<String>]) {
    out.push_str("<table>");
    if header.iter().any(|name| !name.is_empty()) {
        let cells: String = header.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        let _ = writeln!(out, "<tr>{cells}</tr>");
    }
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = writeln!(out, "<tr>{cells}</tr>");
    }
    out.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MachineSummary, MismatchEntry, PhaseCurve, Second, StormReport};

    fn report() -> BootReport {
        let mut latency = crate::Latency::new();
        (1..1000).for_each(|us| latency.record_ns(us * 1000));
        let machine = |machine: u32, seconds: f64| MachineSummary {
            machine,
            marker_seconds: Some(seconds),
            end_seconds: Some(seconds + 1.0),
            ..MachineSummary::default()
        };
        let mut boot = BootSummary {
            clients: 2,
            up: 2,
            done: 2,
            golden: "stamped".into(),
            phases: vec![PhaseCurve::new("firmware", &latency)],
            machines: vec![machine(0, 2.0), machine(1, 3.5)],
            ..BootSummary::default()
        };
        boot.trace.marker = "<b>up</b> & \"running\"".into();
        let timeline = vec![Second { second: 1, operations: 5, bytes: 5000 }];
        BootReport { report: StormReport { timeline, ..StormReport::default() }, boot }
    }

    #[test]
    fn one_page_with_its_plots_and_nothing_from_elsewhere() {
        let mut report = report();
        let path = Path::new("x.html");
        let text = page(path, &report).unwrap();
        assert_eq!(text.matches("<svg").count(), 3);
        assert!(text.contains("class=\"good\"") && !text.contains("<script") && !text.contains("<b>up"));
        assert!(text.contains("&lt;b&gt;up&lt;/b&gt; &amp; &quot;running&quot;") && text.contains("3.50 s"));
        assert!(
            !text.contains("http://")
                || text.matches("http").count() == text.matches("http://www.w3.org").count()
        );
        report.boot.mismatches = 1;
        report.boot.first_mismatches =
            vec![MismatchEntry { kind: "stale".into(), found: "<x>".into(), ..MismatchEntry::default() }];
        let text = page(path, &report).unwrap();
        assert!(text.contains("class=\"bad\"") && text.contains("&lt;x&gt;"));
        report.boot.machines.clear();
        report.boot.phases.clear();
        assert_eq!(page(path, &report).unwrap().matches("<svg").count(), 1);
    }
}
