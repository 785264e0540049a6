//! SCSI Command (RFC 7143 11.3), and what follows each time more of its data has arrived.

use stampede_scsi::cdb::{LONG, condensed, generations};
use stampede_wire::{
    RESERVED_TAG,
    ahs::{Ahs, segments},
    frame::Header,
    pdu::{CommandFlags, Pdu, ReadyToTransfer, RejectReason, ScsiCommand, TaskAttribute, status},
};

use super::{
    Current, FullFeature,
    collection::{Collection, Fault},
    dropped,
};
use crate::{
    CommandResult, DataGrant, Disposition, OutData, Output, Parameters, Task, TaskKey, Transfer,
    table::Refused, task::State,
};

/// Fixed-format sense data of ABORTED COMMAND, as RFC 7143 11.4.7.2 assigns it to transport faults.
const fn aborted_command(asc: u8, ascq: u8) -> [u8; 18] {
    sense(0x0b, asc, ascq)
}

const fn sense(key: u8, asc: u8, ascq: u8) -> [u8; 18] {
    let mut data = [0; 18];
    data[0] = 0x70;
    data[2] = key;
    data[7] = 10;
    data[12] = asc;
    data[13] = ascq;
    data
}

/// ILLEGAL REQUEST, INVALID FIELD IN COMMAND INFORMATION UNIT: a bidirectional command.
const BIDIRECTIONAL: [u8; 18] = sense(0x05, 0x0e, 0x03);

/// ILLEGAL REQUEST, INVALID MESSAGE ERROR: the ACA attribute, where there is no such condition (SAM-5 8.6).
const NO_ACA: [u8; 18] = sense(0x05, 0x49, 0x00);

impl Fault {
    const fn sense(self) -> [u8; 18] {
        match self {
            // WRITE ERROR - UNEXPECTED UNSOLICITED DATA
            Self::Unsolicited => aborted_command(0x0c, 0x0c),
            // WRITE ERROR - NOT ENOUGH UNSOLICITED DATA, which the RFC also uses for an incorrect amount.
            Self::Amount => aborted_command(0x0c, 0x0d),
            // PROTOCOL SERVICE CRC ERROR
            Self::Digest => aborted_command(0x47, 0x05),
            Self::Bidirectional => BIDIRECTIONAL,
            Self::Attribute => NO_ACA,
            // Never said: a killed command has no status.
            Self::Killed => aborted_command(0, 0),
        }
    }
}

impl FullFeature {
    /// A command whose turn it is. Every way out of here answers it, now or at its end.
    #[inline]
    pub(super) fn begin_command(
        &mut self,
        header: &Header,
        pdu: &ScsiCommand,
        grant: DataGrant,
        out: &mut impl Output,
    ) -> Disposition {
        let len = pdu.data_segment_len();
        let ahs = header.ahs();
        let extra = if ahs.is_empty() { Some(Extra::default()) } else { additional_headers(ahs) };
        let (Some(extra), false) = (extra, pdu.initiator_task_tag() == RESERVED_TAG) else {
            return self.begin_rejected(len, RejectReason::InvalidPduField);
        };
        // Only immediate commands can find the table full: the window promises no more than there are slots.
        let is_long = pdu.cdb()[0] == LONG;
        let (key, task) = match self.tasks.insert(pdu, extra.long_cdb && !is_long) {
            Ok(inserted) => inserted,
            Err(Refused::TagInUse) => return self.begin_rejected(len, RejectReason::TaskInProgress),
            Err(Refused::Full) => return self.begin_rejected(len, RejectReason::TooManyImmediateCommands),
        };
        if is_long {
            let (short, generations) = short_cdb(header, pdu);
            task.command.set_cdb(&short);
            task.generations = generations;
        }
        if !pdu.immediate() {
            self.numbers.window.occupy();
        }
        self.killed.reuse(pdu.initiator_task_tag());
        let attribute = pdu.attribute();
        let special = matches!(attribute, Ok(TaskAttribute::Ordered | TaskAttribute::Aca));
        let brings_none = len == 0 && !extra.bidirectional && !pdu.flags().contains(CommandFlags::WRITE);
        if brings_none && !special && self.ordered == 0 {
            out.accept(key);
            out.command(key);
            return Disposition::None;
        }
        let mut collection = collection_of(pdu, extra, grant, &self.info.parameters, self.r2t_count);
        match attribute {
            Ok(TaskAttribute::Ordered) => self.ordered += 1,
            Ok(TaskAttribute::Aca) => collection.fail(Fault::Attribute),
            _ => {}
        }
        let keep = if collection.fault().is_none() { len.min(collection.wanted()) } else { 0 };
        (task.collection, task.state) = (collection, State::Collecting);
        self.current = Current::Command(key);
        out.accept(key);
        if keep == 0 { dropped(len) } else { Disposition::Task { task: key, offset: 0, len: keep } }
    }

    /// Takes a collecting task as far as it goes: to the engine, to its failure, or to its next R2Ts.
    #[inline]
    pub(super) fn proceed(&mut self, key: TaskKey, out: &mut impl Output) {
        let Some(task) = self.tasks.at_mut(key) else { return };
        let Some(collection) = task.collecting() else { return };
        match (collection.is_over(), collection.fault()) {
            (true, None) if self.ordered == 0 => {
                task.state = State::Running;
                out.command(key);
            }
            (true, None) => {
                task.state = State::Waiting;
                self.start_waiting(out);
            }
            (true, Some(Fault::Killed)) => self.drained(key, out),
            (true, Some(fault)) => self.fail_collecting(key, fault, out),
            (false, _) => self.solicit(key, out),
        }
    }

