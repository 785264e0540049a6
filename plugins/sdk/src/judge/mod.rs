//! The host's rules: what a plugin may ask for and answer. One judge for the host, for the model host of the tests, and for
//! `stampede plugin check`.
//!
//! A rule is broken by the plugin, never by an image: a plugin that answers by these rules whatever the image holds is what keeps a hostile
//! image from harming more than itself. [`Checked`] puts the judge around a [`Format`](crate::Format).

mod bounds;
mod checked;
mod extents;
mod plan;
mod ranges;

use alloc::{format, string::String, vec::Vec};

pub use bounds::Bounds;
pub use checked::Checked;
use ranges::Ranges;

use crate::{
    Change, Description, FileId, Free, Mode, OpenRequest, Opened, Pages, Range, Report, Span, Token,
};

/// The rule that was broken, in words.
pub type Verdict = Result<(), String>;

/// What a plan is for: decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A guest's change of these ranges.
    Change(&'a [Range], Change),
    /// A recovery, or a step of a job.
    Upkeep,
}

/// What is known of an image, to judge its plugin's answers by.
#[derive(Debug, Clone)]
pub struct Judge {
    bounds: Bounds,
    mode: Mode,
    files: u16,
    /// The guest's disk; 0 before it is known.
    virtual_size: u64,
    metadata: Ranges,
    /// What plans gave up and was not released yet.
    freed: Vec<(Token, Vec<Free>)>,
    rounds: u32,
    round_bytes: u64,
}

