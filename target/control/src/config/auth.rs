//! Who must prove who it is: users and secrets of CHAP, and where redirected targets are.
//!
//! Secrets are in the file only, never among flags, which every user of a machine can see; and a file with secrets
//! must not be readable for everybody.

use super::error::{ConfigError, Origin};
use super::name::IscsiName;
use super::values::{AuthMethod, ValueError};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use stampede_session::{ChapAlgorithm, SECRET_MAX, Secret, is_chap_name};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The bits of a file's mode that let others than its owner and group read or write it.
const MODE_OTHERS: u32 = 0o006;

/// A CHAP name with its secret, and for what it counts: a user who may log in, or what the target calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapConfig {
    /// CHAP_N.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
    /// The file that the secret came from, if it is not in the configuration itself.
    pub secret_file: Option<PathBuf>,
    /// For these targets only: names or IQNs.
    pub targets: Vec<String>,
    /// For discovery sessions.
    pub discovery: bool,
    /// Users only: by these initiator names only.
    pub initiators: Vec<IscsiName>,
}

impl ChapConfig {
    /// Whether it names neither targets nor discovery: then it counts for all of them.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.targets.is_empty() && !self.discovery
    }
}

/// Where a target is that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RedirectConfig {
    /// Its IQN. It may be one that is served here too, which nobody gets then.
    pub target: IscsiName,
    /// Address and port to log in at instead.
    pub to: PortalAddress,
    /// Whether initiators may remember it.
    #[serde(default)]
    pub permanent: bool,
}

/// Address or host name with a port, as TargetAddress has it (RFC 7143 13.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalAddress(String);

impl PortalAddress {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for PortalAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_host = |host: &str| {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        let by_name = text
            .rsplit_once(':')
            .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0));
        match by_name || text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0) {
            true => Ok(Self(text.to_owned())),
            false => Err(ValueError::new(
                format!("`{text}` is not a portal"),
                "write address and port, as in 192.0.2.2:3260, [2001:db8::2]:3260 or storage2.example:3260",
            )),
        }
    }
}

/// A CHAP algorithm as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm(pub ChapAlgorithm);

/// The words for algorithms.
const ALGORITHMS: [(&str, ChapAlgorithm); 4] = [
    ("sha256", ChapAlgorithm::Sha256),
    ("sha3-256", ChapAlgorithm::Sha3),
    ("sha1", ChapAlgorithm::Sha1),
    ("md5", ChapAlgorithm::Md5),
];

impl std::str::FromStr for Algorithm {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let known = ALGORITHMS.iter().find(|(word, _)| *word == text);
        known.map(|(_, algorithm)| Self(*algorithm)).ok_or_else(|| {
            ValueError::new(
                format!("`{text}` is not a CHAP algorithm"),
                "write sha256, sha3-256, sha1 or md5",
            )
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == self.0).map_or("", |(word, _)| word),
        )
    }
}

/// A `[[chap]]` or `[[chap-mutual]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawChap {
    user: String,
    secret: Option<SecretText>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    discovery: bool,
    #[serde(default)]
    initiators: Vec<IscsiName>,
}

