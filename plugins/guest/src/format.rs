//! The exports of the world `format`, over a [`Format`].

use alloc::vec::Vec;

use super::{
    Instance,
    format_world::{
        exports::stampede::format::image::Guest,
        stampede::format::{pages, types as wit},
    },
};
use stampede_plugin::{FileId, Format, Pages, Range, Span, convert::Convert};

stampede_plugin::convert_format!(wit);

/// A format that is to be a component.
pub trait FormatGuest {
    /// The format.
    type Format: Format + Default + 'static;

    /// Where the component's one image is.
    fn instance() -> &'static Instance<Self::Format>;
}

/// The host's pages.
struct HostPages;

impl Pages for HostPages {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        pages::read(span.convert())
    }

    fn file_length(&self, file: FileId) -> u64 {
        pages::file_length(file.0)
    }
}

impl<G: FormatGuest> Guest for G {
    fn describe() -> wit::Description {
        G::instance().with(|format| format.describe().convert())
    }

    fn probe(head: Vec<u8>, tail: Vec<u8>, length: u64) -> wit::Confidence {
        G::instance().with(|format| format.probe(&head, &tail, length).convert())
    }

    fn open(request: wit::OpenRequest) -> Result<wit::Opened, wit::Halt> {
        G::instance().with(|format| format.open(&mut HostPages, &request.convert()).convert())
    }

    fn recover() -> Result<wit::Plan, wit::Halt> {
        G::instance().with(|format| format.recover(&mut HostPages).convert())
    }

    fn resolve(
        view: wit::View,
        range: wit::GuestRange,
        extents_max: u32,
    ) -> Result<Vec<wit::Extent>, wit::Halt> {
        let (view, range) = (view.convert(), range.convert());
        G::instance().with(|format| format.resolve(&mut HostPages, view, range, extents_max).convert())
    }

    fn plan_write(ranges: Vec<wit::GuestRange>, change: wit::Change) -> Result<wit::Plan, wit::Halt> {
        let ranges: Vec<Range> = ranges.convert();
        G::instance().with(|format| format.plan_write(&mut HostPages, &ranges, change.convert()).convert())
    }

    fn done(token: wit::Token) {
        G::instance().with(|format| format.done(token));
    }

    fn released(token: wit::Token) {
        G::instance().with(|format| format.released(token));
    }

    fn job_start(job: wit::Job) -> Result<(), wit::Fail> {
        G::instance().with(|format| format.job_start(job.convert()).convert())
    }

    fn job_step() -> Result<wit::JobAnswer, wit::Halt> {
        G::instance().with(|format| format.job_step(&mut HostPages).convert())
    }
}
