//! Whether there is a medium and commands get at it: START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, and the same from
//! the operator's side.
//!
//! ```text
//!            START STOP UNIT with LOEJ, Device::eject
//!   Ready ────────────────────────────────────────────► Ejected     02h/3Ah/00h for what needs the medium
//!     ▲      05h/53h/02h while a nexus prevents it         │
//!     └────────────────────────────────────────────────────┘
//!            ... with LOEJ and START, Device::load: 28h/00h for the other nexuses
//!
//!   Ready ──SANITIZE──► Sanitizing ──► Ready, or SanitizeFailed ──SANITIZE──────────► Sanitizing
//!                       02h/04h/1Bh             03h/31h/03h     ──EXIT FAILURE MODE──► Ready
//! ```

use crate::cdb::Command;
use crate::device::{Device, Request};
use crate::sense::{self, Sense};
use crate::unit_attention::UnitAttention;
use crate::{Media, NexusId, Reply, Step};

/// Whether commands get at the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediumAccess {
    /// They do.
    Ready,
    /// There is none: it was ejected.
    Ejected,
    /// It is being sanitized (SBC-4 4.11.2).
    Sanitizing {
        /// How far, as a fraction of 65,536.
        progress: u16,
    },
    /// It was not sanitized to the end (SBC-4 4.11.3).
    SanitizeFailed,
}

/// A nexus, or a sanitize operation, prevents the removal of the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an initiator prevents the removal of the medium, or has it sanitized")]
pub struct RemovalPrevented;

impl MediumAccess {
    /// Why commands do not get at the medium.
    pub(crate) fn why_not(self) -> Option<Sense> {
        match self {
            Self::Ready => None,
            Self::Ejected => Some(sense::MEDIUM_NOT_PRESENT),
            Self::Sanitizing { progress } => Some(sense::SANITIZE_IN_PROGRESS.with_progress(progress)),
            Self::SanitizeFailed => Some(sense::SANITIZE_COMMAND_FAILED),
        }
    }

    /// Refuses a command that needs what there is not.
    #[cold]
    pub(crate) fn check(self, command: &Command, cdb: &[u8; 16]) -> Result<(), Sense> {
        let refused = match self {
            Self::Ready => false,
            Self::Ejected => command.needs_medium(),
            Self::Sanitizing { .. } => !command.runs_while_sanitizing(cdb),
            Self::SanitizeFailed => !command.runs_while_sanitizing(cdb) && !command.sanitizes(),
        };
        self.why_not().filter(|_| refused).map_or(Ok(()), Err)
    }
}

impl Device {
    /// Whether there is a medium.
    pub fn is_loaded(&self) -> bool {
        self.medium != MediumAccess::Ejected
    }

    /// The operator takes the medium out: what needs it gets 02h/3Ah/00h from now on. The unit must be removable.
    ///
    /// # Errors
    /// A nexus prevents it, and it is not to be forced; or the medium is being sanitized, or was not to the end.
    pub fn eject(&mut self, force: bool) -> Result<(), RemovalPrevented> {
        if self.removal_is_prevented() && !force {
            return Err(RemovalPrevented);
        }
        if matches!(self.medium, MediumAccess::Sanitizing { .. } | MediumAccess::SanitizeFailed) {
            return Err(RemovalPrevented);
        }
        self.medium = MediumAccess::Ejected;
        Ok(())
    }

    /// The operator puts the medium in: every nexus gets 28h/00h, unless it was there.
    pub fn load(&mut self) {
        if !self.is_loaded() {
            self.medium = MediumAccess::Ready;
            self.raise_all(UnitAttention::MediumChanged);
        }
    }

    pub(crate) fn removal_is_prevented(&self) -> bool {
        self.nexuses.values().any(|nexus| nexus.prevents_removal)
    }

    /// LOEJ of START STOP UNIT.
    fn load_or_eject(&mut self, nexus: NexusId, load: bool) -> Result<(), Sense> {
        if self.removal_is_prevented() {
            return Err(sense::MEDIUM_REMOVAL_PREVENTED);
        }
        if load && !self.is_loaded() {
            self.raise_others(nexus, UnitAttention::MediumChanged);
        }
        self.medium = if load { MediumAccess::Ready } else { MediumAccess::Ejected };
        Ok(())
    }
}

/// START STOP UNIT (SBC-3 5.25).
///
/// There is nothing to spin down: stopping makes earlier writes durable, and the unit stays ready, so that an
/// initiator that never sends START (a boot ROM after a warm reset) still finds its disk. LOEJ is refused where the
/// medium is not removable.
pub(crate) fn start_stop_unit(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let flags = request.cdb[4];
    let (power_condition, no_flush, loej, start) =
        (flags >> 4, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
    let removable = device.config.removable;
    match power_condition {
        0x0 if loej && !removable => return Err(Sense::invalid_cdb(4, Some(1))),
        0x0 if loej => device.load_or_eject(request.nexus, start)?,
        0x0 if !device.is_loaded() => return Err(sense::MEDIUM_NOT_PRESENT),
        0x0 | 0x1 | 0x2 | 0x3 | 0x7 | 0xA | 0xB => {}
        // With any power condition a removable medium stays in; initiators try them all and expect just that.
        _ if removable => {}
        _ => return Err(Sense::invalid_cdb(4, Some(7))),
    }
    let stops = matches!(power_condition, 0x0 | 0x2 | 0x3) && !start;
    if stops && !no_flush && !device.config.read_only {
        let immediate = request.cdb[1] & 0x01 != 0;
        return Ok(Step::Media(Media::Flush { range: None, immediate }));
    }
    Ok(Step::Done(Reply::good()))
}

/// PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.10): kept for each I_T nexus. Where nothing can be removed it is no work.
pub(crate) fn prevent_allow(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    if request.cdb[4] & 0x02 != 0 {
        // The media changer forms are obsolete.
        return Err(Sense::invalid_cdb(4, Some(1)));
    }
    let prevents = device.config.removable && request.cdb[4] & 0x01 != 0;
    if let Some(nexus) = device.nexuses.get_mut(&request.nexus) {
        nexus.prevents_removal = prevents;
    }
    Ok(Step::Done(Reply::good()))
}
