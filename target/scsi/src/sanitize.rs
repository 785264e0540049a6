//! Sanitize operations (SBC-4 4.11): all data of the unit is made unreadable, and until that is done next to nothing
//! else is.
//!
//! ```text
//!           SANITIZE                      device.sanitize_ended(true)
//!   None ───────────────► Underway ─────────────────────────────────► None
//!    ▲                      ▲   │ device.sanitize_ended(false)
//!    │ EXIT FAILURE MODE    │   ▼
//!    └───────────────────── Failed        each arrow is in the store before anybody is told of it
//!       if AUSE was one     SANITIZE
//! ```
//!
//! The operation belongs to the unit: no reset and no task management function ends it, and a target that starts again
//! begins it anew.

use crate::alua::NOBODY;
use crate::device::Device;
use crate::draft::Draft;
use crate::medium::MediumAccess;
use crate::sense;
use crate::{Reply, Step};

/// What a sanitize operation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sanitize {
    /// Every block is written (SBC-4 5.30.2.2).
    Overwrite {
        /// How often: 1 to 31.
        passes: u8,
        /// Every other pass writes the complement of the pattern; the last one writes the pattern.
        inverts: bool,
        /// What is written, repeated from the start of each block: 1 byte to a block.
        pattern: Box<[u8]>,
    },
    /// Every block is given back, and reads as zeros.
    BlockErase,
    /// The key that the medium is encrypted with is destroyed; then blocks are given back, where the medium can.
    CryptographicErase,
}

impl Sanitize {
    /// How often the medium is gone over.
    pub fn passes(&self) -> u8 {
        match self {
            Self::Overwrite { passes, .. } => *passes,
            Self::BlockErase | Self::CryptographicErase => 1,
        }
    }

    /// Whether this pass, counted from 0, writes the pattern's complement.
    pub fn inverts(&self, pass: u8) -> bool {
        match self {
            Self::Overwrite { passes, inverts, .. } => {
                *inverts && passes.wrapping_sub(pass).is_multiple_of(2)
            }
            Self::BlockErase | Self::CryptographicErase => false,
        }
    }

    /// Fills a buffer that begins with a logical block of `block_size` bytes with what this pass writes.
    pub fn fill(&self, pass: u8, block_size: u32, buffer: &mut [u8]) {
        let Self::Overwrite { pattern, .. } = self else { return buffer.fill(0) };
        let complement = if self.inverts(pass) { 0xFF } else { 0x00 };
        let (first, rest) = buffer.split_at_mut((block_size as usize).min(buffer.len()));
        for (byte, wanted) in first.iter_mut().zip(pattern.iter().cycle()) {
            *byte = wanted ^ complement;
        }
        for block in rest.chunks_mut(first.len().max(1)) {
            block.copy_from_slice(&first[..block.len()]);
        }
    }

    /// Whether what it writes, if it writes, is zeros.
    pub fn leaves_zeros(&self) -> bool {
        match self {
            Self::Overwrite { pattern, .. } => pattern.iter().all(|byte| *byte == 0),
            Self::BlockErase | Self::CryptographicErase => true,
        }
    }
}

/// A sanitize operation as it was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    /// What it does.
    pub(crate) how: Sanitize,
    /// AUSE: EXIT FAILURE MODE is allowed should it fail.
    pub(crate) unrestricted_exit: bool,
}

/// What the unit remembers of sanitize operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Sanitization {
    /// None is under way and the last one succeeded.
    #[default]
    None,
    /// One is under way.
    Underway(Box<Ordered>),
    /// The last one failed.
    Failed {
        /// Its AUSE: EXIT FAILURE MODE is allowed.
        unrestricted_exit: bool,
    },
}

const UNDERWAY: u8 = 1;
const FAILED: u8 = 2;
const OVERWRITE: u8 = 1;
const BLOCK_ERASE: u8 = 2;
const CRYPTOGRAPHIC_ERASE: u8 = 3;

impl Sanitization {
    /// Whether commands get at the medium.
    pub(crate) fn access(&self) -> MediumAccess {
        match self {
            Self::None => MediumAccess::Ready,
            Self::Underway(_) => MediumAccess::Sanitizing { progress: 0 },
            Self::Failed { .. } => MediumAccess::SanitizeFailed,
        }
    }

    /// As bytes for a store; none for a unit that has nothing to remember.
    ///
    /// `state | AUSE`, and of one under way `method | passes | inverts | pattern`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Failed { unrestricted_exit } => vec![FAILED, u8::from(*unrestricted_exit)],
            Self::Underway(ordered) => {
                let mut bytes = vec![UNDERWAY, u8::from(ordered.unrestricted_exit)];
                match &ordered.how {
                    Sanitize::BlockErase => bytes.push(BLOCK_ERASE),
                    Sanitize::CryptographicErase => bytes.push(CRYPTOGRAPHIC_ERASE),
                    Sanitize::Overwrite { passes, inverts, pattern } => {
                        bytes.extend_from_slice(&[OVERWRITE, *passes, u8::from(*inverts)]);
                        bytes.extend_from_slice(pattern);
                    }
                }
                bytes
            }
        }
    }

    /// Reads what [`encode`](Self::encode) gave.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[state, exit], rest) = bytes.split_first_chunk::<2>()?;
        let unrestricted_exit = flag(exit)?;
        let how = match (state, rest) {
            (FAILED, []) => return Some(Self::Failed { unrestricted_exit }),
            (UNDERWAY, [BLOCK_ERASE]) => Sanitize::BlockErase,
            (UNDERWAY, [CRYPTOGRAPHIC_ERASE]) => Sanitize::CryptographicErase,
            (UNDERWAY, [OVERWRITE, passes @ 1..=31, inverts, pattern @ ..])
                if (1..=PATTERN_BYTES_MAX).contains(&pattern.len()) =>
            {
                Sanitize::Overwrite { passes: *passes, inverts: flag(*inverts)?, pattern: pattern.into() }
            }
            _ => return None,
        };
        Some(Self::Underway(Box::new(Ordered { how, unrestricted_exit })))
    }
}

