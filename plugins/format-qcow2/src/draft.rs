//! A plan while it is made: what it does so far can be read back, and at its end it becomes steps and patches in their order.
//!
//! ```text
//!   phase                          patches                               after
//!   counts   (level 0)             new tables, counts that grow          nothing
//!   tables   (a new block only)    refcount table, its place             the new tables; data and lengths
//!   refs     (level 1)             L2 and L1 entries, header fields      counts, tables; data and lengths
//!   drops    (later, lazy)         counts that shrink                    refs
//! ```
//!
//! So nothing durable ever refers to a cluster whose count or contents are not: what a power cut leaves is a leak at worst.
//! Spec of the order: none; it is that of the first QEMU version that did it right, with fewer barriers.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};

use stampede_plugin::{
    Extent, FileId, Free, MetadataRange, Outcome, Pages, Patch, PatchId, Plan, Step, Token,
};

use crate::{
    layout::{DATA, Layout},
    reader::{Reader, small},
    refcount,
    space::Space,
};

/// Changes by their place: an entry, a count or a field each.
type Edits = BTreeMap<u64, Vec<u8>>;

/// The longest patch of entries that follow each other, in bytes.
const PATCH_MAX: usize = 1 << 16;

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) layout: Layout,
    pub(super) space: &'a Space,
    pub(super) cursor: u64,
    pub(super) unused_from: u64,
    pub(super) taken: Vec<(u64, u64)>,
    pub(super) resume: Option<u64>,
    pub(super) retired: Vec<(u64, u64)>,
    visible: u64,
    length: u64,
    data_length: u64,
    now: Vec<Step>,
    map: Vec<Extent>,
    fresh: BTreeMap<u64, u64>,
    counts: Edits,
    tables: Edits,
    refs: Edits,
    drops: BTreeMap<u64, u64>,
    gone: Vec<(u64, u64)>,
    /// New tables, and the entries that name them.
    named: Vec<(u64, u64)>,
    /// Earlier patches that name the blocks of counts, and the tables of entries, that this plan changes.
    block_links: BTreeSet<PatchId>,
    table_links: BTreeSet<PatchId>,
    protect: Vec<(u64, u64)>,
}

/// What a plan changes in the instance, once it is answered.
pub(crate) struct Commit {
    pub(crate) layout: Layout,
    pub(crate) cursor: u64,
    pub(crate) unused_from: u64,
    pub(crate) patches: PatchId,
    /// Clusters that must not be used before they are released.
    pub(crate) freed: Vec<(u64, u64)>,
    /// Clusters that had metadata, which hosts protect as long as the image is open: not to be used before it is opened again.
    pub(crate) retired: Vec<(u64, u64)>,
    /// Clusters that have metadata now.
    pub(crate) protect: Vec<(u64, u64)>,
    /// New tables, and the patches that name them.
    pub(crate) links: Vec<(u64, PatchId)>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(pages: &'a mut dyn Pages, layout: Layout, space: &'a Space) -> Self {
        let (length, data_length) = (pages.file_length(FileId::MAIN), pages.file_length(DATA));
        Self {
            reader: Reader::new(pages),
            layout,
            space,
            cursor: space.cursor,
            unused_from: space.unused_from,
            taken: Vec::new(),
            resume: None,
            retired: Vec::new(),
            visible: layout.size,
            length,
            data_length,
            now: Vec::new(),
            map: Vec::new(),
            fresh: BTreeMap::new(),
            counts: Edits::new(),
            tables: Edits::new(),
            refs: Edits::new(),
            drops: BTreeMap::new(),
            gone: Vec::new(),
            named: Vec::new(),
            block_links: BTreeSet::new(),
            table_links: BTreeSet::new(),
            protect: Vec::new(),
        }
    }

    /// The main file's length in bytes, with what this plan sets.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The length of the file that guest data is in.
    pub(crate) fn data_length(&self) -> u64 {
        if self.layout.data_file() { self.data_length } else { self.length }
    }

    /// Where the disk ended before this plan.
    pub(crate) fn visible(&self) -> u64 {
        self.visible
    }

    /// Makes a file at least so long.
    pub(crate) fn need_length(&mut self, file: FileId, length: u64) {
        let now = if file == DATA { &mut self.data_length } else { &mut self.length };
        *now = (*now).max(length);
    }

    /// Adds a step; one that goes on where the last ended becomes part of it.
    pub(crate) fn step(&mut self, step: Step) {
        if let Some(last) = self.now.last_mut()
            && join(last, step)
        {
            return;
        }
        self.now.push(step);
    }

    /// Sets how a range lies afterwards.
    pub(crate) fn set_map(&mut self, map: Vec<Extent>) {
        self.map = map;
    }

    /// Changes entries or header fields: what refers to clusters.
    pub(crate) fn refer(&mut self, offset: u64, bytes: Vec<u8>) -> Outcome<()> {
        self.reader.put(offset, &bytes)?;
        if !self.in_fresh(offset) {
            self.refs.insert(offset, bytes);
        }
        Ok(())
    }

