//! The values that configuration is written in: sizes, periods, choices.
//!
//! Each reads itself from the text that flags and TOML share, and prints itself so that it reads back equal.

use super::cores::{Cores, Numa};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A value that cannot be read: what is wrong with it and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {help}")]
pub struct ValueError {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

impl ValueError {
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// Reads `T` from a TOML string, or from an integer by way of its digits.
struct TextVisitor<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = ValueError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Serde by way of `FromStr` and `Display`.
macro_rules! text_value {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor(std::marker::PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

text_value!(
    ByteSize,
    Period,
    Cores,
    Numa,
    CloneKind,
    Encryption,
    StageRule,
    OnLost,
    AluaRule,
    LogFormat,
    SteeringMode,
    IrqAffinity,
    WarmRule,
    AuthMethod,
    super::Algorithm,
    super::PortalAddress,
    super::IscsiName
);

/// A number of bytes, written `4096`, `64K`, `64M`, `1G` or `2T` (powers of 1,024; `KiB` and the like too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Suffixes by the power of two they stand for.
const SIZE_UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                format!("`{text}` is not a size"),
                "write bytes or a number with K, M, G or T, as in 64M",
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = text[digits..].trim_start().to_ascii_uppercase();
        let unit = unit.strip_suffix("IB").unwrap_or(&unit);
        let shift = match unit {
            "" => 0,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= i64::MAX as u64);
        bytes
            .map(Self)
            .ok_or_else(|| ValueError::new(format!("`{text}` is too large"), "sizes end at 8388607T"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match unit {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A span of time, written `500ms`, `15s` (or `15`), `10m` or `4h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// Suffixes by the milliseconds they stand for, longest first.
const PERIOD_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// The longest period: a year.
const PERIOD_MAX_MS: u64 = 366 * 24 * 3_600_000;

impl Period {
    /// A whole number of seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In nanoseconds.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                format!("`{text}` is not a period"),
                "write seconds or a number with ms, s, m or h, as in 15s",
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let factor = match text[digits..].trim_start() {
            "" => 1000,
            unit => PERIOD_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let ms = number.checked_mul(factor).filter(|ms| *ms <= PERIOD_MAX_MS);
        ms.map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| ValueError::new(format!("`{text}` is too long"), "periods end at a year (8784h)"))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match PERIOD_UNITS.iter().find(|(_, factor)| ms != 0 && ms.is_multiple_of(u128::from(*factor))) {
            Some((name, factor)) => write!(f, "{}{name}", ms / u128::from(*factor)),
            None => f.write_str("0s"),
        }
    }
}

/// A choice among words.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $name:ident, $thing:literal { $($(#[doc = $vdoc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }

        impl $name {
            /// Every choice, as it is written.
            pub const WORDS: &[&str] = &[$($word),*];
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(ValueError::new(
                        format!("`{text}` is not {}", $thing),
                        format!("write one of {}", Self::WORDS.join(", ")),
                    )),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

choice! {
    /// What an initiator gets of an image.
    CloneKind, "a kind of clone" {
        /// The image itself, shared by everyone who logs in.
        None = "none",
        /// A copy-on-write clone of its own for each boot.
        Ephemeral = "ephemeral",
    }
}

choice! {
    /// How the boot stage of a login is told.
    StageRule, "a stage rule" {
        /// By the login's fingerprint; an unknown initiator counts as an operating system.
        Auto = "auto",
        /// Every login is firmware's.
        Firmware = "firmware",
        /// Every login is an operating system's.
        Os = "os",
    }
}

choice! {
    /// What an operating system gets whose clone was lost.
    OnLost, "a rule for lost clones" {
        /// Its login is refused: a blank disk under a running filesystem would destroy data.
        Refuse = "refuse",
        /// A fresh clone. Only where the data is known to be worthless.
        Fresh = "fresh",
    }
}

choice! {
    /// Who may change the asymmetric access state of a unit's target port group (SPC-4 5.16).
    AluaRule, "a rule for asymmetric access" {
        /// It is not reported at all.
        Off = "off",
        /// The target alone: the group is reported, and active.
        Implicit = "implicit",
        /// Initiators too, by SET TARGET PORT GROUPS.
        Explicit = "explicit",
    }
}

choice! {
    /// How an image is encrypted.
    Encryption, "a way of encryption" {
        /// XTS-AES-256, a logical block at a time (IEEE 1619).
        AesXts = "aes-xts",
    }
}

choice! {
    /// What is read into the golden cache at the start.
    WarmRule, "a rule for warming" {
        /// Nothing.
        Off = "off",
        /// What was recorded of each golden, or all of it where nothing was.
        Auto = "auto",
        /// All of each golden.
        All = "all",
    }
}

choice! {
    /// What an initiator must prove.
    AuthMethod, "a way to prove who one is" {
        /// Nothing: its name is believed.
        None = "none",
        /// That it knows a user's secret.
        Chap = "chap",
    }
}

choice! {
    /// How new connections find their shard.
    SteeringMode, "a way of steering" {
        /// By the CPU that processed the SYN if the kernel lets us, else by the kernel's hash.
        Auto = "auto",
        /// By that CPU, or stampede does not start.
        Cpu = "cpu",
        /// By the kernel's hash.
        Plain = "plain",
    }
}

choice! {
    /// What is done about the interrupts of network cards' queues.
    IrqAffinity, "a rule for interrupts" {
        /// Nothing.
        Off = "off",
        /// Status and log say where they go, and where they should.
        Report = "report",
        /// They are moved to the shards' cores while stampede runs.
        Set = "set",
    }
}

choice! {
    /// How log lines are written.
    LogFormat, "a log format" {
        /// For people: one line an event.
        Text = "text",
        /// For machines: one JSON object an event.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64K", 65_536),
            ("64MiB", 64 << 20),
            ("1G", 1 << 30),
            ("2t", 2 << 40),
            ("3 M", 3 << 20),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64M");
        assert_eq!(ByteSize((1 << 30) + 512).to_string(), "1073742336");
        for bad in ["", "G", "1X", "-1", "1.5G", "99999999999999999999", "1é"] {
            let error = bad.parse::<ByteSize>().unwrap_err();
            assert!(error.to_string().contains("is not a size"), "{error}");
        }
        assert!("16777216T".parse::<ByteSize>().unwrap_err().what.contains("too large"));
    }

    #[test]
    fn periods_read_and_print() {
        for (text, ms) in
            [("0", 0), ("15", 15_000), ("15s", 15_000), ("500ms", 500), ("2m", 120_000), ("4h", 14_400_000)]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.0.as_millis(), ms, "{text}");
            assert_eq!(period.to_string().parse(), Ok(period));
        }
        assert_eq!(Period::seconds(90).to_string(), "90s");
        for bad in ["", "s", "1d", "-3s"] {
            assert!(bad.parse::<Period>().unwrap_err().what.contains("is not a period"));
        }
        assert!("99999999h".parse::<Period>().unwrap_err().what.contains("too long"));
    }

    #[test]
    fn choices_name_what_they_take() {
        assert_eq!("os".parse(), Ok(StageRule::Os));
        let error = "maybe".parse::<OnLost>().unwrap_err();
        assert_eq!(error.to_string(), "`maybe` is not a rule for lost clones: write one of refuse, fresh");
    }
}
