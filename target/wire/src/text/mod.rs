//! Text keys (RFC 7143 6): `key=value` pairs, each ended by a NUL, in the data segments of login and text PDUs.
//!
//! [`Pairs`] reads them, [`Builder`] writes them, and [`value`] knows the value types of section 6.1.

mod build;
mod pairs;
pub mod value;

pub use build::{Builder, Chunk, Chunks};
pub use pairs::{Pairs, TextError};

/// The longest key name, bytes (6.1).
pub const KEY_MAX: usize = 63;

/// The longest value that any key allows, bytes as written (12.1.3: binary values of authentication keys).
pub const VALUE_MAX: usize = 8192;

/// The longest simple value where a key does not allow more, bytes; each item of a list is one (6.1).
pub const SIMPLE_VALUE_MAX: usize = 255;

/// Values with a meaning of their own in every negotiation (6.2).
pub mod reserved {
    /// Answer to a key the receiver does not know.
    pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
    /// Answer to a value the receiver cannot accept.
    pub const REJECT: &str = "Reject";
    /// Answer to a key without meaning in this negotiation.
    pub const IRRELEVANT: &str = "Irrelevant";
    /// The list value that stands for nothing.
    pub const NONE: &str = "None";
}

/// Whether `key` is a key name: 1 to 63 letters, digits, and `. - + @ _`, or `#` of public extensions (6.1).
#[must_use]
pub fn is_key(key: &str) -> bool {
    (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(is_key_byte)
}

/// Whether `text` can be a value: no more than [`VALUE_MAX`] bytes and no control characters.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.len() <= VALUE_MAX && !text.bytes().any(|byte| byte.is_ascii_control())
}

pub(crate) fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_#".contains(&byte)
}
