//! Changes of a unit's lasting state: the control thread makes them durable, and nothing waits for that but the
//! command itself and others that would change the state too.

use super::{Backend, Io, Lun, Result};
use crate::messages::{ChangeRefusal, LunId};
use crate::request::Request;
use stampede_ring::Ring;

/// A change of state that is on its way to the store.
pub(super) struct Saving {
    number: u64,
    whose: Saver,
}

/// Who waits for a change of state to be durable.
pub(super) enum Saver {
    /// A command.
    Command(Box<Request>),
    /// The operator's request of this number.
    Operator(u64),
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
        unit.saving = Some(Saving { number, whose });
        self.next_save = number.wrapping_add(1);
        self.results.push_back(Result::Save { lun, number, state });
    }

    /// The control thread has made a state durable, or could not.
    pub(crate) fn saved<R: Ring>(&mut self, lun: LunId, number: u64, durable: bool, io: &mut Io<'_, R>) {
        let Some(place) = self.place(lun) else { return };
        let Some(unit) = self.luns.get_mut(place) else { return };
        let Some(saving) = unit.saving.take_if(|saving| saving.number == number) else { return };
        let step = unit.device.saved(durable);
        match saving.whose {
            Saver::Command(request) => self.go(place, *request, step, io),
            Saver::Operator(request) => {
                let result = if durable { Ok(()) } else { Err(ChangeRefusal::NotSaved) };
                self.results.push_back(Result::Changed { request, lun, result });
            }
        }
        self.save_over(place);
        while let Some(unit) = self.luns.get_mut(place)
            && unit.saving.is_none()
            && let Some(request) = unit.behind_save.pop_front()
        {
            self.start(place, request, io);
        }
        self.settle(io);
    }
}
