//! Changes of a unit's lasting state: the control thread makes them durable, and nothing waits for that but the
//! command itself and others that would change the state too.

use super::sanitize::SANITIZE;
use super::{Backend, Io, Lun, Result};
use crate::messages::{ChangeRefusal, LunId};
use crate::request::{Origin, Request};
use stampede_ring::Ring;
use stampede_scsi::Step as DeviceStep;

/// A change of state that is on its way to the store.
pub(super) struct Saving {
    number: u64,
    whose: Saver,
    /// It is a SANITIZE that nobody waits for any more.
    forsaken: bool,
}

/// Who waits for a change of state to be durable.
pub(super) enum Saver {
    /// A command.
    Command(Box<Request>),
    /// The operator's request of this number.
    Operator(u64),
    /// A sanitize operation that is over.
    Sanitizer,
}

impl Saving {
    /// If the command is a SANITIZE of these, nobody waits for it any more.
    pub(super) fn forsake(&mut self, victim: impl Fn(Origin) -> bool) {
        if let Saver::Command(request) = &self.whose {
            self.forsaken |= request.cdb[0] == SANITIZE && victim(request.origin);
        }
    }
}

impl Lun {
    /// Whether nothing is on its way to the store.
    pub(super) fn is_saved(&self) -> bool {
        self.saving.is_none() && self.behind_save.is_empty()
    }
}

impl Backend {
    /// A command goes on when this state is durable.
    pub(super) fn save(&mut self, request: Request, state: Vec<u8>) {
        self.save_for(request.lun, Saver::Command(Box::new(request)), state);
    }

    /// The same for whoever it is.
    pub(super) fn save_for(&mut self, lun: LunId, whose: Saver, state: Vec<u8>) {
        let number = self.next_save;
        let Some(unit) = self.lun_mut(lun) else { return };
        unit.saving = Some(Saving { number, whose, forsaken: false });
        self.next_save = number.wrapping_add(1);
        self.results.push_back(Result::Save { lun, number, state });
    }

    /// The control thread has made a state durable, or could not.
    pub(crate) fn saved<R: Ring>(&mut self, lun: LunId, number: u64, durable: bool, io: &mut Io<'_, R>) {
        let Some(place) = self.place(lun) else { return };
        let Some(unit) = self.luns.get_mut(place) else { return };
        let Some(saving) = unit.saving.take_if(|saving| saving.number == number) else { return };
        let step = unit.device.saved(durable);
        match (saving.whose, step) {
            (Saver::Command(request), DeviceStep::Sanitize { immediate }) => {
                self.begin_sanitize(place, &request, immediate, saving.forsaken);
            }
            (Saver::Command(request), step) => self.go(place, *request, step, io),
            (Saver::Operator(request), _) => {
                let result = if durable { Ok(()) } else { Err(ChangeRefusal::NotSaved) };
                self.results.push_back(Result::Changed { request, lun, result });
            }
            (Saver::Sanitizer, DeviceStep::Done(reply)) => self.sanitize_over(place, reply),
            (Saver::Sanitizer, _) => debug_assert!(false, "the end of a sanitize operation is answered"),
        }
        self.save_over(place);
        self.end_waiting_sanitize(place);
        while let Some(unit) = self.luns.get_mut(place)
            && unit.saving.is_none()
            && let Some(request) = unit.behind_save.pop_front()
        {
            self.start(place, request, io);
        }
        self.settle(io);
    }
}
