//! Names in the encodings that parent locators have. What cannot be read becomes a replacement character: the host then finds no such file.

use alloc::{string::String, vec::Vec};
use core::fmt::Write;

fn from_units(units: impl Iterator<Item = u16>) -> String {
    let units = units.take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// UTF-16, least significant byte first, up to a NUL.
pub(crate) fn from_utf16_le(bytes: &[u8]) -> String {
    from_units(bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)))
}

/// UTF-16, most significant byte first, up to a NUL.
pub(crate) fn from_utf16_be(bytes: &[u8]) -> String {
    from_units(bytes.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit)))
}

/// UTF-16, least significant byte first.
pub(crate) fn to_utf16_le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// UTF-16, most significant byte first, in the 512 bytes that a header has for it: the end is cut off where it must be.
pub(crate) fn to_utf16_be(text: &str) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (unit, into) in text.encode_utf16().zip(bytes.as_chunks_mut().0) {
        *into = unit.to_be_bytes();
    }
    bytes
}

/// Bytes of an unknown character set, up to a NUL: UTF-8 if they are that, else Latin-1.
pub(crate) fn from_narrow(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..end]) {
        Ok(text) => text.into(),
        Err(_) => bytes[..end].iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// The path of a `file:` URL (RFC 8089); `None` when it is none, or names another host.
pub(crate) fn from_file_url(url: &str) -> Option<String> {
    let rest = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("file:")).map(|_| &url[5..])?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    path.starts_with('/').then(|| unescaped(path))
}

fn unescaped(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape =
            tail.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match escape
            .and_then(|digits| core::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path as a `file:` URL.
pub(crate) fn to_file_url(path: &str) -> String {
    let mut url = String::from("file://localhost");
    if !path.starts_with('/') {
        url.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// The file's name in a Mac OS alias record of version 2: a length and up to 63 bytes, at byte 50.
pub(crate) fn from_alias(record: &[u8]) -> Option<String> {
    let length = usize::from(*record.get(50)?).min(63);
    let name = record.get(51..51 + length).filter(|name| !name.is_empty())?;
    Some(from_narrow(name))
}

#[cfg(test)]
mod tests {
    use super::{
        from_alias, from_file_url, from_utf16_be, from_utf16_le, to_file_url, to_utf16_be, to_utf16_le,
    };

    #[test]
    fn names_come_back_as_they_were_written() {
        for name in ["/srv/gold en.vhd", "/ä/Ω/\u{1F41A}.vhd", "/a%41b"] {
            assert_eq!(from_file_url(&to_file_url(name)).as_deref(), Some(name));
            assert_eq!(from_utf16_le(&to_utf16_le(name)), name);
            assert_eq!(from_utf16_be(&to_utf16_be(name)), name);
        }
    }

    #[test]
    fn urls_of_other_hosts_are_no_paths() {
        assert_eq!(from_file_url("file:///a/b").as_deref(), Some("/a/b"));
        assert_eq!(from_file_url("FILE:/a%2").as_deref(), Some("/a%2"));
        for other in ["file://server/a", "http://localhost/a", "file", "äöü:"] {
            assert_eq!(from_file_url(other), None, "{other}");
        }
    }

    #[test]
    fn an_alias_has_its_files_name() {
        let mut record = [0; 150];
        record[50..62].copy_from_slice(b"\x0bgolden1.vhd");
        assert_eq!(from_alias(&record).as_deref(), Some("golden1.vhd"));
        assert_eq!(from_alias(&record[..55]), None);
        assert_eq!(from_alias(&[]), None);
    }
}
