//! Guests that do what they must not: each is contained to its image, and the message names plugin, image and call. And raw, end to end.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use stampede_plugin::{
    Change, Checked, Fail, FailKind, FileId, Format, Halt, Job, Mode, OpenRequest, Pages, Place, Range,
    Repair, Span, View,
};
use stampede_plugin_host::{Component, Host, Limits, Plugin, PluginError, Plugins, conformance};

const EVIL: &[u8] = include_bytes!(env!("STAMPEDE_TEST_EVIL"));

/// Calls and sins by the numbers that the evil plugin takes.
const CALLS: [(u8, &str); 8] = [
    (1, "open"),
    (2, "recover"),
    (3, "resolve"),
    (4, "plan-write"),
    (5, "done"),
    (6, "released"),
    (7, "job-start"),
    (8, "job-step"),
];
const LOOP: u8 = 1;
const PANIC: u8 = 2;
const HUNGER: u8 = 3;
const RECURSION: u8 = 9;

fn limits() -> Limits {
    Limits {
        instances_max: 64,
        memory_bytes_max: 16 << 20,
        answer_bytes_max: 16 << 20,
        quick_call_max: Duration::from_millis(20),
        slow_call_max: Duration::from_millis(60),
        ..Limits::default()
    }
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(limits(), None).unwrap())
}

fn evil() -> Arc<Plugin> {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Arc::clone(PLUGIN.get_or_init(|| host().load(EVIL, "test-evil.wasm").unwrap()))
}

/// A file all of whose bytes are at hand.
struct File(Vec<u8>);

impl Pages for File {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        let start = usize::try_from(span.offset).ok()?;
        Some(self.0.get(start..start.checked_add(span.length as usize)?)?.to_vec())
    }

    fn file_length(&self, file: FileId) -> u64 {
        if file == FileId::MAIN { self.0.len() as u64 } else { 0 }
    }
}

const RANGE: Range = Range { offset: 4096, length: 4096 };
const OPEN: OpenRequest = OpenRequest { mode: Mode::ReadWrite, files: 1 };

/// The image of a sin, and all calls one after the other until one fails.
fn commit(at: u8, sin: u8) -> (Checked<Component>, Option<Fail>) {
    let mut file = File(vec![0; 2 << 20]);
    (file.0[0], file.0[1]) = (at, sin);
    let mut image = evil().image("/srv/evil.img").unwrap();
    let fail = all_calls(&mut image, &mut file).err();
    (image, fail)
}

fn all_calls(image: &mut impl Format, file: &mut File) -> Result<(), Fail> {
    let answered = |halt: Halt| match halt {
        Halt::Fail(fail) => fail,
        Halt::Need(spans) => panic!("everything is at hand, but {spans:?} are needed"),
    };
    let opened = image.open(file, &OPEN).map_err(answered)?;
    if opened.needs_recovery {
        image.recover(file).map_err(answered)?;
    }
    image.resolve(file, View::Active, RANGE, 8).map_err(answered)?;
    let plan = image.plan_write(file, &[RANGE], Change::Data).map_err(answered)?;
    image.done(plan.token);
    image.resolve(file, View::Active, RANGE, 8).map_err(answered)?;
    image.released(plan.token);
    image.resolve(file, View::Active, RANGE, 8).map_err(answered)?;
    image.job_start(Job::Check(Repair::No))?;
    image.job_step(file).map_err(answered)?;
    Ok(())
}

fn assert_broken(at: &str, fail: Option<Fail>, word: &str) {
    let fail = fail.unwrap_or_else(|| panic!("{at}: nobody noticed ({word})"));
    assert_eq!(fail.kind, FailKind::Broken, "{fail}");
    for part in ["plugin evil", "image /srv/evil.img", at, word] {
        assert!(fail.text.contains(part), "{:?} does not say {part:?}", fail.text);
    }
}

#[test]
fn a_guest_without_sin_passes() {
    let (_, fail) = commit(0, 0);
    assert_eq!(fail, None);
}

#[test]
fn a_trap_in_each_call_ends_its_image_alone() {
    let (_, mut other) = (0, evil().image("/srv/other.img").unwrap());
    for (at, call) in CALLS {
        let (mut image, fail) = commit(at, PANIC);
        assert_broken(call, fail.clone(), "it trapped");
        // It stays as it is.
        let again = image.resolve(&mut File(vec![0; 2 << 20]), View::Active, RANGE, 8);
        assert_eq!(again, Err(Halt::Fail(fail.unwrap())));
    }
    assert_eq!(all_calls(&mut other, &mut File(vec![0; 2 << 20])), Ok(()));
    assert!(evil().counters().read().traps >= CALLS.len() as u64);
}

#[test]
fn an_endless_loop_in_each_call_ends() {
    for (at, call) in CALLS {
        let (image, fail) = commit(at, LOOP);
        assert_broken(call, fail, "of processor time");
        assert!(image.format().counters().read().epochs > 1);
    }
}

#[test]
fn hunger_and_recursion_end() {
    for (at, call) in CALLS {
        assert_broken(call, commit(at, HUNGER).1, "memory");
        assert_broken(call, commit(at, RECURSION).1, "it trapped");
    }
}

#[test]
fn answers_that_break_rules_are_refused() {
    for (at, sin, call, word) in [
        (1, 6, "open", "outside its file"),
        (1, 8, "open", "texts"),
        (3, 6, "resolve", "which has"),
        (3, 7, "resolve", "over metadata"),
        (3, 8, "resolve", ""),
        (4, 6, "plan-write", "guest data"),
        (4, 8, "plan-write", ""),
        (8, 6, "job-step", "guest data"),
        (8, 7, "job-step", "over metadata"),
        (8, 8, "job-step", "texts"),
    ] {
        assert_broken(call, commit(at, sin).1, word);
    }
}

