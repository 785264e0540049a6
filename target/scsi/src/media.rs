//! Work for the engine on the medium, and its outcome as status and sense data.

use crate::bitmap::Generation;
use crate::sense::{self, Sense};
use crate::{Reply, Status};
use smallvec::SmallVec;

/// A range of logical blocks, inside the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// First logical block address.
    pub lba: u64,
    /// Number of logical blocks.
    pub count: u32,
}

/// How VERIFY and WRITE AND VERIFY check the medium (BYTCHK, SBC-3 5.34).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifyMode {
    /// BYTCHK 00b: the blocks must be readable; there is no data-out for VERIFY.
    MediumOnly,
    /// BYTCHK 01b: the medium must equal the data-out, byte for byte.
    Compare,
    /// BYTCHK 11b: each block must equal the one block of data-out.
    CompareOneBlock,
}

/// What WRITE SAME writes to every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The one logical block in the data-out buffer.
    DataOut,
    /// Zeroes (NDOB is one): there is no data-out.
    Zero,
}

/// Medium work. Ranges are inside the capacity and never empty.
///
/// Data-out of block commands is in the engine's hands; the count says how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Read the range into data-in.
    Read {
        /// Blocks to read.
        range: Blocks,
    },
    /// Write data-out to the range.
    Write {
        /// Blocks to write.
        range: Blocks,
        /// The data must be durable before the status (FUA, or the write cache is off).
        fua: bool,
    },
    /// Check the range.
    Verify {
        /// Blocks to check.
        range: Blocks,
        /// How.
        mode: VerifyMode,
    },
    /// Write data-out to the range durably, then check it.
    WriteVerify {
        /// Blocks to write and check.
        range: Blocks,
        /// How to check ([`VerifyMode::CompareOneBlock`] does not occur).
        mode: VerifyMode,
    },
    /// Atomically compare the range with the first half of data-out and, if equal, write the second half.
    /// Data-out is `2 * range.count` blocks.
    CompareWrite {
        /// Blocks to compare and write.
        range: Blocks,
        /// The data must be durable before the status.
        fua: bool,
    },
    /// Write data-out to the range whole or not at all, whatever fails meanwhile.
    WriteAtomic {
        /// Blocks to write: aligned to, and a multiple of, the atomic granularity.
        range: Blocks,
        /// The data must be durable before the status.
        fua: bool,
    },
    /// Atomically OR data-out into the range.
    OrWrite {
        /// Blocks to change.
        range: Blocks,
        /// The data must be durable before the status.
        fua: bool,
    },
    /// Atomically AND data-out into the range, and change the generation of the unit's bitmaps: the engine says when it
    /// begins and how it ended ([`Device::generation_begins`](crate::Device::generation_begins)).
    AndWrite {
        /// Blocks to change.
        range: Blocks,
        /// The data must be durable before the status.
        fua: bool,
        /// What holds once it is written.
        then: Generation,
    },
    /// Make earlier writes durable.
    Flush {
        /// Which blocks; `None` means all.
        range: Option<Blocks>,
        /// IMMED: answer GOOD once the flush is accepted, not when it is done.
        immediate: bool,
    },
    /// Deallocate: later reads give zeroes (LBPRZ).
    Unmap {
        /// Ranges, in the order given; they may overlap.
        ranges: SmallVec<[Blocks; 4]>,
    },
    /// Write one block's pattern to each block of the range.
    WriteSame {
        /// Blocks to write.
        range: Blocks,
        /// The UNMAP bit: deallocation is allowed where the pattern is all zeroes; otherwise write.
        unmap: bool,
        /// What to write.
        pattern: Pattern,
        /// The data must be durable before the status (the write cache is off).
        fua: bool,
    },
    /// Bring the range into a cache; a hint.
    Prefetch {
        /// Blocks to fetch.
        range: Blocks,
        /// IMMED: answer at once.
        immediate: bool,
    },
    /// GET LBA STATUS: look up provisioning from `lba` on, answer with [`lba_status_reply`].
    LbaStatus {
        /// Starting logical block address.
        lba: u64,
        /// ALLOCATION LENGTH in bytes; [`Media::lba_status_descriptors_max`] says how many descriptors fit.
        allocation_length: u32,
    },
}

impl Media {
    /// The range of a command with exactly one, in logical blocks.
    pub fn range(&self) -> Option<Blocks> {
        match *self {
            Self::Read { range }
            | Self::Write { range, .. }
            | Self::Verify { range, .. }
            | Self::WriteVerify { range, .. }
            | Self::CompareWrite { range, .. }
            | Self::OrWrite { range, .. }
            | Self::AndWrite { range, .. }
            | Self::WriteAtomic { range, .. }
            | Self::WriteSame { range, .. }
            | Self::Prefetch { range, .. } => Some(range),
            Self::Flush { range, .. } => range,
            Self::Unmap { .. } | Self::LbaStatus { .. } => None,
        }
    }

    /// Whether it changes the medium.
    pub const fn writes(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::WriteVerify { .. }
                | Self::CompareWrite { .. }
                | Self::OrWrite { .. }
                | Self::AndWrite { .. }
                | Self::WriteAtomic { .. }
                | Self::Unmap { .. }
                | Self::WriteSame { .. }
        )
    }

    /// How many LBA status descriptors are worth gathering for `allocation_length` bytes: at least 1, at most 256.
    pub const fn lba_status_descriptors_max(allocation_length: u32) -> usize {
        let fit = (allocation_length.saturating_sub(8) / 16) as usize;
        if fit < 1 {
            1
        } else if fit > 256 {
            256
        } else {
            fit
        }
    }
}

