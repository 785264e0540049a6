//! Every state that a power cut may leave, judged: it opens, nothing contradicts itself, and each sector has what it had at the last flush
//! or later.

use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Change, Format, Mode, Range,
    model::{CrashState, Disk, Model, ModelError},
};

use super::{Draw, Shape, check, reader::Reader, sector_bytes, whole};

/// What a guest does. Sectors: the first, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Write(u64, u64),
    Zero(u64, u64),
    Unmap(u64, u64),
    Flush,
}

/// What each sector had, by the number of the operation that brought it.
struct History {
    sectors: Vec<Vec<(u64, Vec<u8>)>>,
}

impl History {
    fn new(disk: &[u8]) -> Self {
        Self { sectors: disk.chunks(512).map(|bytes| vec![(0, bytes.to_vec())]).collect() }
    }

    fn put(&mut self, number: u64, sector: u64, bytes: Vec<u8>) {
        self.sectors[usize::try_from(sector).unwrap()].push((number, bytes));
    }

    /// Whether a disk is one that may be when the first `durable` operations are durable.
    fn judge(&self, disk: &[u8], durable: u64) -> Result<(), String> {
        for (sector, (found, history)) in disk.chunks(512).zip(&self.sectors).enumerate() {
            let flushed = history.iter().rposition(|(number, _)| *number <= durable).unwrap();
            if !history[flushed..].iter().any(|(_, bytes)| bytes == found) {
                return Err(format!(
                    "sector {sector} has {:?}, which it has not been since operation {durable}",
                    &found[..16]
                ));
            }
        }
        Ok(())
    }

    fn last(&self) -> Vec<u8> {
        self.sectors.iter().flat_map(|history| history.last().unwrap().1.clone()).collect()
    }
}

/// Does operations to an image, and judges every crash state. `flushes` can be turned off, to see that it is noticed. Gives how many states there were.
pub(crate) fn run<F: Format>(
    shape: &Shape,
    file: Vec<u8>,
    format: F,
    ops: &[Op],
    flushes: bool,
) -> Result<usize, String> {
    let mut model = Model::new(format, Disk::new(vec![file])).with_parent(shape.parent.clone());
    let text = |error: ModelError| format!("{error}");
    model.open(Mode::ReadWrite).map_err(text)?;
    let mut history = History::new(&model.read(whole(shape.size)).map_err(text)?);
    for (number, op) in (1..).zip(ops) {
        carry_out(&mut model, &mut history, shape, number, *op, flushes).map_err(text)?;
    }
    if model.read(whole(shape.size)).map_err(text)? != history.last() {
        return Err("before any crash the disk is not what was written".into());
    }
    model.into_disk().crash_states(ops.len() as u64, |state| {
        judge(shape, &history, &state).map_err(|text| format!("{}: {text}", state.name))
    })
}

fn carry_out<F: Format>(
    model: &mut Model<F>,
    history: &mut History,
    shape: &Shape,
    number: u64,
    op: Op,
    flushes: bool,
) -> Result<(), ModelError> {
    let range = |start: u64, count: u64| Range { offset: start * 512, length: count * 512 };
    match op {
        Op::Write(start, count) => {
            let mut data = Vec::new();
            for sector in start..start + count {
                let bytes = sector_bytes(sector, number);
                history.put(number, sector, bytes.to_vec());
                data.extend(bytes);
            }
            model.write(start * 512, &data)
        }
        Op::Zero(start, count) | Op::Unmap(start, count) => {
            let change = if matches!(op, Op::Zero(..)) { Change::Zero } else { Change::Unmap };
            if change == Change::Zero || shape.kind != "differencing" {
                (start..start + count).for_each(|sector| history.put(number, sector, vec![0; 512]));
            }
            model.change(range(start, count), change)
        }
        Op::Flush => {
            if flushes {
                model.flush()?;
            }
            // All barriers of the flush are before the mark: in whatever window it is, they have passed.
            model.mark(number);
            Ok(())
        }
    }
}

