//! What the table of commands says of each, and how a CDB finds its row.

use super::commands::COMMANDS;
use super::field::LengthField;
use super::layout::BlockLayout;
use super::long::{FLAGS, LONG};
use crate::device::Handler;
use crate::sense::{PARAMETER_LIST_LENGTH_ERROR, Sense};

/// What a command moves, as far as its operation code decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Nothing.
    None,
    /// Data-in up to an ALLOCATION LENGTH.
    Allocation(LengthField),
    /// Data-in of so many bytes.
    Fixed(u8),
    /// Data-out: a parameter list of a PARAMETER LIST LENGTH.
    Parameters(LengthField),
    /// Data-in: the blocks of the CDB's range.
    ReadBlocks,
    /// Data-out: the blocks of the CDB's range.
    WriteBlocks,
    /// Data-out: the blocks of the CDB's range, twice.
    CompareBlocks,
    /// Data-out: as BYTCHK says.
    CheckBlocks,
    /// Data-out: one block; none if `ndob` says that the CDB has such a bit and it is one.
    OneBlock { ndob: bool },
}

/// What a command needs of reservations and write protection (SPC-4 table 65 and 66, SBC-3 table 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Always allowed.
    Always,
    /// Allowed under any persistent reservation, refused under another nexus's RESERVE.
    Free,
    /// Reads the medium or its state: refused under another nexus's exclusive access.
    Read,
    /// Changes medium or state: refused under another nexus's write exclusive or exclusive access.
    Write,
    /// Changes the medium: as `Write`, and refused when it is write protected.
    WriteMedium,
}

/// Which ability of the unit a command belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// None: it is always there.
    Nothing,
    /// Thin provisioning.
    Thin,
    /// A medium that is encrypted.
    Encryption,
    /// A compare and write length above zero.
    CompareWrite,
    /// An atomic transfer length above zero.
    Atomic,
    /// Asymmetric access that is reported.
    Alua,
    /// Asymmetric access that initiators may change.
    ExplicitAlua,
}

/// One supported command.
pub(crate) struct Command {
    /// CDB USAGE DATA (SPC-4 6.35.3): operation code, service action, and a one for each bit looked at. Its length
    /// is the CDB's.
    pub(crate) usage: &'static [u8],
    /// The service action, where the operation code has them.
    pub(crate) service_action: Option<u8>,
    /// Its name in the standard.
    pub(crate) name: &'static str,
    /// What it moves.
    pub(crate) data: Data,
    /// What it needs of reservations and write protection.
    pub(crate) access: Access,
    /// Which ability it belongs to.
    pub(crate) needs: Needs,
    /// What it does.
    pub(crate) run: Handler,
}

impl Command {
    /// Its operation code.
    pub(crate) const fn opcode(&self) -> u8 {
        self.usage[0]
    }

    /// The byte of flags of its CDB.
    pub(crate) fn flags(&self, cdb: &[u8; 16]) -> u8 {
        if self.opcode() == LONG { cdb[FLAGS] } else { cdb[1] }
    }

    /// Where CONTROL stands in its CDB, for field pointers.
    pub(crate) const fn control_byte(&self) -> u16 {
        if self.opcode() == LONG { 1 } else { self.usage.len() as u16 - 1 }
    }

    /// Whether it is refused while there is no medium (SBC-3 5: commands that address the medium or tell its state).
    pub(crate) const fn needs_medium(&self) -> bool {
        // TEST UNIT READY, READ CAPACITY(10), UNMAP; READ CAPACITY(16) and GET LBA STATUS; POPULATE TOKEN and WRITE
        // USING TOKEN.
        self.layout().is_some()
            || self.sanitizes()
            || matches!(self.opcode(), 0x00 | 0x25 | 0x42 | 0x9E)
            || matches!((self.opcode(), self.service_action), (0x83, Some(0x10 | 0x11)))
    }

    /// Whether it is SANITIZE.
    pub(crate) const fn sanitizes(&self) -> bool {
        self.opcode() == 0x48
    }

    /// Whether it is done while the medium is being sanitized (SBC-4 4.11.2): REQUEST SENSE, INQUIRY, REPORT LUNS, the
    /// REPORT commands of A3h, and LOG SENSE of the pages that exist and of the temperature.
    pub(crate) fn runs_while_sanitizing(&self, cdb: &[u8; 16]) -> bool {
        match self.opcode() {
            0x03 | 0x12 | 0xA0 | 0xA3 => true,
            0x4D => matches!(cdb[2] & 0x3F, 0x00 | 0x0D),
            _ => false,
        }
    }