impl RawChap {
    /// Checks it and reads its secret. `file` is the configuration's metadata, `base` its folder.
    pub(super) fn finish(
        self,
        origin: &Origin,
        file: &Metadata,
        base: &Path,
    ) -> Result<ChapConfig, ConfigError> {
        let fail = |what: String, help: &str| Err(ConfigError::new(origin.clone(), what, help));
        if !is_chap_name(&self.user) {
            return fail(
                "the user's name is empty, too long or has control characters".to_owned(),
                "use 1 to 255 bytes",
            );
        }
        let secret_file = self.secret_file.map(|path| base.join(path));
        let text = match (self.secret, &secret_file) {
            (Some(_), Some(_)) => {
                return fail("both secret and secret-file are given".to_owned(), "give one of them");
            }
            (None, None) => {
                let what = format!("user `{}` has no secret", self.user);
                return fail(what, "give secret-file = \"PATH\", or secret = \"...\"");
            }
            (Some(_), None) if file.mode() & MODE_OTHERS != 0 => {
                return fail(
                    "there is a secret in this file, and others than its owner may read or write it"
                        .to_owned(),
                    "chmod o-rw the file, or keep the secret in a secret-file",
                );
            }
            (Some(SecretText(text)), None) => text,
            (None, Some(path)) => read_secret(path).map_err(|error| ConfigError::at(origin, error))?,
        };
        let secret = Secret::new(text.as_bytes()).map_err(|error| {
            let help = "make one with `openssl rand -hex 8`: 16 characters, which Windows takes too";
            ConfigError::new(origin.clone(), format!("user `{}`: {error}", self.user), help)
        })?;
        Ok(ChapConfig {
            user: self.user,
            secret,
            secret_file,
            targets: self.targets,
            discovery: self.discovery,
            initiators: self.initiators,
        })
    }
}

/// The text of a file without the end of its line.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, ValueError> {
    let failed = |error: io::Error| {
        let help = "name a file with the secret as its only line, which the user that runs stampede may read";
        ValueError::new(format!("cannot read the secret in {}: {error}", path.display()), help)
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & MODE_OTHERS != 0 {
        let what = format!("others than its owner may read or write the secret in {}", path.display());
        return Err(ValueError::new(what, "chmod o-rw the file"));
    }
    // Room for all, so that no copy is left where the text grew.
    let mut text = Zeroizing::new(String::with_capacity(2 * SECRET_MAX));
    file.take(SECRET_MAX as u64 + 3).read_to_string(&mut text).map_err(failed)?;
    let len = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(len);
    match text.contains(['\n', '\r']) {
        true => Err(ValueError::new(
            format!("{} has more than one line", path.display()),
            "keep one secret in a file, as its only line",
        )),
        false => Ok(text),
    }
}

/// A secret's text as long as it is being read. Nothing prints it, errors neither.
struct SecretText(Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Answers every type, so that no message of serde's shows a value.
        struct Quiet;

        impl<'de> Visitor<'de> for Quiet {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret in quotation marks")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text.to_owned())))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
                Err(E::custom("a secret is written in quotation marks"))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
                Err(E::custom("a secret is written in quotation marks"))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretText, E> {
                Err(E::custom("a secret is written in quotation marks"))
            }
        }

        deserializer.deserialize_any(Quiet)
    }
}

/// What check needs to know of the targets: each IQN with its names and how it is guarded.
pub(super) struct Guarded<'a> {
    pub(super) iqn: IscsiName,
    pub(super) names: Vec<&'a str>,
    pub(super) auth: AuthMethod,
}

impl Guarded<'_> {
    fn is(&self, name: &str) -> bool {
        self.iqn.as_str() == name || self.names.contains(&name)
    }
}

