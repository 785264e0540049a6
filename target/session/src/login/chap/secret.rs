//! A secret that is wiped from memory when it is dropped and cannot be printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The shortest secret, bytes: 96 bits (RFC 7143 9.2.1).
pub const SECRET_MIN: usize = 12;
/// The longest secret, bytes.
pub const SECRET_MAX: usize = 255;

/// What an initiator and a target both know. Neither `Debug` nor anything else prints it, and its memory is wiped
/// when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why bytes cannot be a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// It could be found by trying (RFC 7143 9.2.1 wants 96 random bits).
    #[error(
        "a secret of {0} bytes is too short: iSCSI wants at least 96 random bits, which is {SECRET_MIN} bytes"
    )]
    TooShort(usize),
    /// Longer than any initiator takes.
    #[error("a secret of {0} bytes is too long: {SECRET_MAX} bytes at most")]
    TooLong(usize),
}

impl Secret {
    /// A secret of these bytes, which the caller should wipe.
    ///
    /// # Errors
    /// It is shorter than [`SECRET_MIN`] or longer than [`SECRET_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        match bytes.len() {
            len @ ..SECRET_MIN => Err(SecretError::TooShort(len)),
            SECRET_MIN..=SECRET_MAX => Ok(Self(Zeroizing::new(bytes.to_vec()))),
            len => Err(SecretError::TooLong(len)),
        }
    }

    /// What a response is compared with when its user is unknown.
    pub(super) fn stand_in() -> Self {
        Self(Zeroizing::new(vec![0; 16]))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_96_bits_and_shows_nothing() {
        assert_eq!(Secret::new(b"elevenbytes"), Err(SecretError::TooShort(11)));
        assert_eq!(Secret::new(&[7; 256]), Err(SecretError::TooLong(256)));
        let secret = Secret::new(b"twelve bytes").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new(b"twelve bytez").unwrap());
    }
}
