//! VHD images (Virtual Hard Disk Image Format Specification 1.0): fixed, dynamic and differencing.
//!
//! ```text
//!   fixed      data ............................................ footer
//!   sparse     footer  header  block allocation table  locators  blocks ...  footer
//!              (copy)                                             │
//!                                        gap  bitmap  data ◄──────┘  data at a multiple of 4 KiB in blocks that we place
//! ```
//!
//! A **dynamic** image's block reads as zeros until it has a place. We set all bits of its bitmap when it gets one: its sectors are zeros
//! that are there, so it is written in place from then on. A **differencing** image's block has the bits of the sectors that were
//! written; the others are the parent's ([`Place::Sparse`](stampede_plugin::Place::Sparse)). A write there never reads the parent.
//!
//! # Power cuts
//!
//! A new block lies behind the old end of the file, with the old footer left where it is, and its space is zeros that the file's new length made.
//! Data, bitmap, the new end's footer and the file's length are durable before the table's entry is; until then nobody refers to the block. Cut
//! off in between, the file has a tail that nobody refers to, and opening it writes the footer at the end again from the copy at the
//! beginning ([`ends`] says which is believed when). A new sector of an old block: data, then its bit. So no barrier beyond the two of a flush.
//!
//! What is changed of footer and header for jobs is changed within one sector, or where nothing refers to it (`job`).
//!
//! # What VHD cannot say
//!
//! That a sector of a differencing image is zeros: zeros are written, and an unmap is ignored. No block's space is used for another.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ends;
mod job;
mod layout;
mod locator;
mod open;
mod plan;
mod resolve;
mod size;
mod sparse;
mod text;

use alloc::{string::String, vec, vec::Vec};

use stampede_plugin::{
    Change, Confidence, CreateOption, Description, Extent, Fail, FailKind, Format, Job, JobStep, OpenRequest,
    Opened, Outcome, Pages, PatchId, Plan, Range, Token, View,
};

use layout::{Footer, Kind};
use open::Image;

/// A VHD image.
#[derive(Debug, Default)]
pub struct Vhd {
    image: Option<Image>,
    names: Names,
    job: Option<job::Running>,
}

/// Names for plans and patches, none twice.
#[derive(Debug, Clone, Copy, Default)]
struct Names {
    tokens: Token,
    patches: PatchId,
}

impl Names {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    fn patch(&mut self) -> PatchId {
        self.patches += 1;
        self.patches
    }
}

impl Vhd {
    fn image(&self) -> Result<&Image, Fail> {
        self.image.as_ref().ok_or_else(|| Fail::new(FailKind::Invalid, "the image was not opened"))
    }
}

impl Format for Vhd {
    fn describe(&self) -> Description {
        let option = |name: &str, help: &str, default: &str| CreateOption {
            name: name.into(),
            help: help.into(),
            default: default.into(),
        };
        Description {
            name: String::from("vhd"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            extensions: vec![String::from("vhd"), String::from("avhd")],
            writable: true,
            parents: true,
            snapshots: false,
            options: vec![
                option(
                    "type",
                    "fixed, dynamic or differencing; an image with a parent is differencing, others are dynamic unless told.",
                    "dynamic",
                ),
                option(
                    "block_size",
                    "Bytes of the disk that get their space together: a power of two from 4K to 256M. Some readers take only 512K and 2M.",
                    "2M",
                ),
            ],
        }
    }

    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence {
        let sound = |bytes: Option<&[u8]>| bytes.and_then(Footer::of).is_some_and(|footer| footer.is_valid());
        let last = |count: usize| tail.len().checked_sub(count).map(|start| &tail[start..]);
        let found = sound(head.get(..512)) || sound(last(512)) || sound(last(511));
        if found && length >= 511 { Confidence::Sure } else { Confidence::No }
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        let (image, opened) = open::open(pages, request.mode)?;
        self.image = Some(image);
        Ok(opened)
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        let mut names = self.names;
        let plan = open::recover(self.image()?, pages, &mut names);
        self.names = names;
        Ok(plan)
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        match view {
            View::Active => resolve::resolve(self.image()?, pages, range, extents_max),
            View::Snapshot(_) => Err(no_snapshots().into()),
        }
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        let mut names = self.names;
        let plan = plan::plan(self.image()?, pages, &mut names, ranges, change)?;
        self.names = names;
        Ok(plan)
    }

    fn done(&mut self, _token: Token) {}

    fn released(&mut self, _token: Token) {}

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        self.job = Some(job::start(self.image.as_ref(), job)?);
        Ok(())
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        let mut names = self.names;
        let Some(job) = &self.job else {
            return Err(Fail::new(FailKind::Invalid, "no job was begun").into());
        };
        let (step, next) = job.step(pages, &mut names)?;
        (self.names, self.job) = (names, next);
        Ok(step)
    }
}

fn no_snapshots() -> Fail {
    Fail::new(FailKind::Unsupported, "a VHD has no internal snapshots: make a differencing image of it")
}

/// The kind of image that a name in an option means.
fn kind_of(name: &str) -> Option<Kind> {
    [Kind::Fixed, Kind::Dynamic, Kind::Differencing].into_iter().find(|kind| kind.name() == name)
}

#[cfg(target_family = "wasm")]
stampede_guest::export_format!(Vhd);
