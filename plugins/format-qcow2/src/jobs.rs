//! Beginning jobs and going on with them.

use alloc::{string::String, vec::Vec};

use stampede_plugin::{
    Created, Fail, FailKind, FileId, Job, JobStep, Mode, OpenRequest, Outcome, Pages, Plan, Report,
};

use crate::{
    Qcow2,
    check::Check,
    create,
    draft::{Commit, Draft},
    job::{self, Done, Stage, check_size, invalid},
    layout::LAZY_REFCOUNTS,
    open::State,
    recover, relink,
    space::Space,
};

/// How many steps without a plan a recovery does in a call.
const QUIET_STEPS_MAX: u32 = 64;

/// A job under way.
#[derive(Debug)]
pub(crate) enum Running {
    /// An image is to be made.
    Create(Created),
    /// Stages are carried out.
    Stages(job::Job),
}

/// What a step of stages gave.
enum Step {
    Plan(Plan),
    Quiet,
    Done(Report),
}

impl Qcow2 {
    /// The stages of a job.
    pub(crate) fn begin(&self, job: Job) -> Result<Running, Fail> {
        if let Job::Create(created) = job {
            return Ok(Running::Create(created));
        }
        if let Job::Check(repair) = job {
            return Ok(Running::Stages(job::Job::new(job::check_stages(repair))));
        }
        let state = self.state()?;
        let (layout, snapshots) = (&state.header.layout, &state.snapshots);
        let stages = match job {
            Job::SnapshotList => {
                let listed = snapshots.iter().map(|snapshot| snapshot.info.clone()).collect();
                let report = Report { snapshots: listed, details: details(state), ..Report::default() };
                return Ok(Running::Stages(job::Job::finished(report)));
            }
            Job::Close => return Ok(Running::Stages(job::Job::finished(Report::default()))),
            _ if state.mode != Mode::ReadWrite => {
                return Err(Fail::new(FailKind::ReadOnly, "the image is open for reading"));
            }
            Job::Resize { virtual_size, shrink } => resize_stages(state, virtual_size, shrink)?,
            Job::SnapshotCreate { name, time } => job::create_stages(layout, snapshots, &name, time)?,
            Job::SnapshotApply { name } => job::apply_stages(layout, snapshots, &name)?,
            Job::SnapshotDelete { name } => job::delete_stages(layout, snapshots, &name)?,
            Job::Relink(parent) => alloc::vec![Stage::Relink(relink::link(&state.header, &parent)?)],
            // The two that need no open image were begun above.
            Job::Create(_) | Job::Check(_) => return Err(invalid("no such job")),
        };
        Ok(Running::Stages(job::Job::new(stages)))
    }

    /// The next step of the job.
    pub(crate) fn job_next(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        match self.job.take() {
            None => Err(invalid("no job was begun").into()),
            Some(Running::Create(created)) => {
                let step = create_step(&created, self.tokens + 1);
                match step {
                    Ok(plan) => {
                        self.tokens += 1;
                        self.job = Some(Running::Stages(job::Job::finished(Report::default())));
                        Ok(JobStep::Plan(plan))
                    }
                    Err(fail) => Err(fail.into()),
                }
            }
            Some(Running::Stages(mut job)) => {
                let step = self.stages_next(pages, &mut job);
                let (done, total) = progress(&job);
                self.job = Some(Running::Stages(job));
                Ok(match step? {
                    Step::Plan(plan) => JobStep::Plan(plan),
                    Step::Quiet => JobStep::Progress { done, total },
                    Step::Done(report) => {
                        self.job = None;
                        JobStep::Done(report)
                    }
                })
            }
        }
    }

    /// A plan of the recovery; the image is opened again after it, and recovered on, while it must be.
    pub(crate) fn recover_next(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        let mut job = match self.recovery.take() {
            Some(Running::Stages(job)) => job,
            _ => job::Job::new(recover::stages(&self.state()?.header)),
        };
        for _ in 0..QUIET_STEPS_MAX {
            match self.stages_next(pages, &mut job) {
                Ok(Step::Plan(plan)) => {
                    self.recovery = Some(Running::Stages(job));
                    return Ok(plan);
                }
                Ok(Step::Quiet) => {}
                Ok(Step::Done(report)) if report.error_count > report.repaired_errors => {
                    let text = alloc::format!(
                        "the image was not closed, and {} errors in its tables cannot be mended: check it",
                        report.error_count - report.repaired_errors
                    );
                    return Err(Fail::new(FailKind::Corrupt, text).into());
                }
                Ok(Step::Done(_)) => return Ok(self.empty_plan()),
                Err(halt) => {
                    self.recovery = Some(Running::Stages(job));
                    return Err(halt);
                }
            }
        }
        self.recovery = Some(Running::Stages(job));
        Ok(self.empty_plan())
    }

