//! Finding the units that CSCD descriptors name, among those that the nexus sees: this one by its own identification,
//! others by asking each for VPD page 83h, and what is found for its capacity.

use super::copier::{Answered, Ask};
use super::target::{Designator, Target, identification_page};
use crate::cdb::{be32, be64};
use crate::inquiry::device_identification;
use crate::{Device, Status};

/// A unit that takes part in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// 0 for the unit that got the command, else its number among the others that the nexus sees.
    pub(super) unit: u16,
    /// Logical blocks that it has.
    pub(super) blocks: u64,
    /// Their length in bytes.
    pub(super) block_size: u32,
}

impl Place {
    /// The unit that got the command.
    pub(super) fn own(device: &Device) -> Self {
        Self { unit: 0, blocks: device.config().blocks, block_size: device.config().block_size }
    }
}

/// What was asked last.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Nothing,
    Identification,
    Capacity,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Resolver {
    wanted: Vec<Option<Designator>>,
    /// Of each target, where it is.
    found: Vec<Option<Place>>,
    unit: u16,
    others: u16,
    asked: Asked,
}

impl Resolver {
    /// Begins; `others` units are there to be asked.
    pub(super) fn new(targets: &[Target], device: &Device, others: u16) -> Self {
        let page = device_identification(device.config());
        let own = Place::own(device);
        let is_own = |target: &Target| target.designator.as_ref().is_some_and(|name| name.is_in(&page));
        Self {
            found: targets.iter().map(|target| is_own(target).then_some(own)).collect(),
            wanted: targets.iter().map(|target| target.designator.clone()).collect(),
            unit: 0,
            others,
            asked: Asked::Nothing,
        }
    }

    /// Where a target is, once all have been looked for.
    pub(super) fn place(&self, target: usize) -> Option<Place> {
        self.found.get(target).copied().flatten()
    }

    /// Goes on with the answer to what was asked last; `None` when there is nothing left to ask.
    pub(super) fn next(&mut self, answer: Option<&Answered<'_>>) -> Option<Ask> {
        let reply = answer.filter(|answer| answer.status == Some(Status::Good)).map(|answer| answer.data);
        match (self.asked, reply) {
            (Asked::Identification, Some(reply)) if self.matches(identification_page(reply)) => {
                self.asked = Asked::Capacity;
                return Some(Ask::of(self.unit, read_capacity()));
            }
            (Asked::Capacity, Some(reply)) if reply.len() >= 12 => {
                let place = Place {
                    unit: self.unit,
                    blocks: be64(reply, 0).saturating_add(1),
                    block_size: be32(reply, 8).max(1),
                };
                let is_here = |found: &&mut Option<Place>| found.is_some_and(|it| it.unit == place.unit);
                self.found.iter_mut().filter(is_here).for_each(|found| *found = Some(place));
            }
            (Asked::Capacity, _) => {
                let unit = self.unit;
                self.found.iter_mut().for_each(|found| {
                    found.take_if(|it| it.unit == unit);
                });
            }
            _ => {}
        }
        let missing =
            self.wanted.iter().zip(&self.found).any(|(want, found)| want.is_some() && found.is_none());
        if !missing || self.unit == self.others {
            return None;
        }
        self.unit += 1;
        self.asked = Asked::Identification;
        Some(Ask::of(self.unit, inquiry()))
    }

    /// Notes which targets the page names; whether any.
    fn matches(&mut self, page: &[u8]) -> bool {
        let mut any = false;
        for (want, found) in self.wanted.iter().zip(&mut self.found) {
            if found.is_none() && want.as_ref().is_some_and(|want| want.is_in(page)) {
                *found = Some(Place { unit: self.unit, blocks: 0, block_size: 1 });
                any = true;
            }
        }
        any
    }
}

/// INQUIRY for VPD page 83h.
fn inquiry() -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..6].copy_from_slice(&[0x12, 0x01, 0x83, 0x10, 0x00, 0]);
    cdb
}

/// READ CAPACITY(16).
fn read_capacity() -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9E, 0x10, 32);
    cdb
}
