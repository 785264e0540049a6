//! A model of a Windows boot, made up from published figures: nobody recorded it.
//!
//! | figure | published | model |
//! |---|---|---|
//! | read | 500 to 600 MB | 580 MB |
//! | I/Os | 60,000 to 70,000 | about 63,000 |
//! | size | 8 to 20 KB | 8 to 20 KiB, 85 in 100 of them 8: more would not go together with bytes and I/Os |
//! | written | 20 to 30 MB | 25 MB |
//! | time | 2 to 3 minutes | 150 s of think time |
//! | order | mostly random | one command in five goes on where the last one ended |
//!
//! Everything else is a guess: the firmware reads a boot manager and a kernel in order, one command at a time (40 MB); the
//! operating system's reads fall into clusters of some MiB (files) all over a 40 GB disk, one to eight at a time; it
//! writes a log in order and registry pages here and there; it is up after nine tenths of its commands. A seed gives the
//! same trace at all times.

use crate::trace::{Command, Event, Gatherer, Op, Origin, Stage, Trace};

/// Blocks of the disk that it boots from: 40 GB.
const DISK_BLOCKS: u64 = 40_000_000_000 / 512;
/// Bytes read by the firmware.
const FIRMWARE_BYTES: u64 = 40_000_000;
/// Bytes read by all.
const READ_BYTES: u64 = 580_000_000;
/// Bytes written.
const WRITE_BYTES: u64 = 25_000_000;
/// Reads of the operating system between two writes.
const READS_PER_WRITE: u32 = 28;
/// Think time of all commands together, microseconds.
const THINK_US: u64 = 150_000_000;
/// Where the operating system's files lie.
const CLUSTERS: usize = 400;
/// Blocks of such a place: 4 MiB.
const CLUSTER_BLOCKS: u64 = 8192;

/// A model of a boot from a disk of 40 GB, or of the `disk_blocks` that there are (blocks of 512 bytes, at least 2 GiB).
///
/// # Errors
/// A disk that is too small.
pub fn model(seed: u64, disk_blocks: Option<u64>) -> Result<Trace, String> {
    const DISK_MIN: u64 = (2 << 30) / 512;
    let disk_blocks = disk_blocks.unwrap_or(DISK_BLOCKS);
    if disk_blocks < DISK_MIN {
        return Err(format!("a disk of {disk_blocks} blocks: a Windows boot needs {DISK_MIN} at least"));
    }
    let gatherer = Gatherer::new("windows-model", Origin::Model)?;
    let mut model =
        Model { rng: fastrand::Rng::with_seed(seed), gatherer, commands: Vec::new(), disk_blocks };
    model.firmware();
    model.operating_system();
    model.finish()
}

struct Model {
    rng: fastrand::Rng,
    gatherer: Gatherer,
    commands: Vec<Event>,
    disk_blocks: u64,
}

impl Model {
    /// Reads in order, one at a time.
    fn firmware(&mut self) {
        self.commands.push(Event::Login { session: 1, stage: Stage::Firmware, think_us: 0 });
        self.other(&[0x00], 0);
        self.other(&[0x25], 8);
        let (mut lba, mut read) = (2048, 0);
        while read < FIRMWARE_BYTES {
            let blocks = 32;
            self.command(Op::Read { lba, blocks }, 0);
            lba += u64::from(blocks);
            read += u64::from(blocks) * 512;
        }
    }

