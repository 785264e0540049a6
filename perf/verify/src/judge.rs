//! Is what was read right, and if not, what is wrong with it?

use crate::cell::{Cell, Shape, Version};
use crate::{Content, Kind, SECTOR, Stamp, StampError};

/// What a read says of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It holds this one of its candidates.
    Is(Version),
    /// It holds nothing wrong, and nothing in particular was expected.
    Open,
    /// It is wrong.
    Wrong(Kind, Content),
}

/// What one sector holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Zeros,
    /// A whole stamp of this run, this client and this place.
    Ours(u64),
    /// A whole stamp of this run from elsewhere.
    Elsewhere(Stamp),
    /// A whole stamp of another run.
    OtherRun(Stamp),
    Damaged,
    Data([u8; 8]),
}

/// Judges the block `lba`. `like` has the run, the seed and the client of right stamps.
pub(crate) fn judge(like: &Stamp, lba: u64, block: &[u8], cell: Cell<'_>) -> Verdict {
    let sectors = block.as_chunks::<SECTOR>().0;
    if cell.candidates().any(Version::is_open) {
        return open(like, lba, sectors, cell);
    }
    if let Some(version) = cell.candidates().find(|version| holds(*version, like, lba, sectors)) {
        return Verdict::Is(version);
    }
    let found: Vec<Found> =
        sectors.iter().enumerate().map(|(at, sector)| look(like, lba, at, sector)).collect();
    let shown = first_wrong(like, lba, sectors, &found, cell.now);
    Verdict::Wrong(kind(like, lba, sectors, &found, cell), shown)
}

/// A block of which nothing in particular is expected must still not show what belongs elsewhere.
fn open(like: &Stamp, lba: u64, sectors: &[[u8; SECTOR]], cell: Cell<'_>) -> Verdict {
    if cell.now.shape() == Shape::Accused {
        return Verdict::Open;
    }
    let untouched = cell.now.shape() == Shape::Untouched;
    for (at, sector) in sectors.iter().enumerate() {
        match look(like, lba, at, sector) {
            Found::Elsewhere(stamp) => return Verdict::Wrong(Kind::Foreign, Content::Stamp(stamp)),
            // Only an operation whose outcome is unknown can have put it there.
            Found::Ours(generation)
                if untouched && !cell.doubts.iter().any(|one| one.generation() == generation) =>
            {
                return Verdict::Wrong(Kind::Late, Content::Written { generation });
            }
            _ => {}
        }
    }
    Verdict::Open
}

fn holds(version: Version, like: &Stamp, lba: u64, sectors: &[[u8; SECTOR]]) -> bool {
    let has = |(at, sector): (usize, &[u8; SECTOR])| match version.stamp(like, lba, at) {
        Some(stamp) => Stamp::parse(sector) == Ok(stamp),
        None => is_zero(sector),
    };
    sectors.iter().enumerate().all(has)
}

fn is_zero(sector: &[u8; SECTOR]) -> bool {
    *sector == [0; SECTOR]
}

fn look(like: &Stamp, lba: u64, at: usize, sector: &[u8; SECTOR]) -> Found {
    match Stamp::parse(sector) {
        Ok(stamp) if stamp.run != like.run => Found::OtherRun(stamp),
        Ok(stamp) if stamp.client == like.client && stamp.seed == like.seed && stamp.belongs_to(lba, at) => {
            Found::Ours(stamp.generation)
        }
        Ok(stamp) => Found::Elsewhere(stamp),
        Err(StampError::Damaged) => Found::Damaged,
        Err(StampError::NoStamp) if is_zero(sector) => Found::Zeros,
        Err(StampError::NoStamp) => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&sector[..8]);
            Found::Data(bytes)
        }
    }
}