/// Why a logical unit is not ready (sense key 02h, ASC 04h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotReady {
    /// 04h/00h cause not reportable.
    CauseNotReportable,
    /// 04h/01h in process of becoming ready: the initiator retries.
    BecomingReady,
    /// 04h/03h manual intervention required.
    ManualIntervention,
}

/// Why the engine's medium work failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The medium could not be read: 03h/11h/00h, the address in the information field.
    #[error("unrecovered read error at block {lba:?}")]
    Unrecovered {
        /// First logical block that could not be read; without it the start of the command's range is told.
        lba: Option<u64>,
    },
    /// The medium could not be written: 03h/0Ch/00h, the address in the information field.
    #[error("write error at block {lba:?}")]
    WriteFault {
        /// First logical block that could not be written.
        lba: Option<u64>,
    },
    /// No space for the write: 07h/27h/07h SPACE ALLOCATION FAILED WRITE PROTECT.
    #[error("no space for the write")]
    NoSpace,
    /// The medium differs from data-out: 0Eh/1Dh/00h, the offset in the information field.
    #[error("miscompare at byte {offset}")]
    Miscompare {
        /// Offset in bytes of the first difference, in the data-out buffer.
        offset: u32,
    },
    /// The medium may not be written: 07h/27h/00h.
    #[error("write protected")]
    ReadOnly,
    /// The medium is not available: 02h/04h/xx.
    #[error("not ready: {0:?}")]
    NotReady(NotReady),
    /// The target failed inside: 04h/44h/00h.
    #[error("internal target failure")]
    Hardware,
    /// Data-out did not arrive whole or was damaged: 0Bh/4Bh/00h.
    #[error("data-out was damaged")]
    DataPhase,
    /// A resource limit was met: status BUSY, the initiator retries.
    #[error("busy")]
    Busy,
}

/// The reply of medium work that succeeded without data of its own (data-in of `Read` is the engine's).
pub fn media_done(media: &Media) -> Reply {
    let _ = media;
    Reply::good()
}

/// The reply of medium work that failed. Sense data is in fixed format:
/// [`Device::media_failed`](crate::Device::media_failed) obeys D_SENSE.
pub fn media_failed(error: &MediaError, media: &Media) -> Reply {
    let with_lba = |sense: Sense, lba: &Option<u64>| {
        // Whole blocks of a device may begin before the command's range: INFORMATION is a block of the command (SBC-3 4.18).
        let inside = |range: Blocks| {
            lba.unwrap_or(range.lba)
                .clamp(range.lba, range.lba.saturating_add(u64::from(range.count.max(1) - 1)))
        };
        media.range().map(inside).or(*lba).map_or(sense, |lba| sense.with_information(lba))
    };
    let sense = match error {
        MediaError::Unrecovered { lba } => with_lba(sense::UNRECOVERED_READ_ERROR, lba),
        MediaError::WriteFault { lba } => with_lba(sense::WRITE_ERROR, lba),
        MediaError::NoSpace => sense::SPACE_ALLOCATION_FAILED,
        MediaError::Miscompare { offset } => sense::MISCOMPARE.with_information(u64::from(*offset)),
        MediaError::ReadOnly => sense::WRITE_PROTECTED,
        MediaError::NotReady(NotReady::CauseNotReportable) => sense::NOT_READY,
        MediaError::NotReady(NotReady::BecomingReady) => sense::BECOMING_READY,
        MediaError::NotReady(NotReady::ManualIntervention) => sense::MANUAL_INTERVENTION,
        MediaError::Hardware => sense::INTERNAL_TARGET_FAILURE,
        MediaError::DataPhase => sense::DATA_PHASE_ERROR,
        MediaError::Busy => return Reply::status(Status::Busy),
    };
    Reply::check(sense)
}

/// Provisioning state of a run of logical blocks (SBC-3 5.5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LbaState {
    /// Mapped, or of unknown state.
    Mapped = 0,
    /// Deallocated: reads give zeroes.
    Deallocated = 1,
}

/// One run of logical blocks of equal provisioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LbaStatusDescriptor {
    /// First logical block address.
    pub lba: u64,
    /// Number of logical blocks.
    pub count: u32,
    /// Their state.
    pub state: LbaState,
}

/// The reply to GET LBA STATUS: header and descriptors, cut to `allocation_length` bytes (SBC-3 5.5.2).
///
/// The first descriptor must start at the CDB's starting LBA, the next follow without gaps.
pub fn lba_status_reply(descriptors: &[LbaStatusDescriptor], allocation_length: u32) -> Reply {
    let limit = Media::lba_status_descriptors_max(allocation_length);
    let descriptors = &descriptors[..descriptors.len().min(limit)];
    let mut data = Vec::with_capacity(8 + 16 * descriptors.len());
    let length = 4 + 16 * descriptors.len() as u32;
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&[0; 4]);
    for descriptor in descriptors {
        data.extend_from_slice(&descriptor.lba.to_be_bytes());
        data.extend_from_slice(&descriptor.count.to_be_bytes());
        data.extend_from_slice(&[descriptor.state as u8, 0, 0, 0]);
    }
    Reply::data(data, allocation_length as usize)
}
