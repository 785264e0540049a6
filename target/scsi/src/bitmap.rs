//! Bitmaps on a unit and their generations: what ORWRITE does (SBC-4 4.27).
//!
//! ```text
//!  ORWRITE(16), ORWRITE(32) with BMOP 000b: OR data-out into the blocks, if the generation that the command expects is
//!      the current one; of the previous one, or of any other, the policy says whether it is done, dropped or refused
//!  ORWRITE(32) with BMOP 001b: AND data-out into the blocks; the current generation becomes the previous one, and the
//!      CDB says the new one and the policy
//! ```
//!
//! A change of generation is one sequence that nothing may interrupt: while its blocks are read and written, all other
//! ORWRITE commands get BUSY. Range locks keep the order of what came before it.

use crate::block::NOTHING;
use crate::cdb;
use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::{Media, Reply, Status, Step};

/// What a change of generation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation {
    /// NEW ORWGENERATION.
    pub(crate) new: u32,
    /// PREVIOUS GENERATION PROCESSING.
    pub(crate) policy: Policy,
}

/// ORWRITE processing policy (SBC-4 table 29).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Policy {
    /// 0h: the previous generation is as good as the current one; any other is refused.
    TakesPrevious,
    /// 2h: commands of the previous generation are dropped; those of any other are refused.
    DropsPrevious,
    /// 3h: all are done.
    TakesAll,
    /// 5h: commands of any other generation are dropped.
    DropsOthers,
    /// 7h: commands of any other generation are refused.
    #[default]
    RefusesOthers,
}

/// What becomes of a set operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// Its data is dropped, and it is told that all is well.
    Dropped,
    Refused,
}

impl Policy {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            0x0 => Self::TakesPrevious,
            0x2 => Self::DropsPrevious,
            0x3 => Self::TakesAll,
            0x5 => Self::DropsOthers,
            0x7 => Self::RefusesOthers,
            _ => return None,
        })
    }

    /// Of a command that expects the previous generation, or another one that is not the current one.
    fn fate(self, previous: bool) -> Fate {
        match (self, previous) {
            (Self::TakesAll, _) | (Self::TakesPrevious, true) => Fate::Done,
            (Self::DropsOthers, _) | (Self::DropsPrevious, true) => Fate::Dropped,
            (Self::TakesPrevious | Self::DropsPrevious | Self::RefusesOthers, _) => Fate::Refused,
        }
    }
}

/// The generations of a unit's bitmaps: zeros after power on and hard reset (SBC-4 4.27.3).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Generations {
    current: u32,
    previous: u32,
    policy: Policy,
    /// A change is under way.
    changing: bool,
}

impl Generations {
    fn fate(&self, expected: u32) -> Fate {
        if expected == self.current { Fate::Done } else { self.policy.fate(expected == self.previous) }
    }

    fn change(&mut self, then: Generation) {
        (self.previous, self.current, self.policy) = (self.current, then.new, then.policy);
    }

    /// A hard reset. What is under way ends as it ends.
    pub(crate) fn reset(&mut self) {
        *self = Self { changing: self.changing, ..Self::default() };
    }
}

impl Device {
    /// Work on the medium that the unit gave out begins: if it changes the generation, ORWRITE commands get BUSY until
    /// [`Device::generation_ended`].
    pub fn generation_begins(&mut self, media: &Media) {
        self.generations.changing |= matches!(media, Media::AndWrite { .. });
    }

    /// Work that changes the generation has ended: `done` if all of it was written.
    pub fn generation_ended(&mut self, media: &Media, done: bool) {
        let Media::AndWrite { then, .. } = media else { return };
        if std::mem::take(&mut self.generations.changing) && done {
            self.generations.change(*then);
        }
    }

    /// A set operation: the blocks are OR-ed, as far as there is data for them.
    fn set_bits(&self, request: &Request<'_>, expected: u32, fua: bool) -> Result<Step, Sense> {
        let range = request.limited_range(self)?;
        Ok(match self.generations.fate(expected) {
            _ if self.generations.changing => busy(),
            Fate::Refused => return Err(sense::GENERATION_MISMATCH),
            Fate::Dropped => NOTHING,
            Fate::Done => {
                let range = request.on_hand(range, self);
                range.map_or(NOTHING, |range| Step::Media(Media::OrWrite { range, fua }))
            }
        })
    }

    /// A change generation and clear operation.
    fn change_generation(
        &mut self,
        request: &Request<'_>,
        (expected, then): (u32, Generation),
        fua: bool,
    ) -> Result<Step, Sense> {
        let range = request.limited_range(self)?;
        let blocks = range.map_or(0, |range| range.count);
        request.exactly(u64::from(blocks) * u64::from(self.config.block_size))?;
        if self.generations.changing {
            return Ok(busy());
        }
        if expected != self.generations.current {
            return Err(sense::GENERATION_MISMATCH);
        }
        Ok(match range {
            Some(range) => Step::Media(Media::AndWrite { range, fua, then }),
            // No blocks, which is no error: there is nothing to wait for.
            None => {
                self.generations.change(then);
                NOTHING
            }
        })
    }
}

const fn busy() -> Step {
    Step::Done(Reply::status(Status::Busy))
}

/// ORWRITE(16) (SBC-4 5.10): it expects generation 0.
pub(crate) fn orwrite_16(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    request.check_protection()?;
    let fua = request.fua() || !device.mode.write_cache();
    device.set_bits(request, 0, fua)
}

/// ORWRITE(32) (SBC-4 5.11). Its generations are in place of a parameter list.
pub(crate) fn orwrite_32(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let flags = request.command.flags(request.cdb);
    if flags & 0xE0 != 0 {
        return Err(Sense::invalid_cdb(10, Some(7)));
    }
    let fua = flags & 0x08 != 0 || !device.mode.write_cache();
    let generations = request.param.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let (expected, new) = ((generations >> 32) as u32, generations as u32);
    match cdb::bitmap_fields(request.cdb) {
        (0, _) => device.set_bits(request, expected, fua),
        (1, policy) => {
            let policy = Policy::of(policy).ok_or(Sense::invalid_cdb(3, Some(3)))?;
            device.change_generation(request, (expected, Generation { new, policy }), fua)
        }
        _ => Err(Sense::invalid_cdb(2, Some(2))),
    }
}
