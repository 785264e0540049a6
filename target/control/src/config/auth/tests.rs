//! Tests of `auth`: what is taken, and what every mistake says.

use super::super::{AuthMethod, Config, read};
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A folder with a configuration and files of secrets.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("good", "a secret of a file\n", 0o640);
        folder.write("bare", "a secret of a file", 0o400);
        folder.write("open", "a secret of a file\n", 0o644);
        folder.write("lines", "a secret of a file\nand more\n", 0o600);
        folder.write("short", "too short\n", 0o600);
        folder.write("long", &"x".repeat(300), 0o600);
        folder
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn parse(&self, text: &str, mode: u32) -> Result<Config, ConfigError> {
        self.write("s.toml", text, mode);
        read(&self.0.path().join("s.toml"))?.finish()
    }
}

const TARGET: &str = "[[target]]\nname = 'a'\npath = 'a'\n";

#[test]
fn users_make_chap_the_rule() {
    let folder = Folder::new();
    let config = folder.parse(
        &format!(
            "[[chap]]\nuser = 'file'\nsecret-file = 'good'\n[[chap]]\nuser = 'bare'\nsecret-file = 'bare'\n\
             initiators = ['iqn.2026-11.io.example:host']\n[[chap-mutual]]\nuser = 'us'\nsecret = 'our own secret'\n\
             {TARGET}"
        ),
        0o640,
    );
    let config = config.unwrap();
    assert_eq!((config.auth, config.discovery_auth), (AuthMethod::Chap, AuthMethod::None));
    assert_eq!(config.chap[0].secret, Secret::new(b"a secret of a file").unwrap());
    assert_eq!(config.chap[0].secret, config.chap[1].secret, "the end of the line is not part of it");
    assert_eq!(config.chap[1].initiators[0].as_str(), "iqn.2026-11.io.example:host");
    assert_eq!(config.chap_mutual[0].user, "us");
    assert_eq!(config.chap_algorithms.len(), 4);
    let none = folder.parse(TARGET, 0o644).unwrap();
    assert_eq!(none.auth, AuthMethod::None);
    let shown = format!("{config:?}{}", config.to_toml());
    assert!(!shown.contains("our own secret") && !shown.contains("a secret of a file"), "{shown}");
}

#[test]
fn secrets_of_files_read_back_from_what_is_printed() {
    let folder = Folder::new();
    let text =
        format!("auth = 'chap'\n[[chap]]\nuser = 'u'\nsecret-file = 'good'\ntargets = ['a']\n{TARGET}");
    let config = folder.parse(&text, 0o644).unwrap();
    let again = folder.parse(&config.to_toml(), 0o644).unwrap();
    assert_eq!(again.chap, config.chap);
    assert_eq!(again.to_toml(), config.to_toml());
}

