//! The interrupts of network cards' queues: shown, moved on request, and taken back.

use crate::{Failure, place};
use anyhow::Context;
use stampede_control::config::{Config, IrqAffinity};
use stampede_control::status::InterruptStatus;
use stampede_steer::irq::{Moved, Step, StepState, Undone, balancer, plan};
use stampede_steer::placement::Placement;
use std::path::Path;

/// Where this machine's files are.
const ROOT: &str = "/";

/// The interrupts while stampede runs. Dropping it takes back what was moved.
pub(super) struct Interrupts {
    moved: Option<Moved>,
    steps: Vec<Step>,
}

/// Takes back what a stampede moved that was killed. The state directory is ours by now.
///
/// # Errors
/// What was before cannot be read, and interrupts are to be moved again.
pub(super) fn recover(config: &Config) -> Result<(), Failure> {
    let Some(directory) = &config.state_dir else { return Ok(()) };
    match Moved::new(Path::new(ROOT), directory).restore() {
        Ok(undone) => {
            tell(&undone, "an earlier stampede did not end in order: its interrupts are as they were before")
        }
        Err(error) if config.irq_affinity == IrqAffinity::Set => return Err(Failure::runtime(error)),
        Err(error) => tracing::warn!("{error}"),
    }
    Ok(())
}

/// Looks where they go, and moves them if the configuration says so.
///
/// # Errors
/// What is before cannot be saved.
pub(super) fn arrange(config: &Config, placement: &Placement) -> Result<Interrupts, Failure> {
    let mut interrupts = Interrupts { moved: None, steps: Vec::new() };
    if config.irq_affinity == IrqAffinity::Off {
        return Ok(interrupts);
    }
    // Anew: recovering may have changed what was read for the placement.
    interrupts.steps = plan(&place::read(Path::new(ROOT))?, placement);
    if interrupts.steps.is_empty() {
        tracing::info!("no network card with known queue interrupts carries the addresses listened on");
    }
    if config.irq_affinity == IrqAffinity::Set {
        let directory = config.state_dir.as_deref().context("irq-affinity = set needs state-dir");
        let moved = Moved::new(Path::new(ROOT), directory.map_err(Failure::Usage)?);
        let result = moved.apply(&mut interrupts.steps);
        interrupts.moved = Some(moved);
        result.map_err(Failure::runtime)?;
        if let Some(balancer) = balancer(Path::new(ROOT)) {
            tracing::warn!(
                "{balancer} runs, and will move interrupts again: stop it, or ban these interrupts in it"
            );
        }
    }
    for step in &interrupts.steps {
        log(step);
    }
    Ok(interrupts)
}

fn log(step: &Step) {
    let Step { irq, name, nic, queue, from, to, shard, state } = step;
    let what = match state {
        StepState::There => "goes to its shard's core",
        StepState::Elsewhere => "does not go to its shard's core; irq-affinity = set would move it",
        StepState::Moved => "was moved to its shard's core",
        StepState::Refused(why) => {
            tracing::warn!(irq, name, nic, %queue, before = %from, core = to, shard, "interrupt cannot be moved: {why}");
            return;
        }
    };
    tracing::info!(irq, name, nic, %queue, before = %from, core = to, shard, "interrupt {what}");
}

fn tell(undone: &Undone, what: &str) {
    if undone.restored > 0 {
        tracing::info!(interrupts = undone.restored, "{what}");
    }
    for (irq, why) in &undone.left {
        tracing::warn!(irq, "interrupt left alone: {why}");
    }
}

impl Interrupts {
    /// For status.
    pub(super) fn statuses(&self) -> Vec<InterruptStatus> {
        self.steps.iter().map(status).collect()
    }
}

fn status(step: &Step) -> InterruptStatus {
    let (state, note) = match &step.state {
        StepState::There => ("there", String::new()),
        StepState::Elsewhere => ("elsewhere", String::new()),
        StepState::Moved => ("moved", String::new()),
        StepState::Refused(why) => ("refused", why.clone()),
    };
    InterruptStatus {
        irq: step.irq,
        nic: step.nic.clone(),
        queue: step.queue.to_string(),
        name: step.name.clone(),
        before: step.from.to_string(),
        core: step.to,
        shard: step.shard,
        state: state.to_owned(),
        note,
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let Some(moved) = &self.moved else { return };
        match moved.restore() {
            Ok(undone) => tell(&undone, "interrupts are as they were before"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}
