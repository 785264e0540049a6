//! Mode parameters: MODE SENSE and MODE SELECT (SPC-4 6.9 to 6.12 and 7.5, SBC-3 6.4).

mod pages;
mod saved;
mod select;
mod sense;
mod state;

pub(crate) use saved::SavedPages;
pub(crate) use select::{select6, select10};
pub(crate) use sense::{sense6, sense10};
pub(crate) use state::ModeState;

/// Which of the two forms of a mode command: they differ in their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Six,
    Ten,
}

impl Form {
    /// Bytes of the mode parameter header (SPC-4 7.5.5).
    const fn header(self) -> usize {
        match self {
            Self::Six => 4,
            Self::Ten => 8,
        }
    }
}
