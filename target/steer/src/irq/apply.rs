//! Moving interrupts, and taking them back.

use super::plan::{Step, StepState};
use super::saved::{IrqError, SAVED_FILE, Saved, SavedIrq};
use crate::topology::CpuList;
use crate::topology::files::{Root, names};
use std::path::{Path, PathBuf};

/// Interrupts that were moved, or were to be.
#[derive(Debug)]
pub struct Moved {
    root: PathBuf,
    file: PathBuf,
}

/// What taking interrupts back came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Interrupts that are as they were before.
    pub restored: usize,
    /// Interrupts that were left alone, with the reason.
    pub left: Vec<(u32, String)>,
}

impl Undone {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.restored == 0 && self.left.is_empty()
    }
}

fn affinity_file(irq: u32) -> String {
    format!("proc/irq/{irq}/smp_affinity_list")
}

/// Whether an interrupt's handler still has this name.
fn has_handler(root: Root<'_>, irq: u32, name: &str) -> bool {
    let folder = root.path(&format!("proc/irq/{irq}"));
    if name.is_empty() { folder.exists() } else { names(&folder).iter().any(|entry| entry == name) }
}

impl Moved {
    /// The interrupts of the machine below `root`; what they were is kept in `state_dir`, which must be there.
    #[must_use]
    pub fn new(root: &Path, state_dir: &Path) -> Self {
        Self { root: root.to_owned(), file: state_dir.join(SAVED_FILE) }
    }

    /// Moves what is elsewhere, once what was before is on disk; the steps say what came of it.
    ///
    /// # Errors
    /// What was before cannot be saved: then nothing is moved. An interrupt that the kernel does not move is no error
    /// but its step's state: drivers may manage theirs themselves.
    pub fn apply(&self, steps: &mut [Step]) -> Result<(), IrqError> {
        let root = Root(&self.root);
        let to_move = || steps.iter().filter(|step| step.state == StepState::Elsewhere);
        if to_move().next().is_none() {
            return Ok(());
        }
        let save = |step: &Step| SavedIrq {
            irq: step.irq,
            name: step.name.clone(),
            before: step.from.to_string(),
            after: step.to.to_string(),
        };
        let saved = Saved { boot_id: Saved::boot_id(root), interrupts: to_move().map(save).collect() };
        saved.write(&self.file)?;
        for step in steps.iter_mut().filter(|step| step.state == StepState::Elsewhere) {
            step.state = match set(root, step.irq, &step.to.to_string()) {
                Ok(()) => StepState::Moved,
                Err(why) => StepState::Refused(why),
            };
        }
        Ok(())
    }

    /// Takes back what an earlier [`Moved::apply`] moved, in this process or one that was killed, and forgets it. An
    /// interrupt that somebody else has moved since, or that belongs to something else now, is left alone; after a
    /// reboot there is nothing to take back.
    ///
    /// # Errors
    /// The file cannot be read or removed.
    pub fn restore(&self) -> Result<Undone, IrqError> {
        let root = Root(&self.root);
        let mut undone = Undone::default();
        let Some(saved) = Saved::read(&self.file)? else { return Ok(undone) };
        if saved.boot_id == Saved::boot_id(root) {
            for irq in &saved.interrupts {
                match take_back(root, irq) {
                    Ok(true) => undone.restored += 1,
                    Ok(false) => {}
                    Err(why) => undone.left.push((irq.irq, why)),
                }
            }
        }
        Saved::remove(&self.file)?;
        Ok(undone)
    }
}

/// Takes one interrupt back; false when it is where it was.
fn take_back(root: Root<'_>, saved: &SavedIrq) -> Result<bool, String> {
    if !has_handler(root, saved.irq, &saved.name) {
        return Err(format!("it does not belong to {} any more", saved.name));
    }
    let now = root.list(&affinity_file(saved.irq)).ok_or("its affinity cannot be read")?;
    let is = |text: &str| CpuList::parse(text).is_some_and(|list| list == now);
    if is(&saved.before) {
        return Ok(false);
    }
    if !is(&saved.after) {
        return Err(format!("somebody else has moved it to {now} since"));
    }
    set(root, saved.irq, &saved.before).map(|()| true)
}

/// Sets an interrupt's affinity.
fn set(root: Root<'_>, irq: u32, list: &str) -> Result<(), String> {
    std::fs::write(root.path(&affinity_file(irq)), format!("{list}\n")).map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(5) => " (its driver manages it by itself)",
            Some(1 | 13) => " (this needs root; a container may not have it)",
            Some(30) => " (/proc is read-only here)",
            Some(22 | 28) => " (that CPU cannot take interrupts, or has no vector left)",
            _ => "",
        };
        format!("{error}{hint}")
    })
}