#[test]
fn who_asks_without_end_or_outside_is_refused() {
    for (at, call) in [(1, "open"), (2, "recover"), (3, "resolve"), (4, "plan-write"), (8, "job-step")] {
        assert_broken(call, commit(at, 4).1, "was given");
        assert_broken(call, commit(at, 5).1, "outside its file");
    }
}

#[test]
fn a_probe_that_traps_says_no() {
    let image = evil().image("/srv/evil.img").unwrap();
    assert_eq!(image.probe(&[9, PANIC], &[], 2), stampede_plugin::Confidence::No);
    assert_eq!(image.format().counters().read().traps, 1);
}

#[test]
fn files_that_are_no_plugins_are_told_apart() {
    let refused = |bytes: &[u8]| host().load(bytes, "x.wasm").err().unwrap();
    assert!(matches!(refused(b"#!/bin/sh"), PluginError::NotWasm { .. }));
    assert!(matches!(refused(b""), PluginError::NotWasm { .. }));
    assert!(matches!(refused(b"\0asm\x01\0\0\0"), PluginError::CoreModule { .. }));
    assert!(matches!(refused(b"\0asm\x0e\0\x01\0"), PluginError::UnknownLayer { .. }));
    assert!(matches!(refused(b"\0asm\x0d\0\x01\0"), PluginError::WrongWorld { .. }));
    assert!(matches!(refused(&EVIL[..EVIL.len() / 2]), PluginError::Invalid { .. }));
    assert!(matches!(refused(&vec![0; 33 << 20]), PluginError::TooLarge { .. }));
    // Another version of the interface: the names are in the file as text, of the same length.
    let other = replaced(EVIL, b"stampede:format/image@0.1.0", b"stampede:format/image@0.7.0");
    assert!(matches!(refused(&other), PluginError::WrongVersion { .. } | PluginError::Invalid { .. }));
    let wants = replaced(EVIL, b"stampede:format/pages@0.1.0", b"stampede:format/wages@0.1.0");
    assert!(matches!(refused(&wants), PluginError::UnknownImport { .. } | PluginError::Invalid { .. }));
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - old.len() {
        if &bytes[at..at + old.len()] == old {
            bytes[at..at + old.len()].copy_from_slice(new);
        }
    }
    bytes
}

#[test]
fn there_are_no_more_instances_than_there_may_be() {
    let host = Host::new(Limits { instances_max: 3, ..limits() }, None).unwrap();
    let plugin = host.load(EVIL, "evil.wasm").unwrap();
    let held: Vec<_> = (0..3).map(|_| plugin.image("a").unwrap()).collect();
    let error = plugin.image("b").err().unwrap().to_string();
    assert!(error.contains("image b") && error.contains("at most 3"), "{error}");
    drop(held);
    plugin.image("b").unwrap();
}

#[test]
fn raw_is_opened_and_resolved_through_the_sandbox() {
    let plugins = Plugins::load(host(), None).unwrap();
    let mut raw = plugins.image("raw", "/srv/a.img").unwrap().unwrap();
    let mut file = File(vec![0; 1 << 20]);
    assert_eq!(raw.describe().name, "raw");
    assert_eq!(raw.open(&mut file, &OPEN).unwrap().virtual_size, 1 << 20);
    let found = raw.resolve(&mut file, View::Active, RANGE, 8).unwrap();
    assert_eq!(found[0].place, Place::Data { file: FileId::MAIN, offset: 0, in_place: true });
    let plan = raw.plan_write(&mut file, &[RANGE], Change::Zero).unwrap();
    assert_eq!(plan.now.len(), 1);
    raw.done(plan.token);
}

#[test]
fn what_is_shipped_keeps_the_rules() {
    for (_, plugin) in Plugins::load(host(), None).unwrap().iter() {
        let found = conformance(plugin).unwrap();
        assert!(found.broken.is_empty() && found.passed.len() > 8, "{}: {found:?}", plugin.name());
    }
    // Evil makes no images.
    assert!(!conformance(&evil()).unwrap().broken.is_empty());
}

#[test]
fn a_folder_adds_and_replaces() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("evil.wasm"), EVIL).unwrap();
    let plugins = Plugins::load(host(), Some(folder.path())).unwrap();
    assert!(plugins.find("evil").is_some() && plugins.find("raw").is_some());
    fs::write(folder.path().join("again.wasm"), EVIL).unwrap();
    assert!(matches!(Plugins::load(host(), Some(folder.path())), Err(PluginError::Twice { .. })));
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn compiled_code_is_kept_and_what_is_not_whole_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let load = || Host::new(limits(), Some(&cache)).unwrap().load(EVIL, "evil.wasm").unwrap();
    load();
    let [entry] = &entries(&cache)[..] else { panic!("one entry") };
    let whole = fs::read(entry).unwrap();
    let written = fs::metadata(entry).unwrap().modified().unwrap();
    load();
    assert_eq!(fs::metadata(entry).unwrap().modified().unwrap(), written, "found, so not written again");
    for bad in [Vec::new(), whole[..whole.len() / 2].to_vec(), flipped(&whole)] {
        fs::write(entry, &bad).unwrap();
        load();
        assert!(fs::read(entry).unwrap() == whole, "replaced");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(entry).unwrap().permissions().mode() & 0o777, 0o600);
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}
