//! Which pages of metadata are at hand.

use std::{collections::BTreeSet, vec::Vec};

use super::usize_of;
use crate::{FileId, Pages, Span};

const PAGE: u64 = 4096;

/// Which 4 KiB pages are at hand. Now and then all are forgotten, so that each call of a plugin must be able to ask anew.
#[derive(Default)]
pub(super) struct AtHand {
    pages: BTreeSet<(u16, u64)>,
    calls: u32,
}

impl AtHand {
    /// Before each call: every third begins with nothing.
    pub(super) fn forget_some(&mut self) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(3) {
            self.pages.clear();
        }
    }

    /// Brings what a call asked for.
    pub(super) fn bring(&mut self, spans: &[Span]) {
        for span in spans {
            self.pages.extend(pages_of(*span).map(|page| (span.file.0, page)));
        }
    }

    fn has(&self, span: Span) -> bool {
        pages_of(span).all(|page| self.pages.contains(&(span.file.0, page)))
    }
}

fn pages_of(span: Span) -> core::ops::RangeInclusive<u64> {
    span.offset / PAGE..=(span.offset + u64::from(span.length).max(1) - 1) / PAGE
}

/// The pages as a call sees them.
pub(super) struct ModelPages<'a> {
    pub(super) files: &'a [Vec<u8>],
    pub(super) at_hand: &'a AtHand,
}

impl Pages for ModelPages<'_> {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        let file = self.files.get(usize::from(span.file.0))?;
        let start = usize_of(span.offset);
        let bytes = file.get(start..start.checked_add(span.length as usize)?)?;
        self.at_hand.has(span).then(|| bytes.to_vec())
    }

    fn file_length(&self, file: FileId) -> u64 {
        self.files.get(usize::from(file.0)).map_or(0, |file| file.len() as u64)
    }
}
