//! What the operator does to a unit, behind the commands that came before.

use super::save::Saver;
use super::{Backend, Lun, Result};
use crate::messages::{ChangeRefusal, LunId, UnitChange};
use stampede_scsi::{Alua, Step};

impl Backend {
    /// Changes a unit; [`Result::Changed`] says what came of it.
    #[cold]
    pub(crate) fn change(&mut self, request: u64, lun: LunId, what: UnitChange) {
        let result = match self.lun_mut(lun) {
            None => Err(ChangeRefusal::Unknown),
            Some(unit) => unit.change(what),
        };
        let result = match result {
            Ok(Step::Save(state)) => return self.save_for(lun, Saver::Operator(request), state),
            Ok(Step::Wait) => Err(ChangeRefusal::Saving),
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        if result.is_ok() && matches!(what, UnitChange::Remove { .. }) {
            self.retire(lun);
        }
        self.results.push_back(Result::Changed { request, lun, result });
    }
}

impl Lun {
    fn change(&mut self, what: UnitChange) -> std::result::Result<Step, ChangeRefusal> {
        let device = &mut self.device;
        let removable = device.config().removable;
        match what {
            UnitChange::Resize { blocks } => device.resize(blocks.max(1)),
            UnitChange::Eject { .. } | UnitChange::Load if !removable => {
                return Err(ChangeRefusal::NotRemovable);
            }
            UnitChange::Eject { force } => device.eject(force).map_err(|_| ChangeRefusal::Prevented)?,
            UnitChange::Load => device.load(),
            UnitChange::Access(_) if device.config().alua == Alua::Off => return Err(ChangeRefusal::NoAlua),
            UnitChange::Remove { force } => self.may_be_removed(force)?,
            UnitChange::Access(state) => return Ok(device.set_access_state(state)),
        }
        Ok(Step::Done(stampede_scsi::Reply::good()))
    }
}