fn judge(shape: &Shape, history: &History, state: &CrashState) -> Result<(), String> {
    let mut model =
        shape.opened(state.files[0].clone(), Mode::ReadWrite).map_err(|error| format!("{error}"))?;
    let disk = model.read(whole(shape.size)).map_err(|error| format!("{error}"))?;
    history.judge(&disk, state.begun.unwrap_or(0))?;
    let file = &model.disk().files()[0];
    if Reader::strict(file)?.disk(&shape.parent) != disk {
        return Err("the second reader reads something else".into());
    }
    let report = check(file.clone());
    if report.error_count > 0 { Err(format!("{report:?}")) } else { Ok(()) }
}

/// Operations drawn by a seed.
pub(crate) fn draw_ops(shape: &Shape, seed: u64, count: usize) -> Vec<Op> {
    let mut draw = Draw(seed);
    let sectors = shape.size / 512;
    let op = |_| {
        let start = draw.below(sectors);
        let count = 1 + draw.below((sectors - start).min(40));
        match draw.below(8) {
            0..4 => Op::Write(start, count),
            4 => Op::Zero(start, count),
            5 => Op::Unmap(start, count),
            _ => Op::Flush,
        }
    };
    (0..count).map(op).collect()
}

/// All sequences of three operations on a disk of two blocks and a half, of 8 sectors each, with and without flushes in between.
pub(crate) fn threes() -> Vec<[Op; 4]> {
    let ops = [
        Op::Write(1, 1),
        Op::Write(6, 4),
        Op::Write(8, 8),
        Op::Write(16, 2),
        Op::Zero(0, 3),
        Op::Zero(7, 10),
        Op::Unmap(0, 16),
        Op::Flush,
    ];
    let mut all = Vec::new();
    for first in ops {
        for second in ops {
            for third in ops {
                all.push([first, second, third, Op::Flush]);
            }
        }
    }
    all
}

/// The disk for [`threes`].
pub(crate) fn tiny(kind: &'static str) -> Shape {
    Shape::new(kind, 4096, 20 * 512)
}

/// A plugin with a fault planted into its plans.
pub(crate) struct Faulty {
    pub(crate) inner: Vhd,
    pub(crate) fault: fn(&mut stampede_plugin::Plan),
}

impl Format for Faulty {
    fn describe(&self) -> stampede_plugin::Description {
        self.inner.describe()
    }
    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> stampede_plugin::Confidence {
        self.inner.probe(head, tail, length)
    }
    fn open(
        &mut self,
        pages: &mut dyn stampede_plugin::Pages,
        request: &stampede_plugin::OpenRequest,
    ) -> stampede_plugin::Outcome<stampede_plugin::Opened> {
        self.inner.open(pages, request)
    }
    fn recover(
        &mut self,
        pages: &mut dyn stampede_plugin::Pages,
    ) -> stampede_plugin::Outcome<stampede_plugin::Plan> {
        self.inner.recover(pages)
    }
    fn resolve(
        &mut self,
        pages: &mut dyn stampede_plugin::Pages,
        view: stampede_plugin::View,
        range: Range,
        extents_max: u32,
    ) -> stampede_plugin::Outcome<Vec<stampede_plugin::Extent>> {
        self.inner.resolve(pages, view, range, extents_max)
    }
    fn plan_write(
        &mut self,
        pages: &mut dyn stampede_plugin::Pages,
        ranges: &[Range],
        change: Change,
    ) -> stampede_plugin::Outcome<stampede_plugin::Plan> {
        let mut plan = self.inner.plan_write(pages, ranges, change)?;
        (self.fault)(&mut plan);
        Ok(plan)
    }
    fn done(&mut self, token: u64) {
        self.inner.done(token);
    }
    fn released(&mut self, token: u64) {
        self.inner.released(token);
    }
    fn job_start(&mut self, job: stampede_plugin::Job) -> Result<(), stampede_plugin::Fail> {
        self.inner.job_start(job)
    }
    fn job_step(
        &mut self,
        pages: &mut dyn stampede_plugin::Pages,
    ) -> stampede_plugin::Outcome<stampede_plugin::JobStep> {
        let step = self.inner.job_step(pages)?;
        Ok(match step {
            stampede_plugin::JobStep::Plan(mut plan) => {
                (self.fault)(&mut plan);
                stampede_plugin::JobStep::Plan(plan)
            }
            other => other,
        })
    }
}
