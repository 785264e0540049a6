//! SCSI Data-Out (RFC 7143 11.7): write data, solicited and not.

use stampede_wire::pdu::{DataOut, Pdu, RejectReason};

use super::{Current, FullFeature, collection::Arrived, command::slot_of, dropped};
use crate::{Disposition, Output, TaskKey, Violation, ViolationKind};

impl FullFeature {
    /// Finds the sequence that a Data-Out belongs to.
    #[inline(never)]
    pub(super) fn begin_data_out(
        &mut self,
        pdu: &DataOut,
        out: &mut impl Output,
    ) -> Result<Disposition, Violation> {
        let len = pdu.data_segment_len();
        let key = self.task_of_data_out(pdu);
        let collection = key.and_then(|key| self.tasks.collecting(key));
        let place = collection.and_then(|collection| collection.begin(&Arrived::of(pdu)).ok());
        match (key, place) {
            (Some(task), Some(place)) => {
                self.current = Current::DataOut(task);
                Ok(place.map_or(dropped(len), |(offset, len)| Disposition::Task { task, offset, len }))
            }
            _ if self.killed.contains(pdu.initiator_task_tag()) => Ok(dropped(len)),
            _ => {
                self.reject(pdu.bhs(), RejectReason::InvalidPduField, out);
                Err(Violation::by(ViolationKind::UnknownTransfer, pdu.bhs()))
            }
        }
    }

    /// A Data-Out of an open sequence is complete.
    #[inline(never)]
    pub(super) fn end_data_out(&mut self, key: TaskKey, pdu: &DataOut, out: &mut impl Output) {
        if let Some(collection) = self.tasks.collecting(key) {
            collection.end(&Arrived::of(pdu));
            self.proceed(key, out);
        }
    }

    fn task_of_data_out(&self, pdu: &DataOut) -> Option<TaskKey> {
        let itt = pdu.initiator_task_tag();
        if pdu.is_unsolicited() {
            return self.tasks.find(itt);
        }
        let key = self.tasks.key(slot_of(pdu.target_transfer_tag()))?;
        self.tasks.at(key).is_some_and(|task| task.itt() == itt).then_some(key)
    }
}
