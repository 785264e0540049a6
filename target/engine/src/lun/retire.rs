//! A plain unit that the operator takes away: nothing reaches it any more, what had come before ends, then its files are
//! closed.
//!
//! Commands that still come find no unit and are told so, those of third-party copies too, which end by that.

use super::{Backend, Io, Lun, Medium, Result};
use crate::messages::{ChangeRefusal, LunId, LunMap};
use crate::request::Answer;
use stampede_ring::Ring;
use stampede_scsi::NexusId;
use std::sync::Arc;

impl Backend {
    /// Takes a unit out of reach. Commands that waited in its task set find no unit either; copies that it does for
    /// initiators, which may take long, end.
    pub(super) fn retire(&mut self, lun: LunId) {
        self.found = None;
        let Some(place) = self.places.remove(&lun) else { return };
        self.retiring.push((lun, place));
        let gone = || stampede_scsi::no_such_lun(&[0; 16]).into();
        self.stop_copies(gone, |copy| copy.is_on(lun));
        let Some(unit) = self.luns.get_mut(place) else { return };
        for request in unit.tasks.abort(|_| true) {
            let outcome = stampede_scsi::no_such_lun(&request.cdb).into();
            self.results.push_back(Result::Answer(Answer { origin: request.origin, lun, outcome }));
        }
    }

    /// Whether units that were taken away still run commands.
    pub(crate) fn retires(&self) -> bool {
        !self.retiring.is_empty()
    }

    /// What a nexus of a unit sees beside it has changed.
    pub(crate) fn luns_changed(&mut self, lun: LunId, nexus: NexusId, luns: Arc<LunMap>) {
        if let Some(unit) = self.lun_mut(lun) {
            unit.device.luns_changed(nexus);
            unit.seen.insert(nexus, luns);
        }
    }

    /// A nexus of a unit was sent the list of all.
    pub(crate) fn luns_reported(&mut self, lun: LunId, nexus: NexusId) {
        if let Some(unit) = self.lun_mut(lun) {
            unit.device.luns_reported(nexus);
        }
    }

    /// Closes those whose last command has ended.
    pub(crate) fn run_retiring<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        for (lun, place) in std::mem::take(&mut self.retiring) {
            let works = self.jobs.iter().any(|(_, job)| job.unit() == place);
            let copies = self.copies.iter().any(|(_, copy)| copy.is_on(lun));
            let quiet = self.luns.get(place).is_none_or(Lun::is_quiet);
            if works || copies || !quiet {
                self.retiring.push((lun, place));
                continue;
            }
            if let Some(Lun { medium: Medium::Disk(disk), .. }) = self.luns.remove(place) {
                let ring = io.pusher.ring_mut();
                ring.drop_file(disk.file);
                if let Some(journal) = disk.journal {
                    ring.drop_file(journal.file());
                }
            }
            self.results.push_back(Result::Closed(lun));
        }
    }
}

impl Lun {
    /// Whether the operator may take the unit away now.
    pub(super) fn may_be_removed(&self, force: bool) -> std::result::Result<(), ChangeRefusal> {
        if matches!(self.medium, Medium::Clone(_)) {
            Err(ChangeRefusal::Unknown)
        } else if self.sanitizing.is_some() {
            Err(ChangeRefusal::Sanitizing)
        } else if !self.is_saved() {
            Err(ChangeRefusal::Saving)
        } else if !self.clearings.is_empty() || !self.killing.is_empty() {
            Err(ChangeRefusal::Clearing)
        } else if self.device.is_counted_on() && !force {
            Err(ChangeRefusal::Reserved)
        } else {
            Ok(())
        }
    }
}
