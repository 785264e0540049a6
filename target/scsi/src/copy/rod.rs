//! ROD tokens as they look (SPC-4 5.16.6.5, SBC-3 4.7.5.3).
//!
//! A token is 512 bytes. Ours names the unit that made it and carries 120 secret bits, so that nobody can use one that it
//! was not given.

use super::target::Target;
use crate::inquiry::target_descriptor;
use crate::sense::{self, Sense};
use crate::{DeviceConfig, Identity};
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of a token.
pub(super) const TOKEN_BYTES: usize = 512;

/// Bytes of a token's secret.
pub(super) const SECRET_BYTES: usize = 15;

/// Bytes of the part that manages a token (REPORT ALL ROD TOKENS): it has no secret.
pub(super) const HEADER_BYTES: usize = 96;

/// Where the secret stands: at the end of the extended ROD token data.
const SECRET_AT: usize = TOKEN_BYTES - 16;

/// Point in time copy, change vulnerable: the token ends when what it stands for changes (SPC-4 table 110).
pub(super) const CHANGE_VULNERABLE: u32 = 0x0080_0001;

/// Point in time copy, any: the copy manager chooses.
pub(super) const POINT_IN_TIME_ANY: u32 = 0x0080_FFFF;

/// The block device zero ROD: as many zeros as are asked for (SBC-3 4.7.5.4).
pub(super) const ZERO: u32 = 0xFFFF_0001;

/// A token.
pub(super) type Token = Box<[u8; TOKEN_BYTES]>;

/// What tokens are made from: whoever knows it can make them. The same for all units of a run.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// From 32 bytes that nobody can foretell.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret of a unit's token number `number`.
    fn secret(&self, naa: &[u8; 16], number: u64) -> [u8; SECRET_BYTES] {
        // All parts have a fixed length, so no two inputs are the same bytes.
        let digest = Sha256::new().chain_update(self.0).chain_update(naa).chain_update(number.to_be_bytes());
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&digest.finalize()[..SECRET_BYTES]);
        secret
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// Makes a token that stands for `bytes` bytes of a unit.
pub(super) fn make(config: &DeviceConfig, key: &TokenKey, number: u64, bytes: u64) -> Token {
    let naa = naa(&config.identity);
    let mut token = Box::new([0; TOKEN_BYTES]);
    token[..4].copy_from_slice(&CHANGE_VULNERABLE.to_be_bytes());
    token[6..8].copy_from_slice(&LENGTH.to_be_bytes());
    token[8..16].copy_from_slice(&number.to_be_bytes());
    token[16..48].copy_from_slice(&Target::of_naa(&naa, config.block_size));
    token[56..64].copy_from_slice(&bytes.to_be_bytes());
    // Device type specific data: as READ CAPACITY(16) says it, without the last address.
    token[96..100].copy_from_slice(&config.block_size.to_be_bytes());
    token[101] = config.physical_exponent & 0x0F;
    token[102] = if config.thin { 0xC0 } else { 0 };
    let target = target_descriptor(&config.identity);
    token[128..128 + target.len()].copy_from_slice(&target);
    token[SECRET_AT..SECRET_AT + SECRET_BYTES].copy_from_slice(&key.secret(&naa, number));
    token
}

/// ROD TOKEN LENGTH: what follows it.
const LENGTH: u16 = (TOKEN_BYTES - 8) as u16;

/// The unit's NAA designator as VPD page 83h tells it.
fn naa(identity: &Identity) -> [u8; 16] {
    let mut naa = identity.naa;
    naa[0] = 0x60 | (naa[0] & 0x0F);
    naa
}

/// The secret of a token.
pub(super) fn secret(token: &[u8; TOKEN_BYTES]) -> [u8; SECRET_BYTES] {
    let mut secret = [0; SECRET_BYTES];
    secret.copy_from_slice(&token[SECRET_AT..SECRET_AT + SECRET_BYTES]);
    secret
}

/// What a token says it is.
pub(super) enum Kind {
    /// Zeros.
    Zero,
    /// Made by the unit that this descriptor names.
    Made(Target),
}

/// Reads a token that an initiator gives. Whether a unit knows it is that unit's to say.
pub(super) fn parse(token: &[u8; TOKEN_BYTES]) -> Result<Kind, Sense> {
    let kind = u32::from_be_bytes([token[0], token[1], token[2], token[3]]);
    if u16::from_be_bytes([token[6], token[7]]) != LENGTH {
        return Err(sense::INVALID_TOKEN_LENGTH);
    }
    match kind {
        ZERO => Ok(Kind::Zero),
        CHANGE_VULNERABLE => match Target::parse(&token[16..48], 16) {
            Ok(creator) => Ok(Kind::Made(creator)),
            Err(_) => Err(sense::TOKEN_CORRUPT),
        },
        _ => Err(sense::UNSUPPORTED_TOKEN_TYPE),
    }
}
