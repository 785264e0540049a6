//! Targets, and the little language of `--target`.
//!
//! `NAME=PATH[,OPTION]...`, where an option is `clone=none|ephemeral`, `ro`, `removable`, `thin`,
//! `block-size=SIZE`, `physical-block=SIZE`, `lun=N`, `iqn=NAME`, `auth=none|chap`,
//! `alua=off|implicit|explicit`, `sanitize-rate=SIZE`, `encryption=aes-xts`, `encryption-key=FILE`,
//! `stage=auto|firmware|os`, `on-lost=refuse|fresh`, `grace=PERIOD` or `hold=PERIOD`. A comma in a path is
//! written twice. In TOML the same words are the keys of a `[[target]]` table.

use super::name::{IscsiName, check_target_name};
use super::values::{
    AluaRule, AuthMethod, ByteSize, CloneKind, Encryption, OnLost, Period, StageRule, ValueError,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// The largest LUN number: flat space addressing has 14 bits (SAM-5 4.7.7.3).
pub const LUN_MAX: u16 = 0x3fff;

/// One image and how it is published, as it is written. What is not given here has a default in
/// [`TargetConfig`]'s methods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TargetConfig {
    /// What the operator calls it; unique. Its default IQN ends in it.
    pub name: String,
    /// The image: a raw file or a block device.
    pub path: PathBuf,
    /// Whether each initiator gets a clone of its own.
    #[serde(default = "no_clone")]
    pub clone: CloneKind,
    /// Whether writes are refused. A clone cannot be read-only.
    #[serde(default)]
    pub ro: bool,
    /// Whether the medium can be ejected and loaded.
    #[serde(default)]
    pub removable: bool,
    /// Whether initiators may give blocks back (UNMAP). A clone always lets them.
    #[serde(default)]
    pub thin: bool,
    /// Logical block length, by default 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<ByteSize>,
    /// Physical block length that initiators are told, by default 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_block: Option<ByteSize>,
    /// The LUN number beneath the IQN.
    #[serde(default)]
    pub lun: u16,
    /// The IQN; `None` makes it from the name. Entries of one IQN and different LUNs are one iSCSI target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<IscsiName>,
    /// What an initiator must prove; `None` for what the configuration says for all targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthMethod>,
    /// Who may change the access state of its target port group; `None` is the target alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alua: Option<AluaRule>,
    /// Bytes a second that SANITIZE writes at most; by default there is no limit. Not for clones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanitize_rate: Option<ByteSize>,
    /// How the image is encrypted, if it is. Not for clones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// A file with the key that the image's key is wrapped with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<PathBuf>,
    /// How the stage of a login is told; ephemeral clones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageRule>,
    /// What an operating system gets whose clone was lost; ephemeral clones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<OnLost>,
    /// How long a clone lives after a clean logout; ephemeral clones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Period>,
    /// How long a clone is held after its session broke off; ephemeral clones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Period>,
}

fn no_clone() -> CloneKind {
    CloneKind::None
}

/// How long a clone lives after a clean logout, unless configured.
pub const GRACE_DEFAULT: Period = Period::seconds(60);
/// How long a clone is held after its session broke off, unless configured.
pub const HOLD_DEFAULT: Period = Period::seconds(24 * 3600);

/// Logical block length, unless configured.
const BLOCK_SIZE_DEFAULT: u32 = 512;
/// Physical block length, unless configured.
const PHYSICAL_BLOCK_DEFAULT: u32 = 4096;

