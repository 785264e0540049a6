//! Every state that a power cut may leave: the image opens, has no error (leaks are counted), and each sector is what was flushed, or
//! what was written later.
//!
//! Faults that are planted into plans show that the test sees them.

use stampede_format_qcow2::Qcow2;
use stampede_plugin::{
    Change, Confidence, Description, Extent, Fail, Format, Job, JobStep, Mode, OpenRequest, Opened, Outcome,
    Pages, Plan, Range, Repair, Token, View,
    model::{CrashState, Disk, Model},
};

use super::{
    bench::{open, unpack},
    config::Config,
    draw::{Draw, seeds},
};

/// What is done wrong to each plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Patches come after no others.
    Unordered,
    /// Patches do not wait for data.
    DataLater,
    /// Space is free at once.
    FreeAtOnce,
    /// Counts that grow may stay behind.
    LazyCounts,
}

/// The plugin with a fault.
struct Faulty {
    inner: Qcow2,
    fault: Fault,
}

impl Faulty {
    fn plan(&self, mut plan: Plan) -> Plan {
        for patch in &mut plan.meta {
            match self.fault {
                Fault::Unordered => patch.after.clear(),
                Fault::DataLater => patch.after_data = false,
                Fault::LazyCounts => patch.lazy |= patch.after.is_empty(),
                Fault::None | Fault::FreeAtOnce => {}
            }
        }
        if self.fault == Fault::LazyCounts {
            plan.meta.iter_mut().for_each(|patch| patch.after.clear());
        }
        plan
    }
}

impl Format for Faulty {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence {
        self.inner.probe(head, tail, length)
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        self.inner.open(pages, request)
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        self.inner.recover(pages)
    }

    fn resolve(&mut self, pages: &mut dyn Pages, view: View, range: Range, max: u32) -> Outcome<Vec<Extent>> {
        self.inner.resolve(pages, view, range, max)
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        let plan = self.inner.plan_write(pages, ranges, change)?;
        if self.fault == Fault::FreeAtOnce {
            self.inner.released(plan.token);
        }
        Ok(self.plan(plan))
    }

    fn done(&mut self, token: Token) {
        self.inner.done(token);
    }

    fn released(&mut self, token: Token) {
        self.inner.released(token);
    }

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        self.inner.job_start(job)
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        self.inner.job_step(pages)
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Write(u64, u64),
    Zero(u64, u64),
    Unmap(u64, u64),
    Flush,
    /// As a flush, and what may stay behind too.
    Upkeep,
}

const CLUSTER: u64 = 1024;
/// The first byte that the second L2 table maps.
const SECOND: u64 = CLUSTER / 8 * CLUSTER;
/// The parts of the disk that operations touch.
const TOUCHED: [Range; 2] =
    [Range { offset: 0, length: 3 * CLUSTER }, Range { offset: SECOND, length: 2 * CLUSTER }];
const OPS: [Op; 9] = [
    Op::Write(512, 512),
    Op::Write(512, CLUSTER),
    Op::Write(0, 2 * CLUSTER),
    Op::Write(SECOND, 512),
    Op::Zero(0, CLUSTER),
    Op::Zero(CLUSTER, 512),
    Op::Unmap(0, 2 * CLUSTER),
    Op::Unmap(SECOND, CLUSTER),
    Op::Flush,
];

fn config() -> Config {
    Config::plain(CLUSTER, SECOND + 2 * CLUSTER)
}

fn touched<F: Format>(model: &mut Model<F>) -> Vec<u8> {
    TOUCHED.iter().flat_map(|&range| model.read(range).unwrap()).collect()
}

/// What the disk was after each operation, and the model with its log.
fn play(config: &Config, files: &Disk, ops: &[Op], fault: Fault) -> Result<(Vec<Vec<u8>>, Disk), String> {
    let format = Faulty { inner: Qcow2::default(), fault };
    let mut model = Model::new(format, files.clone()).with_unpack(unpack);
    if let Some(parent) = &config.parent {
        model = model.with_parent(parent.clone());
    }
    model.open(Mode::ReadWrite).unwrap();
    let mut history = vec![touched(&mut model)];
    for (number, op) in ops.iter().chain(&[Op::Upkeep]).enumerate() {
        let tag = number as u8 * 16 + 1;
        let done = match *op {
            Op::Write(offset, length) => {
                let data: Vec<u8> = (0..length / 512).flat_map(|sector| [tag + sector as u8; 512]).collect();
                model.write(offset, &data)
            }
            Op::Zero(offset, length) => model.change(Range { offset, length }, Change::Zero),
            Op::Unmap(offset, length) => model.change(Range { offset, length }, Change::Unmap),
            Op::Flush => model.flush(),
            Op::Upkeep => model.flush_all(),
        };
        done.map_err(|error| format!("{op:?}: {error}"))?;
        history.push(touched(&mut model));
        if matches!(op, Op::Flush | Op::Upkeep) {
            model.mark(number as u64 + 1);
        }
    }
    Ok((history, model.into_disk()))
}