    /// Writes bytes that nothing names yet.
    pub(crate) fn prepare(&mut self, offset: u64, bytes: Vec<u8>) -> Outcome<()> {
        self.reader.put(offset, &bytes)?;
        self.counts.insert(offset, bytes);
        Ok(())
    }

    /// Changes what tells where reference counts are.
    pub(crate) fn edit_tables(&mut self, offset: u64, bytes: Vec<u8>) -> Outcome<()> {
        self.reader.put(offset, &bytes)?;
        if !self.in_fresh(offset) {
            self.tables.insert(offset, bytes);
        }
        Ok(())
    }

    /// A new table: whole clusters, which nothing durable refers to yet.
    pub(crate) fn new_table(&mut self, cluster: u64, bytes: &[u8]) -> Outcome<()> {
        let offset = cluster << self.layout.cluster_bits;
        let length = self.layout.clusters_of(bytes.len() as u64) << self.layout.cluster_bits;
        let mut whole = bytes.to_vec();
        whole.resize(small(length), 0);
        self.reader.put_new(offset, &whole)?;
        self.fresh.insert(offset, length);
        self.need_length(FileId::MAIN, offset + length);
        self.protect.push((cluster, length >> self.layout.cluster_bits));
        Ok(())
    }

    /// Notes that the entry at `at` names a new table.
    pub(crate) fn name(&mut self, table: u64, at: u64) {
        self.named.push((table, at));
    }

    /// Notes that entries of a table change: until what names it is durable, an older one may be in its place.
    pub(crate) fn uses_table(&mut self, table: u64) {
        self.table_links.extend(self.space.link(table));
    }

    fn in_fresh(&self, offset: u64) -> bool {
        self.fresh.range(..=offset).next_back().is_some_and(|(start, length)| offset < start + length)
    }

    /// A cluster's reference count.
    pub(crate) fn count(&mut self, cluster: u64) -> Outcome<u64> {
        match refcount::block_of(self, cluster)? {
            Some(block) => refcount::read(&mut self.reader, &self.layout, block, cluster),
            None => Ok(0),
        }
    }

    /// Sets a count that grows (or is being mended). Its block is there.
    pub(crate) fn set_count(&mut self, cluster: u64, count: u64) -> Outcome<()> {
        if let Some(block) = refcount::block_of(self, cluster)? {
            self.block_links.extend(self.space.link(block));
            self.block_links.extend(self.space.link(self.layout.reftable_offset));
        }
        if let Some((offset, bytes)) = refcount::written(self, cluster, count)? {
            self.reader.put(offset, &bytes)?;
            if !self.in_fresh(offset) {
                self.counts.insert(offset, bytes);
            }
        }
        Ok(())
    }

    /// One reference less to a cluster, once this plan's references are durable.
    pub(crate) fn drop_cluster(&mut self, cluster: u64) {
        *self.drops.entry(cluster).or_default() += 1;
    }

    /// One reference less to each host cluster that a stretch of the file touches.
    pub(crate) fn drop_range(&mut self, offset: u64, length: u64) {
        let bits = self.layout.cluster_bits;
        for cluster in offset >> bits..=(offset + length.max(1) - 1) >> bits {
            self.drop_cluster(cluster);
        }
    }

    /// The plan, and what it changes in the instance.
    pub(crate) fn finish(mut self, token: Token, patches: PatchId) -> Outcome<(Plan, Commit)> {
        let mut out = Patches { next: patches, list: Vec::new(), cluster: self.layout.cluster() };
        let steps = self.steps();
        let with_data = !steps.is_empty();
        for (&offset, &length) in &self.fresh {
            out.table(offset, self.reader.bytes(offset, length)?);
        }
        out.edits(&core::mem::take(&mut self.counts), &[], false, false);
        let mut counts = out.ids_from(0);
        counts.extend(&self.block_links);
        let before = out.list.len();
        out.edits(&core::mem::take(&mut self.tables), &counts, true, false);
        let tables = out.ids_from(before);
        let before = out.list.len();
        // Each of `tables` comes after each of `counts`: where there are some, they stand for both.
        let after = if tables.is_empty() { counts } else { tables };
        out.edits(&core::mem::take(&mut self.refs), &after, with_data, false);
        let mut refs = if out.list.len() > before { out.ids_from(before) } else { after };
        refs.extend(&self.table_links);
        let links = self.links(&out);
        let dropped = self.apply_drops()?;
        out.edits(&dropped, &refs, false, true);
        let file = FileId::MAIN;
        let bits = self.layout.cluster_bits;
        let place = |&(cluster, count): &(u64, u64)| (cluster << bits, count << bits);
        // What is behind the file's end takes no space.
        let end = self.length;
        let clipped = |&(offset, length): &(u64, u64)| (offset, length.min(end.saturating_sub(offset)));
        let gone = self.gone.iter().map(place).map(|run| clipped(&run)).filter(|(_, length)| *length > 0);
        let free =
            gone.map(|(offset, length)| Free { file, offset, length, after: refs.clone(), punch: true });
        let protect =
            self.protect.iter().map(place).map(|(offset, length)| MetadataRange { file, offset, length });
        let plan = Plan {
            token,
            now: steps,
            map: core::mem::take(&mut self.map),
            meta: out.list,
            free: free.collect(),
            protect: protect.collect(),
        };
        let commit = Commit {
            layout: self.layout,
            cursor: self.cursor,
            unused_from: self.unused_from,
            patches: out.next,
            freed: self.gone,
            retired: self.retired,
            protect: self.protect,
            links,
        };
        Ok((plan, commit))
    }