/// The longest pattern: the longest logical block.
const PATTERN_BYTES_MAX: usize = 4096;

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

impl Device {
    /// The sanitize operation under way: after [`Step::Sanitize`], and of a unit that was sanitized when its target
    /// ended. The engine does it, whatever becomes of tasks and sessions, and says how far it has come and how it ended.
    pub fn sanitizing(&self) -> Option<&Sanitize> {
        match &self.sanitization {
            Sanitization::Underway(ordered) => Some(&ordered.how),
            _ => None,
        }
    }

    /// How far the sanitize operation under way has come, as a fraction of 65,536.
    pub fn sanitize_progress(&mut self, progress: u16) {
        if let MediumAccess::Sanitizing { progress: told } = &mut self.medium {
            *told = progress;
        }
    }

    /// The sanitize operation is over: what its command is answered, once that is durable
    /// ([`Step::Done`], or [`Step::Save`] and then [`Device::saved`]). When it failed, or its end cannot be made durable,
    /// the medium stays out of reach until another one succeeds, or until EXIT FAILURE MODE where the command allowed
    /// that (AUSE).
    pub fn sanitize_ended(&mut self, succeeded: bool) -> Step {
        let Sanitization::Underway(ordered) = &self.sanitization else {
            return Step::Done(Reply::good());
        };
        let failed = Sanitization::Failed { unrestricted_exit: ordered.unrestricted_exit };
        let mut draft = Draft::new(self);
        draft.sanitization = if succeeded { Sanitization::None } else { failed };
        let reply =
            if succeeded { Reply::good() } else { self.formatted(sense::SANITIZE_COMMAND_FAILED.into()) };
        // Nobody hears of the end but whoever asked for the operation.
        self.commit(draft, NOBODY, Step::Done(reply))
    }

    /// A change of the state could not be made durable. If it was the end of a sanitize operation, the store still says
    /// that it is under way, and a target that starts again would do it again: so nobody may write before it is done
    /// once more. Whether that is so.
    pub(crate) fn sanitize_end_is_lost(&mut self) -> bool {
        let Sanitization::Underway(ordered) = &self.sanitization else { return false };
        let unrestricted_exit = ordered.unrestricted_exit;
        self.set_sanitization(Sanitization::Failed { unrestricted_exit });
        true
    }

    /// Puts what is remembered of sanitize operations in effect.
    pub(crate) fn set_sanitization(&mut self, sanitization: Sanitization) {
        if self.sanitization != sanitization {
            self.medium = sanitization.access();
            self.rods.all_changed();
            self.sanitization = sanitization;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sanitizations() -> impl Strategy<Value = Sanitization> {
        let pattern = proptest::collection::vec(any::<u8>(), 1..=PATTERN_BYTES_MAX);
        let overwrite = (1u8..=31, any::<bool>(), pattern).prop_map(|(passes, inverts, pattern)| {
            Sanitize::Overwrite { passes, inverts, pattern: pattern.into() }
        });
        let how = prop_oneof![overwrite, Just(Sanitize::BlockErase), Just(Sanitize::CryptographicErase)];
        let underway = (how, any::<bool>()).prop_map(|(how, unrestricted_exit)| {
            Sanitization::Underway(Box::new(Ordered { how, unrestricted_exit }))
        });
        let failed = any::<bool>().prop_map(|unrestricted_exit| Sanitization::Failed { unrestricted_exit });
        prop_oneof![underway, failed]
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read_back(sanitization in sanitizations()) {
            prop_assert_eq!(Sanitization::decode(&sanitization.encode()), Some(sanitization));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(read) = Sanitization::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn the_last_pass_writes_the_pattern(
            passes in 1u8..=31, inverts: bool, pattern in proptest::collection::vec(any::<u8>(), 1..=512),
        ) {
            let how = Sanitize::Overwrite { passes, inverts, pattern: pattern.clone().into() };
            let mut buffer = vec![0; 2048];
            how.fill(passes - 1, 512, &mut buffer);
            for block in buffer.chunks(512) {
                prop_assert!(block.iter().zip(pattern.iter().cycle()).all(|(byte, wanted)| byte == wanted));
            }
            for pass in 1..passes {
                prop_assert_eq!(how.inverts(pass) != how.inverts(pass - 1), inverts);
            }
        }
    }
}
