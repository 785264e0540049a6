//! Plans of changes: data, zeros, and giving space back.
//!
//! A change is taken apart into *pieces*, one for each cluster. A piece of data goes where the cluster is, if nobody else refers
//! to it; else into a new cluster, with the rest of what the old one has copied, subcluster by subcluster.

use stampede_plugin::{Change, Fail, FailKind, Outcome, Range, Step};

use crate::{
    draft::Draft,
    entry::{Entry, Standard, all},
    resolve::{self, Disk},
    table::indices,
};

/// How many clusters a plan may change.
const CLUSTERS_MAX: u64 = 1 << 20;

/// A part of a change that lies in one cluster: bytes of the disk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where the cluster begins.
    cluster: u64,
    /// The first byte.
    start: u64,
    /// The byte behind the last.
    end: u64,
}

/// What a piece gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The data of the change.
    Guest,
    /// Zeros, written.
    Zeros,
}

/// Where bytes around a piece come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// From where they are.
    Copy,
    /// They are zeros.
    Zeros,
}

/// Adds a change of ranges to a plan.
pub(crate) fn plan(draft: &mut Draft<'_>, ranges: &[Range], change: Change) -> Outcome<()> {
    let layout = draft.layout;
    let clusters: u64 = ranges.iter().map(|range| layout.clusters_of(range.length) + 1).sum();
    if clusters > CLUSTERS_MAX {
        let text =
            alloc::format!("a change of {clusters} clusters at once; at most {CLUSTERS_MAX} are planned");
        return Err(Fail::new(FailKind::Invalid, text).into());
    }
    let mut map = alloc::vec::Vec::new();
    for &range in ranges {
        if range.end() > layout.size || range.length == 0 {
            return Err(Fail::new(FailKind::Invalid, "a range goes beyond the end of the disk").into());
        }
        let mut at = range.offset;
        while at < range.end() {
            let cluster = at / layout.cluster() * layout.cluster();
            let end = cluster.saturating_add(layout.cluster()).min(range.end());
            apply(draft, Piece { cluster, start: at, end }, change)?;
            at = end;
        }
    }
    let disk = Disk { l1: draft.layout.l1, size: layout.size, writable: true };
    for &range in ranges {
        map.extend(resolve::resolve(draft, disk, range, usize::MAX - 1, false)?);
    }
    draft.set_map(map);
    Ok(())
}

/// How much of a cluster is inside the disk.
fn cluster_end(draft: &Draft<'_>, piece: Piece) -> u64 {
    piece.cluster.saturating_add(draft.layout.cluster()).min(draft.layout.size)
}

fn entry_of(draft: &mut Draft<'_>, piece: Piece) -> Outcome<Entry> {
    let (l1, index) = indices(&draft.layout, piece.cluster);
    match draft.l2_table(draft.layout.l1, l1)? {
        Some(table) => draft.entry(table, index),
        None => Ok(Entry::Standard(Standard::default())),
    }
}

fn set_entry(draft: &mut Draft<'_>, piece: Piece, entry: &Standard) -> Outcome<()> {
    let (l1, index) = indices(&draft.layout, piece.cluster);
    let table = draft.writable_l2(l1)?;
    draft.set_entry(table, index, entry)
}

fn apply(draft: &mut Draft<'_>, piece: Piece, change: Change) -> Outcome<()> {
    match change {
        Change::Data => write(draft, piece, Content::Guest),
        Change::Zero if draft.layout.data_file_raw() => write(draft, piece, Content::Zeros),
        Change::Zero => zero(draft, piece),
        Change::Unmap => {
            let whole = piece.start == piece.cluster && piece.end == cluster_end(draft, piece);
            if whole { unmap(draft, piece) } else { Ok(()) }
        }
    }
}

/// The host cluster that a piece may be written into where it is: its own, which nobody else refers to.
fn own_cluster(draft: &mut Draft<'_>, entry: Entry) -> Outcome<Option<u64>> {
    let Entry::Standard(Standard { host: Some(host), copied, .. }) = entry else { return Ok(None) };
    if copied || draft.layout.data_file() || draft.count(host >> draft.layout.cluster_bits)? == 1 {
        return Ok(Some(host));
    }
    Ok(None)
}

/// One reference less to what an entry refers to.
fn give_up(draft: &mut Draft<'_>, entry: Entry) {
    match entry {
        Entry::Standard(Standard { host: Some(host), .. }) if !draft.layout.data_file() => {
            draft.drop_cluster(host >> draft.layout.cluster_bits);
        }
        Entry::Packed(packed) => draft.drop_range(packed.offset, packed.length),
        Entry::Standard(_) => {}
    }
}