    /// Which patches name the new tables: that of the entry, or, where the entry is in a new table itself, that which names this one.
    fn links(&self, out: &Patches) -> Vec<(u64, PatchId)> {
        let mut links: Vec<(u64, PatchId)> = Vec::new();
        for &(table, at) in self.named.iter().rev() {
            let patch = out
                .list
                .iter()
                .rev()
                .find(|patch| patch.offset <= at && at < patch.offset + patch.bytes.len() as u64);
            let Some(patch) = patch else { continue };
            let of_new = links.iter().find(|(other, _)| *other == patch.offset);
            let link = of_new.map_or(patch.id, |(_, link)| *link);
            links.push((table, link));
        }
        links
    }

    /// The steps, lengths first.
    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (file, length) in [(FileId::MAIN, self.length), (DATA, self.data_length)] {
            if length > self.reader.file_length(file) {
                steps.push(Step::SetLength { file, length });
            }
        }
        steps.append(&mut self.now);
        steps
    }

    /// Counts that shrink; clusters that nobody refers to any more are gone.
    fn apply_drops(&mut self) -> Outcome<Edits> {
        let mut edits = Edits::new();
        for (cluster, by) in core::mem::take(&mut self.drops) {
            let count = self.count(cluster)?;
            let Some(left) = count.checked_sub(by) else {
                let text = alloc::format!(
                    "the reference count of the cluster is {count}, but it is referred to {by} times: check the image"
                );
                return Err(crate::header::wrong(cluster << self.layout.cluster_bits, text).into());
            };
            if let Some((offset, bytes)) = refcount::written(self, cluster, left)? {
                self.reader.put(offset, &bytes)?;
                edits.insert(offset, bytes);
            }
            if left == 0 {
                push_run(&mut self.gone, cluster, 1);
            }
        }
        Ok(edits)
    }
}

/// Adds clusters to runs of them.
pub(crate) fn push_run(runs: &mut Vec<(u64, u64)>, cluster: u64, count: u64) {
    match runs.last_mut() {
        Some((start, length)) if *start + *length == cluster => *length += count,
        _ => runs.push((cluster, count)),
    }
}

/// Whether `step` could be made part of `last`, behind which it goes on.
fn join(last: &mut Step, step: Step) -> bool {
    match (last, step) {
        (
            Step::Put { guest, length, file, offset },
            Step::Put { guest: guest2, length: length2, file: file2, offset: offset2 },
        )
        | (
            Step::Copy { guest, length, file, offset },
            Step::Copy { guest: guest2, length: length2, file: file2, offset: offset2 },
        ) if *file == file2 && *guest + *length == guest2 && *offset + *length == offset2 => {
            *length += length2;
            true
        }
        (
            Step::Fill { file, offset, length },
            Step::Fill { file: file2, offset: offset2, length: length2 },
        ) if *file == file2 && *offset + *length == offset2 => {
            *length += length2;
            true
        }
        _ => false,
    }
}

/// Patches, and the names that they get.
struct Patches {
    next: PatchId,
    list: Vec<Patch>,
    cluster: u64,
}

impl Patches {
    fn ids_from(&self, index: usize) -> Vec<PatchId> {
        self.list[index..].iter().map(|patch| patch.id).collect()
    }

    fn push(&mut self, offset: u64, bytes: Vec<u8>, after: &[PatchId], after_data: bool, lazy: bool) {
        self.next += 1;
        self.list.push(Patch {
            id: self.next,
            file: FileId::MAIN,
            offset,
            bytes,
            after: after.to_vec(),
            after_data,
            lazy,
        });
    }

    fn table(&mut self, offset: u64, bytes: Vec<u8>) {
        self.push(offset, bytes, &[], false, false);
    }

    /// Changes that follow each other in a cluster become one patch.
    fn edits(&mut self, edits: &Edits, after: &[PatchId], after_data: bool, lazy: bool) {
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (&offset, bytes) in edits {
            match &mut run {
                Some((start, so_far))
                    if *start + so_far.len() as u64 == offset
                        && *start / self.cluster == offset / self.cluster
                        && so_far.len() < PATCH_MAX =>
                {
                    so_far.extend_from_slice(bytes);
                }
                _ => {
                    if let Some((start, so_far)) = run.replace((offset, bytes.clone())) {
                        self.push(start, so_far, after, after_data, lazy);
                    }
                }
            }
        }
        if let Some((start, so_far)) = run {
            self.push(start, so_far, after, after_data, lazy);
        }
    }
}

/// Big-endian words, one after the other.
pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * 8];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}
