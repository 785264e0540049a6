//! What a power cut may leave.
//!
//! Everything before the last barrier is there. Of what was done since, any part may be: the writes that the disk had taken, in any
//! choice, torn at multiples of 512 bytes. All choices are looked at when they are few; else all beginnings, each alone, all but
//! each, and some drawn by a seed, whole and torn.

use std::{vec, vec::Vec};

use super::disk::{Disk, Event, apply};

/// Up to so many events in a window all choices are looked at.
const EXHAUSTIVE_MAX: usize = 8;
/// So many choices are drawn for a longer one, and so many torn ones for each.
const DRAWN: usize = 24;
const SECTOR: usize = 512;

/// A state of the files that a power cut may leave.
#[derive(Debug, Clone)]
pub struct CrashState {
    /// The files.
    pub files: Vec<Vec<u8>>,
    /// The last mark before the last barrier: what it stands for is durable. `None` when there was none.
    pub durable: Option<u64>,
    /// The last mark before the cut: what it stands for was begun.
    pub begun: Option<u64>,
    /// Which state it is, in words.
    pub name: std::string::String,
}

/// What was done between two barriers.
struct Window<'a> {
    events: Vec<&'a Event>,
    durable: Option<u64>,
    begun: Option<u64>,
}

impl Disk {
    /// Every state that a power cut may leave, each given to `look`, up to `look`'s first error. `seed` draws where there are too many.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn crash_states<E>(
        &self,
        seed: u64,
        mut look: impl FnMut(CrashState) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut draw = Draw(seed | 1);
        let mut files = self.base().to_vec();
        let mut count = 0;
        for (number, window) in windows(self.log()).into_iter().enumerate() {
            for choice in choices(&window.events, &mut draw) {
                let mut state = files.clone();
                for (event, &how) in window.events.iter().zip(&choice) {
                    match how {
                        Part::None => {}
                        Part::All => apply(&mut state, event),
                        Part::Torn(seed) => apply_torn(&mut state, event, seed),
                    }
                }
                let name = std::format!("window {number}, {choice:?} of {} events", window.events.len());
                look(CrashState { files: state, durable: window.durable, begun: window.begun, name })?;
                count += 1;
            }
            for event in &window.events {
                apply(&mut files, event);
            }
        }
        Ok(count)
    }
}

/// How much of an event is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    All,
    Torn(u64),
}

fn windows(log: &[Event]) -> Vec<Window<'_>> {
    let mut windows = Vec::new();
    let (mut durable, mut begun) = (None, None);
    let mut events = Vec::new();
    for event in log {
        match event {
            Event::Mark(mark) => begun = Some(*mark),
            Event::Barrier => {
                windows.push(Window { events: core::mem::take(&mut events), durable, begun });
                durable = begun;
            }
            event => events.push(event),
        }
    }
    windows.push(Window { events, durable, begun });
    windows
}

fn choices(events: &[&Event], draw: &mut Draw) -> Vec<Vec<Part>> {
    let count = events.len();
    let of = |chosen: &dyn Fn(usize) -> bool| -> Vec<Part> {
        (0..count).map(|index| if chosen(index) { Part::All } else { Part::None }).collect()
    };
    let mut choices = vec![];
    if count <= EXHAUSTIVE_MAX {
        choices.extend((0..1_usize << count).map(|bits| of(&|index| bits >> index & 1 == 1)));
    } else {
        choices.extend((0..=count).map(|end| of(&|index| index < end)));
        choices.extend((0..count).map(|one| of(&|index| index == one)));
        choices.extend((0..count).map(|one| of(&|index| index != one)));
        choices.extend((0..DRAWN).map(|_| (0..count).map(|_| draw.part(false)).collect::<Vec<_>>()));
    }
    if count > 0 {
        choices.extend((0..DRAWN).map(|_| (0..count).map(|_| draw.part(true)).collect::<Vec<_>>()));
    }
    choices
}

/// Some of a write's sectors.
fn apply_torn(files: &mut [Vec<u8>], event: &Event, seed: u64) {
    let Event::Write { file, offset, bytes } = event else { return apply(files, event) };
    let mut draw = Draw(seed | 1);
    let mut done = 0;
    while done < bytes.len() {
        let at = *offset + done as u64;
        let sector_rest = SECTOR - usize::try_from(at % SECTOR as u64).unwrap_or(0);
        let end = (done + sector_rest).min(bytes.len());
        if draw.next().is_multiple_of(2) {
            apply(files, &Event::Write { file: *file, offset: at, bytes: bytes[done..end].to_vec() });
        }
        done = end;
    }
}

/// Numbers drawn by a seed (xorshift64*).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    fn part(&mut self, torn: bool) -> Part {
        match self.next() % 4 {
            0 | 1 => Part::All,
            2 => Part::None,
            _ if torn => Part::Torn(self.next()),
            _ => Part::None,
        }
    }
}