fn kind(like: &Stamp, lba: u64, sectors: &[[u8; SECTOR]], found: &[Found], cell: Cell<'_>) -> Kind {
    if found.iter().any(|one| matches!(one, Found::Elsewhere(_))) {
        return Kind::Foreign;
    }
    let older = if cell.now.is_seen() { Kind::Stale } else { Kind::Lost };
    let was_open = cell.before.is_open();
    if found.windows(2).all(|pair| pair[0] == pair[1])
        || found.iter().all(|one| matches!(one, Found::OtherRun(_)))
    {
        match found[0] {
            Found::Ours(generation) if generation > cell.now.generation() => return Kind::Late,
            Found::Ours(generation) if generation < cell.now.generation() => return older,
            // What was unmapped and read as zeros may not come back.
            Found::Ours(_) if cell.now.shape() == Shape::Unmapped => return older,
            Found::Ours(_) => return Kind::Garbage,
            Found::OtherRun(_) if was_open => return older,
            Found::OtherRun(_) => return Kind::Foreign,
            // Whatever it was that made them: what was acknowledged is gone.
            Found::Zeros => return older,
            Found::Elsewhere(_) | Found::Data(_) | Found::Damaged => {}
        }
    }
    if is_torn(like, lba, sectors, found, cell) {
        return Kind::Torn;
    }
    // What lay there before the first write, rather than what no write could have made.
    let is_data = |one: &Found| matches!(one, Found::Data(_) | Found::Zeros | Found::OtherRun(_));
    if was_open && found.iter().all(is_data) { older } else { Kind::Garbage }
}

/// Parts of at least two versions that the block could have had, and of nothing else.
fn is_torn(like: &Stamp, lba: u64, sectors: &[[u8; SECTOR]], found: &[Found], cell: Cell<'_>) -> bool {
    let mut known: Vec<Version> = cell.candidates().chain(cell.before.contents()).collect();
    known.retain(|version| !version.is_open());
    let was_open = cell.before.is_open();
    let mut generations = Vec::new();
    for (at, sector) in sectors.iter().enumerate() {
        match found[at] {
            // Whole sectors of versions older than those that are remembered are parts of a version all the same.
            Found::Ours(generation) => generations.push(Some(generation)),
            Found::Zeros
                if was_open
                    || known
                        .iter()
                        .any(|version| matches!(version.shape(), Shape::Zeros | Shape::Unmapped)) =>
            {
                generations.push(None);
            }
            Found::OtherRun(_) | Found::Data(_) if was_open && sectors.len() > 1 => generations.push(None),
            _ if is_split(like, lba, at, sector, &known, was_open) => return true,
            _ => return false,
        }
    }
    generations.iter().any(|one| *one != generations[0])
}

/// Whether one sector is the front of one version and the back of another.
fn is_split(
    like: &Stamp,
    lba: u64,
    at: usize,
    sector: &[u8; SECTOR],
    known: &[Version],
    was_open: bool,
) -> bool {
    let mut sources: Vec<[u8; SECTOR]> = Vec::with_capacity(known.len());
    for version in known {
        let mut source = [0; SECTOR];
        if let Some(stamp) = version.stamp(like, lba, at) {
            stamp.write(&mut source);
        }
        sources.push(source);
    }
    let same = |source: &[u8; SECTOR], from: usize, to: usize| sector[from..to] == source[from..to];
    let front = |source: &[u8; SECTOR]| sector.iter().zip(source).take_while(|(a, b)| a == b).count();
    let back = |source: &[u8; SECTOR]| {
        sector.iter().rev().zip(source.iter().rev()).take_while(|(a, b)| a == b).count()
    };
    for (index, one) in sources.iter().enumerate() {
        let (cut, tail) = (front(one), back(one));
        let other = |(i, two): (usize, &[u8; SECTOR])| i != index && cut > 0 && same(two, cut, SECTOR);
        if sources.iter().enumerate().any(other) {
            return true;
        }
        // The other part lay there before this run's first write: all that can be said is that it is quite another.
        let differs = |range: std::ops::Range<usize>| {
            let len = range.len();
            len > 0 && range.filter(|i| sector[*i] == one[*i]).count() * 8 <= len
        };
        if was_open && ((cut >= 64 && differs(cut..SECTOR)) || (tail >= 64 && differs(0..SECTOR - tail))) {
            return true;
        }
    }
    false
}

/// The first sector that does not fit what the block was to hold.
fn first_wrong(like: &Stamp, lba: u64, sectors: &[[u8; SECTOR]], found: &[Found], now: Version) -> Content {
    let right = |at: usize| match now.stamp(like, lba, at) {
        Some(stamp) => Stamp::parse(&sectors[at]) == Ok(stamp),
        None => is_zero(&sectors[at]),
    };
    let at = (0..sectors.len()).find(|at| !right(*at)).unwrap_or(0);
    match found[at] {
        Found::Zeros => Content::Zeros { generation: 0 },
        Found::Ours(generation) => Content::Written { generation },
        Found::Elsewhere(stamp) | Found::OtherRun(stamp) => Content::Stamp(stamp),
        Found::Damaged => Content::Damaged,
        Found::Data(bytes) => Content::Data(bytes),
    }
}
