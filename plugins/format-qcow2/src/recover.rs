//! What an image needs before it is written: its counts made anew when it is dirty, bitmaps that nobody here keeps marked as out of
//! date, and autoclear bits that nobody here knows cleared.

use alloc::vec::Vec;

use stampede_plugin::{Outcome, Repair};

use crate::{
    bitmaps,
    draft::Draft,
    header::Header,
    job::{Stage, check_stages},
    layout::{BITMAPS, DATA_FILE_RAW, DIRTY, field},
    reader::Reader,
};

/// Whether an image must be recovered before it is written.
pub(crate) fn needed(reader: &mut Reader<'_>, header: &Header) -> Outcome<bool> {
    let layout = &header.layout;
    Ok(layout.incompatible & DIRTY != 0
        || unknown_autoclear(header) != 0
        || bitmaps::outdated_by_writes(reader, header)?)
}

fn unknown_autoclear(header: &Header) -> u64 {
    header.layout.autoclear & !(BITMAPS | DATA_FILE_RAW)
}

/// The stages of a recovery.
pub(crate) fn stages(header: &Header) -> Vec<Stage> {
    let mut stages = Vec::new();
    if header.layout.incompatible & DIRTY != 0 {
        stages.extend(check_stages(Repair::All));
    }
    stages.push(Stage::Settle);
    stages
}

/// Bitmaps and autoclear bits.
pub(crate) fn settle(draft: &mut Draft<'_>, header: &Header) -> Outcome<()> {
    bitmaps::mark(draft, header)?;
    if unknown_autoclear(header) != 0 {
        let known = header.layout.autoclear & (BITMAPS | DATA_FILE_RAW);
        draft.refer(field::AUTOCLEAR, known.to_be_bytes().to_vec())?;
        draft.layout.autoclear = known;
    }
    Ok(())
}
