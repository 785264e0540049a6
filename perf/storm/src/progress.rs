//! The progress bar, on a terminal and unless `--quiet`.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stampede_report::human;
use std::time::Duration;

/// A bar over the whole run, and one for machines.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar, Option<ProgressBar>);

impl Progress {
    /// `length` is seconds times 10, or operations; a bar without one only shows what is done. With `machines` there is a
    /// second bar for as many.
    pub(crate) fn new(quiet: bool, length: Option<u64>, machines: Option<u64>) -> Self {
        if quiet {
            return Self(ProgressBar::hidden(), None);
        }
        let (bar, form) = match length {
            Some(length) => (ProgressBar::new(length), "{prefix:>9} [{bar:40}] {msg}"),
            None => (ProgressBar::new_spinner(), "{prefix:>9} {spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        let Some(machines) = machines else { return Self(bar, None) };
        let bars = MultiProgress::new();
        let (bar, second) = (bars.add(bar), bars.add(ProgressBar::new(machines)));
        let style = ProgressStyle::with_template("{prefix:>9} [{bar:40}] {msg}");
        second.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        second.set_prefix("machines");
        Self(bar, Some(second))
    }

    /// What is going on.
    pub(crate) fn phase(&self, name: &str) {
        self.0.set_prefix(name.to_owned());
    }

    /// How far it is, and how fast.
    pub(crate) fn show(&self, position: u64, operations: f64, bytes: f64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 {
            let (iops, rate) = (human::count(operations / seconds), human::bytes(bytes / seconds));
            self.0.set_message(format!("{iops} op/s, {rate}/s"));
        }
        self.0.set_position(position);
    }

    /// How many machines are up, and how many have come to their end.
    pub(crate) fn machines(&self, up: u64, over: u64) {
        if let Some(bar) = &self.1 {
            bar.set_position(over);
            bar.set_message(format!("{up} up, {over} of {} done", bar.length().unwrap_or(0)));
        }
    }

    /// A count of something, such as sessions.
    pub(crate) fn count(&self, text: String) {
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        if let Some(bar) = &self.1 {
            bar.finish_and_clear();
        }
    }
}
