//! Writing down another parent.
//!
//! The header has two sectors, and the locators' fields are in the second while the checksum is in the first: a power cut could leave one
//! old and one new. So what refers to the header, one sector, is turned to a copy of the new header first:
//!
//! ```text
//!   1  behind the end: the names, a copy of the new header, a footer
//!   2  the footer's copy at the beginning: data_offset points at that copy
//!   3  the header in its place
//!   4  the footer's copy at the beginning: data_offset points at its place again
//! ```
//!
//! Each state in between is an image whose beginning says one thing; the end is written from it when the image is opened.

use alloc::{boxed::Box, format, vec::Vec};

use stampede_plugin::{Fail, FailKind, FileId, JobStep, Pages, ParentRef, Step};
use zerocopy::IntoBytes;

use super::{Running, invalid, plan};
use crate::{
    Names,
    layout::{Footer, HEADER_BYTES, Header, SECTOR},
    locator::Written,
    open::{Image, footer_patch, patch},
    sparse::Sparse,
};

/// Another parent to be written down.
#[derive(Debug, Clone)]
pub(crate) struct Relink {
    footer: Footer,
    header: Header,
    header_at: u64,
    names: Vec<Vec<u8>>,
    names_bytes: u64,
    stage: Stage,
}

/// What comes next; where the new header's copy is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Names,
    TurnTo(u64),
    Header,
    TurnBack,
}

impl Relink {
    pub(crate) fn of(image: &Image, parent: &ParentRef) -> Result<Self, Fail> {
        let Some(sparse) = image.sparse.as_ref().filter(|sparse| sparse.differencing) else {
            let text = format!("a {} VHD has no parent", image.kind().name());
            return Err(Fail::new(FailKind::Unsupported, text));
        };
        if parent.virtual_size.is_some_and(|size| size != image.virtual_size) {
            return Err(invalid(format!(
                "the parent's disk must have {} bytes, as this one",
                image.virtual_size
            )));
        }
        Ok(Self::new(image, sparse, Written::of(parent)?))
    }

    fn new(image: &Image, sparse: &Sparse, written: Written) -> Self {
        let mut header = sparse.header.clone();
        // Places of the names follow when the file's length is known.
        written.put(&mut header, 0);
        let names_bytes = written.bytes();
        let names = written.names.into_iter().map(|(_, name)| name).collect();
        let (footer, header_at) = (image.footer.clone(), sparse.header_at);
        Self { footer, header, header_at, names, names_bytes, stage: Stage::Names }
    }

    pub(crate) fn step(&self, pages: &dyn Pages, names: &mut Names) -> (JobStep, Option<Running>) {
        let mut plan = plan(names);
        let mut next = self.clone();
        match self.stage {
            Stage::Names => {
                let mut at = pages.file_length(FileId::MAIN).next_multiple_of(SECTOR);
                let copy_at = at + self.names_bytes;
                let end = copy_at + u64::from(HEADER_BYTES);
                plan.now.push(Step::SetLength { file: FileId::MAIN, length: end + SECTOR });
                for (locator, name) in next.header.locators.iter_mut().zip(&self.names) {
                    locator.data_offset = at.into();
                    plan.meta.push(patch(names, at, name.clone()));
                    at += (name.len() as u64).next_multiple_of(SECTOR);
                }
                next.header = next.header.sealed();
                plan.meta.push(patch(names, copy_at, next.header.as_bytes().to_vec()));
                plan.meta.push(footer_patch(names, &self.footer, end));
                next.stage = Stage::TurnTo(copy_at);
            }
            Stage::TurnTo(copy_at) => {
                let turned = Footer { data_offset: copy_at.into(), ..self.footer.clone() }.sealed();
                plan.meta.push(footer_patch(names, &turned, 0));
                next.stage = Stage::Header;
            }
            Stage::Header => {
                plan.meta.push(patch(names, self.header_at, self.header.as_bytes().to_vec()));
                next.stage = Stage::TurnBack;
            }
            Stage::TurnBack => {
                plan.meta.push(footer_patch(names, &self.footer, 0));
                return (JobStep::Plan(plan), Running::finished());
            }
        }
        (JobStep::Plan(plan), Some(Running::Relink(Box::new(next))))
    }
}