#[test]
fn mistakes_name_line_and_remedy() {
    let folder = Folder::new();
    let user = |rest: &str| format!("[[chap]]\nuser = 'u'\n{rest}\n{TARGET}");
    let good = "[[chap]]\nuser = 'u'\nsecret = 'twelve bytes'\n";
    for (text, line, what, help) in [
        (user(""), 1, "has no secret", "secret-file"),
        (
            user("secret = 'twelve bytes'\nsecret-file = 'good'"),
            1,
            "both secret and secret-file",
            "one of them",
        ),
        (user("secret = 'elevenbytes'"), 1, "11 bytes is too short", "openssl rand"),
        (user("secret-file = 'short'"), 1, "9 bytes is too short", "openssl rand"),
        (user("secret-file = 'long'"), 1, "too long", "openssl rand"),
        (user("secret-file = 'lines'"), 1, "more than one line", "as its only line"),
        (user("secret-file = 'open'"), 1, "others than its owner", "chmod o-rw"),
        (user("secret-file = 'nothing'"), 1, "cannot read the secret", "only line"),
        (user("secret = 123456789012"), 3, "written in quotation marks", "print-config"),
        (user("secret = ['a']"), 3, "expected a secret in quotation marks", "print-config"),
        (user("password = 'twelve bytes'"), 3, "unknown field `password`", "print-config"),
        (user("secret = 'twelve bytes'\ntargets = ['b']"), 1, "`b`, which is no target", "name or the IQN"),
        (
            user("secret = 'twelve bytes'\ndiscovery = true"),
            1,
            "for discovery, which nobody",
            "discovery-auth",
        ),
        (format!("auth = 'none'\n{good}{TARGET}"), 2, "for all targets, which nobody", "auth = \"chap\""),
        (
            format!("{good}targets = ['a']\n{TARGET}auth = 'none'\n"),
            1,
            "for `a`, which nobody",
            "auth = \"chap\"",
        ),
        (format!("{good}{good}{TARGET}"), 4, "`u` is there twice", "once"),
        (format!("[[chap]]\nuser = ''\nsecret = 'twelve bytes'\n{TARGET}"), 1, "name is empty", "1 to 255"),
        (
            format!("{good}[[chap-mutual]]\nuser = 't'\nsecret = 'twelve bytes'\n{TARGET}"),
            1,
            "has the secret of [[chap-mutual]] `t`",
            "different secrets",
        ),
        (
            format!(
                "{good}[[chap-mutual]]\nuser = 't'\nsecret = 'our own secret'\n\
                 [[chap-mutual]]\nuser = 's'\nsecret = 'our own secret'\n{TARGET}"
            ),
            7,
            "second name for one target",
            "of its own",
        ),
        (
            format!(
                "{good}[[chap-mutual]]\nuser = 't'\nsecret = 'our own secret'\ninitiators = ['iqn.2026-11.a:b']\n{TARGET}"
            ),
            4,
            "has no initiators",
            "give them to users",
        ),
        (format!("chap-algorithms = ['md4']\n{TARGET}"), 1, "`md4` is not a CHAP algorithm", "print-config"),
        (
            format!("{TARGET}[[redirect]]\ntarget = 'iqn.2026-11.a:b'\nto = 'here'\n"),
            6,
            "`here` is not a portal",
            "print-config",
        ),
        (
            format!(
                "{TARGET}{}",
                "[[redirect]]\ntarget = 'iqn.2026-11.a:b'\nto = '192.0.2.1:3260'\n".repeat(2)
            ),
            7,
            "redirected twice",
            "once",
        ),
    ] {
        let error = folder.parse(&text, 0o600).unwrap_err();
        assert!(error.what.contains(what), "{text}: {error}");
        assert!(error.help.contains(help), "{text}: {error}");
        let Origin::File { line: at, .. } = error.origin else { panic!("{error}") };
        assert_eq!(at, line, "{text}: {error}");
        assert!(!error.to_string().contains("123456789012"), "{error}");
    }
    for (text, key, what) in [
        (format!("auth = 'chap'\n{TARGET}"), "auth", "no user for it"),
        (format!("discovery-auth = 'chap'\n{TARGET}"), "discovery-auth", "no user for it"),
        (format!("chap-algorithms = []\n{TARGET}"), "chap-algorithms", "there is none"),
    ] {
        let error = folder.parse(&text, 0o600).unwrap_err();
        assert_eq!(error.origin, Origin::Setting(key), "{error}");
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_refused() {
    let folder = Folder::new();
    let text = format!("[[chap]]\nuser = 'u'\nsecret = 'twelve bytes'\n{TARGET}");
    for (mode, taken) in [(0o600, true), (0o660, true), (0o644, false), (0o602, false)] {
        let result = folder.parse(&text, mode);
        assert_eq!(result.is_ok(), taken, "{mode:o}");
        if let Err(error) = result {
            assert!(error.what.contains("there is a secret in this file"), "{error}");
        }
    }
}

#[test]
fn portals_are_addresses_or_names_with_a_port() {
    for good in ["192.0.2.2:3260", "[2001:db8::2]:3260", "storage-2.example:860"] {
        assert_eq!(good.parse::<PortalAddress>().unwrap().as_str(), good);
    }
    for bad in [
        "",
        "192.0.2.2",
        "[2001:db8::2]",
        ":3260",
        "host:0",
        "host:x",
        "a b:3260",
        "a,1:3260",
        "192.0.2.2:3260,1",
    ] {
        assert!(bad.parse::<PortalAddress>().is_err(), "{bad}");
    }
}