/// Where a cluster's data goes: its host cluster, whether that is new, and whether it is zeros.
struct Target {
    host: u64,
    new: bool,
    zeros: bool,
}

fn target(draft: &mut Draft<'_>, piece: Piece, entry: Entry) -> Outcome<Target> {
    if let Some(host) = own_cluster(draft, entry)? {
        return Ok(Target { host, new: false, zeros: false });
    }
    if draft.layout.data_file() {
        return Ok(Target { host: piece.cluster, new: true, zeros: false });
    }
    let taken = draft.allocate(1)?;
    give_up(draft, entry);
    Ok(Target { host: taken.start << draft.layout.cluster_bits, new: true, zeros: taken.zeros })
}

/// Writes a piece.
fn write(draft: &mut Draft<'_>, piece: Piece, content: Content) -> Outcome<()> {
    let layout = draft.layout;
    let old = entry_of(draft, piece)?;
    let target = target(draft, piece, old)?;
    let before = match old {
        Entry::Standard(entry) => entry,
        Entry::Packed(_) => Standard { allocated: all(&layout), ..Standard::default() },
    };
    let mut after = Standard { host: Some(target.host), copied: true, ..before };
    for number in 0..layout.subclusters() {
        let start = piece.cluster + u64::from(number) * layout.subcluster();
        let touched = piece.start < start + layout.subcluster() && start < piece.end;
        let there = before.has(number);
        if touched || (there && target.new) {
            let around = if there || (layout.backing && !before.is_zero(number)) {
                Around::Copy
            } else {
                Around::Zeros
            };
            let place = Subcluster { start, around, in_place: there && !target.new };
            fill(draft, piece, content, &target, place);
            after.allocated |= 1 << number;
            after.zero &= !(1 << number);
        }
    }
    let file_end = target.host + cluster_end(draft, piece) - piece.cluster;
    draft.need_length(layout.data_id(), file_end);
    set_entry(draft, piece, &after)
}

/// A subcluster that gets contents.
struct Subcluster {
    /// Where it begins on the disk.
    start: u64,
    /// Where what is around the piece comes from.
    around: Around,
    /// Whether what is around it is there already.
    in_place: bool,
}

/// The steps for a subcluster: what is before the piece, the piece, what is behind it.
fn fill(draft: &mut Draft<'_>, piece: Piece, content: Content, target: &Target, subcluster: Subcluster) {
    let end = subcluster.start + draft.layout.subcluster();
    let limit = end.min(cluster_end(draft, piece)).max(subcluster.start);
    let (from, to) = (piece.start.clamp(subcluster.start, limit), piece.end.clamp(subcluster.start, limit));
    let touched = from < to;
    let head_end = if touched { from } else { limit };
    around(draft, piece, target, &subcluster, subcluster.start, head_end);
    if touched {
        put(draft, piece, content, target, from, to);
        around(draft, piece, target, &subcluster, to, limit);
    }
    // Behind the end of the disk there are zeros, for the day when it grows.
    if limit < end && target.new && !target.zeros && !draft.layout.data_file() {
        let (offset, length) = (target.host + (limit - piece.cluster), end - limit);
        draft.need_length(draft.layout.data_id(), offset + length);
        draft.step(Step::Fill { file: draft.layout.data_id(), offset, length });
    }
}

fn put(draft: &mut Draft<'_>, piece: Piece, content: Content, target: &Target, from: u64, to: u64) {
    let (file, offset, length) = (draft.layout.data_id(), target.host + (from - piece.cluster), to - from);
    match content {
        Content::Guest => draft.step(Step::Put { guest: from, length, file, offset }),
        Content::Zeros if target.zeros => {}
        Content::Zeros => draft.step(Step::Fill { file, offset, length }),
    }
}

fn around(draft: &mut Draft<'_>, piece: Piece, target: &Target, subcluster: &Subcluster, from: u64, to: u64) {
    if from >= to || subcluster.in_place {
        return;
    }
    let file = draft.layout.data_id();
    // What is behind the disk's end (where it is about to grow) is zeros, whatever is there.
    let copied = if subcluster.around == Around::Copy { to.min(draft.visible()).max(from) } else { from };
    if from < copied {
        let offset = target.host + (from - piece.cluster);
        draft.step(Step::Copy { guest: from, length: copied - from, file, offset });
    }
    if copied < to && !target.zeros {
        let offset = target.host + (copied - piece.cluster);
        draft.step(Step::Fill { file, offset, length: to - copied });
    }
}