impl Judge {
    /// A judge of a fresh instance, with one file.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            mode: Mode::ReadOnly,
            files: 1,
            virtual_size: 0,
            metadata: Ranges::default(),
            freed: Vec::new(),
            rounds: 0,
            round_bytes: 0,
        }
    }

    /// The same, of an image with so many files: one that is about to be made has no `open` that would say so.
    #[must_use]
    pub fn with_files(mut self, files: u16) -> Self {
        self.files = files;
        self
    }

    /// The bounds.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// A call begins, or is made again: how the image is opened decides what is judged.
    pub fn opening(&mut self, request: &OpenRequest) {
        self.mode = request.mode;
        self.files = request.files;
    }

    /// A call has answered something else than that it needs pages.
    pub fn answered(&mut self) {
        (self.rounds, self.round_bytes) = (0, 0);
    }

    /// Judges what a call says it needs.
    ///
    /// # Errors
    /// When it asks too often, for too much, for what is no part of a file, or only for what it has.
    pub fn need(&mut self, pages: &mut dyn Pages, spans: &[Span]) -> Verdict {
        if spans.is_empty() || spans.len() > Span::COUNT_MAX {
            return Err(format!(
                "it needs {} spans at once; 1 to {} may be asked for",
                spans.len(),
                Span::COUNT_MAX
            ));
        }
        let mut news = false;
        for &span in spans {
            let inside = within(span.offset, u64::from(span.length), pages.file_length(span.file));
            if span.length == 0 || span.length > Span::LENGTH_MAX || !inside {
                return Err(format!("it needs {span:?}, which is empty, too long or outside its file"));
            }
            news |= pages.read(span).is_none();
            self.round_bytes = self.round_bytes.saturating_add(u64::from(span.length));
        }
        self.rounds += 1;
        if !news {
            return Err(String::from("it needs pages that it was given"));
        }
        if self.rounds > self.bounds.need_rounds_max {
            return Err(format!("it asked for pages {} times in a row", self.rounds));
        }
        if self.round_bytes > self.bounds.need_bytes_max {
            return Err(format!("it needs {} bytes of pages for one call", self.round_bytes));
        }
        Ok(())
    }

    /// Judges what opening said, and remembers it.
    ///
    /// # Errors
    /// When the sizes are none that a disk can have, or something is outside its file.
    pub fn opened(&mut self, opened: &Opened, lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        let Opened { virtual_size, block_size, allocation_unit, unmap_unit, .. } = *opened;
        let sizes = format!(
            "virtual_size {virtual_size}, block_size {block_size}, allocation_unit {allocation_unit}, unmap_unit {unmap_unit}"
        );
        let disk = virtual_size != 0
            && virtual_size.is_multiple_of(512)
            && virtual_size <= self.bounds.virtual_size_max;
        let units = matches!(block_size, 512 | 4096)
            && allocation_unit.is_power_of_two()
            && allocation_unit >= 512
            && unmap_unit.is_multiple_of(512);
        if !disk || !units {
            return Err(format!("no disk has these sizes: {sizes}"));
        }
        if opened.files.len() >= usize::from(self.bounds.files_max) {
            return Err(format!(
                "the image has {} more files; {} may be",
                opened.files.len(),
                self.bounds.files_max
            ));
        }
        self.count("metadata ranges", opened.metadata.len(), self.bounds.metadata_ranges_max)?;
        self.texts(opened.files.iter().map(|file| file.name.as_str()))?;
        self.texts(opened.warnings.iter().map(String::as_str))?;
        let hints = opened.parent.iter().flat_map(|parent| &parent.hints);
        self.texts(hints.flat_map(|hint| [hint.kind.as_str(), hint.name.as_str()]))?;
        self.metadata = Ranges::default();
        self.virtual_size = virtual_size;
        for range in &opened.metadata {
            // A file that is not open yet has no length, and its metadata is judged when it is.
            if range.file.0 >= self.files
                && range.file.0 <= u16::try_from(opened.files.len()).unwrap_or(u16::MAX)
            {
                continue;
            }
            if range.file.0 >= self.files || !within(range.offset, range.length, lengths(range.file)) {
                return Err(format!("{range:?} is outside its file"));
            }
            self.metadata.insert(range.file.0, range.offset, range.offset + range.length);
        }
        Ok(())
    }

    /// Judges what a plugin says of itself.
    ///
    /// # Errors
    /// When a name is empty or has characters that a configuration could not say, or a text is too long.
    pub fn description(&self, description: &Description) -> Verdict {
        let word = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        };
        if !word(&description.name) {
            return Err(format!("its name is {:?}: a name has a-z, 0-9, - and _", description.name));
        }
        if let Some(bad) = description.extensions.iter().find(|text| !word(text)) {
            return Err(format!("it names the extension {bad:?}"));
        }
        if let Some(bad) = description.options.iter().find(|option| !word(&option.name)) {
            return Err(format!("it has an option {:?}", bad.name));
        }
        self.texts([description.version.as_str()])?;
        self.texts(
            description.options.iter().flat_map(|option| [option.help.as_str(), option.default.as_str()]),
        )
    }

    /// Judges what a job reports.
    ///
    /// # Errors
    /// When it lists too much.
    pub fn report(&self, report: &Report) -> Verdict {
        self.count("snapshots", report.snapshots.len(), self.bounds.texts_max)?;
        self.texts(report.errors.iter().map(String::as_str))?;
        self.texts(
            report.snapshots.iter().flat_map(|snapshot| [snapshot.id.as_str(), snapshot.name.as_str()]),
        )?;
        self.texts(report.details.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))
    }

    /// Judges a write that the host makes without a plan, where an extent allows it.
    ///
    /// # Errors
    /// When it is not inside its file, or over metadata.
    pub fn guest_data(&self, span: (FileId, u64, u64), lengths: &dyn Fn(FileId) -> u64) -> Verdict {
        let (file, offset, length) = span;
        self.in_file("guest data", file, offset, length, lengths)?;
        self.off_metadata("guest data", file, offset, length)
    }

    /// What a plan gave up may be used again: it is no metadata any more.
    pub fn released(&mut self, token: Token) {
        let (released, later) =
            core::mem::take(&mut self.freed).into_iter().partition(|(of, _)| *of == token);
        self.freed = later;
        for (_, frees) in released {
            for Free { file, offset, length, .. } in frees {
                self.metadata.remove(file.0, offset, offset.saturating_add(length));
            }
        }
    }

    /// Refuses more than `most` of something.
    fn count(&self, what: &str, count: usize, most: u32) -> Verdict {
        if count <= most as usize { Ok(()) } else { Err(format!("{count} {what}; {most} may be")) }
    }

    fn texts<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> Verdict {
        let mut count = 0;
        for text in texts {
            count += 1;
            if text.len() > self.bounds.text_bytes_max as usize {
                return Err(format!("a text of {} bytes; {} may be", text.len(), self.bounds.text_bytes_max));
            }
        }
        self.count("texts", count, self.bounds.texts_max)
    }

    /// Refuses guest data over metadata.
    fn off_metadata(&self, what: &str, file: FileId, offset: u64, length: u64) -> Verdict {
        match self.metadata.touching(file.0, offset, offset.saturating_add(length)) {
            None => Ok(()),
            Some((start, end)) => {
                Err(format!("{what} at byte {offset} of file {} is over metadata ({start} to {end})", file.0))
            }
        }
    }
}

/// Whether `length` bytes from `offset` on are inside a file of `whole` bytes.
fn within(offset: u64, length: u64, whole: u64) -> bool {
    offset.checked_add(length).is_some_and(|end| end <= whole)
}

#[cfg(test)]
mod tests;