    /// A PARAMETER LIST LENGTH ERROR that points at the CDB's field.
    pub(crate) fn point_at_length(&self, sense: Sense) -> Sense {
        match self.data {
            Data::Parameters(field) if sense == PARAMETER_LIST_LENGTH_ERROR => {
                sense.with_cdb_field(u16::from(field.byte()), None)
            }
            _ => sense,
        }
    }

    /// Nominal and recommended command timeout in seconds (SPC-4 6.35.4).
    pub(crate) const fn timeouts_s(&self) -> (u32, u32) {
        match self.data {
            Data::None | Data::Fixed(_) | Data::Allocation(_) => (1, 30),
            _ => (2, 60),
        }
    }

    /// Where its address and length stand; `None` if it is no block command.
    pub(crate) const fn layout(&self) -> Option<BlockLayout> {
        match (self.opcode(), self.usage.len()) {
            (0x08 | 0x0A, _) => Some(BlockLayout::Six),
            (0x28 | 0x2A | 0x2E | 0x2F | 0x34 | 0x35 | 0x41, _) => Some(BlockLayout::Ten),
            (0xA8 | 0xAA | 0xAE | 0xAF, _) => Some(BlockLayout::Twelve),
            (0x89, _) => Some(BlockLayout::Compare),
            (0x9C, _) => Some(BlockLayout::Atomic),
            (LONG, _) => Some(BlockLayout::Long),
            (0x88 | 0x8A | 0x8B | 0x8E | 0x8F | 0x90 | 0x91 | 0x93, _) => Some(BlockLayout::Sixteen),
            _ => None,
        }
    }
}

/// No row of this operation code.
const ABSENT: u8 = u8::MAX;

/// For each operation code the first of its rows.
static FIRST: [u8; 256] = first_rows();

const fn first_rows() -> [u8; 256] {
    let mut first = [ABSENT; 256];
    let mut index = COMMANDS.len();
    while index > 0 {
        index -= 1;
        first[COMMANDS[index].opcode() as usize] = index as u8;
    }
    first
}

/// The row of `cdb`'s operation code and service action.
#[inline]
pub(crate) fn find(cdb: &[u8; 16]) -> Option<&'static Command> {
    find_service(cdb[0], cdb[1] & 0x1F)
}

/// The row of an operation code and, where it has them, a service action.
#[inline]
pub(crate) fn find_service(opcode: u8, service_action: u8) -> Option<&'static Command> {
    let first = FIRST[usize::from(opcode)];
    if first == ABSENT {
        return None;
    }
    COMMANDS[usize::from(first)..]
        .iter()
        .take_while(|command| command.opcode() == opcode)
        .find(|command| command.service_action.is_none_or(|own| own == service_action))
}

/// Whether any row has this operation code.
pub(crate) fn opcode_is_known(opcode: u8) -> bool {
    FIRST[usize::from(opcode)] != ABSENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ascending_and_lengths_follow_the_group() {
        for pair in COMMANDS.windows(2) {
            let key = |c: &Command| (c.opcode(), c.service_action.unwrap_or(0));
            assert!(key(&pair[0]) < key(&pair[1]), "{} before {}", pair[0].name, pair[1].name);
        }
        for command in COMMANDS {
            // SPC-4 4.2.5.1: the group code, the operation code's top three bits, gives the CDB length.
            let length = match command.opcode() >> 5 {
                0 => 6,
                1 | 2 => 10,
                3 => 32,
                4 => 16,
                5 => 12,
                _ => 0,
            };
            assert_eq!(command.usage.len(), length, "{}", command.name);
        }
    }

    #[test]
    fn every_row_is_found() {
        for command in COMMANDS {
            let found = find_service(command.opcode(), command.service_action.unwrap_or(0x1F)).unwrap();
            assert!(std::ptr::eq(found, command), "{}", command.name);
        }
        assert!(find_service(0x9E, 0x11).is_none());
        assert!(opcode_is_known(0x9E) && opcode_is_known(LONG) && !opcode_is_known(0x7E));
    }

    #[test]
    fn block_commands_have_a_layout() {
        for command in COMMANDS {
            let moves_blocks = !matches!(
                command.data,
                Data::None | Data::Fixed(_) | Data::Allocation(_) | Data::Parameters(_)
            );
            assert!(!moves_blocks || command.layout().is_some(), "{}", command.name);
        }
    }
}
