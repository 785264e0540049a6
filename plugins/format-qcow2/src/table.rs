//! L1 and L2 tables: reading entries, and making tables writable (spec: "Cluster mapping").

use alloc::{format, vec, vec::Vec};

use stampede_plugin::{FileId, Outcome};

use crate::{
    draft::{Draft, words},
    entry::{self, COPIED, Entry, Packed, Standard},
    header::wrong,
    layout::{L1Table, Layout, OFFSET_MASK},
};

/// An entry of an L1 table that names an L2 table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L2Table {
    /// Where it begins.
    pub(crate) offset: u64,
    /// Whether nobody else refers to it.
    pub(crate) copied: bool,
    /// The first byte of the disk that it maps.
    pub(crate) guest: u64,
}

impl Draft<'_> {
    /// The L2 table that an entry of an L1 table names.
    pub(crate) fn l2_table(&mut self, l1: L1Table, index: u64) -> Outcome<Option<L2Table>> {
        if index >= l1.entries {
            return Ok(None);
        }
        let at = l1.offset + index * 8;
        let word = self.reader.word(at, 8)?;
        let offset = word & OFFSET_MASK;
        if offset == 0 {
            return Ok(None);
        }
        if !offset.is_multiple_of(self.layout.cluster()) || offset >= self.length() {
            let text = format!(
                "L1 entry {index} names an L2 table at {offset}, which is not aligned or not in the file"
            );
            return Err(wrong(at, text).into());
        }
        let guest = index.saturating_mul(self.layout.l2_span());
        Ok(Some(L2Table { offset, copied: word & COPIED != 0, guest }))
    }

    /// Entry `index` of an L2 table.
    pub(crate) fn entry(&mut self, table: L2Table, index: u64) -> Outcome<Entry> {
        let at = table.offset + index * self.layout.entry_bytes();
        let word = self.reader.word(at, 8)?;
        let bits = if self.layout.extended() { self.reader.word(at + 8, 8)? } else { 0 };
        let entry = entry::decode(&self.layout, word, bits)
            .map_err(|text| wrong(at, format!("L2 entry {word:#x}: {text}")))?;
        let guest = table.guest.saturating_add(index << self.layout.cluster_bits);
        self.check_place(at, guest, entry)?;
        Ok(entry)
    }

    /// What an entry names is in its file, off the header, and off tables.
    fn check_place(&self, at: u64, guest: u64, entry: Entry) -> Outcome<()> {
        let length = self.data_length();
        let (offset, end) = match entry {
            Entry::Standard(Standard { host: Some(host), .. }) => (host, host + self.layout.cluster()),
            Entry::Standard(_) => return Ok(()),
            Entry::Packed(Packed { offset, length }) => (offset, offset + length),
        };
        if self.layout.data_file() {
            // There each cluster is where the guest has it.
            if offset == guest {
                return Ok(());
            }
            let text = format!("an L2 entry names {offset} of the data file for byte {guest} of the disk");
            return Err(wrong(at, text).into());
        }
        let first = offset >> self.layout.cluster_bits;
        let last = (end.min(length).max(offset + 1) - 1) >> self.layout.cluster_bits;
        if offset >= length {
            let text = format!("an L2 entry names {offset}, but the file has {length} bytes");
            return Err(wrong(at, text).into());
        }
        if first == 0 || self.space.guarded(first) || self.space.guarded(last) {
            return Err(wrong(at, format!("an L2 entry names {offset}, where metadata is")).into());
        }
        Ok(())
    }

    /// Makes the L2 table of an entry of the active L1 table one that can be written: a new one, where there is none; a
    /// copy, where others refer to it.
    pub(crate) fn writable_l2(&mut self, index: u64) -> Outcome<L2Table> {
        let l1 = self.layout.l1;
        let at = l1.offset + index * 8;
        let cluster = self.layout.cluster();
        let contents: Vec<u8> = match self.l2_table(l1, index)? {
            Some(table) if table.copied => return Ok(table),
            Some(table) => {
                let old = table.offset >> self.layout.cluster_bits;
                if self.count(old)? == 1 {
                    self.refer(at, words(&[table.offset | COPIED]))?;
                    return Ok(L2Table { copied: true, ..table });
                }
                let contents = self.reader.bytes(table.offset, cluster)?;
                self.drop_cluster(old);
                contents
            }
            None => vec![0; crate::reader::small(cluster)],
        };
        let new = self.allocate(1)?.start;
        self.new_table(new, &contents)?;
        let offset = new << self.layout.cluster_bits;
        self.refer(at, words(&[offset | COPIED]))?;
        self.name(offset, at);
        let guest = index.saturating_mul(self.layout.l2_span());
        Ok(L2Table { offset, copied: true, guest })
    }

    /// Writes entry `index` of a table that is writable.
    pub(crate) fn set_entry(&mut self, table: L2Table, index: u64, entry: &Standard) -> Outcome<()> {
        let at = table.offset + index * self.layout.entry_bytes();
        let encoded =
            words(&entry::encode(&self.layout, entry)[..if self.layout.extended() { 2 } else { 1 }]);
        if self.reader.bytes(at, encoded.len() as u64)? == encoded {
            return Ok(());
        }
        self.uses_table(table.offset);
        self.refer(at, encoded)
    }
}

/// Where a byte of the disk is mapped: which L1 entry, and which entry of its L2 table.
pub(crate) fn indices(layout: &Layout, guest: u64) -> (u64, u64) {
    let cluster = guest >> layout.cluster_bits;
    (cluster / layout.l2_entries(), cluster % layout.l2_entries())
}

/// The bytes of a stretch that are in the main file.
pub(crate) fn inside(draft: &Draft<'_>, packed: Packed) -> u64 {
    packed.length.min(draft.reader.file_length(FileId::MAIN).saturating_sub(packed.offset))
}