impl TargetConfig {
    /// An image published as it is, writable, as LUN 0.
    #[must_use]
    pub fn new(name: &str, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            clone: CloneKind::None,
            ro: false,
            removable: false,
            thin: false,
            block_size: None,
            physical_block: None,
            lun: 0,
            iqn: None,
            auth: None,
            alua: None,
            sanitize_rate: None,
            encryption: None,
            encryption_key: None,
            stage: None,
            on_lost: None,
            grace: None,
            hold: None,
        }
    }

    /// The IQN, by default made from the name.
    #[must_use]
    pub fn target_iqn(&self) -> IscsiName {
        self.iqn.clone().unwrap_or_else(|| IscsiName::of_target(&self.name))
    }

    /// Logical block length in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        // Checked: 512 or 4096.
        self.block_size.map_or(BLOCK_SIZE_DEFAULT, |size| size.0 as u32)
    }

    /// Physical block length in bytes that initiators are told.
    #[must_use]
    pub fn physical_bytes(&self) -> u32 {
        self.physical_block.map_or(PHYSICAL_BLOCK_DEFAULT, |size| size.0 as u32)
    }

    fn check_blocks(&self) -> Result<(), ValueError> {
        for (key, size) in [("block-size", self.block_size), ("physical-block", self.physical_block)] {
            if let Some(size) = size
                && !matches!(size.0, 512 | 4096)
            {
                return Err(ValueError::new(format!("{key}={size} is not offered"), "use 512 or 4096"));
            }
        }
        if self.physical_bytes() < self.block_bytes() {
            return Err(ValueError::new(
                "a physical block cannot be smaller than a logical one",
                "leave out physical-block, or use block-size=512 too",
            ));
        }
        Ok(())
    }

    fn check_sanitize_rate(&self) -> Result<(), ValueError> {
        if self.sanitize_rate.is_some_and(|rate| rate.0 == 0) {
            return Err(ValueError::new(
                "sanitize-rate=0 would never be done",
                "give the bytes a second that SANITIZE may write, as in sanitize-rate=200M, or leave it out",
            ));
        }
        if self.sanitize_rate.is_some() && (self.ro || self.clone == CloneKind::Ephemeral) {
            return Err(ValueError::new(
                "`sanitize-rate` means nothing where no image is written to",
                "leave out sanitize-rate",
            ));
        }
        Ok(())
    }

    fn check_encryption(&self) -> Result<(), ValueError> {
        if self.encryption.is_some() && self.clone == CloneKind::Ephemeral {
            return Err(ValueError::new(
                "`encryption` is not for `clone=ephemeral`",
                "leave out encryption: clones are in memory, and their golden is not written to",
            ));
        }
        if self.encryption.is_none() && self.encryption_key.is_some() {
            return Err(ValueError::new(
                "`encryption-key` means nothing without encryption",
                "add encryption=aes-xts, or leave out encryption-key",
            ));
        }
        Ok(())
    }

    /// Checks what can be judged from this entry alone.
    ///
    /// # Errors
    /// A bad name, a LUN number beyond [`LUN_MAX`], or options that contradict each other.
    pub fn check(&self) -> Result<(), ValueError> {
        check_target_name(&self.name)?;
        if self.path.as_os_str().is_empty() {
            return Err(ValueError::new("the path is empty", "name an image file or a block device"));
        }
        if self.lun > LUN_MAX {
            return Err(ValueError::new(
                format!("lun={} is too large", self.lun),
                format!("use 0 to {LUN_MAX}"),
            ));
        }
        self.check_blocks()?;
        self.check_sanitize_rate()?;
        self.check_encryption()?;
        if self.clone == CloneKind::Ephemeral {
            return match (self.ro, self.thin) {
                (true, _) => Err(ValueError::new(
                    "`ro` and `clone=ephemeral` exclude each other",
                    "leave out `ro`: a clone's image is never written to",
                )),
                (_, true) => Err(ValueError::new(
                    "`thin` and `clone=ephemeral` go together anyway",
                    "leave out `thin`",
                )),
                _ => Ok(()),
            };
        }
        let clones_only = [
            ("stage", self.stage.is_some()),
            ("on-lost", self.on_lost.is_some()),
            ("grace", self.grace.is_some()),
            ("hold", self.hold.is_some()),
        ];
        match clones_only.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(ValueError::new(
                format!("`{key}` means nothing without clones"),
                format!("add clone=ephemeral, or leave out {key}"),
            )),
            None => Ok(()),
        }
    }
}

/// Splits at single commas; two commas are one that belongs to the text.
fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            ',' if characters.next_if_eq(&',').is_none() => parts.push(String::new()),
            c => parts.last_mut().expect("there is one part from the start").push(c),
        }
    }
    parts
}

impl FromStr for TargetConfig {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts = split_commas(text);
        let (first, options) = parts.split_first().expect("splitting gives at least one part");
        let (name, path) = first.split_once('=').ok_or_else(|| {
            ValueError::new(
                format!("`{first}` names no image"),
                "write NAME=PATH[,OPTION]..., as in debian=golden.img",
            )
        })?;
        let mut target = Self::new(name, path);
        let mut seen: Vec<&str> = Vec::new();
        for option in options {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option.as_str(), None),
            };
            if seen.contains(&key) {
                return Err(ValueError::new(format!("`{key}` is given twice"), "give each option once"));
            }
            seen.push(key);
            target.set(key, value)?;
        }
        target.check()?;
        Ok(target)
    }
}

