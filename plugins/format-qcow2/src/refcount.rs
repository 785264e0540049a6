//! Reference counts of 1 to 64 bits (spec: "Host cluster management").

use alloc::{format, vec, vec::Vec};

use stampede_plugin::Outcome;

use crate::{draft::Draft, header::wrong, layout::Layout, reader::Reader};

/// Refcount table entries have bits 9 to 63.
const BLOCK_MASK: u64 = !0x1ff;

/// Where the entry of the refcount table is that has a cluster's block.
pub(crate) fn table_entry(layout: &Layout, cluster: u64) -> Option<u64> {
    let index = cluster / layout.block_entries();
    (index < layout.reftable_entries()).then(|| layout.reftable_offset + index * 8)
}

/// The block that has a cluster's count, if there is one.
pub(crate) fn block_of(draft: &mut Draft<'_>, cluster: u64) -> Outcome<Option<u64>> {
    let Some(at) = table_entry(&draft.layout, cluster) else { return Ok(None) };
    let entry = draft.reader.word(at, 8)?;
    if entry == 0 {
        return Ok(None);
    }
    check_block(&draft.layout, draft.length(), at, entry).map(Some).map_err(Into::into)
}

/// A block's offset, by its entry in the refcount table.
pub(crate) fn check_block(
    layout: &Layout,
    length: u64,
    at: u64,
    entry: u64,
) -> Result<u64, stampede_plugin::Fail> {
    let block = entry & BLOCK_MASK;
    if block == 0 || !block.is_multiple_of(layout.cluster()) || block >= length {
        return Err(wrong(
            at,
            format!("the refcount table names a block at {block}, which is not aligned or not in the file"),
        ));
    }
    Ok(block)
}

/// Where in a block a cluster's count is: its byte, and its lowest bit there.
fn place(layout: &Layout, block: u64, cluster: u64) -> (u64, u64) {
    let index = cluster % layout.block_entries();
    let bit = index << layout.refcount_order;
    (block + bit / 8, bit % 8)
}

/// Reads a cluster's count in its block.
pub(crate) fn read(reader: &mut Reader<'_>, layout: &Layout, block: u64, cluster: u64) -> Outcome<u64> {
    let (offset, shift) = place(layout, block, cluster);
    if layout.refcount_order >= 3 {
        return reader.word(offset, (1 << layout.refcount_order) / 8);
    }
    Ok(reader.word(offset, 1)? >> shift & layout.refcount_max())
}

/// A count in the bytes of its whole block.
pub(crate) fn in_block(layout: &Layout, block: &[u8], index: u64) -> u64 {
    let bit = index << layout.refcount_order;
    let start = crate::reader::small(bit / 8);
    if layout.refcount_order >= 3 {
        let width = crate::reader::small((1 << layout.refcount_order) / 8);
        return block.get(start..start + width).map_or(0, crate::reader::big_endian);
    }
    block.get(start).map_or(0, |&byte| u64::from(byte) >> (bit % 8) & layout.refcount_max())
}

/// The bytes that change when a cluster's count becomes `count`, and where they are; `None` when it has that count already.
///
/// # Errors
/// When the count does not fit, or the cluster has no block.
pub(crate) fn written(draft: &mut Draft<'_>, cluster: u64, count: u64) -> Outcome<Option<(u64, Vec<u8>)>> {
    let layout = draft.layout;
    let at = cluster << layout.cluster_bits;
    if count > layout.refcount_max() {
        let text = format!(
            "a cluster would be referred to {count} times, refcount_bits {} count to {}",
            1_u32 << layout.refcount_order,
            layout.refcount_max()
        );
        return Err(stampede_plugin::Fail {
            kind: stampede_plugin::FailKind::NoSpace,
            text,
            at: Some((stampede_plugin::FileId::MAIN, at)),
        }
        .into());
    }
    let Some(block) = block_of(draft, cluster)? else {
        return Err(wrong(at, "the cluster is in use, but has no refcount block: check the image").into());
    };
    let (offset, shift) = place(&layout, block, cluster);
    if layout.refcount_order >= 3 {
        let width = (1_u64 << layout.refcount_order) / 8;
        let old = draft.reader.word(offset, width)?;
        let bytes = count.to_be_bytes();
        let skip = crate::reader::small(8 - width);
        return Ok((old != count).then(|| (offset, bytes[skip..].to_vec())));
    }
    let old = draft.reader.word(offset, 1)?;
    let new = old & !(layout.refcount_max() << shift) | count << shift;
    let byte = u8::try_from(new & 0xff).unwrap_or(0);
    Ok((old != new).then(|| (offset, vec![byte])))
}
