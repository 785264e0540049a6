//! A format plugin's calls.

use alloc::{string::String, vec::Vec};

use crate::{
    Change, Extent, Fail, Job, JobStep, OpenRequest, Opened, Outcome, Pages, Plan, Range, Token, View,
};

/// An image format: an instance of it is one image.
pub trait Format {
    /// What the plugin is. The same for each instance.
    fn describe(&self) -> Description;

    /// How likely it is that a file is of this format, by its first and last bytes (up to 64 KiB each) and its length in bytes. Only
    /// ever asked by tools that import files; a served image's format is what its configuration says.
    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence;

    /// Reads what an image says about itself. May be called again, with more files.
    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened>;

    /// Puts right what an unclean end left. The host carries the plan out, makes all of it durable, and opens the image again with the same
    /// instance: while that still says [`Opened::needs_recovery`](crate::Opened::needs_recovery), it recovers on, so that a long recovery can be
    /// in parts. For an image that is read only, the patches are applied to the host's pages and never written.
    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan>;

    /// Where `range` lies: extents from its first byte on, with no gap, at least one, at most `extents_max`; they may end before the range does,
    /// and the last one may go beyond it. The range is inside the disk.
    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>>;

    /// How a change of ranges is made. They are inside the disk, in order, and do not overlap; there is at least one.
    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan>;

    /// A plan's `now` was carried out and its patches are in the host's pages. (If it fails, the instance is thrown away.)
    fn done(&mut self, token: Token);

    /// What a plan named in `free` may be used again: it is durable that nobody refers to it, holes are punched, readers are gone.
    fn released(&mut self, token: Token);

    /// Begins a job.
    ///
    /// # Errors
    /// When the format has no such job, or not with these arguments.
    fn job_start(&mut self, job: Job) -> Result<(), Fail>;

    /// Goes on with the job that was begun.
    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep>;
}

impl<F: Format + ?Sized> Format for alloc::boxed::Box<F> {
    fn describe(&self) -> Description {
        (**self).describe()
    }

    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence {
        (**self).probe(head, tail, length)
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        (**self).open(pages, request)
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        (**self).recover(pages)
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        (**self).resolve(pages, view, range, extents_max)
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        (**self).plan_write(pages, ranges, change)
    }

    fn done(&mut self, token: Token) {
        (**self).done(token);
    }

    fn released(&mut self, token: Token) {
        (**self).released(token);
    }

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        (**self).job_start(job)
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        (**self).job_step(pages)
    }
}

/// What a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The format's name, as configurations say it: `qcow2`.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// The endings that files of it have, without a dot.
    pub extensions: Vec<String>,
    /// Whether it can write.
    pub writable: bool,
    /// Whether an image of it can have a parent.
    pub parents: bool,
    /// Whether an image of it can have internal snapshots.
    pub snapshots: bool,
    /// What an image can be made with.
    pub options: Vec<CreateOption>,
}

/// An option of making an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOption {
    /// Its name: `cluster_size`.
    pub name: String,
    /// What it means and which values it takes, in a sentence.
    pub help: String,
    /// Its value when none is given.
    pub default: String,
}

/// How likely it is that a file is of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// It is not.
    No,
    /// It might be (nothing speaks against it).
    Maybe,
    /// Its magic number and its header say so.
    Sure,
}