    /// Sends the R2Ts that may be outstanding (RFC 7143 11.8).
    #[inline(never)]
    fn solicit(&mut self, key: TaskKey, out: &mut impl Output) {
        let max = self.info.parameters.max_outstanding_r2t;
        loop {
            let Some(task) = self.tasks.at_mut(key) else { return };
            let Some(r2t) = task.collection.solicit(max) else { return };
            self.r2t_count = self.r2t_count.wrapping_add(1);
            let (itt, lun, tag) = (task.itt(), task.lun(), r2t_tag(key.index, r2t.number));
            let sns = self.numbers.current();
            let pdu = ReadyToTransfer::new(itt, lun, tag, r2t.r2t_sn, r2t.offset, r2t.len, sns);
            self.send(&pdu, OutData::None, out);
        }
    }

    /// Ends a command whose data did not come as it should.
    #[cold]
    fn fail_collecting(&mut self, key: TaskKey, fault: Fault, out: &mut impl Output) {
        let result = CommandResult {
            status: status::CHECK_CONDITION,
            sense: &fault.sense(),
            transfer: Transfer::None,
        };
        if let Some(task) = self.tasks.at(key).map(Task::facts) {
            self.drop_pending(key, out);
            self.send_status(key, &task, &result, out);
        }
    }
}

/// How the data comes of a command that brings some, or should.
#[inline]
fn collection_of(
    pdu: &ScsiCommand,
    extra: Extra,
    grant: DataGrant,
    parameters: &Parameters,
    r2t_count: u16,
) -> Collection {
    let (flags, expected) = (pdu.flags(), pdu.expected_data_transfer_length());
    let (read, write) = (flags.contains(CommandFlags::READ), flags.contains(CommandFlags::WRITE));
    let immediate_data = pdu.data_segment_len();
    let limit = if write { parameters.first_burst.min(expected) } else { 0 };
    let more = write && !flags.contains(CommandFlags::FINAL);
    let wanted = if write { grant.wanted.min(expected) } else { 0 };
    let unsolicited = (more && !parameters.initial_r2t).then_some(limit);
    let mut collection =
        Collection::new(wanted, immediate_data, unsolicited, parameters.max_burst, r2t_count);
    let unasked = immediate_data > limit || (immediate_data > 0 && !parameters.immediate_data);
    if unasked || (more && parameters.initial_r2t) {
        collection.fail(Fault::Unsolicited);
    }
    if extra.bidirectional || (read && write) {
        collection.fail(Fault::Bidirectional);
    }
    collection
}

/// The Target Transfer Tag of an R2T: the task's slot, so that its Data-Out is found without a search, and a number,
/// so that an old one is told from a new one: a task counts on from the R2Ts that the session had sent when it came,
/// which are no fewer than its slot ever had. A slot index is never ffffh.
const fn r2t_tag(index: u16, number: u16) -> u32 {
    (index as u32) << 16 | number as u32
}

/// The task slot in a Target Transfer Tag.
pub(super) const fn slot_of(tag: u32) -> usize {
    (tag >> 16) as usize
}

/// What the additional header segments of a command said.
#[derive(Clone, Copy, Debug, Default)]
struct Extra {
    long_cdb: bool,
    bidirectional: bool,
}

/// Looks through the additional header segments; `None` when they are malformed or of an unknown type.
#[cold]
fn additional_headers(ahs: &[u8]) -> Option<Extra> {
    segments(ahs).try_fold(Extra::default(), |extra, segment| match segment.ok()? {
        Ahs::ExtendedCdb(_) => Some(Extra { long_cdb: true, ..extra }),
        Ahs::BidirectionalRead(_) => Some(Extra { bidirectional: true, ..extra }),
        Ahs::Other { .. } => None,
    })
}

/// The short form of a command's long CDB (see [`condensed`]), whose rest is in an additional header segment, and what that
/// has no room for ([`generations`]).
#[cold]
pub fn short_cdb(header: &Header, command: &ScsiCommand) -> ([u8; 16], u64) {
    let rest = segments(header.ahs()).find_map(|segment| match segment {
        Ok(Ahs::ExtendedCdb(rest)) => Some(rest),
        _ => None,
    });
    let rest = rest.unwrap_or_default();
    (condensed(command.cdb(), rest), generations(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additional_headers_are_known_or_refused() {
        assert!(additional_headers(&[]).is_some_and(|extra| !extra.long_cdb && !extra.bidirectional));
        let mut both = vec![0, 17, 1, 0];
        both.extend([0; 16]);
        both.extend([0, 5, 2, 0, 0, 0, 2, 0]);
        assert!(additional_headers(&both).is_some_and(|extra| extra.long_cdb && extra.bidirectional));
        assert!(additional_headers(&[0, 17, 1, 0]).is_none(), "longer than the header");
        assert!(additional_headers(&[0, 5, 9, 0, 0, 0, 0, 0]).is_none(), "unknown type");
    }

    #[test]
    fn a_tag_tells_its_slot_and_is_never_the_reserved_one() {
        assert_eq!(slot_of(r2t_tag(7, 0xffff)), 7);
        assert_ne!(r2t_tag(u16::MAX - 1, u16::MAX), RESERVED_TAG);
    }
}
