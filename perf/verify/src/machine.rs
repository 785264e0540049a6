//! What a machine that boots from a golden may read: the golden, and over it what it wrote itself.
//!
//! Exactly one content is right for each byte, since a machine never reads blocks while they are being written.

use crate::overlay::{Overlay, UNKNOWN};
use crate::stamp::{SECTOR, Stamp, StampError, StampKind};

/// What lies below the writes.
pub trait Golden {
    /// Whether sector `lba` holds what [`Stamp::golden`] says; else [`Golden::content`] is asked.
    fn is_stamped(&self) -> bool;

    /// The bytes from byte `offset` on, as many as `into` has; beyond the golden's end zeros. `false` when they cannot
    /// be known.
    fn content(&mut self, offset: u64, into: &mut [u8]) -> bool;
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Which run it writes in, so that what an earlier one left is not taken for its own.
    pub run: u64,
    /// Its number.
    pub client: u32,
    /// What it has written, in blocks of 512 bytes.
    pub overlay: Overlay,
    /// Its last write.
    pub generation: u32,
}

/// A byte that is not what it has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// `lost` (the golden, and it was written), `stale` (an older write), `foreign` (of another place, machine or run) or
    /// `garbage`.
    pub kind: &'static str,
    /// The block of 512 bytes.
    pub lba: u64,
    /// What it should hold.
    pub expected: String,
    /// What it holds.
    pub found: String,
}

/// Bytes of a golden that are compared at once.
const PIECE: usize = 4096;

impl Machine {
    /// A machine that has written nothing yet.
    #[must_use]
    pub fn new(run: u64, client: u32) -> Self {
        Self { run, client, overlay: Overlay::default(), generation: 0 }
    }

    /// Notes a write of `blocks` blocks from `lba` on, and fills `data` with what it writes: as many sectors.
    pub fn write(&mut self, lba: u64, data: &mut [u8]) {
        self.generation += 1;
        // A write has some MiB at most.
        self.overlay.write(lba, (data.len() / SECTOR) as u32, self.generation);
        for (sector, lba) in data.as_chunks_mut::<SECTOR>().0.iter_mut().zip(lba..) {
            self.stamp(lba, self.generation).write(sector);
        }
    }

    /// A write to these blocks failed: they may hold anything from now on.
    pub fn forget(&mut self, lba: u64, blocks: u32) {
        self.overlay.write(lba, blocks, UNKNOWN);
    }

    /// Fills `data` with what the blocks from `lba` on hold since write `generation`, to write it once more.
    pub fn rewrite(&self, lba: u64, generation: u32, data: &mut [u8]) {
        for (sector, lba) in data.as_chunks_mut::<SECTOR>().0.iter_mut().zip(lba..) {
            self.stamp(lba, generation).write(sector);
        }
    }

    fn stamp(&self, lba: u64, generation: u32) -> Stamp {
        Stamp {
            run: self.run,
            seed: 0,
            lba,
            generation: generation.into(),
            client: self.client,
            blocks: 1,
            kind: StampKind::Own,
            sector: 0,
        }
    }

    /// Whether `bytes` are right for the unit's bytes from `offset` on.
    ///
    /// # Errors
    /// The first block that is wrong.
    pub fn check(&self, mut offset: u64, mut bytes: &[u8], golden: &mut impl Golden) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            let (generation, end_lba) = self.overlay.at(offset / SECTOR as u64);
            let left = end_lba.saturating_mul(SECTOR as u64) - offset;
            let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (run, rest) = bytes.split_at(len);
            match generation {
                Some(UNKNOWN) => {}
                Some(generation) => self.check_stamps(offset, run, |lba| self.stamp(lba, generation))?,
                None if golden.is_stamped() => self.check_stamps(offset, run, Stamp::golden)?,
                None => self.check_content(offset, run, golden)?,
            }
            offset += len as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Sector by sector; one that is cut by the piece's ends is compared byte by byte.
    fn check_stamps(
        &self,
        mut offset: u64,
        mut bytes: &[u8],
        stamp: impl Fn(u64) -> Stamp,
    ) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            let (lba, skip) = (offset / SECTOR as u64, (offset % SECTOR as u64) as usize);
            let (piece, rest) = bytes.split_at(bytes.len().min(SECTOR - skip));
            let expected = stamp(lba);
            let is_right = match piece.first_chunk::<SECTOR>() {
                Some(sector) => Stamp::parse(sector) == Ok(expected),
                None => {
                    let mut sector = [0; SECTOR];
                    expected.write(&mut sector);
                    sector[skip..][..piece.len()] == *piece
                }
            };
            if !is_right {
                return Err(self.wrong(lba, describe(&expected, self), piece));
            }
            offset += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn check_content(&self, offset: u64, bytes: &[u8], golden: &mut impl Golden) -> Result<(), Wrong> {
        let mut content = [0; PIECE];
        for (piece, at) in bytes.chunks(PIECE).zip((offset..).step_by(PIECE)) {
            let content = &mut content[..piece.len()];
            if !golden.content(at, content) {
                continue;
            }
            let differs = piece.iter().zip(content.iter()).position(|(found, expected)| found != expected);
            if let Some(index) = differs {
                let lba = (at + index as u64) / SECTOR as u64;
                // The sector's start, as far as this piece has it.
                let start = (lba * SECTOR as u64).saturating_sub(at) as usize;
                let expected = format!("the golden's {}", hex(&content[start..]));
                return Err(self.wrong(lba, expected, &piece[start..]));
            }
        }
        Ok(())
    }