    fn operating_system(&mut self) {
        self.commands.push(Event::Login { session: 2, stage: Stage::Os, think_us: 0 });
        self.commands.push(Event::Close { session: 1 });
        self.commands.push(Event::On { session: 2 });
        self.other(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0], 4096);
        self.other(&[0x12, 0, 0, 0, 0x24], 36);
        self.other(&[0x00], 0);
        self.other(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32], 32);
        self.other(&[0x1a, 0, 0x3f, 0, 0xc0], 192);
        let places = self.disk_blocks - CLUSTER_BLOCKS;
        let clusters: Vec<u64> = (0..CLUSTERS).map(|_| self.rng.u64(..places) / 8 * 8).collect();
        let (mut read, mut written) = (FIRMWARE_BYTES, 0);
        let (mut end, mut log, mut reads, mut outstanding) = (0, self.disk_blocks / 16 * 8, 0, 0);
        while read < READ_BYTES {
            let blocks = self.read_size();
            let goes_on = self.rng.u8(..5) == 0 && end + u64::from(blocks) < self.disk_blocks;
            let lba = if goes_on { end } else { self.place(&clusters, blocks) };
            // Bursts of up to eight, each as deep as the commands before it.
            outstanding = if outstanding > 0 && self.rng.u8(..3) > 0 {
                (outstanding + 1) % 8
            } else {
                self.rng.u16(..2)
            };
            self.command(Op::Read { lba, blocks }, outstanding);
            end = lba + u64::from(blocks);
            read += u64::from(blocks) * 512;
            reads += 1;
            if reads % READS_PER_WRITE == 0 && written < WRITE_BYTES {
                written += self.write(&clusters, &mut log);
            }
        }
        self.command(Op::Sync, 0);
    }

    /// 8 to 20 KiB, in blocks.
    fn read_size(&mut self) -> u32 {
        match self.rng.u8(..100) {
            ..85 => 16,
            85..93 => 24,
            93..97 => 32,
            97.. => 40,
        }
    }

    fn place(&mut self, clusters: &[u64], blocks: u32) -> u64 {
        let cluster = clusters[self.rng.usize(..clusters.len())];
        cluster + self.rng.u64(..CLUSTER_BLOCKS - u64::from(blocks)) / 8 * 8
    }

    /// The log goes on, or a page of the registry is written; bytes.
    fn write(&mut self, clusters: &[u64], log: &mut u64) -> u64 {
        let is_log = self.rng.bool();
        let blocks = self.rng.u32(1..=5) * 8;
        let lba = if is_log { *log } else { self.place(clusters, blocks) };
        if is_log {
            *log += u64::from(blocks);
        }
        let fua = is_log && self.rng.u8(..8) == 0;
        self.command(Op::Write { lba, blocks, fua }, 0);
        u64::from(blocks) * 512
    }

    fn other(&mut self, bytes: &[u8], len: u32) {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        self.command(Op::Other { cdb, len }, 0);
    }

    fn command(&mut self, op: Op, depth: u16) {
        self.commands.push(Event::Command(Command { op, depth, think_us: 0 }));
    }

    /// Shares the think time out, some commands with much and most with little, and sets the marker.
    fn finish(mut self) -> Result<Trace, String> {
        let alone = |event: &Event| matches!(event, Event::Command(Command { depth: 0, .. }));
        let count = self.commands.iter().filter(|event| alone(event)).count();
        let mut weights: Vec<f64> = Vec::with_capacity(count);
        // Exponential, with one command in fifty that thinks twenty times as long.
        for _ in 0..count {
            let weight = -(1.0 - self.rng.f64()).ln();
            weights.push(if self.rng.u8(..50) == 0 { weight * 20.0 } else { weight });
        }
        let unit = THINK_US as f64 / weights.iter().sum::<f64>();
        let marker = self.commands.len() * 9 / 10;
        let mut weights = weights.into_iter();
        for (index, mut event) in self.commands.into_iter().enumerate() {
            if let Event::Command(command) = &mut event
                && command.depth == 0
            {
                command.think_us = (weights.next().unwrap_or(0.0) * unit) as u64;
            }
            if index == marker {
                self.gatherer.push(Event::Marker { name: "desktop".to_owned() })?;
            }
            self.gatherer.push(event)?;
        }
        self.gatherer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn the_published_figures_hold_for_any_seed() {
        for seed in 0..5 {
            let trace = model(seed, None).unwrap();
            let totals = trace.totals();
            let megabytes = |blocks: u64| blocks as f64 * 512.0 / 1e6;
            assert!((500.0..=600.0).contains(&megabytes(totals.blocks_read)), "{totals:?}");
            assert!((20.0..=30.0).contains(&megabytes(totals.blocks_written)), "{totals:?}");
            assert!((60_000..=70_000).contains(&totals.commands), "{totals:?}");
            assert!((120..=180).contains(&(totals.think_us / 1_000_000)), "{totals:?}");
            assert!(totals.end_lba <= DISK_BLOCKS && totals.depth <= 8, "{totals:?}");
            assert_eq!(trace.origin, Origin::Model);
            assert_eq!(trace, model(seed, None).unwrap());
            assert_eq!(text::read(text::write(&trace, "").as_bytes()).as_ref(), Ok(&trace));
        }
        assert_ne!(model(1, None).unwrap(), model(2, None).unwrap());
        assert!(model(1, Some(1000)).unwrap_err().contains("a Windows boot needs"));
        let small = model(1, Some((2 << 30) / 512)).unwrap().totals();
        assert!(small.end_lba <= (2 << 30) / 512);
    }
}
