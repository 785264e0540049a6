//! `stampede topology`: what the machine is made of, and which shard would go where.

use crate::Failure;
use crate::ask::{print, print_json};
use crate::cli::TopologyArgs;
use crate::place;
use comfy_table::{Table, presets};
use serde::Serialize;
use stampede_control::config::Config;
use stampede_steer::irq::plan;
use stampede_steer::placement::Placement;
use stampede_steer::topology::{Cpu, CpuList, CpuState, Interrupt, Nic, Topology};
use std::fmt::Write;

/// The JSON form.
#[derive(Serialize)]
struct Shown<'a> {
    topology: &'a Topology,
    /// `null` when what was asked for cannot be.
    placement: Option<&'a Placement>,
}

/// Shows the machine, and where the configuration puts things on it. When it cannot, the machine is shown all the
/// same: it is what the operator needs in order to ask for something else.
pub(crate) fn topology(arguments: &TopologyArgs) -> Result<(), Failure> {
    let config = arguments.partial().and_then(|partial| partial.effective()).map_err(Failure::usage)?;
    let topology = place::read(&arguments.sysroot)?;
    let placement = place::on(&topology, &config);
    let shown = placement.as_ref().ok();
    match arguments.json {
        true => print_json(serde_json::to_string_pretty(&Shown { topology: &topology, placement: shown }))?,
        false => print(&render(&topology, shown, &config))?,
    }
    placement.map(drop).map_err(Failure::usage)
}

fn render(topology: &Topology, placement: Option<&Placement>, config: &Config) -> String {
    let mut text = String::new();
    machine(topology, &mut text);
    nodes(topology, &mut text);
    cores(topology, placement, &mut text);
    nics(topology, placement, &mut text);
    if let Some(placement) = placement {
        shards(placement, config, &mut text);
    }
    text
}

fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings.to_vec());
    table
}

/// Appends a table: cells two blanks apart, none at the ends of lines.
fn append(table: &mut Table, text: &mut String) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    text.push('\n');
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// A count with its noun.
fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn machine(topology: &Topology, text: &mut String) {
    let online = || topology.cpus.iter().filter(|cpu| cpu.state != CpuState::Offline);
    let sockets: CpuList = online().filter_map(|cpu| cpu.socket).collect();
    let cores = online().filter(|cpu| cpu.siblings.first() == Some(cpu.cpu)).count();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}, {}, {}, {} online",
        count(sockets.len().max(1), "socket"),
        count(topology.node_numbers().len(), "NUMA node"),
        count(cores, "core"),
        count(online().count(), "CPU"),
    );
    let usable = topology.usable();
    if usable.len() == online().count() {
        let _ = writeln!(text, "this process may use all CPUs: {usable}");
        return;
    }
    let _ = writeln!(text, "this process may use {}: {usable}", count(usable.len(), "CPU"));
    for (state, reason) in [
        (CpuState::OutsideCpuset, "outside of its cgroup's cpuset"),
        (CpuState::OutsideAffinity, "outside of its affinity"),
        (CpuState::Isolated, "isolated: used when listed"),
    ] {
        let cpus: CpuList =
            topology.cpus.iter().filter(|cpu| cpu.state == state).map(|cpu| cpu.cpu).collect();
        if !cpus.is_empty() {
            let _ = writeln!(text, "  {reason}: {cpus}");
        }
    }
}

fn nodes(topology: &Topology, text: &mut String) {
    if topology.nodes.is_empty() {
        return;
    }
    let mut table = table(&["NODE", "MEMORY", "CPUS", "NETWORK CARDS", "DISTANCES"]);
    for node in &topology.nodes {
        let nics = topology.nics.iter().filter(|nic| nic.node == Some(node.node));
        let nics: Vec<&str> = nics.map(|nic| nic.name.as_str()).collect();
        let distances: Vec<String> = node.distances.iter().map(ToString::to_string).collect();
        table.add_row([
            node.node.to_string(),
            format!("{:.1} GiB", node.memory_bytes as f64 / f64::from(1 << 30)),
            node.cpus.to_string(),
            nics.join(" "),
            distances.join(" "),
        ]);
    }
    append(&mut table, text);
}