/// Checks users, the target's own names, and redirections against each other and against the targets.
pub(super) fn check(
    targets: &[Guarded<'_>],
    discovery: AuthMethod,
    users: &[(Origin, ChapConfig)],
    own: &[(Origin, ChapConfig)],
    redirects: &[(Origin, RedirectConfig)],
) -> Result<(), ConfigError> {
    for (at, (origin, user)) in users.iter().enumerate() {
        let fail = |what: String, help: &str| Err(ConfigError::new(origin.clone(), what, help));
        check_places(origin, user, targets, discovery)?;
        if let Some((earlier, _)) = users[..at].iter().find(|(_, other)| other.user == user.user) {
            let what = format!("user `{}` is there twice (the other: {earlier})", user.user);
            return fail(what, "give each user once, with all of its targets");
        }
        // RFC 7143 9.2.1: or who is challenged could have the challenger answer.
        if let Some((_, own)) = own.iter().find(|(_, own)| own.secret == user.secret) {
            let what = format!("user `{}` has the secret of [[chap-mutual]] `{}`", user.user, own.user);
            return fail(what, "initiator and target must prove themselves by different secrets");
        }
    }
    for (at, (origin, entry)) in own.iter().enumerate() {
        let fail = |what: String, help: &str| Err(ConfigError::new(origin.clone(), what, help));
        check_places(origin, entry, targets, discovery)?;
        if !entry.initiators.is_empty() {
            return fail(
                "[[chap-mutual]] has no initiators".to_owned(),
                "leave them out, or give them to users",
            );
        }
        let same_place = |other: &ChapConfig| {
            other.is_for_all() && entry.is_for_all()
                || other.discovery && entry.discovery
                || targets.iter().any(|target| {
                    let named = |entry: &ChapConfig| entry.targets.iter().any(|name| target.is(name));
                    named(other) && named(entry)
                })
        };
        if let Some((earlier, _)) = own[..at].iter().find(|(_, other)| same_place(other)) {
            let what = format!("`{}` is a second name for one target (the other: {earlier})", entry.user);
            return fail(what, "a target has one name and secret of its own");
        }
    }
    check_somebody_may_come(targets, discovery, users)?;
    let mut redirected = BTreeSet::new();
    match redirects.iter().find(|(_, redirect)| !redirected.insert(&redirect.target)) {
        Some((origin, redirect)) => Err(ConfigError::new(
            origin.clone(),
            format!("{} is redirected twice", redirect.target),
            "redirect each target once",
        )),
        None => Ok(()),
    }
}

/// What an entry counts for must be there, and want CHAP.
fn check_places(
    origin: &Origin,
    entry: &ChapConfig,
    targets: &[Guarded<'_>],
    discovery: AuthMethod,
) -> Result<(), ConfigError> {
    let fail = |what: String, help: String| Err(ConfigError::new(origin.clone(), what, help));
    let open = |thing: String, key: &str| {
        fail(
            format!("`{}` is for {thing}, which nobody must prove anything for", entry.user),
            format!("set {key} = \"chap\" there, or leave it out here"),
        )
    };
    for name in &entry.targets {
        match targets.iter().find(|target| target.is(name)) {
            None => {
                let what = format!("`{}` is for `{name}`, which is no target", entry.user);
                return fail(what, "write the name or the IQN of a target".to_owned());
            }
            Some(target) if target.auth == AuthMethod::None => return open(format!("`{name}`"), "auth"),
            Some(_) => {}
        }
    }
    if entry.discovery && discovery == AuthMethod::None {
        return open("discovery".to_owned(), "discovery-auth");
    }
    let any = discovery == AuthMethod::Chap || targets.iter().any(|target| target.auth == AuthMethod::Chap);
    if !any && !targets.is_empty() {
        return open("all targets".to_owned(), "auth");
    }
    Ok(())
}

fn check_somebody_may_come(
    targets: &[Guarded<'_>],
    discovery: AuthMethod,
    users: &[(Origin, ChapConfig)],
) -> Result<(), ConfigError> {
    let help = "add a [[chap]] table to the file of --config; `stampede serve --print-config` shows one";
    let fail = |key: &'static str, what: String| Err(ConfigError::new(Origin::Setting(key), what, help));
    for target in targets.iter().filter(|target| target.auth == AuthMethod::Chap) {
        let may = |user: &ChapConfig| user.is_for_all() || user.targets.iter().any(|name| target.is(name));
        if !users.iter().any(|(_, user)| may(user)) {
            return fail("auth", format!("{} wants CHAP, and there is no user for it", target.iqn));
        }
    }
    let may = |user: &ChapConfig| user.is_for_all() || user.discovery;
    if discovery == AuthMethod::Chap && !users.iter().any(|(_, user)| may(user)) {
        return fail("discovery-auth", "discovery wants CHAP, and there is no user for it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
