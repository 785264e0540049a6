//! The table of supported commands: everything that depends only on the command stands here once.

use super::field::LengthField::{Byte, Long, Short};
use super::table::{Access, Command, Data, Needs};
use crate::device::Handler;
use crate::{alua, bitmap, block, copy, inquiry, log, medium, mode, report, reservations};

/// The bits of the CONTROL byte that are looked at: NACA.
const C: u8 = 0x04;
const F: u8 = 0xFF;

/// A row of the table: usage, name, data, access, handler.
const fn row(usage: &'static [u8], name: &'static str, data: Data, access: Access, run: Handler) -> Command {
    Command { usage, service_action: None, name, data, access, needs: Needs::Nothing, run }
}

impl Command {
    /// The same, one service action of its operation code: the one in its usage data.
    const fn service(mut self) -> Self {
        self.service_action = Some(self.usage[1] & 0x1F);
        self
    }

    /// The same, a CDB of 32 bytes: its service action has two bytes.
    const fn long(mut self) -> Self {
        self.service_action = Some(self.usage[9]);
        self
    }

    /// The same, only where the unit has an ability.
    const fn needing(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }
}

/// CDB usage data of a 10-byte block command with flags `b1`.
macro_rules! usage10 {
    ($op:expr, $b1:expr) => {
        &[$op, $b1, F, F, F, F, 0, F, F, C]
    };
}

/// CDB usage data of a 12-byte block command with flags `b1`.
macro_rules! usage12 {
    ($op:expr, $b1:expr) => {
        &[$op, $b1, F, F, F, F, F, F, F, F, 0, C]
    };
}

/// CDB usage data of a 16-byte block command with flags `b1`.
macro_rules! usage16 {
    ($op:expr, $b1:expr) => {
        &[$op, $b1, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]
    };
}

/// CDB usage data of PERSISTENT RESERVE OUT.
macro_rules! prout {
    ($sa:expr, $b2:expr) => {
        &[0x5F, $sa, $b2, 0, 0, F, F, F, F, C]
    };
}

/// CDB usage data of PERSISTENT RESERVE IN.
macro_rules! prin {
    ($sa:expr) => {
        &[0x5E, $sa, 0, 0, 0, 0, 0, F, F, C]
    };
}

/// CDB usage data of EXTENDED COPY.
macro_rules! lists {
    ($sa:expr) => {
        &[0x83, $sa, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C]
    };
}

/// CDB usage data of POPULATE TOKEN and WRITE USING TOKEN.
macro_rules! offloads {
    ($sa:expr) => {
        &[0x83, $sa, 0, 0, 0, 0, F, F, F, F, F, F, F, F, 0, C]
    };
}

/// CDB usage data of the RECEIVE COPY commands: the first byte of a list identifier, and the others.
macro_rules! receives {
    ($sa:expr, $first:expr, $more:expr) => {
        &[0x84, $sa, $first, $more, $more, $more, 0, 0, 0, 0, F, F, F, F, 0, C]
    };
}

const READ: (Data, Access) = (Data::ReadBlocks, Access::Read);
const WRITE: (Data, Access) = (Data::WriteBlocks, Access::WriteMedium);
const CHECK: (Data, Access) = (Data::CheckBlocks, Access::Read);
const SAME: Access = Access::WriteMedium;

