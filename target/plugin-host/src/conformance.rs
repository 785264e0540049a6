//! Whether a plugin keeps the host's rules: it is asked everything, over images that it makes itself and over bytes that are none.

use std::sync::Arc;

use stampede_plugin::{
    Change, Confidence, Created, FailKind, Format as _, Identity, Job, Mode, Range, Repair,
    model::{Disk, Model, ModelError},
};

use crate::{Component, Plugin, PluginError};

/// The size of the disk that a plugin is tried with, in bytes: small enough for an instance's memory, large enough for several clusters of most formats.
const DISK_BYTES: u64 = 8 << 20;
/// What is written at once.
const WRITE_BYTES: usize = 4096;

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conformance {
    /// What was tried and is right, a few words each.
    pub passed: Vec<String>,
    /// What was not tried, and why.
    pub skipped: Vec<String>,
    /// Rules that were broken.
    pub broken: Vec<String>,
}

/// Asks a plugin everything, and judges what it answers.
///
/// # Errors
/// When no instance can be made.
pub fn conformance(plugin: &Arc<Plugin>) -> Result<Conformance, PluginError> {
    let mut found = Conformance::default();
    strangers(plugin, &mut found)?;
    let Some(disk) = create(plugin, &mut found)? else { return Ok(found) };
    if plugin.description().writable {
        written(plugin, disk, &mut found)?;
    } else {
        found.skipped.push(String::from("writing: the plugin only reads"));
    }
    Ok(found)
}

impl Conformance {
    /// As [`note`](Self::note), of what the plugin made itself: that it must not refuse.
    fn must<T>(&mut self, what: &str, result: Result<T, ModelError>) -> Option<T> {
        if let Err(ModelError::Fail(fail)) = &result {
            self.broken.push(format!("{what}: it refuses: {fail}"));
            return None;
        }
        self.note(what, result)
    }

    /// Takes down how something went; a plugin may refuse, but not break a rule or fail.
    fn note<T>(&mut self, what: &str, result: Result<T, ModelError>) -> Option<T> {
        match result {
            Ok(answer) => {
                self.passed.push(what.into());
                return Some(answer);
            }
            Err(ModelError::Violation(rule)) => self.broken.push(format!("{what}: {rule}")),
            Err(ModelError::Fail(fail)) if fail.kind == FailKind::Broken => {
                self.broken.push(format!("{what}: {}", fail.text));
            }
            Err(ModelError::Fail(fail)) => self.skipped.push(format!("{what}: it refuses: {fail}")),
        }
        None
    }
}

/// Files that are no image are refused, or are one by the plugin's own lights; nothing traps.
fn strangers(plugin: &Arc<Plugin>, found: &mut Conformance) -> Result<(), PluginError> {
    let noise = |bytes: usize| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect::<Vec<u8>>()
    };
    for (name, bytes) in [
        ("an empty file", Vec::new()),
        ("one byte", vec![1]),
        ("64 KiB of zeros", vec![0; 64 << 10]),
        ("64 KiB of noise", noise(64 << 10)),
    ] {
        let component = plugin.component(name)?;
        let length = bytes.len() as u64;
        let sure = component.probe(&bytes, &bytes, length) == Confidence::Sure;
        if sure {
            found.broken.push(format!("probe: sure that {name} is of its format"));
        }
        let mut model = Model::new(component, Disk::new(vec![bytes]));
        let what = format!("open of {name}");
        match model.open(Mode::ReadOnly) {
            Err(ModelError::Fail(fail)) if fail.kind != FailKind::Broken => {
                found.passed.push(format!("{what}: refused"))
            }
            other => drop(found.note(&what, other)),
        }
    }
    Ok(())
}

/// An image that the plugin makes.
fn create(plugin: &Arc<Plugin>, found: &mut Conformance) -> Result<Option<Disk>, PluginError> {
    let mut model = Model::new(plugin.component("(created)")?, Disk::new(vec![Vec::new()]));
    let identity = Identity { id: [7; 16], time: Some(1_800_000_000) };
    let created = Created { virtual_size: DISK_BYTES, options: Vec::new(), parent: None, identity };
    let made = found.note("create", model.job(Job::Create(created)));
    Ok(made.map(|_| model.into_disk()))
}

/// What is written is read, also after the image was opened again; and the plugin's own check finds nothing.
fn written(plugin: &Arc<Plugin>, disk: Disk, found: &mut Conformance) -> Result<(), PluginError> {
    let mut model = Model::new(plugin.component("(written)")?, disk);
    let Some(opened) = found.must("open of what it made", model.open(Mode::ReadWrite)) else { return Ok(()) };
    if opened.virtual_size < DISK_BYTES {
        found.broken.push(format!(
            "create: a disk of {} bytes, where {DISK_BYTES} were asked for",
            opened.virtual_size
        ));
        return Ok(());
    }
    let mut expected = vec![0_u8; usize::try_from(DISK_BYTES).unwrap_or(0)];
    for number in 0..24_u64 {
        // All over the disk, some of them twice, some half over what was written before.
        let offset =
            (number * 5_242_880 / 7 + number % 3 * 2048) / 512 * 512 % (DISK_BYTES - WRITE_BYTES as u64);
        let at = usize::try_from(offset).unwrap_or(0);
        let range = Range { offset, length: WRITE_BYTES as u64 };
        let (what, done) = match number % 6 {
            4 => ("zeros", model.change(range, Change::Zero)),
            5 => ("flush", model.flush()),
            _ => {
                expected[at..at + WRITE_BYTES].fill(number as u8 + 1);
                ("write", model.write(offset, &[number as u8 + 1; WRITE_BYTES]))
            }
        };
        if number % 6 == 4 {
            expected[at..at + WRITE_BYTES].fill(0);
        }
        if let Err(error) = done {
            found.must::<()>(what, Err(error));
            return Ok(());
        }
    }
    found.passed.push(String::from("24 writes, zeros and flushes"));
    same(&mut model, &expected, "read", found);
    if found.must("close", model.close()).is_none() {
        return Ok(());
    }
    let mut model = Model::new(plugin.component("(opened again)")?, model.into_disk());
    if found.must("open again", model.open(Mode::ReadWrite)).is_none() {
        return Ok(());
    }
    same(&mut model, &expected, "read after it was opened again", found);
    if let Some(report) = found.must("check", model.job(Job::Check(Repair::No)))
        && report.error_count > 0
    {
        found.broken.push(format!("check: finds {} errors in what the plugin wrote", report.error_count));
    }
    Ok(())
}

/// Reads the whole disk.
fn same(model: &mut Model<Component>, expected: &[u8], what: &str, found: &mut Conformance) {
    let whole = Range { offset: 0, length: expected.len() as u64 };
    if let Some(bytes) = found.must(what, model.read(whole))
        && let Some(wrong) = bytes.iter().zip(expected).position(|(one, other)| one != other)
    {
        found.broken.push(format!("{what}: byte {wrong} of the disk is not what was written"));
    }
}