    #[cold]
    fn wrong(&self, lba: u64, expected: String, found: &[u8]) -> Wrong {
        let stamp = found.first_chunk::<SECTOR>().map_or(Err(StampError::NoStamp), Stamp::parse);
        let (kind, found) = match stamp {
            Ok(stamp) => {
                let is_here = stamp.lba == lba;
                let kind = match stamp.kind {
                    StampKind::Golden if is_here => "lost",
                    StampKind::Own if is_here && stamp.client == self.client && stamp.run == self.run => {
                        "stale"
                    }
                    _ => "foreign",
                };
                (kind, describe(&stamp, self))
            }
            Err(StampError::Damaged) => ("garbage", format!("a damaged stamp, {}", hex(found))),
            Err(StampError::NoStamp) => ("garbage", hex(found)),
        };
        Wrong { kind, lba, expected, found }
    }
}

fn describe(stamp: &Stamp, machine: &Machine) -> String {
    let Stamp { lba, client, generation, .. } = stamp;
    match stamp.kind {
        StampKind::Golden => format!("the golden's block {lba}"),
        _ if stamp.run == machine.run => format!("write {generation} of machine {client} to block {lba}"),
        _ => format!("write {generation} of machine {client} in another run to block {lba}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("bytes {digits}..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Image(Option<Vec<u8>>);

    impl Golden for Image {
        fn is_stamped(&self) -> bool {
            self.0.is_none()
        }

        fn content(&mut self, offset: u64, into: &mut [u8]) -> bool {
            let Some(image) = &self.0 else { return false };
            for (byte, at) in into.iter_mut().zip(offset as usize..) {
                *byte = image.get(at).copied().unwrap_or(0);
            }
            true
        }
    }

    const SECTORS: u64 = 64;

    fn disk(image: &Image) -> Vec<u8> {
        match &image.0 {
            Some(bytes) => bytes.clone(),
            None => (0..SECTORS)
                .flat_map(|lba| {
                    let mut sector = [0; SECTOR];
                    Stamp::golden(lba).write(&mut sector);
                    sector
                })
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn what_is_right_passes_in_any_pieces_and_any_change_is_found(
            writes in prop::collection::vec((0..60_u64, 1..4_usize), 0..10),
            from in 0..16_384_usize,
            len in 1..16_384_usize,
            cut in 1..3000_usize,
            stamped: bool,
            flip in 0..16_384_usize,
        ) {
            let bytes = (0..SECTORS as usize * SECTOR).map(|at| (at * 7 % 251) as u8).collect();
            let mut image = Image((!stamped).then_some(bytes));
            let mut disk = disk(&image);
            let mut machine = Machine::new(7, 3);
            for (lba, sectors) in writes {
                machine.write(lba, &mut disk[lba as usize * SECTOR..][..sectors * SECTOR]);
            }
            let mut at = from as u64;
            for piece in disk[from..from + len].chunks(cut) {
                prop_assert_eq!(machine.check(at, piece, &mut image), Ok(()));
                at += piece.len() as u64;
            }
            let index = from + flip % len;
            disk[index] ^= 1;
            let wrong = machine.check(from as u64, &disk[from..from + len], &mut image).unwrap_err();
            prop_assert_eq!(wrong.lba, (index / SECTOR) as u64);
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let mut image = Image(None);
        let golden = disk(&image);
        let (mut mine, mut theirs) = (Machine::new(7, 3), Machine::new(7, 4));
        let (mut first, mut second, mut other) = ([0; SECTOR], [0; SECTOR], [0; SECTOR]);
        mine.write(5, &mut first);
        mine.write(5, &mut second);
        theirs.write(5, &mut other);
        let mut kind = |bytes: &[u8]| mine.check(5 * 512, bytes, &mut image).map_err(|wrong| wrong.kind);
        assert_eq!(kind(&second), Ok(()));
        assert_eq!(kind(&first), Err("stale"));
        assert_eq!(kind(&other), Err("foreign"));
        assert_eq!(kind(&golden[5 * 512..][..512]), Err("lost"));
        assert_eq!(kind(&golden[6 * 512..][..512]), Err("foreign"));
        assert_eq!(kind(&[0; 512]), Err("garbage"));
        mine.forget(5, 1);
        assert_eq!(mine.check(5 * 512, &[0; 512], &mut image), Ok(()));
    }
}
