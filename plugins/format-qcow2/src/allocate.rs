//! Finding free clusters (spec: "Host cluster management").
//!
//! The search goes on from where it ended last. It looks at a bounded number of counts in a call: then it goes to the end of the file,
//! and the rest is looked at by later calls.

use alloc::{format, vec, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, Outcome};

use crate::{
    draft::{Draft, words},
    header::wrong,
    layout::{OFFSET_MASK, REFTABLE_BYTES_MAX, field},
    reader::small,
    refcount,
};

/// How many counts a call looks at before it goes to the end of the file.
const SEARCH_MAX: u64 = 1 << 12;
/// How much a file grows at least, in clusters, and at most so many bytes.
const GROW_CLUSTERS: u64 = 16;
const GROW_BYTES_MAX: u64 = 1 << 20;

/// Clusters that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The first one's number.
    pub(crate) start: u64,
    /// Whether they are zeros: the file had nothing there yet.
    pub(crate) zeros: bool,
}

impl Draft<'_> {
    /// Takes `count` free clusters in a row, each referred to once from now on.
    pub(crate) fn allocate(&mut self, count: u64) -> Outcome<Taken> {
        loop {
            let start = self.find(count)?;
            let missing = self.missing_blocks(start, count)?;
            let Some(blocks) = missing else {
                self.grow_reftable(start, count)?;
                continue;
            };
            let (taken, zeros) = (count + blocks.len() as u64, start >= self.unused_from);
            self.take(start, taken);
            self.add_blocks(start + count, &blocks)?;
            for cluster in start..start + taken {
                self.set_count(cluster, 1)?;
            }
            return Ok(Taken { start, zeros });
        }
    }

    /// Whether a cluster can be taken.
    fn is_free(&mut self, cluster: u64) -> Outcome<bool> {
        let mine = self.taken.iter().any(|(start, count)| (*start..start + count).contains(&cluster));
        if mine || self.space.held(cluster).is_some() || self.count(cluster)? != 0 {
            return Ok(false);
        }
        if cluster == 0 || self.space.guarded(cluster) {
            let text =
                "the reference count of a cluster with metadata is 0: check the image before it is written";
            return Err(wrong(cluster << self.layout.cluster_bits, text).into());
        }
        Ok(true)
    }

    /// So many free clusters in a row, and as many more as they need refcount blocks.
    fn find(&mut self, count: u64) -> Outcome<u64> {
        let (mut start, mut at, mut looked) = (self.cursor, self.cursor, 0);
        loop {
            if at << self.layout.cluster_bits > OFFSET_MASK - (GROW_BYTES_MAX << 8) {
                return Err(Fail::new(FailKind::NoSpace, "the file cannot grow: offsets have 56 bits").into());
            }
            if at >= start + count {
                let extra = self.missing_blocks(start, count)?.map_or(0, |blocks| blocks.len() as u64);
                if at == start + count + extra {
                    return Ok(start);
                }
            }
            if self.is_free(at)? {
                at += 1;
            } else {
                at = self.space.held(at).unwrap_or(at + 1);
                start = at;
            }
            looked += 1;
            if looked == SEARCH_MAX && at < self.unused_from {
                self.resume = Some(at);
                (start, at) = (self.unused_from, self.unused_from);
            }
        }
    }

    /// Which refcount blocks are missing for `count` clusters from `start` on and for those blocks themselves, put behind
    /// them. `None` when the refcount table ends before.
    fn missing_blocks(&mut self, start: u64, count: u64) -> Outcome<Option<Vec<u64>>> {
        let entries = self.layout.block_entries();
        let mut missing = Vec::new();
        let mut index = start / entries;
        while index <= (start + count + missing.len() as u64 - 1) / entries {
            if index >= self.layout.reftable_entries() {
                return Ok(None);
            }
            if refcount::block_of(self, index * entries)?.is_none() {
                missing.push(index);
            }
            index += 1;
        }
        Ok(Some(missing))
    }

    /// Refcount blocks in clusters from `place` on.
    fn add_blocks(&mut self, place: u64, blocks: &[u64]) -> Outcome<()> {
        for (cluster, &index) in (place..).zip(blocks) {
            self.new_table(cluster, &vec![0; small(self.layout.cluster())])?;
            let entry = self.layout.reftable_offset + index * 8;
            self.edit_tables(entry, words(&[cluster << self.layout.cluster_bits]))?;
            self.name(cluster << self.layout.cluster_bits, entry);
        }
        Ok(())
    }

    /// A refcount block where there is none. The free cluster for it must not be looked for where it is missing.
    pub(crate) fn add_block(&mut self, index: u64) -> Outcome<()> {
        let place = self.allocate(1)?.start;
        // The block may have been needed for the place itself.
        if refcount::block_of(self, index * self.layout.block_entries())?.is_none() {
            return self.add_blocks(place, &[index]);
        }
        self.set_count(place, 0)
    }

    /// Notes that clusters are taken; the file grows as far as they need, and a bit more.
    fn take(&mut self, start: u64, count: u64) {
        let end = start + count;
        crate::draft::push_run(&mut self.taken, start, count);
        self.cursor = self.resume.take().unwrap_or(end);
        self.unused_from = self.unused_from.max(end);
        let bits = self.layout.cluster_bits;
        if end << bits > self.length() {
            let more = GROW_CLUSTERS << bits;
            let length =
                (end << bits).max(self.length() + more.min(GROW_BYTES_MAX)).next_multiple_of(1 << bits);
            self.need_length(FileId::MAIN, length);
        }
    }

    /// A longer refcount table, at the place that the old one does not reach: it, and the blocks that count it and the
    /// clusters that are wanted. The old one is given up.
    fn grow_reftable(&mut self, start: u64, count: u64) -> Outcome<()> {
        let layout = self.layout;
        let reached = layout.reftable_entries() * layout.block_entries();
        let place = start.max(reached).max(layout.clusters_of(self.length()));
        let (clusters, blocks) = grown_size(self, place, count);
        if clusters * layout.cluster() > REFTABLE_BYTES_MAX {
            let text = format!("the refcount table would be longer than {REFTABLE_BYTES_MAX} bytes");
            return Err(Fail::new(FailKind::NoSpace, text).into());
        }
        self.take(place, clusters + blocks);
        let mut table =
            self.reader.bytes(layout.reftable_offset, layout.reftable_clusters << layout.cluster_bits)?;
        table.resize(small(clusters << layout.cluster_bits), 0);
        self.new_table(place, &table)?;
        let old = (layout.reftable_offset >> layout.cluster_bits, layout.reftable_clusters);
        self.layout.reftable_offset = place << layout.cluster_bits;
        self.layout.reftable_clusters = clusters;
        let first = place / layout.block_entries();
        let missing: Vec<u64> = (first..first + blocks).collect();
        self.add_blocks(place + clusters, &missing)?;
        for cluster in place..place + clusters + blocks {
            self.set_count(cluster, 1)?;
        }
        let mut fields = words(&[self.layout.reftable_offset]);
        fields.extend_from_slice(&u32::try_from(clusters).unwrap_or(u32::MAX).to_be_bytes());
        self.edit_tables(field::REFTABLE_OFFSET, fields)?;
        self.name(place << layout.cluster_bits, field::REFTABLE_OFFSET);
        for cluster in old.0..old.0 + old.1 {
            self.drop_cluster(cluster);
        }
        self.retired.push(old);
        Ok(())
    }
}

/// How many clusters a longer refcount table at `place` has, and how many blocks it takes to count it and `wanted` more.
fn grown_size(draft: &Draft<'_>, place: u64, wanted: u64) -> (u64, u64) {
    let (entries, per_cluster) = (draft.layout.block_entries(), draft.layout.cluster() / 8);
    let (mut clusters, mut blocks) = (1, 1);
    loop {
        let end = place + clusters + blocks;
        // Half as much again as is needed now, so that it does not grow soon again.
        let reach = (end + wanted).div_ceil(entries) + 1;
        let clusters_now = (reach + reach / 2).div_ceil(per_cluster);
        let blocks_now = end.div_ceil(entries) - place / entries;
        if (clusters_now, blocks_now) == (clusters, blocks) {
            return (clusters, blocks);
        }
        (clusters, blocks) = (clusters.max(clusters_now), blocks.max(blocks_now));
    }
}