/// Judges a state; how many bytes leak in it.
fn judge(config: &Config, state: CrashState, history: &[Vec<u8>]) -> Result<u64, String> {
    let files = Disk::new(state.files);
    let name = state.name;
    let mut model =
        open(files, config.parent.as_ref(), Mode::ReadWrite).map_err(|error| format!("{name}: {error}"))?;
    let flushed = state.begun.unwrap_or(0) as usize;
    let found = touched(&mut model);
    for (sector, bytes) in found.chunks(512).enumerate() {
        let known = |disk: &Vec<u8>| disk[sector * 512..][..512] == *bytes;
        if !history[flushed..].iter().any(known) {
            return Err(format!(
                "{name}: sector {sector} of those touched is {}, flushed at {flushed}",
                bytes[0]
            ));
        }
    }
    let report = model.job(Job::Check(Repair::No)).map_err(|error| format!("{name}: {error}"))?;
    if report.error_count > 0 {
        return Err(format!("{name}: {:?}", report.errors));
    }
    Ok(report.leaked_bytes)
}

/// Looks at every state of a sequence; how many there were, and how many leaked.
fn states(
    config: &Config,
    files: &Disk,
    ops: &[Op],
    fault: Fault,
    seed: u64,
) -> Result<(usize, usize), String> {
    let (history, disk) = play(config, files, ops, fault)?;
    let mut leaking = 0;
    let count = disk.crash_states(seed, |state| {
        leaking += usize::from(judge(config, state, &history)? > 0);
        Ok::<(), String>(())
    });
    Ok((count?, leaking))
}

fn sequences() -> impl Iterator<Item = [Op; 3]> {
    let count = OPS.len();
    (0..count * count * count)
        .map(move |number| [OPS[number / count / count], OPS[number / count % count], OPS[number % count]])
}

/// An image with data in its first two clusters, flushed.
fn filled(config: &Config) -> Disk {
    let (_, disk) = play(config, &config.make(), &[Op::Write(0, 2 * CLUSTER)], Fault::None).unwrap();
    Disk::new(disk.files().to_vec())
}

fn exhaustive(config: &Config, files: &Disk, each: usize) {
    let (mut count, mut leaking) = (0, 0);
    for (number, ops) in sequences().enumerate().filter(|(number, _)| number % each == 0) {
        match states(config, files, &ops, Fault::None, number as u64) {
            Ok(found) => (count, leaking) = (count + found.0, leaking + found.1),
            Err(text) => panic!("{ops:?}: {text}"),
        }
    }
    eprintln!("{count} states, {leaking} with leaks");
    assert!(count > 1000);
}

/// Every sequence in the long tests; every seventh in the short.
fn each() -> usize {
    if std::env::var_os("QCOW2_SEEDS").is_some() { 1 } else { 7 }
}

#[test]
fn all_states_of_three_operations_on_an_empty_image() {
    exhaustive(&config(), &config().make(), each());
}

#[test]
fn all_states_of_three_operations_on_an_overlay_with_data() {
    let parent = Some((0..config().size / 512).flat_map(|sector| [200 + (sector % 50) as u8; 512]).collect());
    let config = Config { parent, ..config() };
    exhaustive(&config, &filled(&config), each());
}

#[test]
fn all_states_of_three_operations_after_a_snapshot() {
    let config = config();
    let mut model = open(filled(&config), None, Mode::ReadWrite).unwrap();
    model.job(Job::SnapshotCreate { name: "before".into(), time: 1 }).unwrap();
    exhaustive(&config, &Disk::new(model.into_disk().files().to_vec()), each());
}

#[test]
fn all_states_of_three_operations_with_other_counts_and_versions() {
    for config in [
        Config { refcount_bits: 1, ..config() },
        Config { refcount_bits: 64, ..config() },
        Config { v2: true, ..config() },
    ] {
        exhaustive(&config, &filled(&config), each() * 3);
    }
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::Unordered, Fault::DataLater, Fault::FreeAtOnce, Fault::LazyCounts] {
        let files = filled(&config());
        let found = sequences()
            .find_map(|ops| states(&config(), &files, &ops, fault, 1).err().map(|text| (ops, text)));
        let (ops, text) = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        eprintln!("{fault:?}: {ops:?}: {}", text.chars().take(300).collect::<String>());
    }
}

/// All states of a job: the disk reads as before it or as after it, and snapshots are whole.
fn job_states(config: &Config, files: &Disk, job: Job, seed: u64) -> usize {
    let mut model = open(files.clone(), config.parent.as_ref(), Mode::ReadWrite).unwrap();
    let before = touched(&mut model);
    model.job(job.clone()).unwrap();
    let disk = model.into_disk();
    let mut after = open(Disk::new(disk.files().to_vec()), config.parent.as_ref(), Mode::ReadWrite).unwrap();
    let after = touched(&mut after);
    let look = |state: CrashState| {
        let name = state.name.clone();
        let mut model = open(Disk::new(state.files), config.parent.as_ref(), Mode::ReadWrite)
            .map_err(|error| format!("{name}: {error}"))?;
        let found = touched(&mut model);
        if found != before && found != after {
            return Err(format!("{name}: the disk is neither as before nor as after"));
        }
        let report = model.job(Job::Check(Repair::No)).map_err(|error| format!("{name}: {error}"))?;
        // Version 2 cannot mark an image dirty: a COPIED bit may be missing, which costs a copy.
        let harmless = |text: &String| config.v2 && text.starts_with("COPIED");
        if !report.errors.iter().all(harmless) {
            return Err(format!("{name}: {:?}", report.errors));
        }
        Ok(())
    };
    disk.crash_states(seed, look).unwrap_or_else(|text| panic!("{job:?}: {text}"))
}

