//! Asymmetric logical unit access (SPC-4 5.16): the state of the one target port group.

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
