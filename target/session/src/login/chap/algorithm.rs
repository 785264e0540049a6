//! The hash functions of CHAP.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use subtle::ConstantTimeEq;

use super::Secret;

/// The longest digest of any algorithm, bytes.
pub(super) const DIGEST_MAX: usize = 32;

/// A hash function that CHAP may use: the value of CHAP_A (RFC 7143 12.1.3, and IANA's registry of PPP authentication
/// algorithms, from which it takes its numbers).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChapAlgorithm {
    /// MD5, number 5: the one that every initiator has, and firmware has no other.
    Md5,
    /// SHA-1, number 6.
    Sha1,
    /// SHA-256, number 7.
    Sha256,
    /// SHA3-256, number 8.
    Sha3,
}

impl ChapAlgorithm {
    /// All of them, in the order in which they are preferred unless the operator says otherwise.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Sha3, Self::Sha1, Self::Md5];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3 => 8,
        }
    }

    /// Bytes of its digest, which is the length of CHAP_R.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3 => 32,
        }
    }

    /// The response to a challenge: the digest of identifier, secret and challenge, in this order (RFC 1994 4.1).
    #[must_use]
    pub fn respond(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> ChapResponse {
        match self {
            Self::Md5 => hash::<Md5>(identifier, secret, challenge),
            Self::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Self::Sha256 => hash::<Sha256>(identifier, secret, challenge),
            Self::Sha3 => hash::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

fn hash<D: Digest>(identifier: u8, secret: &Secret, challenge: &[u8]) -> ChapResponse {
    let digest = D::new().chain_update([identifier]).chain_update(secret.bytes()).chain_update(challenge);
    let digest = digest.finalize();
    let mut bytes = [0; DIGEST_MAX];
    let len = digest.len().min(DIGEST_MAX);
    bytes[..len].copy_from_slice(&digest[..len]);
    ChapResponse { bytes, len }
}

/// A response: CHAP_R.
#[derive(Clone, Copy, Debug)]
pub struct ChapResponse {
    bytes: [u8; DIGEST_MAX],
    len: usize,
}

impl ChapResponse {
    /// Its bytes, as many as the algorithm's digest has.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether `other` is the same. Takes the same time wherever they differ.
    #[must_use]
    pub fn is(&self, other: &[u8]) -> bool {
        self.bytes().ct_eq(other).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_wire::text::value::to_hex;

    /// Computed with another implementation of each hash: identifier 0x27, the secret and challenge below.
    #[test]
    fn responses_are_those_of_rfc_1994() {
        let secret = Secret::new(b"a secret of 96 bits+").unwrap();
        let challenge: Vec<u8> = (0..20).collect();
        for (algorithm, number, expected) in [
            (ChapAlgorithm::Md5, 5, "0xdfb79ca82f68d2c2b73e2b05c9295161"),
            (ChapAlgorithm::Sha1, 6, "0x3eb4344aa4f632176393db03bade7df7472c4820"),
            (ChapAlgorithm::Sha256, 7, "0x5e521edfbe404d9f631f0fc09b9a852943ffbf0435d859bf524894d38a508d99"),
            (ChapAlgorithm::Sha3, 8, "0x10bbb9e6a76ef4b14a736d475b69e9bd31286b1cd7891369443cb52cafed4366"),
        ] {
            let response = algorithm.respond(0x27, &secret, &challenge);
            assert_eq!(to_hex(response.bytes()), expected, "{algorithm:?}");
            assert_eq!((algorithm.number(), algorithm.digest_len()), (number, response.bytes().len()));
            assert!(response.is(response.bytes()));
            let mut wrong = response.bytes().to_vec();
            wrong[0] ^= 1;
            assert!(!response.is(&wrong) && !response.is(&wrong[1..]) && !response.is(&[]));
        }
    }
}