#[test]
fn all_states_of_jobs() {
    let made = |name: &str| Job::SnapshotCreate { name: name.into(), time: 1 };
    for config in [config(), Config { v2: true, ..config() }, Config { refcount_bits: 2, ..config() }] {
        let mut files = filled(&config);
        let mut count = 0;
        let mut jobs = vec![
            made("a"),
            Job::SnapshotApply { name: "a".into() },
            Job::SnapshotDelete { name: "a".into() },
        ];
        if !config.v2 {
            jobs.insert(1, Job::Resize { virtual_size: SECOND * 70, shrink: false });
        }
        for job in jobs {
            count += job_states(&config, &files, job.clone(), 3);
            let mut model = open(files, None, Mode::ReadWrite).unwrap();
            model.job(job.clone()).unwrap();
            files = Disk::new(model.into_disk().files().to_vec());
            if matches!(job, Job::SnapshotCreate { .. }) {
                let (_, disk) = play(&config, &files, &[Op::Write(512, CLUSTER)], Fault::None).unwrap();
                files = Disk::new(disk.files().to_vec());
            }
        }
        eprintln!("{count} states of jobs");
    }
}

#[test]
fn drawn_sequences() {
    for seed in seeds(10) {
        let mut draw = Draw::new(seed);
        let ops: Vec<Op> = (0..7).map(|_| draw.one(&OPS)).collect();
        let config = Config { refcount_bits: draw.one(&[1, 8, 16]), ..config() };
        if let Err(text) = states(&config, &filled(&config), &ops, Fault::None, seed) {
            panic!("seed {seed}, {ops:?}: {text}");
        }
    }
}

#[test]
fn four_allocating_writes_and_a_flush_need_two_barriers() {
    let config = Config::plain(65536, 64 << 20);
    let mut model = open(config.make(), None, Mode::ReadWrite).unwrap();
    model.write(0, &[1; 4096]).unwrap();
    model.flush().unwrap();
    let before = model.disk().barriers();
    for number in 1..=4 {
        model.write(number << 20, &[2; 4096]).unwrap();
    }
    model.flush().unwrap();
    assert_eq!(model.disk().barriers() - before, 2);
}

/// With 64-bit counts in clusters of 512 bytes a block counts 64 clusters, and a cluster of the refcount table 64 blocks. So a few writes
/// need new blocks, and 2 MiB a longer table.
#[test]
fn all_states_of_new_blocks_and_of_a_longer_refcount_table() {
    let config = Config { refcount_bits: 64, ..Config::plain(512, 4 << 20) };
    let (mut count, mut grown) = (0, 0);
    for filled in [50, 3920, 3940] {
        let mut model = open(config.make(), None, Mode::ReadWrite).unwrap();
        model.write(0, &vec![1; filled * 512]).unwrap();
        model.flush_all().unwrap();
        let files = Disk::new(model.into_disk().files().to_vec());
        let table = |file: &[u8]| file[48..60].to_vec();
        let mut model = open(files.clone(), None, Mode::ReadWrite).unwrap();
        for number in 0..6_u8 {
            model.write((3 << 20) + u64::from(number) * 40_960, &[number + 2; 16 * 512]).unwrap();
        }
        model.change(Range { offset: 0, length: 4096 }, Change::Unmap).unwrap();
        model.flush_all().unwrap();
        let disk = model.into_disk();
        grown += usize::from(table(&disk.files()[0]) != table(&files.files()[0]));
        let look = |state: CrashState| {
            let name = state.name.clone();
            let mut model = open(Disk::new(state.files), None, Mode::ReadWrite)
                .map_err(|error| format!("{name}: {error}"))?;
            let report = model.job(Job::Check(Repair::No)).map_err(|error| format!("{name}: {error}"))?;
            if report.error_count > 0 {
                return Err(format!("{name}: {:?}", report.errors));
            }
            for number in 0..6_u8 {
                let range = Range { offset: (3 << 20) + u64::from(number) * 40_960, length: 16 * 512 };
                let found = model.read(range).map_err(|error| format!("{name}: {error}"))?;
                if found.iter().any(|&byte| byte != 0 && byte != number + 2) {
                    return Err(format!("{name}: write {number} reads as another's"));
                }
            }
            Ok(())
        };
        count +=
            disk.crash_states(filled as u64, look).unwrap_or_else(|text: String| panic!("{filled}: {text}"));
    }
    eprintln!("{count} states, {grown} with a longer table");
    assert!(grown > 0);
}
