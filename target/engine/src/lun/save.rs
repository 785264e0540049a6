//! Changes of a unit's lasting state: the control thread makes them durable, and nothing waits for that but the
//! command itself and others that would change the state too.

use super::{Backend, Io, Lun, Result};
use crate::messages::LunId;
use crate::request::Request;
use crate::token::Key;
use stampede_ring::Ring;

/// A command whose change of state is on its way to the store.
pub(super) struct Saving {
    number: u64,
    request: Request,
}

impl Lun {
    /// Whether nothing is on its way to the store.
    pub(super) fn is_saved(&self) -> bool {
        self.saving.is_none() && self.behind_save.is_empty()
    }
}

impl Backend {
    /// A command goes on when this state is durable.
    pub(super) fn save(&mut self, place: Key, request: Request, state: Vec<u8>) {
        let Some(lun) = self.luns.get_mut(place) else { return };
        let number = self.next_save;
        self.next_save = number.wrapping_add(1);
        self.results.push_back(Result::Save { lun: request.lun, number, state });
        lun.saving = Some(Saving { number, request });
    }

    /// The control thread has made a state durable, or could not.
    pub(crate) fn saved<R: Ring>(&mut self, lun: LunId, number: u64, durable: bool, io: &mut Io<'_, R>) {
        let Some(place) = self.place(lun) else { return };
        let Some(unit) = self.luns.get_mut(place) else { return };
        let Some(saving) = unit.saving.take_if(|saving| saving.number == number) else { return };
        let step = unit.device.saved(durable);
        self.go(place, saving.request, step, io);
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