impl TargetConfig {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), ValueError> {
        let wanted = || {
            value.ok_or_else(|| {
                ValueError::new(format!("`{key}` needs a value"), format!("write {key}=VALUE"))
            })
        };
        let flag = || match value {
            None => Ok(true),
            Some(_) => Err(ValueError::new(format!("`{key}` takes no value"), format!("write just {key}"))),
        };
        match key {
            "clone" => self.clone = wanted()?.parse()?,
            "ro" => self.ro = flag()?,
            "removable" => self.removable = flag()?,
            "thin" => self.thin = flag()?,
            "block-size" => self.block_size = Some(wanted()?.parse()?),
            "physical-block" => self.physical_block = Some(wanted()?.parse()?),
            "lun" => {
                self.lun = wanted()?.parse().map_err(|_| {
                    let value = value.unwrap_or_default();
                    ValueError::new(format!("lun={value} is not a LUN number"), format!("use 0 to {LUN_MAX}"))
                })?;
            }
            "iqn" => self.iqn = Some(wanted()?.parse()?),
            "auth" => self.auth = Some(wanted()?.parse()?),
            "alua" => self.alua = Some(wanted()?.parse()?),
            "sanitize-rate" => self.sanitize_rate = Some(wanted()?.parse()?),
            "encryption" => self.encryption = Some(wanted()?.parse()?),
            "encryption-key" => self.encryption_key = Some(wanted()?.into()),
            "stage" => self.stage = Some(wanted()?.parse()?),
            "on-lost" => self.on_lost = Some(wanted()?.parse()?),
            "grace" => self.grace = Some(wanted()?.parse()?),
            "hold" => self.hold = Some(wanted()?.parse()?),
            _ => {
                return Err(ValueError::new(
                    format!("`{key}` is not an option of a target"),
                    "use clone=, ro, removable, thin, block-size=, physical-block=, lun=, iqn=, auth=, alua=, sanitize-rate=, \
                     encryption=, encryption-key=, stage=, on-lost=, grace= or hold=; write a comma in a path twice",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_language() {
        let text = "debian=gold,,en.img,clone=ephemeral,lun=1,iqn=iqn.2026-11.io.example:d,auth=chap,alua=explicit,stage=os,on-lost=fresh,\
                    grace=90s,hold=4h";
        let target: TargetConfig = text.parse().unwrap();
        assert_eq!(target.name, "debian");
        assert_eq!(target.path, PathBuf::from("gold,en.img"));
        assert_eq!(target.clone, CloneKind::Ephemeral);
        assert_eq!(target.lun, 1);
        assert_eq!(target.target_iqn().as_str(), "iqn.2026-11.io.example:d");
        assert_eq!(target.auth, Some(AuthMethod::Chap));
        assert_eq!(target.alua, Some(AluaRule::Explicit));
        assert_eq!(target.stage, Some(StageRule::Os));
        assert_eq!(target.on_lost, Some(OnLost::Fresh));
        assert_eq!(target.grace, Some(Period::seconds(90)));
        assert_eq!(target.hold, Some(Period::seconds(4 * 3600)));
        let plain: TargetConfig = "data=/a=b.raw,ro".parse().unwrap();
        assert_eq!((plain.path, plain.ro, plain.clone), (PathBuf::from("/a=b.raw"), true, CloneKind::None));
        let persona: TargetConfig = "t=t.raw,removable,thin,block-size=4K".parse().unwrap();
        assert!(persona.removable && persona.thin && !persona.ro);
        assert_eq!((persona.block_bytes(), persona.physical_bytes()), (4096, 4096));
        let old: TargetConfig = "t=t.raw,physical-block=512".parse().unwrap();
        assert_eq!((old.block_bytes(), old.physical_bytes()), (512, 512));
        let slow: TargetConfig = "t=t.raw,sanitize-rate=200M".parse().unwrap();
        assert_eq!(slow.sanitize_rate.map(|rate| rate.0), Some(200 << 20));
        let secret: TargetConfig = "t=t.raw,encryption=aes-xts,encryption-key=/k".parse().unwrap();
        assert_eq!((secret.encryption, secret.encryption_key), (Some(Encryption::AesXts), Some("/k".into())));
        assert_eq!("x=y".parse::<TargetConfig>().unwrap().target_iqn().as_str(), "iqn.2026-11.io.stampede:x");
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (text, why) in [
            ("debian", "names no image"),
            ("", "names no image"),
            ("Debian=x", "capital letter"),
            ("=x", "it is empty"),
            ("d=", "the path is empty"),
            ("d=x,lun=16384", "too large"),
            ("d=x,lun=-1", "not a LUN number"),
            ("d=x,lun=99999", "not a LUN number"),
            ("d=x,lun", "needs a value"),
            ("d=x,ro=1", "takes no value"),
            ("d=x,ro,ro", "given twice"),
            ("d=x,clone=persistent", "is not a kind of clone"),
            ("d=x,clone=ephemeral,ro", "exclude each other"),
            ("d=x,clone=ephemeral,thin", "go together anyway"),
            ("d=x,removable=yes", "takes no value"),
            ("d=x,block-size=1024", "is not offered"),
            ("d=x,physical-block=8K", "is not offered"),
            ("d=x,block-size=4096,physical-block=512", "smaller than a logical one"),
            ("d=x,stage=os", "means nothing without clones"),
            ("d=x,hold=1h", "means nothing without clones"),
            ("d=x,clone=ephemeral,stage=bios", "is not a stage rule"),
            ("d=x,auth=srp", "is not a way to prove who one is"),
            ("d=x,sanitize-rate=0", "never be done"),
            ("d=x,sanitize-rate=1M,ro", "means nothing where no image"),
            ("d=x,sanitize-rate=1M,clone=ephemeral", "means nothing where no image"),
            ("d=x,encryption=rot13", "is not a way of encryption"),
            ("d=x,encryption=aes-xts,clone=ephemeral", "is not for `clone=ephemeral`"),
            ("d=x,encryption-key=/k", "means nothing without encryption"),
            ("d=x,alua=both", "is not a rule for asymmetric access"),
            ("d=x,iqn=foo", "not an iSCSI name"),
            ("d=x,size=3", "is not an option of a target"),
            ("d=a,b.img", "write a comma in a path twice"),
        ] {
            let error = text.parse::<TargetConfig>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
