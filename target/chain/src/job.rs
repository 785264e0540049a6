//! Jobs on the image itself: check, resize, snapshots, relink.

use stampede_plugin::{Job, JobStep, Mode, Report};

use crate::ChainError;
use crate::chain::{Chain, read_through};
use crate::layer::{Formats, Layer};

/// Steps that a job may take without telling of progress that goes on.
const STEPS_MAX: u64 = 1 << 32;

impl Chain {
    /// Does a job on the image, each of its plans durable before the next step; then the image is looked at anew. `progress` hears how much of how
    /// much is done.
    ///
    /// # Errors
    /// [`ChainError`]. What the job had done by then is durable, and each of its steps leaves an image that can be opened.
    pub fn job(
        &mut self,
        formats: &dyn Formats,
        job: Job,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, ChainError> {
        let (top, parents) = self.layers.split_at_mut(1);
        let Some(top) = top.first_mut() else { return Err(ChainError::Invalid("the chain is empty".into())) };
        let looks_only = matches!(job, Job::SnapshotList | Job::Check(stampede_plugin::Repair::No));
        if !looks_only && top.mode != Mode::ReadWrite {
            return Err(ChainError::ReadOnly { path: top.path.clone() });
        }
        top.flush_if_writable()?;
        let report = top.run(job, parents, progress)?;
        if !looks_only {
            top.reopen(formats)?;
        }
        Ok(report)
    }

    /// Leaves the image as one that was closed, everything durable.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn close(mut self) -> Result<(), ChainError> {
        self.finish()?;
        if self.layers[0].mode == Mode::ReadWrite { self.sync() } else { Ok(()) }
    }

    /// All but the last barrier of [`close`](Self::close).
    pub(crate) fn finish(&mut self) -> Result<(), ChainError> {
        let (top, parents) = self.layers.split_at_mut(1);
        let Some(top) = top.first_mut().filter(|top| top.mode == Mode::ReadWrite) else { return Ok(()) };
        top.flush(true)?;
        top.run(Job::Close, parents, &mut |_, _| ())?;
        top.flush(true)
    }
}

impl Layer {
    fn flush_if_writable(&mut self) -> Result<(), ChainError> {
        if self.mode == Mode::ReadWrite { self.flush(true) } else { Ok(()) }
    }

    /// Runs a job to its end.
    pub(crate) fn run(
        &mut self,
        job: Job,
        parents: &mut [Self],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, ChainError> {
        self.format.job_start(job).map_err(|fail| self.plugin_error(fail))?;
        for _ in 0..STEPS_MAX {
            match self.call(|format, pages| format.job_step(pages))? {
                JobStep::Plan(plan) => {
                    self.carry_out(&plan, None, &mut |layer, at, into| {
                        read_through(layer, parents, stampede_plugin::View::Active, at, into)
                    })?;
                    self.flush(true)?;
                }
                JobStep::Progress { done, total } => progress(done.min(total), total),
                JobStep::Done(report) => return Ok(report),
            }
        }
        let text = "a job does not end";
        Err(self.plugin_error(stampede_plugin::Fail::new(stampede_plugin::FailKind::Corrupt, text)))
    }
}
