//! A format under the judge's eyes.

use alloc::{format, string::String, vec::Vec};

use super::{Bounds, Judge, Purpose, Verdict};
use crate::{
    Change, Confidence, Description, Extent, Fail, FailKind, FileId, Format, Halt, Job, JobStep, OpenRequest,
    Opened, Outcome, Pages, Plan, Range, Token, View,
};

/// A [`Format`] whose answers are judged by the host's rules before anybody acts on them.
///
/// An answer that breaks a rule becomes a failure of the kind [`FailKind::Broken`], which names the image, the call and the rule; from then on
/// every call gives it again. So whoever carries plans out may rely on them: what they name is inside the files, and guest data is off metadata.
pub struct Checked<F> {
    format: F,
    judge: Judge,
    /// Who it is, for messages: `plugin qcow2, image /srv/a.qcow2`.
    name: String,
    broken: Option<Fail>,
}

impl<F: Format> Checked<F> {
    /// A fresh instance, under these bounds; `name` is what messages call it.
    pub fn new(format: F, name: impl Into<String>, bounds: Bounds) -> Self {
        Self { format, judge: Judge::new(bounds), name: name.into(), broken: None }
    }

    /// How many files the image has that is about to be made: [`Job::Create`] has no `open` before it that would say so.
    #[must_use]
    pub fn with_files(mut self, files: u16) -> Self {
        self.judge = self.judge.with_files(files);
        self
    }

    /// The failure that ended this instance.
    pub fn broken(&self) -> Option<&Fail> {
        self.broken.as_ref()
    }

    /// The format.
    pub fn format(&self) -> &F {
        &self.format
    }

    fn usable(&self) -> Result<(), Fail> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// A broken rule ends the instance.
    fn verdict(&mut self, call: &str, verdict: Verdict) -> Result<(), Fail> {
        let Err(rule) = verdict else { return Ok(()) };
        let text = format!("{}: {call} broke a rule: {rule}", self.name);
        let fail = Fail::new(FailKind::Broken, text);
        self.broken = Some(fail.clone());
        Err(fail)
    }

    /// What a call that did not answer says: that pages are needed, which is judged, or a failure, which says whose it is.
    fn halted(&mut self, call: &str, halt: Halt, pages: &mut dyn Pages) -> Halt {
        match halt {
            Halt::Need(spans) => {
                let verdict = self.judge.need(pages, &spans);
                self.verdict(call, verdict).map_or_else(Halt::Fail, |()| Halt::Need(spans))
            }
            Halt::Fail(fail) => {
                self.judge.answered();
                self.failed(&fail);
                Halt::Fail(fail)
            }
        }
    }

    /// What the sandbox says of its guest ends the instance too.
    fn failed(&mut self, fail: &Fail) {
        if fail.kind == FailKind::Broken {
            self.broken = Some(fail.clone());
        }
    }

    /// Makes a call, and judges its answer.
    fn ask<T>(
        &mut self,
        call: &str,
        pages: &mut dyn Pages,
        ask: impl FnOnce(&mut F, &mut dyn Pages) -> Outcome<T>,
        judge: impl FnOnce(&mut Judge, &T, &dyn Fn(FileId) -> u64) -> Verdict,
    ) -> Outcome<T> {
        self.usable()?;
        match ask(&mut self.format, pages) {
            Ok(answer) => {
                self.judge.answered();
                let verdict = judge(&mut self.judge, &answer, &|file| pages.file_length(file));
                self.verdict(call, verdict)?;
                Ok(answer)
            }
            Err(halt) => Err(self.halted(call, halt, pages)),
        }
    }
}

impl<F: Format> Format for Checked<F> {
    fn describe(&self) -> Description {
        self.format.describe()
    }

    fn probe(&self, head: &[u8], tail: &[u8], length: u64) -> Confidence {
        self.format.probe(head, tail, length)
    }

    fn open(&mut self, pages: &mut dyn Pages, request: &OpenRequest) -> Outcome<Opened> {
        self.judge.opening(request);
        self.ask("open", pages, |format, pages| format.open(pages, request), Judge::opened)
    }

    fn recover(&mut self, pages: &mut dyn Pages) -> Outcome<Plan> {
        self.ask("recover", pages, Format::recover, |judge, plan, lengths| {
            judge.plan(plan, Purpose::Upkeep, lengths)
        })
    }

    fn resolve(
        &mut self,
        pages: &mut dyn Pages,
        view: View,
        range: Range,
        extents_max: u32,
    ) -> Outcome<Vec<Extent>> {
        self.ask(
            "resolve",
            pages,
            |format, pages| format.resolve(pages, view, range, extents_max),
            |judge, extents, lengths| judge.resolved(extents, (view, range), extents_max, lengths),
        )
    }

    fn plan_write(&mut self, pages: &mut dyn Pages, ranges: &[Range], change: Change) -> Outcome<Plan> {
        self.ask(
            "plan-write",
            pages,
            |format, pages| format.plan_write(pages, ranges, change),
            |judge, plan, lengths| judge.plan(plan, Purpose::Change(ranges, change), lengths),
        )
    }

    fn done(&mut self, token: Token) {
        if self.broken.is_none() {
            self.format.done(token);
        }
    }

    fn released(&mut self, token: Token) {
        if self.broken.is_none() {
            self.judge.released(token);
            self.format.released(token);
        }
    }

    fn job_start(&mut self, job: Job) -> Result<(), Fail> {
        self.usable()?;
        let begun = self.format.job_start(job);
        if let Err(fail) = &begun {
            self.failed(fail);
        }
        begun
    }

    fn job_step(&mut self, pages: &mut dyn Pages) -> Outcome<JobStep> {
        self.ask("job-step", pages, Format::job_step, |judge, step, lengths| match step {
            JobStep::Plan(plan) => judge.plan(plan, Purpose::Upkeep, lengths),
            JobStep::Progress { done, total } if done > total => Err(format!("it did {done} of {total}")),
            JobStep::Progress { .. } => Ok(()),
            JobStep::Done(report) => judge.report(report),
        })
    }
}
