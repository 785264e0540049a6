//! What `stampede image` prints.

use std::fmt::Write;

use comfy_table::{Table, presets};
use stampede_chain::{ChainInfo, LayerInfo, Segment, Snapshot};
use stampede_control::config::ByteSize;
use stampede_plugin::Report;

/// What a check found, as JSON.
#[derive(Debug, serde::Serialize)]
pub(super) struct CheckReport<'a> {
    errors: &'a [String],
    error_count: u64,
    leaked_bytes: u64,
    repaired_errors: u64,
    repaired_bytes: u64,
    allocated_bytes: u64,
}

impl<'a> From<&'a Report> for CheckReport<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            errors: &report.errors,
            error_count: report.error_count,
            leaked_bytes: report.leaked_bytes,
            repaired_errors: report.repaired_errors,
            repaired_bytes: report.repaired_bytes,
            allocated_bytes: report.allocated_bytes,
        }
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

pub(super) fn info(info: &ChainInfo) -> String {
    let mut text = String::new();
    for (depth, layer) in info.layers.iter().enumerate() {
        let _ = writeln!(text, "{}{}", if depth == 0 { "" } else { "\nits parent: " }, layer.path);
        text.push_str(&lines(layer));
    }
    if !info.snapshots.is_empty() {
        let _ = write!(text, "\nsnapshots:\n{}", snapshots(&info.snapshots));
    }
    text
}

fn lines(layer: &LayerInfo) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([format!("  {name}"), value]);
    };
    row("format", layer.format.clone());
    row("size of its disk", format!("{} ({} bytes)", ByteSize(layer.virtual_size), layer.virtual_size));
    row("space it takes", ByteSize(layer.allocated).to_string());
    row("allocates by", ByteSize(layer.allocation_unit.into()).to_string());
    for file in &layer.files {
        row("data file", file.clone());
    }
    if let Some(parent) = layer.parent.first() {
        row("parent", parent.clone());
    }
    if let Some(identity) = &layer.identity {
        row("identity", identity.clone());
    }
    for (name, value) in &layer.details {
        row(name, value.clone());
    }
    for warning in &layer.warnings {
        row("warning", warning.clone());
    }
    format!("{table}\n")
}

pub(super) fn snapshots(snapshots: &[Snapshot]) -> String {
    let mut table = table(&["id", "name", "size", "time (s since 1970)"]);
    for snapshot in snapshots {
        let size = ByteSize(snapshot.virtual_size).to_string();
        table.add_row([snapshot.id.clone(), snapshot.name.clone(), size, snapshot.time.to_string()]);
    }
    format!("{table}\n")
}

pub(super) fn check(report: &Report) -> String {
    let mut text = String::new();
    for error in &report.errors {
        let _ = writeln!(text, "error: {error}");
    }
    let unnamed = report.error_count.saturating_sub(report.errors.len() as u64);
    if unnamed > 0 {
        let _ = writeln!(text, "... and {unnamed} more");
    }
    let _ = writeln!(text, "{} errors, {} mended", report.error_count, report.repaired_errors);
    let leaked = ByteSize(report.leaked_bytes);
    let _ = writeln!(text, "{leaked} that nobody refers to, {} given back", ByteSize(report.repaired_bytes));
    text
}

pub(super) fn map(segments: &[Segment]) -> String {
    let mut table = table(&["start", "length", "what", "depth", "at", "file"]);
    for segment in segments {
        let kind = serde_json::to_value(segment.kind).ok();
        table.add_row([
            segment.start.to_string(),
            segment.length.to_string(),
            kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_string(),
            segment.depth.to_string(),
            segment.offset.map(|offset| offset.to_string()).unwrap_or_default(),
            segment.file.clone().unwrap_or_default(),
        ]);
    }
    format!("{table}\n")
}