    fn empty_plan(&mut self) -> Plan {
        self.tokens += 1;
        Plan { token: self.tokens, ..Plan::default() }
    }

    /// A bit of the first stage that is left.
    fn stages_next(&mut self, pages: &mut dyn Pages, job: &mut job::Job) -> Outcome<Step> {
        if self.state.is_none() {
            // A check of an image that could not be opened for writing.
            let request = OpenRequest { mode: Mode::ReadOnly, files: 1 };
            self.state = Some(crate::open::open(pages, &request)?.0);
        }
        match job.stages.front_mut() {
            None => Ok(Step::Done(core::mem::take(&mut job.report))),
            Some(Stage::Check(check)) => {
                let step = self.check_next(pages, check)?;
                if check.is_done() {
                    job.report = core::mem::take(&mut check.report);
                    job.report.details = self.state.as_ref().map(details).unwrap_or_default();
                    job.advance(&Done::All);
                }
                Ok(step)
            }
            Some(stage) => {
                let (stage, index) = (stage.clone(), job.index);
                let mut done = Done::All;
                let plan = self.planned(pages, |draft, state| {
                    done = job::step(draft, &state.header, &stage, index)?;
                    Ok(())
                })?;
                job.advance(&done);
                Ok(if is_empty(&plan) { Step::Quiet } else { Step::Plan(plan) })
            }
        }
    }

    /// A bit of a check. It has a memory of space of its own: where counts are wrong, only what is behind the file's end is free.
    fn check_next(&mut self, pages: &mut dyn Pages, check: &mut Check) -> Outcome<Step> {
        let token = self.tokens + 1;
        let state = self.state()?;
        let end = state.header.layout.clusters_of(pages.file_length(FileId::MAIN));
        let space = Space::behind(end);
        let mut draft = Draft::new(pages, state.header.layout, &space);
        if !check.step(&mut draft, &state.header)? {
            return Ok(Step::Quiet);
        }
        let (plan, commit) = draft.finish(token, self.patches)?;
        self.commit(token, &Commit { freed: Vec::new(), ..commit });
        Ok(Step::Plan(plan))
    }
}

fn is_empty(plan: &Plan) -> bool {
    plan.now.is_empty() && plan.meta.is_empty() && plan.free.is_empty()
}

fn create_step(created: &Created, token: u64) -> Result<Plan, Fail> {
    create::plan(created, token)
}

fn progress(job: &job::Job) -> (u64, u64) {
    match job.stages.front() {
        Some(Stage::Check(check)) => {
            let (done, total) = check.progress();
            (done.min(total), total)
        }
        _ => job.progress(),
    }
}

fn resize_stages(state: &State, size: u64, shrink: bool) -> Result<Vec<Stage>, Fail> {
    let layout = &state.header.layout;
    check_size(size)?;
    if crate::bitmaps::count(&state.header) > 0 {
        return Err(Fail::new(
            FailKind::Unsupported,
            "the image has bitmaps of changed blocks: remove them first",
        ));
    }
    if layout.version < 3 && layout.snapshots > 0 {
        let text = "version 2 does not record the size of a snapshot's disk: delete the snapshots first";
        return Err(Fail::new(FailKind::Unsupported, text));
    }
    if size >= layout.size {
        return job::grow_stages(layout, size);
    }
    if !shrink {
        let text =
            alloc::format!("the disk has {} bytes; making it smaller gives up what lies behind", layout.size);
        return Err(invalid(text));
    }
    Ok(job::shrink_stages(layout, size))
}

/// More about an image, for people.
fn details(state: &State) -> Vec<(String, String)> {
    let layout = &state.header.layout;
    let on = |on: bool| String::from(if on { "on" } else { "off" });
    let mut details = alloc::vec![
        (String::from("compat"), String::from(if layout.version >= 3 { "1.1" } else { "0.10" })),
        (String::from("cluster_size"), alloc::format!("{}", layout.cluster())),
        (String::from("refcount_bits"), alloc::format!("{}", 1_u32 << layout.refcount_order)),
        (String::from("lazy_refcounts"), on(layout.compatible & LAZY_REFCOUNTS != 0)),
        (String::from("extended_l2"), on(layout.extended())),
        (
            String::from("compression_type"),
            String::from(match layout.codec {
                stampede_plugin::Codec::Deflate => "zlib",
                stampede_plugin::Codec::Zstd => "zstd",
            }),
        ),
        (String::from("bitmaps"), alloc::format!("{}", crate::bitmaps::count(&state.header))),
    ];
    if let Some(name) = &state.header.data_file {
        details.push((String::from("data_file"), name.clone()));
        details.push((String::from("data_file_raw"), on(layout.data_file_raw())));
    }
    details
}