/// Makes a piece zeros: by flags where whole subclusters are meant, by writing them elsewhere.
fn zero(draft: &mut Draft<'_>, piece: Piece) -> Outcome<()> {
    let layout = draft.layout;
    let (unit, limit) = (layout.subcluster(), cluster_end(draft, piece));
    let first = piece.start.div_ceil(unit) * unit;
    let last = if piece.end == limit { limit } else { piece.end / unit * unit };
    let whole = piece.start == first && piece.end == last;
    if first >= last || (!whole && moves(draft, piece)?) {
        return zero_part(draft, piece);
    }
    if piece.start < first {
        zero_part(draft, Piece { end: first, ..piece })?;
    }
    zero_whole(draft, Piece { start: first, end: last, ..piece })?;
    if last < piece.end { zero_part(draft, Piece { start: last, ..piece }) } else { Ok(()) }
}

/// Whether a write would copy what the cluster has: then there is one write, so that nothing is written twice.
fn moves(draft: &mut Draft<'_>, piece: Piece) -> Outcome<bool> {
    let entry = entry_of(draft, piece)?;
    let has_data = !matches!(entry, Entry::Standard(Standard { allocated: 0, .. }));
    Ok(has_data && own_cluster(draft, entry)?.is_none())
}

/// A bit for each subcluster of a piece.
fn mask_of(draft: &Draft<'_>, piece: Piece) -> u32 {
    let unit = draft.layout.subcluster();
    let (first, last) = ((piece.start - piece.cluster) / unit, (piece.end - piece.cluster).div_ceil(unit));
    let count = last.saturating_sub(first).min(32);
    u32::try_from(((1_u64 << count) - 1) << first & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Whether a piece reads as zeros already.
fn is_zeros(draft: &mut Draft<'_>, piece: Piece) -> Outcome<bool> {
    let mask = mask_of(draft, piece);
    Ok(match entry_of(draft, piece)? {
        Entry::Packed(_) => false,
        Entry::Standard(entry) if draft.layout.backing => entry.zero & mask == mask,
        Entry::Standard(entry) => entry.allocated & mask == 0,
    })
}

/// Zeros for less than a subcluster (at each end).
fn zero_part(draft: &mut Draft<'_>, piece: Piece) -> Outcome<()> {
    if is_zeros(draft, piece)? { Ok(()) } else { write(draft, piece, Content::Zeros) }
}

/// Zeros for whole subclusters.
fn zero_whole(draft: &mut Draft<'_>, piece: Piece) -> Outcome<()> {
    let layout = draft.layout;
    if is_zeros(draft, piece)? {
        return Ok(());
    }
    let old = entry_of(draft, piece)?;
    let mask = mask_of(draft, piece);
    let covered = piece.start == piece.cluster && piece.end == cluster_end(draft, piece);
    if layout.version < 3 {
        if layout.backing {
            return write(draft, piece, Content::Zeros);
        }
        give_up(draft, old);
        return set_entry(draft, piece, &Standard::default());
    }
    let own = own_cluster(draft, old)?;
    let entry = match old {
        Entry::Packed(_) if !covered => return write(draft, piece, Content::Zeros),
        Entry::Packed(_) => None,
        Entry::Standard(entry) => {
            let (allocated, zero) = (entry.allocated & !mask, entry.zero | mask);
            // A cluster of our own stays for the next write; one that others have is not needed any more.
            (own.is_some() || allocated != 0).then_some(Standard { allocated, zero, ..entry })
        }
    };
    match entry {
        Some(entry) => set_entry(draft, piece, &Standard { copied: own.is_some(), ..entry }),
        None => {
            give_up(draft, old);
            let zero = match old {
                Entry::Packed(_) => all(&layout),
                Entry::Standard(entry) => entry.zero | mask,
            };
            set_entry(draft, piece, &Standard { zero, ..Standard::default() })
        }
    }
}

/// Gives a whole cluster back. It is a cluster of zeros then: "unallocated" would let the backing file show through.
fn unmap(draft: &mut Draft<'_>, piece: Piece) -> Outcome<()> {
    let layout = draft.layout;
    if layout.data_file() {
        // Its place in the data file is fixed: nothing to give back.
        return if layout.data_file_raw() { write(draft, piece, Content::Zeros) } else { zero(draft, piece) };
    }
    let old = entry_of(draft, piece)?;
    let empty = match old {
        Entry::Standard(entry) => entry.host.is_none() && (!layout.backing || entry.zero == all(&layout)),
        Entry::Packed(_) => false,
    };
    if empty || (layout.version < 3 && layout.backing) {
        return Ok(());
    }
    give_up(draft, old);
    let entry = if layout.version < 3 { Standard::default() } else { Standard::zeros(&layout) };
    set_entry(draft, piece, &entry)
}
