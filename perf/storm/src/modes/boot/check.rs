//! Looks at what is read while it is received, from where it was received.

use super::golden::Image;
use super::machine::Machine;
use stampede_initiator::{ReadSink, SessionId};
use stampede_trace::{BLOCK, Op};
use stampede_verify::Wrong;

/// The bits of a tag that name a machine's command; the machine's index is above.
const FLIGHT_BITS: u32 = 16;

/// A command's tag.
pub(super) fn tag(machine: usize, flight: usize) -> u64 {
    (machine as u64) << FLIGHT_BITS | flight as u64
}

/// The machine's index and its command's.
pub(super) fn of_tag(tag: u64) -> (usize, usize) {
    ((tag >> FLIGHT_BITS) as usize, (tag & ((1 << FLIGHT_BITS) - 1)) as usize)
}

/// A turn's taker of read data.
pub(super) struct Checker<'a> {
    pub(super) machines: &'a mut [Machine],
    pub(super) image: &'a mut Image,
    /// Bytes looked at.
    pub(super) checked: &'a mut u64,
}

impl ReadSink for Checker<'_> {
    fn data(&mut self, _: SessionId, tag: u64, offset: u32, bytes: &[u8]) {
        let (machine, flight) = of_tag(tag);
        let Some(machine) = self.machines.get_mut(machine) else { return };
        let Some(Some(flight)) = machine.flights.get_mut(flight) else { return };
        let Op::Read { lba, .. } = flight.op else { return };
        *self.checked += bytes.len() as u64;
        let result = machine.disk.check(lba * BLOCK + u64::from(offset), bytes, self.image);
        if let (Err(wrong), None) = (result, &flight.wrong) {
            flight.wrong = Some(Box::new(wrong));
        }
    }
}

/// A read that gave less than it should.
pub(super) fn short(lba: u64, expected: u64, received: u32) -> Wrong {
    let found = format!("{received} bytes");
    Wrong { kind: "short", lba, expected: format!("{expected} bytes"), found }
}