/// One line for each physical core.
fn cores(topology: &Topology, placement: Option<&Placement>, text: &mut String) {
    let mut table = table(&["SOCKET", "NODE", "CORE", "CPUS", "USE"]);
    for cpu in &topology.cpus {
        if cpu.siblings.first() != Some(cpu.cpu) {
            continue;
        }
        let uses: Vec<String> =
            cpu.siblings.iter().filter_map(|thread| use_of(topology.cpu(thread)?, placement)).collect();
        let siblings = cpu.siblings.to_string();
        table.add_row([or_dash(cpu.socket), or_dash(cpu.node), or_dash(cpu.core), siblings, uses.join(", ")]);
    }
    append(&mut table, text);
}

fn use_of(cpu: &Cpu, placement: Option<&Placement>) -> Option<String> {
    let number = cpu.cpu;
    let shards = placement.iter().flat_map(|placement| &placement.shards);
    let mut uses: Vec<String> =
        shards.filter(|shard| shard.core == number).map(|shard| format!("shard {}", shard.shard)).collect();
    if placement.is_some_and(|placement| placement.control.core == Some(number)) {
        uses.push("control".to_owned());
    }
    let state = match cpu.state {
        CpuState::Usable => None,
        CpuState::Offline => Some("offline"),
        CpuState::OutsideCpuset | CpuState::OutsideAffinity => Some("not allowed"),
        CpuState::Isolated => Some("isolated"),
    };
    uses.extend(state.map(ToOwned::to_owned));
    (!uses.is_empty()).then(|| format!("{} on {number}", uses.join(" and ")))
}

fn nics(topology: &Topology, placement: Option<&Placement>, text: &mut String) {
    if topology.nics.is_empty() {
        text.push_str("\nno network cards\n");
        return;
    }
    let mut cards = table(&["NETWORK CARD", "NODE", "LINK", "DRIVER", "RX QUEUES", "TX QUEUES", "ABOVE IT"]);
    for nic in &topology.nics {
        let link = if nic.up { "up" } else { "down" };
        cards.add_row([
            nic.name.clone(),
            or_dash(nic.node),
            link.to_owned(),
            nic.driver.clone(),
            nic.rx_queues.to_string(),
            nic.tx_queues.to_string(),
            nic.uppers.join(" "),
        ]);
    }
    append(&mut cards, text);
    let steps = placement.map(|placement| plan(topology, placement)).unwrap_or_default();
    let mut table =
        table(&["IRQ", "CARD", "QUEUE", "NAME", "MAY INTERRUPT", "INTERRUPTS", "SHARD THERE", "`SET` GIVES"]);
    for (nic, irq) in topology.nics.iter().flat_map(|nic| nic.interrupts.iter().map(move |irq| (nic, irq))) {
        let given = steps.iter().find(|step| step.irq == irq.irq).map(|step| step.to);
        table.add_row(interrupt(nic, irq, placement, given));
    }
    if table.row_count() > 0 {
        append(&mut table, text);
    }
}

fn interrupt(nic: &Nic, irq: &Interrupt, placement: Option<&Placement>, given: Option<u16>) -> [String; 8] {
    let shards = placement.iter().flat_map(|placement| &placement.shards);
    let shards: CpuList =
        shards.filter(|shard| irq.effective.contains(shard.core)).map(|shard| shard.shard).collect();
    [
        irq.irq.to_string(),
        nic.name.clone(),
        or_dash(irq.queue),
        irq.name.clone(),
        irq.affinity.to_string(),
        irq.effective.to_string(),
        or_dash((!shards.is_empty()).then_some(shards)),
        or_dash(given),
    ]
}

fn shards(placement: &Placement, config: &Config, text: &mut String) {
    let addresses: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let nics = match placement.nics.is_empty() {
        true => "no network card".to_owned(),
        false => placement.nics.join(", "),
    };
    let _ = writeln!(
        text,
        "\ncores = \"{}\", numa = \"{}\", listening on {}: by way of {nics}",
        config.cores,
        config.numa,
        addresses.join(" ")
    );
    let mut table = table(&["SHARD", "CPU", "NODE", "MEMORY OF NODE", "WHY"]);
    for shard in &placement.shards {
        table.add_row([
            shard.shard.to_string(),
            shard.core.to_string(),
            shard.node.to_string(),
            or_dash(shard.memory_node),
            shard.why.clone(),
        ]);
    }
    let control = &placement.control;
    table.add_row([
        "control".to_owned(),
        or_dash(control.core),
        String::new(),
        String::new(),
        control.why.clone(),
    ]);
    append(&mut table, text);
    for warning in &placement.warnings {
        let _ = writeln!(text, "\nwarning: {}", warning.text);
    }
}
