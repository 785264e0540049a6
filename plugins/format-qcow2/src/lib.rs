//! QCOW2 images, versions 2 and 3.
//!
//! The plugin maps, and plans; it does no I/O ([`stampede_plugin`]). What it needs of an image it reads through the host's pages, which show
//! every earlier plan; it keeps the header, the snapshots' names, and what no page says: where to look for free clusters, and which
//! are not free yet.
//!
//! ```text
//!   lib      the calls            open      header/, snapshot: what an image says of itself
//!    ├─ resolve ── table ── entry           L1, L2, extended entries
//!    ├─ write ──── allocate ── refcount     data, zeros, unmaps
//!    ├─ job/ ───── check/, recover          snapshots, sizes, mending
//!    └─ draft ──── reader                   a plan in the making, and its patches' order
//! ```
//!
//! What it does not do: encrypted images (refused by name), writing compressed clusters, late reference counts (lazy_refcounts of an image is
//! only a permission: counts are always right), and keeping bitmaps of changed blocks (they are marked as out of date).
//! Spec: `docs/interop/qcow2.rst` of QEMU; sections are named in the modules.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod allocate;
mod bitmaps;
mod check;
mod create;
mod draft;
mod entry;
mod header;
mod job;
mod jobs;
mod layout;
mod open;
mod options;
mod reader;
mod recover;
mod refcount;
mod relink;
mod resolve;
mod snapshot;
mod space;
mod table;
mod write;

use alloc::{format, string::String, vec, vec::Vec};

use stampede_plugin::{
    Change, Confidence, Description, Extent, Fail, FailKind, Format, Job, JobStep, Mode, OpenRequest, Opened,
    Outcome, Pages, PatchId, Plan, Range, Token, View,
};

use draft::{Commit, Draft};
use jobs::Running;
use open::State;
use resolve::Disk;

/// A QCOW2 image.
#[derive(Debug, Default)]
pub struct Qcow2 {
    state: Option<State>,
    tokens: Token,
    patches: PatchId,
    job: Option<Running>,
    recovery: Option<Running>,
}

fn not_open() -> Fail {
    Fail::new(FailKind::Invalid, "the image is not open")
}

impl Qcow2 {
    fn state(&self) -> Result<&State, Fail> {
        self.state.as_ref().ok_or_else(not_open)
    }

    /// Makes a plan, and takes over what it changes once it is whole.
    fn planned(
        &mut self,
        pages: &mut dyn Pages,
        make: impl FnOnce(&mut Draft<'_>, &State) -> Outcome<()>,
    ) -> Outcome<Plan> {
        let token = self.tokens + 1;
        let state = self.state()?;
        let mut draft = Draft::new(pages, state.header.layout, &state.space);
        make(&mut draft, state)?;
        let (plan, commit) = draft.finish(token, self.patches)?;
        self.commit(token, &commit);
        Ok(plan)
    }

    fn commit(&mut self, token: Token, commit: &Commit) {
        self.tokens = token;
        self.patches = commit.patches;
        if let Some(state) = &mut self.state {
            state.header.layout = commit.layout;
            state.space.commit(token, commit);
        }
    }

    fn disk(&self, view: View) -> Result<(Disk, bool), Fail> {
        let state = self.state()?;
        let layout = &state.header.layout;
        match view {
            View::Active => {
                let writable = state.mode == Mode::ReadWrite;
                Ok((Disk { l1: layout.l1, size: layout.size, writable }, writable))
            }
            View::Snapshot(number) => {
                let found = usize::try_from(number).ok().and_then(|number| state.snapshots.get(number));
                let snapshot = found.ok_or_else(|| {
                    Fail::new(FailKind::Invalid, format!("there is no snapshot number {number}"))
                })?;
                let size = snapshot.info.virtual_size;
                Ok((Disk { l1: snapshot.l1, size, writable: false }, false))
            }
        }
    }
}

impl Format for Qcow2 {
    fn describe(&self) -> Description {
        Description {
            name: String::from("qcow2"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            extensions: vec![String::from("qcow2"), String::from("qcow")],
            writable: true,
            parents: true,
            snapshots: true,
            options: options::list(),
        }
    }

    fn probe(&self, head: &[u8], _tail: &[u8], _length: u64) -> Confidence {
        match head.get(..8) {
            Some([b'Q', b'F', b'I', 0xfb, 0, 0, 0, 2 | 3]) => Confidence::Sure,
            Some([b'Q', b'F', b'I', 0xfb, ..]) => Confidence::Maybe,
            _ => Confidence::No,
        }
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        let (state, opened) = open::open(pages, request)?;
        self.state = Some(state);
        Ok(opened)
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        self.recover_next(pages)
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        let (disk, _) = self.disk(view)?;
        let state = self.state()?;
        if range.offset >= disk.size || range.length == 0 {
            return Err(Fail::new(FailKind::Invalid, "the range is not inside the disk").into());
        }
        let range = Range::between(range.offset, range.end().min(disk.size));
        let mut draft = Draft::new(pages, state.header.layout, &state.space);
        let max = usize::try_from(extents_max.clamp(1, 1 << 16)).unwrap_or(1);
        resolve::resolve(&mut draft, disk, range, max, true)
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        if self.state()?.mode != Mode::ReadWrite {
            return Err(Fail::new(FailKind::ReadOnly, "the image is open for reading").into());
        }
        self.planned(pages, |draft, _| write::plan(draft, ranges, change))
    }

    fn done(&mut self, _token: Token) {}

    fn released(&mut self, token: Token) {
        if let Some(state) = &mut self.state {
            state.space.release(token);
        }
    }

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        self.job = Some(self.begin(job)?);
        Ok(())
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        self.job_next(pages)
    }
}

#[cfg(target_family = "wasm")]
stampede_guest::export_format!(Qcow2);

#[cfg(test)]
mod tests;
