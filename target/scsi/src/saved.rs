//! The state of a unit that outlives the process, as bytes for a store.
//!
//! ```text
//!  version (1) | section ... ;  section = tag (1) | length (4, big-endian) | body
//!  tag 1: registrations and reservation, while APTPL is one (SPC-4 5.13.5.2)
//!  tag 2: saved mode pages, those that differ from their defaults (SPC-4 6.9)
//!  tag 3: asymmetric access state (SPC-4 5.16)
//!  tag 4: a sanitize operation under way or failed (SBC-4 4.11)
//! ```
//!
//! A unit without anything to keep is no bytes at all.

use crate::DeviceConfig;
use crate::alua::AccessState;
use crate::draft::Draft;
use crate::mode::SavedPages;
use crate::reservations::Persistent;
use crate::sanitize::Sanitization;

/// The layout written and read here.
const VERSION: u8 = 1;
const RESERVATIONS: u8 = 1;
const MODE_PAGES: u8 = 2;
const ACCESS: u8 = 3;
const SANITIZATION: u8 = 4;

/// Why stored bytes are not a unit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SavedStateError {
    /// A newer version wrote it.
    #[error("the state of a logical unit has version {0}, this program knows {VERSION}")]
    Version(u8),
    /// A section is cut off, or says what cannot be.
    #[error("the state of a logical unit is damaged in section {0}")]
    Damaged(u8),
}

/// What a unit had saved before its target ended: see [`Device::restored`](crate::Device::restored).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedState {
    pub(crate) persistent: Persistent,
    pub(crate) pages: SavedPages,
    pub(crate) access: Option<AccessState>,
    pub(crate) sanitization: Sanitization,
    pub(crate) bytes: Vec<u8>,
}

impl SavedState {
    /// Reads what a [`Step::Save`](crate::Step::Save) held.
    ///
    /// # Errors
    /// The bytes were damaged, or written by a newer version. A unit must not be served then: whom its reservation
    /// keeps out is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, SavedStateError> {
        let mut state = Self { bytes: bytes.to_vec(), ..Self::default() };
        let Some((version, mut rest)) = bytes.split_first() else { return Ok(state) };
        if *version != VERSION {
            return Err(SavedStateError::Version(*version));
        }
        while let Some((tag, after)) = rest.split_first() {
            let damaged = SavedStateError::Damaged(*tag);
            let (length, after) = after.split_first_chunk::<4>().ok_or(damaged)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| damaged)?;
            let (body, after) = after.split_at_checked(length).ok_or(damaged)?;
            match *tag {
                RESERVATIONS => state.persistent = Persistent::decode(body).ok_or(damaged)?,
                MODE_PAGES => state.pages = SavedPages::decode(body).ok_or(damaged)?,
                ACCESS => state.access = Some(AccessState::decode(body).ok_or(damaged)?),
                SANITIZATION => state.sanitization = Sanitization::decode(body).ok_or(damaged)?,
                _ => return Err(damaged),
            }
            rest = after;
        }
        Ok(state)
    }

    /// The bytes of a unit's state.
    pub(crate) fn encode(config: &DeviceConfig, draft: &Draft) -> Vec<u8> {
        let sections = [
            (RESERVATIONS, draft.persistent.encode()),
            (MODE_PAGES, SavedPages::of(config, &draft.saved_mode).encode()),
            (ACCESS, draft.access.encode()),
            (SANITIZATION, draft.sanitization.encode()),
        ];
        let mut bytes = Vec::new();
        for (tag, body) in sections.into_iter().filter(|(_, body)| !body.is_empty()) {
            if bytes.is_empty() {
                bytes.push(VERSION);
            }
            bytes.push(tag);
            // At most 256 registrations of less than 300 bytes each.
            bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}
