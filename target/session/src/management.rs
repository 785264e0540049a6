//! Task management as the engine sees it (RFC 7143 11.5, 11.6).

use stampede_wire::{Lun, pdu::TaskManagementResponseCode};

use crate::TaskKey;

/// Names one [`ManagementRequest`] of a connection until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ManagementId(pub u32);

/// What the engine must do before [`Connection::managed`](crate::Connection::managed).
///
/// The session layer has already killed what it can see: this session's tasks that the function covers are marked
/// killed ([`Task::killed`](crate::Task::killed)) or, if they were still collecting data, released. The engine
/// stops their I/O and calls [`Connection::forget`](crate::Connection::forget) for each when it is over; it answers
/// only then. Tasks of *other* sessions that the function covers are the engine's: see
/// [`Connection::kill`](crate::Connection::kill).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManagementRequest {
    /// ABORT TASK of a task that runs.
    AbortTask {
        /// To answer by.
        id: ManagementId,
        /// The killed task.
        task: TaskKey,
    },
    /// ABORT TASK SET: all tasks of this I_T nexus on the logical unit.
    AbortTaskSet {
        /// To answer by.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
    },
    /// CLEAR ACA. We never establish an ACA condition, so this only checks that the logical unit exists.
    ClearAca {
        /// To answer by.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
    },
    /// CLEAR TASK SET: all tasks on the logical unit as its control mode page's TST says.
    ClearTaskSet {
        /// To answer by.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
    },
    /// LOGICAL UNIT RESET: all tasks of every nexus on the logical unit, then SAM's reset of it.
    LunReset {
        /// To answer by.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
    },
    /// TARGET WARM RESET: LOGICAL UNIT RESET of every logical unit the session sees.
    TargetWarmReset {
        /// To answer by.
        id: ManagementId,
    },
    /// TARGET COLD RESET: as the warm one, and a power on event. When it is answered, the session ends itself with
    /// [`Close::TargetReset`](crate::Close::TargetReset).
    TargetColdReset {
        /// To answer by.
        id: ManagementId,
    },
    /// QUERY TASK SET: whether the logical unit has tasks of this I_T nexus, which the session knows.
    QueryTaskSet {
        /// To answer by: with [`ManagementResponse::of_query`], where the unit exists.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
        /// Whether there are any.
        present: bool,
    },
    /// I_T NEXUS RESET: SAM's I_T nexus loss on every logical unit the session sees; the session lives on.
    NexusReset {
        /// To answer by.
        id: ManagementId,
    },
    /// QUERY ASYNCHRONOUS EVENT: whether a unit attention is pending for this I_T nexus on the logical unit.
    QueryAsyncEvent {
        /// To answer by: [`ManagementResponse::Succeeded`] and which, or `Complete`.
        id: ManagementId,
        /// The logical unit.
        lun: Lun,
    },
    /// Not a TMF: the initiator logs out, and every task of the session must be over first (RFC 7143 11.14). All
    /// tasks are killed. The response code of the answer is ignored.
    Drain {
        /// To answer by.
        id: ManagementId,
    },
}

impl ManagementRequest {
    /// What the answer names.
    #[must_use]
    pub const fn id(&self) -> ManagementId {
        match *self {
            Self::AbortTask { id, .. }
            | Self::AbortTaskSet { id, .. }
            | Self::ClearAca { id, .. }
            | Self::ClearTaskSet { id, .. }
            | Self::LunReset { id, .. }
            | Self::TargetWarmReset { id }
            | Self::TargetColdReset { id }
            | Self::QueryTaskSet { id, .. }
            | Self::NexusReset { id }
            | Self::QueryAsyncEvent { id, .. }
            | Self::Drain { id } => id,
        }
    }
}

/// Response of a Task Management Function Response (RFC 7143 11.6.1, RFC 7144 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ManagementResponse {
    /// 0: function complete.
    Complete = 0,
    /// 1: task does not exist.
    TaskDoesNotExist = 1,
    /// 2: LUN does not exist.
    LunDoesNotExist = 2,
    /// 3: task still allegiant.
    TaskStillAllegiant = 3,
    /// 4: task allegiance reassignment not supported.
    ReassignmentNotSupported = 4,
    /// 5: task management function not supported.
    NotSupported = 5,
    /// 6: function authorization failed.
    AuthorizationFailed = 6,
    /// 7: function succeeded (RFC 7144 6.2): what was asked for is there.
    Succeeded {
        /// Additional response information: of a pending unit attention (SAM-5 7.10), else zeros.
        information: [u8; 3],
    } = 7,
    /// 255: function rejected.
    Rejected = 255,
}

impl ManagementResponse {
    /// The answer of a QUERY function.
    #[must_use]
    pub const fn of_query(present: bool) -> Self {
        if present { Self::Succeeded { information: [0; 3] } } else { Self::Complete }
    }
}

impl From<ManagementResponse> for TaskManagementResponseCode {
    fn from(response: ManagementResponse) -> Self {
        match response {
            ManagementResponse::Complete => Self::FunctionComplete,
            ManagementResponse::TaskDoesNotExist => Self::TaskDoesNotExist,
            ManagementResponse::LunDoesNotExist => Self::LunDoesNotExist,
            ManagementResponse::TaskStillAllegiant => Self::TaskStillAllegiant,
            ManagementResponse::ReassignmentNotSupported => Self::ReassignNotSupported,
            ManagementResponse::NotSupported => Self::FunctionNotSupported,
            ManagementResponse::AuthorizationFailed => Self::AuthorizationFailed,
            ManagementResponse::Succeeded { .. } => Self::FunctionSucceeded,
            ManagementResponse::Rejected => Self::FunctionRejected,
        }
    }
}
