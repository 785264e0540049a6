//! iSCSI names (RFC 7143 section 4.2.7) and target names.

use super::values::ValueError;
use std::fmt;
use std::str::FromStr;

/// Where the default IQN of a target comes from: this, a colon, and the target's name.
pub const NAMING_AUTHORITY: &str = "iqn.2026-11.io.stampede";
/// The longest iSCSI name, in bytes (RFC 7143 section 4.2.7.1).
const ISCSI_NAME_MAX: usize = 223;
/// The longest name of a target, in bytes: its default IQN has to fit too.
const TARGET_NAME_MAX: usize = 128;

/// The name of an iSCSI node, in the normal form of RFC 3722 and in ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IscsiName(String);

impl IscsiName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The IQN of a target that has none of its own.
    pub(crate) fn of_target(name: &str) -> Self {
        Self(format!("{NAMING_AUTHORITY}:{name}"))
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IscsiName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why: &str| {
            ValueError::new(
                format!("`{text}` is not an iSCSI name: {why}"),
                format!("write one like {NAMING_AUTHORITY}:disk1 (RFC 7143 4.2.7)"),
            )
        };
        if text.len() > ISCSI_NAME_MAX {
            return Err(wrong("it is longer than 223 bytes"));
        }
        check_characters(text).map_err(|why| wrong(&why))?;
        let checked = match text.split_once('.') {
            Some(("iqn", rest)) => check_iqn(rest),
            Some(("eui", rest)) => check_hex(rest, &[16]),
            Some(("naa", rest)) => check_hex(rest, &[16, 32]),
            _ => Err("it begins with none of iqn., eui. and naa."),
        };
        checked.map_err(wrong)?;
        Ok(Self(text.to_owned()))
    }
}

/// The characters that RFC 3722 leaves of ASCII: lower-case letters, digits, dash, dot and colon.
fn check_characters(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | ':')) {
        Some(c) if c.is_ascii_uppercase() => {
            Err(format!("`{c}` is a capital letter, names are in lower case"))
        }
        Some(c) => Err(format!("`{c}` is not a letter, digit, dash, dot or colon")),
        None => Ok(()),
    }
}

/// `yyyy-mm.reversed.domain[:anything]`.
fn check_iqn(rest: &str) -> Result<(), &'static str> {
    let (authority, unique) = match rest.split_once(':') {
        Some((authority, unique)) => (authority, Some(unique)),
        None => (rest, None),
    };
    let (date, domain) = authority.split_once('.').ok_or("a date and a reversed domain must follow iqn.")?;
    let date = date.as_bytes();
    let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
    let month = date.len() == 7 && digits(&date[..4]) && date[4] == b'-' && digits(&date[5..]);
    if !month || !(b"01".as_slice()..=b"12".as_slice()).contains(&&date[5..]) {
        return Err("the date after iqn. must be a year and a month, as in 2026-11");
    }
    let labels = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    if !domain.split('.').all(labels) {
        return Err("the domain after the date must be dot-separated words");
    }
    if unique == Some("") {
        return Err("nothing follows the colon");
    }
    Ok(())
}

fn check_hex(rest: &str, lengths: &[usize]) -> Result<(), &'static str> {
    let hex = rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hex && lengths.contains(&rest.len()) {
        return Ok(());
    }
    Err("the type is followed by 16 hex digits (naa.: 16 or 32)")
}

/// Checks the name of a target: it becomes a part of its default IQN and of command lines.
///
/// # Errors
/// It is empty, too long, a whole iSCSI name, or has other characters than lower-case letters, digits, dash, dot and colon.
pub(crate) fn check_target_name(name: &str) -> Result<(), ValueError> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > TARGET_NAME_MAX {
        format!("it is longer than {TARGET_NAME_MAX} bytes")
    } else if name.parse::<IscsiName>().is_ok() {
        "it is a whole iSCSI name, which is given with the option `iqn=`, beside a short name".to_owned()
    } else {
        match check_characters(name) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        }
    };
    Err(ValueError::new(
        format!("`{name}` is not a name for a target: {why}"),
        "use lower-case letters, digits, dash, dot and colon, as in debian-12",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for name in [
            "iqn.2026-11.io.stampede:debian",
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:storage.disk1.sys1.xyz",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(name.parse::<IscsiName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn bad_names_say_why() {
        for (name, why) in [
            ("", "begins with none"),
            ("disk1", "begins with none"),
            ("iqn.2026-11.io.Stampede:x", "`S` is a capital letter"),
            ("iqn.2026-11.io.stampede:a_b", "`_` is not a letter"),
            ("iqn.2026-11.io.stampede:a b", "` ` is not a letter"),
            ("iqn.2026-11.io.stampede:", "nothing follows"),
            ("iqn.2026-13.io.stampede:x", "year and a month"),
            ("iqn.2026-00.io.stampede:x", "year and a month"),
            ("iqn.26-11.io.stampede:x", "year and a month"),
            ("iqn.2026-11:x", "date and a reversed domain"),
            ("iqn.2026-11..stampede", "dot-separated"),
            ("eui.0200", "16 hex digits"),
            ("naa.g2004567ba64678d", "16 hex digits"),
        ] {
            let error = name.parse::<IscsiName>().unwrap_err();
            assert!(error.what.contains(why), "{name}: {error}");
        }
        let long = format!("iqn.2026-11.io.stampede:{}", "a".repeat(200));
        assert!(long.parse::<IscsiName>().unwrap_err().what.contains("223 bytes"));
    }

    #[test]
    fn target_names() {
        assert!(check_target_name("debian-12.x").is_ok());
        for bad in ["", "Debian", "a/b", "a,b", "a=b", "iqn.2026-11.io.stampede:debian"] {
            assert!(check_target_name(bad).is_err(), "{bad}");
        }
        assert!(check_target_name(&"a".repeat(129)).is_err());
        assert!(IscsiName::of_target(&"a".repeat(128)).as_str().parse::<IscsiName>().is_ok());
    }
}