/// Every supported command, ascending by operation code and service action.
pub(crate) static COMMANDS: &[Command] = &[
    row(&[0x00, 0, 0, 0, 0, C], "TEST UNIT READY", Data::None, Access::Free, report::test_unit_ready),
    row(
        &[0x03, 1, 0, 0, F, C],
        "REQUEST SENSE",
        Data::Allocation(Byte(4)),
        Access::Always,
        report::request_sense,
    ),
    row(&[0x08, 0x1F, F, F, F, C], "READ(6)", READ.0, READ.1, block::read),
    row(&[0x0A, 0x1F, F, F, F, C], "WRITE(6)", WRITE.0, WRITE.1, block::write),
    row(&[0x12, 3, F, F, F, C], "INQUIRY", Data::Allocation(Short(3)), Access::Always, inquiry::inquiry),
    row(&[0x15, 0x13, 0, 0, F, C], "MODE SELECT(6)", Data::Parameters(Byte(4)), Access::Write, mode::select6),
    row(&[0x16, 0x11, 0, 0, 0, C], "RESERVE(6)", Data::None, Access::Free, reservations::reserve),
    row(&[0x17, 0x11, 0, 0, 0, C], "RELEASE(6)", Data::None, Access::Always, reservations::release),
    row(&[0x1A, 8, F, F, F, C], "MODE SENSE(6)", Data::Allocation(Byte(4)), Access::Read, mode::sense6),
    row(&[0x1B, 1, 0, 0, 0xF7, C], "START STOP UNIT", Data::None, Access::Write, medium::start_stop_unit),
    row(
        &[0x1E, 0, 0, 0, 3, C],
        "PREVENT ALLOW MEDIUM REMOVAL",
        Data::None,
        Access::Write,
        medium::prevent_allow,
    ),
    row(
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, C],
        "READ CAPACITY(10)",
        Data::Fixed(8),
        Access::Free,
        report::read_capacity_10,
    ),
    row(usage10!(0x28, 0xF8), "READ(10)", READ.0, READ.1, block::read),
    row(usage10!(0x2A, 0xF8), "WRITE(10)", WRITE.0, WRITE.1, block::write),
    row(usage10!(0x2E, 0xF6), "WRITE AND VERIFY(10)", WRITE.0, WRITE.1, block::write_and_verify),
    row(usage10!(0x2F, 0xF6), "VERIFY(10)", CHECK.0, CHECK.1, block::verify),
    row(usage10!(0x34, 0x02), "PRE-FETCH(10)", Data::None, Access::Read, block::prefetch),
    row(usage10!(0x35, 0x02), "SYNCHRONIZE CACHE(10)", Data::None, Access::Write, block::synchronize_cache),
    row(
        &[0x37, 0, 0x1F, 0, 0, 0, 0, F, F, C],
        "READ DEFECT DATA(10)",
        Data::Allocation(Short(7)),
        Access::Read,
        report::read_defect_data_10,
    ),
    row(usage10!(0x41, 0xFE), "WRITE SAME(10)", Data::OneBlock { ndob: false }, SAME, block::write_same),
    row(&[0x42, 1, 0, 0, 0, 0, 0, F, F, C], "UNMAP", Data::Parameters(Short(7)), SAME, block::unmap)
        .needing(Needs::Thin),
    // Reserved bits are looked at: what destroys everything must be meant as it is written.
    row(
        &[0x48, 0xE1, F, F, F, F, F, F, F, C],
        "SANITIZE OVERWRITE",
        Data::Parameters(Short(7)),
        SAME,
        block::overwrite,
    )
    .service(),
    row(
        &[0x48, 0xE2, F, F, F, F, F, F, F, C],
        "SANITIZE BLOCK ERASE",
        Data::Parameters(Short(7)),
        SAME,
        block::block_erase,
    )
    .service()
    .needing(Needs::Thin),
    row(
        &[0x48, 0xE3, F, F, F, F, F, F, F, C],
        "SANITIZE CRYPTOGRAPHIC ERASE",
        Data::Parameters(Short(7)),
        SAME,
        block::cryptographic_erase,
    )
    .service()
    .needing(Needs::Encryption),
    row(
        &[0x48, 0x5F, F, F, F, F, F, F, F, C],
        "SANITIZE EXIT FAILURE MODE",
        Data::Parameters(Short(7)),
        Access::Write,
        block::exit_failure_mode,
    )
    .service(),
    row(
        &[0x4D, 1, F, F, 0, F, F, F, F, C],
        "LOG SENSE",
        Data::Allocation(Short(7)),
        Access::Free,
        log::log_sense,
    ),
    row(
        &[0x55, 0x13, 0, 0, 0, 0, 0, F, F, C],
        "MODE SELECT(10)",
        Data::Parameters(Short(7)),
        Access::Write,
        mode::select10,
    ),
    row(
        &[0x56, 0x11, 0, 0, 0, 0, 0, 0, 0, C],
        "RESERVE(10)",
        Data::None,
        Access::Free,
        reservations::reserve,
    ),
    row(
        &[0x57, 0x11, 0, 0, 0, 0, 0, 0, 0, C],
        "RELEASE(10)",
        Data::None,
        Access::Always,
        reservations::release,
    ),
    row(
        &[0x5A, 0x18, F, F, 0, 0, 0, F, F, C],
        "MODE SENSE(10)",
        Data::Allocation(Short(7)),
        Access::Read,
        mode::sense10,
    ),
    row(prin!(0x00), "READ KEYS", Data::Allocation(Short(7)), Access::Free, reservations::read_keys)
        .service(),
    row(
        prin!(0x01),
        "READ RESERVATION",
        Data::Allocation(Short(7)),
        Access::Free,
        reservations::read_reservation,
    )
    .service(),
    row(
        prin!(0x02),
        "REPORT CAPABILITIES",
        Data::Allocation(Short(7)),
        Access::Free,
        reservations::report_capabilities,
    )
    .service(),
    row(
        prin!(0x03),
        "READ FULL STATUS",
        Data::Allocation(Short(7)),
        Access::Free,
        reservations::read_full_status,
    )
    .service(),
    row(
        prout!(0x00, 0),
        "REGISTER",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x01, F),
        "RESERVE",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x02, F),
        "RELEASE",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x03, 0),
        "CLEAR",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x04, F),
        "PREEMPT",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x05, F),
        "PREEMPT AND ABORT",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x06, 0),
        "REGISTER AND IGNORE EXISTING KEY",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        prout!(0x07, 0),
        "REGISTER AND MOVE",
        Data::Parameters(Long(5)),
        Access::Free,
        reservations::persistent_reserve_out,
    )
    .service(),
    row(
        &[
            0x7F, C, 0, 0, 0, 0, 0, 0x18, 0, 0x0D, 0xFF, 0, F, F, F, F, F, F, F, F, 0, 0, 0, 0, 0, 0, 0, 0,
            F, F, F, F,
        ],
        "WRITE SAME(32)",
        Data::OneBlock { ndob: true },
        SAME,
        block::write_same,
    )
    .long(),
    row(
        &[
            0x7F, C, 0x07, 0x0F, 0, 0, 0, 0x18, 0, 0x0E, 0xF8, 0, F, F, F, F, F, F, F, F, F, F, F, F, F, F,
            F, F, F, F, F, F,
        ],
        "ORWRITE(32)",
        WRITE.0,
        WRITE.1,
        bitmap::orwrite_32,
    )
    .long(),
    row(lists!(0x00), "EXTENDED COPY(LID1)", Data::Parameters(Long(10)), Access::Write, copy::third_party)
        .service(),
    row(lists!(0x01), "EXTENDED COPY(LID4)", Data::Parameters(Long(10)), Access::Write, copy::third_party)
        .service(),
    row(offloads!(0x10), "POPULATE TOKEN", Data::Parameters(Long(10)), Access::Read, copy::third_party)
        .service(),
    row(offloads!(0x11), "WRITE USING TOKEN", Data::Parameters(Long(10)), SAME, copy::third_party).service(),
    row(
        &[0x83, 0x1C, F, F, F, F, 0, 0, 0, 0, 0, 0, 0, 0, 0, C],
        "COPY OPERATION ABORT",
        Data::None,
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x00, F, 0),
        "RECEIVE COPY STATUS(LID1)",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x01, F, 0),
        "RECEIVE COPY DATA(LID1)",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x03, 0, 0),
        "RECEIVE COPY OPERATING PARAMETERS",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x04, F, 0),
        "RECEIVE COPY FAILURE DETAILS(LID1)",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x05, F, F),
        "RECEIVE COPY STATUS(LID4)",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x07, F, F),
        "RECEIVE ROD TOKEN INFORMATION",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(
        receives!(0x08, 0, 0),
        "REPORT ALL ROD TOKENS",
        Data::Allocation(Long(10)),
        Access::Write,
        copy::third_party,
    )
    .service(),
    row(usage16!(0x88, 0xF8), "READ(16)", READ.0, READ.1, block::read),
    row(
        &[0x89, 0xF8, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0, C],
        "COMPARE AND WRITE",
        Data::CompareBlocks,
        SAME,
        block::compare_and_write,
    )
    .needing(Needs::CompareWrite),
    row(usage16!(0x8A, 0xF8), "WRITE(16)", WRITE.0, WRITE.1, block::write),
    row(usage16!(0x8B, 0xF8), "ORWRITE(16)", WRITE.0, WRITE.1, bitmap::orwrite_16),
    row(usage16!(0x8E, 0xF6), "WRITE AND VERIFY(16)", WRITE.0, WRITE.1, block::write_and_verify),
    row(usage16!(0x8F, 0xF6), "VERIFY(16)", CHECK.0, CHECK.1, block::verify),
    row(usage16!(0x90, 0x02), "PRE-FETCH(16)", Data::None, Access::Read, block::prefetch),
    row(usage16!(0x91, 0x02), "SYNCHRONIZE CACHE(16)", Data::None, Access::Write, block::synchronize_cache),
    row(usage16!(0x93, 0xFF), "WRITE SAME(16)", Data::OneBlock { ndob: true }, SAME, block::write_same),
    row(usage16!(0x9C, 0xF8), "WRITE ATOMIC(16)", WRITE.0, WRITE.1, block::write_atomic)
        .needing(Needs::Atomic),
    row(
        &[0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C],
        "READ CAPACITY(16)",
        Data::Allocation(Long(10)),
        Access::Free,
        report::read_capacity_16,
    )
    .service(),
    row(usage16!(0x9E, 0x12), "GET LBA STATUS", Data::Allocation(Long(10)), Access::Read, block::lba_status)
        .service()
        .needing(Needs::Thin),
    row(
        &[0xA0, 0, F, 0, 0, 0, F, F, F, F, 0, C],
        "REPORT LUNS",
        Data::Allocation(Long(6)),
        Access::Always,
        report::own_lun,
    ),
    row(
        &[0xA3, 0xEA, 0, 0, 0, 0, F, F, F, F, 0, C],
        "REPORT TARGET PORT GROUPS",
        Data::Allocation(Long(6)),
        Access::Free,
        alua::report_target_port_groups,
    )
    .service()
    .needing(Needs::Alua),
    row(
        &[0xA3, 0x0C, 0x87, F, F, F, F, F, F, F, 0, C],
        "REPORT SUPPORTED OPERATION CODES",
        Data::Allocation(Long(6)),
        Access::Read,
        report::operation_codes,
    )
    .service(),
    row(
        &[0xA3, 0x0D, 0x80, 0, 0, 0, F, F, F, F, 0, C],
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        Data::Allocation(Long(6)),
        Access::Read,
        report::task_management,
    )
    .service(),
    row(
        &[0xA4, 0x0A, 0, 0, 0, 0, F, F, F, F, 0, C],
        "SET TARGET PORT GROUPS",
        Data::Parameters(Long(6)),
        Access::Write,
        alua::set_target_port_groups,
    )
    .service()
    .needing(Needs::ExplicitAlua),
    row(usage12!(0xA8, 0xF8), "READ(12)", READ.0, READ.1, block::read),
    row(usage12!(0xAA, 0xF8), "WRITE(12)", WRITE.0, WRITE.1, block::write),
    row(usage12!(0xAE, 0xF6), "WRITE AND VERIFY(12)", WRITE.0, WRITE.1, block::write_and_verify),
    row(usage12!(0xAF, 0xF6), "VERIFY(12)", CHECK.0, CHECK.1, block::verify),
    row(
        &[0xB7, 0x1F, F, F, F, F, F, F, F, F, 0, C],
        "READ DEFECT DATA(12)",
        Data::Allocation(Long(6)),
        Access::Read,
        report::read_defect_data_12,
    ),
];
