//! A status as text for people.

use super::{
    CloneStatus, Latency, PortalStatus, SessionStatus, ShardStatus, Status, SteeringStatus, TargetStatus,
    golden_table,
};
use std::fmt::Write;

/// A table: columns as wide as their widest cell, numbers to the right.
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn print(&self, text: &mut String) {
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
                cells.chain([self.headings[at].len()]).max().unwrap_or(0)
            })
            .collect();
        let headings: Vec<String> = self.headings.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let number = cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains(':');
                // Writing to a string does not fail.
                let _ = match number {
                    true => write!(line, "{cell:>width$}  "),
                    false => write!(line, "{cell:<width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

/// Bytes with a unit, three digits or so.
pub(super) fn bytes(count: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => {
            let value = count as f64 / (1u64 << shift) as f64;
            let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
            format!("{value:.digits$} {unit}")
        }
        None => format!("{count} B"),
    }
}

/// Seconds as `3d 4h`, `4h 5m`, `5m 6s` or `6s`.
pub(super) fn period(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn us(value: f64) -> String {
    match value {
        ..1000.0 => format!("{value:.0} us"),
        ..1_000_000.0 => format!("{:.1} ms", value / 1000.0),
        _ => format!("{:.1} s", value / 1_000_000.0),
    }
}

/// The whole status as text.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    heading(status, &mut text);
    shards(status, &mut text);
    targets(status, &mut text);
    if !status.goldens.is_empty() {
        text.push('\n');
        text.push_str(&golden_table(&status.goldens));
    }
    if !status.sessions.is_empty() {
        text.push('\n');
        text.push_str(&session_table(&status.sessions));
    }
    if !status.clones.is_empty() {
        text.push('\n');
        text.push_str(&clone_table(&status.clones));
    }
    interrupts(status, &mut text);
    notes(status, &mut text);
    text
}

fn heading(status: &Status, text: &mut String) {
    let draining = if status.draining { ", shutting down" } else { "" };
    let listen: Vec<String> = status.listen.iter().map(ToString::to_string).collect();
    let _ = write!(
        text,
        "stampede {} (pid {}) up {}{draining}, listening on {}\nclones' memory {} of {}; goldens cached {} of {}; state: {}\n",
        status.version,
        status.pid,
        period(status.uptime_s),
        listen.join(" "),
        bytes(status.arena.used_bytes),
        bytes(status.arena.limit_bytes),
        bytes(status.cache.used_bytes),
        bytes(status.cache.limit_bytes),
        match &status.state_store {
            Some(path) => format!("{} (run {})", path.display(), status.run),
            None => "in memory only".to_owned(),
        },
    );
    if let Some(scratch) = &status.scratch {
        let _ = writeln!(
            text,
            "scratch space {} of {}; {} spilled, {} read back, {} failures",
            bytes(scratch.used_bytes),
            bytes(scratch.limit_bytes),
            bytes(scratch.spilled_bytes),
            bytes(scratch.read_back_bytes),
            scratch.failures,
        );
    }
    let _ = writeln!(text, "steering: {}", steering(&status.steering));
    if status.held_logins > 0 {
        let _ = writeln!(text, "{} logins are being held", status.held_logins);
    }
    text.push_str(&status.admission.describe());
    placement(status, text);
}

/// What was moved between shards, once anything was.
fn placement(status: &Status, text: &mut String) {
    let place = &status.placement;
    let counts = [
        (place.handed_over, "logins handed over"),
        (place.hand_overs_failed, "hand-overs failed"),
        (place.moved, "sessions moved"),
        (place.moves_failed, "moves failed"),
        (place.pending as u64, "on their way"),
    ];
    let told: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let spread =
        place.loads.iter().max().zip(place.loads.iter().min()).map_or(0, |(most, least)| most - least);
    if spread > place.bound {
        let _ = writeln!(
            text,
            "shards differ by {spread} clones and sessions, more than {}: `stampede session rebalance`",
            place.bound
        );
    }
    if !told.is_empty() {
        let _ = writeln!(text, "between shards: {}", told.join(", "));
    }
}

/// The step of the ladder, and why, or what it did.
fn steering(steering: &SteeringStatus) -> String {
    let sum = |count: fn(&PortalStatus) -> u64| steering.portals.iter().map(count).sum::<u64>();
    let (by_cpu, others) = (sum(|portal| portal.by_cpu), sum(|portal| portal.by_hash + portal.by_kernel));
    match steering.step.as_str() {
        "one-shard" => format!("not needed: {}", steering.reason),
        "plain-reuseport" => format!("plain reuseport: {}", steering.reason),
        step => format!("{step} ({by_cpu} connections to the shard of their CPU, {others} elsewhere)"),
    }
}

fn shards(status: &Status, text: &mut String) {
    text.push('\n');
    let mut table =
        Table::new(&["SHARD", "CORE", "SESSIONS", "CARRIES", "COMMANDS", "RECEIVED", "SENT", "BUFFERS"]);
    for shard in &status.shards {
        let counter = |name: &str| shard.counters.get(name).copied().unwrap_or(0);
        table.row(match shard.answered {
            true => vec![
                shard.shard.to_string(),
                shard.core.to_string(),
                shard.sessions.to_string(),
                status.placement.loads.get(usize::from(shard.shard)).copied().unwrap_or(0).to_string(),
                counter("commands").to_string(),
                bytes(counter("received_bytes")),
                bytes(counter("sent_bytes")),
                bytes(shard.buffers.used_bytes),
            ],
            false => vec![shard.shard.to_string(), shard.core.to_string(), "does not answer".to_owned()],
        });
    }
    table.print(text);
    for shard in status.shards.iter().filter(|shard| !shard.home.note.is_empty()) {
        let _ = writeln!(text, "shard {}: {}", shard.shard, shard.home.note);
    }
    polling(status, text);
    let mut table = Table::new(&["LATENCY", "COUNT", "P50", "P99", "P99.9", "MAX"]);
    let mut row = |name: &str, latency: &Latency| {
        let figures = [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(us);
        table.row([name.to_owned(), latency.count.to_string()].into_iter().chain(figures).collect());
    };
    row("read", &status.latency.read);
    row("write", &status.latency.write);
    text.push('\n');
    table.print(text);
}

/// What busy polling costs and brings, where there was any.
fn polling(status: &Status, text: &mut String) {
    let counter = |shard: &ShardStatus, name: &str| shard.counters.get(name).copied().unwrap_or(0);
    if status.shards.iter().all(|shard| counter(shard, "busy_polls") == 0) {
        return;
    }
    let mut table = Table::new(&["POLLING SHARD", "POLLS", "FOUND SOMETHING", "TIME", "OF UPTIME"]);
    let percent = |part: f64, all: f64| format!("{:.1} %", 100.0 * part / all.max(1.0));
    for shard in &status.shards {
        let polls = counter(shard, "busy_polls");
        let seconds = counter(shard, "busy_poll_ns") as f64 / 1e9;
        table.row(vec![
            shard.shard.to_string(),
            polls.to_string(),
            percent(counter(shard, "busy_poll_hits") as f64, polls as f64),
            format!("{seconds:.3} s"),
            percent(seconds, status.uptime_s as f64),
        ]);
    }
    text.push('\n');
    table.print(text);
}

fn targets(status: &Status, text: &mut String) {
    text.push('\n');
    text.push_str(&lun_table(&status.targets));
}

/// Targets with their LUNs as a table for people.
#[must_use]
pub fn lun_table(targets: &[TargetStatus]) -> String {
    let mut table = Table::new(&[
        "TARGET", "LUN", "NAME", "KIND", "SIZE", "ACCESS", "SESSIONS", "CLONES", "READ", "WRITTEN", "FAILED",
    ]);
    for target in targets {
        for lun in &target.luns {
            table.row(vec![
                target.iqn.clone(),
                lun.lun.to_string(),
                lun.name.clone(),
                if lun.encrypted { format!("{}, encrypted", lun.kind) } else { lun.kind.clone() },
                bytes(lun.bytes),
                match (lun.medium.as_str(), lun.access.as_str()) {
                    ("out", _) => "no medium".to_owned(),
                    (_, "") => "-".to_owned(),
                    (_, access) => access.to_owned(),
                },
                target.sessions.to_string(),
                target.clones.to_string(),
                bytes(lun.traffic.read_bytes),
                bytes(lun.traffic.written_bytes),
                lun.traffic.failed.to_string(),
            ]);
        }
    }
    let mut text = String::new();
    table.print(&mut text);
    text
}

/// Sessions as a table for people.
#[must_use]
pub fn session_table(sessions: &[SessionStatus]) -> String {
    let mut table = Table::new(&[
        "SESSION",
        "INITIATOR",
        "USER",
        "PEER",
        "STAGE",
        "TARGET",
        "SHARD",
        "MOVES",
        "COMMANDS",
        "READ",
        "WRITTEN",
    ]);
    for session in sessions {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        table.row(vec![
            session.session.to_string(),
            or_dash(&session.initiator),
            or_dash(&session.user),
            session.peer.to_string(),
            or_dash(&session.stage),
            or_dash(&session.target),
            session.moving_to.map_or(session.shard.to_string(), |to| format!("{} to {to}", session.shard)),
            session.moves.to_string(),
            session.commands.to_string(),
            bytes(session.read_bytes),
            bytes(session.written_bytes),
        ]);
    }
    let mut text = String::new();
    table.print(&mut text);
    text
}

/// Clones as a table for people.
#[must_use]
pub fn clone_table(clones: &[CloneStatus]) -> String {
    let mut table = Table::new(&[
        "CLONE OF",
        "TARGET",
        "EPOCH",
        "STAGE",
        "STATE",
        "OVERLAY",
        "READ",
        "WRITTEN",
        "EXPIRES IN",
    ]);
    for clone in clones {
        table.row(vec![
            clone.initiator.clone(),
            clone.target.clone(),
            clone.epoch.to_string(),
            clone.stage.clone(),
            clone.state.clone(),
            bytes(clone.overlay_bytes),
            bytes(clone.traffic.read_bytes),
            bytes(clone.traffic.written_bytes),
            clone.expires_in_s.map_or("-".to_owned(), period),
        ]);
    }
    let mut text = String::new();
    table.print(&mut text);
    text
}

fn interrupts(status: &Status, text: &mut String) {
    if status.interrupts.is_empty() {
        return;
    }
    let mut table = Table::new(&["INTERRUPT", "CARD", "QUEUE", "BEFORE", "BELONGS TO", "SHARD", "STATE"]);
    for irq in &status.interrupts {
        let note = if irq.note.is_empty() { String::new() } else { format!(": {}", irq.note) };
        table.row(vec![
            irq.irq.to_string(),
            irq.nic.clone(),
            irq.queue.clone(),
            irq.before.clone(),
            irq.core.to_string(),
            irq.shard.to_string(),
            format!("{}{note}", irq.state),
        ]);
    }
    text.push('\n');
    table.print(text);
}

fn notes(status: &Status, text: &mut String) {
    let missing: Vec<_> = status.kernel.iter().filter(|feature| !feature.works).collect();
    if !missing.is_empty() {
        text.push_str("\nThe kernel lacks:\n");
        for feature in missing {
            let _ = writeln!(text, "  {}: {}", feature.feature, feature.note);
        }
    }
    if !status.alerts.is_empty() {
        text.push_str("\nAlerts:\n");
        for alert in &status.alerts {
            let times = if alert.count > 1 { format!(" ({} times)", alert.count) } else { String::new() };
            let _ = writeln!(text, "  {} ago{times}, {}: {}", period(alert.age_s), alert.target, alert.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(20 << 20), "20.0 MiB");
        assert_eq!(bytes(300 << 30), "300 GiB");
        assert_eq!(period(59), "59s");
        assert_eq!(period(3700), "1h 1m");
        assert_eq!(period(200_000), "2d 7h");
        assert_eq!(
            (us(12.4), us(1500.0), us(2_500_000.0)),
            ("12 us".into(), "1.5 ms".into(), "2.5 s".into())
        );
    }

    #[test]
    fn steering_is_one_line() {
        let portal = |by_cpu, by_hash| PortalStatus {
            address: ([0; 4], 1).into(),
            program: 7,
            by_cpu,
            by_hash,
            by_kernel: 1,
        };
        let status = |step: &str, reason: &str, portals| SteeringStatus {
            step: step.to_owned(),
            reason: reason.to_owned(),
            portals,
        };
        let text = steering(&status("reuseport-by-cpu", "", vec![portal(3, 0), portal(4, 2)]));
        assert_eq!(text, "reuseport-by-cpu (7 connections to the shard of their CPU, 4 elsewhere)");
        assert_eq!(steering(&status("plain-reuseport", "so", vec![])), "plain reuseport: so");
        assert_eq!(steering(&status("one-shard", "one", vec![])), "not needed: one");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(vec!["a".into(), "1".into()]);
        table.row(vec!["longer".into(), "100".into()]);
        let mut text = String::new();
        table.print(&mut text);
        assert_eq!(text, "NAME    N\na         1\nlonger  100\n");
    }
}
