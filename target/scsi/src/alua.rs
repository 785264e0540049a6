//! Asymmetric logical unit access (SPC-4 5.16): the state of the one target port group, REPORT TARGET PORT GROUPS and
//! SET TARGET PORT GROUPS.

use crate::cdb::{Command, be16, be32};
use crate::device::{Device, Request};
use crate::draft::{Audience, Draft};
use crate::sense::{self, PARAMETER_LIST_LENGTH_ERROR, Sense};
use crate::unit_attention::UnitAttention;
use crate::{NexusId, Reply, Step};

/// How the access state may change (TPGS, SPC-4 table 153).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Alua {
    /// Asymmetric access is not reported at all.
    Off = 0b00,
    /// Only the target changes it.
    #[default]
    Implicit = 0b01,
    /// The target changes it, and initiators by SET TARGET PORT GROUPS.
    Explicit = 0b11,
}

/// The nexus of a change that no initiator asked for: sessions are numbered from below.
pub(crate) const NOBODY: NexusId = NexusId(u64::MAX);

/// Asymmetric access state of the target port group (SPC-4 table 245).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum AccessState {
    /// All commands are done.
    #[default]
    ActiveOptimized = 0x0,
    /// All commands are done; another group is better.
    ActiveNonOptimized = 0x1,
    /// Only commands about the unit's state are done; others get 02h/04h/0Bh.
    Standby = 0x2,
    /// Hardly any command is done; others get 02h/04h/0Ch.
    Unavailable = 0x3,
}

impl AccessState {
    /// What REPORT TARGET PORT GROUPS says is supported: U_SUP, S_SUP, AN_SUP, AO_SUP.
    const SUPPORTED: u8 = 0x0F;

    /// Whether some commands are not done in this state.
    #[inline]
    pub(crate) const fn restricts(self) -> bool {
        matches!(self, Self::Standby | Self::Unavailable)
    }

    /// Refuses a command that this state does not do (SPC-4 5.16.2.4 and 5.16.2.5).
    pub(crate) fn check(self, command: &Command) -> Result<(), Sense> {
        let service = command.service_action;
        let anywhere = matches!(command.opcode(), 0x03 | 0x12 | 0xA0)
            || (matches!(command.opcode(), 0xA3 | 0xA4) && service == Some(0x0A));
        let in_standby = matches!(command.opcode(), 0x15 | 0x1A | 0x4D | 0x55 | 0x5A | 0x5E | 0x5F);
        match self {
            Self::ActiveOptimized | Self::ActiveNonOptimized => Ok(()),
            Self::Standby if anywhere || in_standby => Ok(()),
            Self::Unavailable if anywhere => Ok(()),
            Self::Standby => Err(sense::STANDBY),
            Self::Unavailable => Err(sense::UNAVAILABLE),
        }
    }

    /// The state of an ASYMMETRIC ACCESS STATE field.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0x0 => Some(Self::ActiveOptimized),
            0x1 => Some(Self::ActiveNonOptimized),
            0x2 => Some(Self::Standby),
            0x3 => Some(Self::Unavailable),
            _ => None,
        }
    }

    /// As bytes for a store: none for the state that a unit starts with.
    pub(crate) fn encode(self) -> Vec<u8> {
        if self == Self::default() { Vec::new() } else { vec![self as u8] }
    }

    /// Reads what [`encode`](Self::encode) gave.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            &[code] => Self::from_code(code),
            _ => None,
        }
    }
}

impl Device {
    /// The asymmetric access state.
    pub fn access_state(&self) -> AccessState {
        self.access
    }

    /// The operator sets the asymmetric access state: every nexus gets 2Ah/06h of a change. Where initiators may change it
    /// too it lasts, so it is made durable first: [`Step::Save`] wants [`Device::saved`], any other step says that it is
    /// done. [`Step::Wait`]: another change is on its way to the store, so nothing was done.
    pub fn set_access_state(&mut self, state: AccessState) -> Step {
        if self.is_saving() {
            return Step::Wait;
        }
        let mut draft = Draft::new(self);
        draft.access = state;
        if draft.access != self.access {
            draft.tell(Audience::All, UnitAttention::AccessStateChanged);
        }
        self.commit(draft, NOBODY, Step::Done(Reply::good()))
    }
}

/// REPORT TARGET PORT GROUPS (SPC-4 6.37): one group with one port.
pub(crate) fn report_target_port_groups(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let mut data = vec![0; 4];
    match request.cdb[1] >> 5 {
        0b000 => {}
        // The extended header: no transition takes time.
        0b001 => data.extend_from_slice(&[0x10, 0, 0, 0]),
        _ => return Err(Sense::invalid_cdb(1, Some(7))),
    }
    let identity = &device.config.identity;
    let [group_high, group_low] = identity.target_port_group.to_be_bytes();
    let [port_high, port_low] = identity.relative_port.to_be_bytes();
    data.extend_from_slice(&[device.access as u8, AccessState::SUPPORTED, group_high, group_low, 0, 0, 0, 1]);
    data.extend_from_slice(&[0, 0, port_high, port_low]);
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Step::Done(Reply::data(data, be32(request.cdb, 6) as usize)))
}

/// SET TARGET PORT GROUPS (SPC-4 6.45). All other nexuses hear 2Ah/06h of a change.
pub(crate) fn set_target_port_groups(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    const HEADER: usize = 4;
    const DESCRIPTOR: usize = 4;
    if device.is_saving() {
        return Ok(Step::Wait);
    }
    let length = usize::try_from(be32(request.cdb, 6)).unwrap_or(usize::MAX);
    let list = request.param.get(..length).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let descriptors = match list {
        [] => list,
        list => list.get(HEADER..).ok_or(PARAMETER_LIST_LENGTH_ERROR)?,
    };
    if descriptors.len() % DESCRIPTOR != 0 {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    let mut draft = Draft::new(device);
    for (index, descriptor) in descriptors.chunks_exact(DESCRIPTOR).enumerate() {
        let at = (HEADER + index * DESCRIPTOR) as u16;
        if be16(descriptor, 2) != device.config.identity.target_port_group {
            return Err(Sense::invalid_parameter(at + 2, None));
        }
        let state = AccessState::from_code(descriptor[0] & 0x0F);
        draft.access = state.ok_or(Sense::invalid_parameter(at, Some(3)))?;
    }
    if draft.access != device.access {
        draft.tell(Audience::All, UnitAttention::AccessStateChanged);
    }
    Ok(device.commit(draft, request.nexus, Step::Done(Reply::good())))
}
