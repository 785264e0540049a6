//! Tables for a terminal. The library knows no terminal: callers print what they get.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{LatencySummary, StormReport, Traffic, human};

/// An empty table with `header`; the first column is flush left, the others, figures, flush right.
#[must_use]
pub fn figures(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The columns of [`latency_cells`].
pub const LATENCY_HEADER: [&str; 7] = ["mean", "min", "p50", "p90", "p99", "p99.9", "max"];

/// `latency` as the cells of a row.
#[must_use]
pub fn latency_cells(latency: &LatencySummary) -> [String; 7] {
    let LatencySummary { mean, min, p50, p90, p99, p99_9, max } = *latency;
    [mean, min, p50, p90, p99, p99_9, max].map(human::micros)
}

/// What a run did: a row for reads, writes and both, then one for each phase.
#[must_use]
pub fn storm(report: &StormReport) -> Table {
    let mut header = vec!["", "operations", "per second", "data per second"];
    header.extend(LATENCY_HEADER);
    let mut table = figures(&header);
    let mut add = |name: &str, side: &Traffic| {
        let per_second = |amount: u64| crate::rate(amount as f64, report.seconds);
        let mut row = vec![name.to_owned(), human::count(side.operations as f64)];
        row.push(human::count(per_second(side.operations)));
        row.push(human::bytes(per_second(side.bytes)));
        row.extend(latency_cells(&side.latency_us));
        table.add_row(row);
    };
    for (name, side) in [("reads", &report.reads), ("writes", &report.writes), ("all", &report.all)] {
        if side.operations > 0 {
            add(name, side);
        }
    }
    for phase in &report.phases {
        let mut row =
            vec![phase.name.clone(), human::count(phase.operations as f64), String::new(), String::new()];
        row.extend(latency_cells(&phase.latency_us));
        table.add_row(row);
    }
    table
}
