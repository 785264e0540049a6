//! What a test finds: targets, logical units and limits, the same on both sides.

use crate::failure::Outcome;
use crate::link::Link;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The name before each target's own.
pub const PREFIX: &str = "iqn.2026-11.io.stampede:";
/// A target whose LUN 0 is a disk.
pub const DATA: &str = "iqn.2026-11.io.stampede:data";
/// A target without a LUN 0: its disk is LUN 1.
pub const ODD: &str = "iqn.2026-11.io.stampede:odd";
/// A target whose LUN 0 is an ephemeral clone for each initiator.
pub const CLONE: &str = "iqn.2026-11.io.stampede:clone";
/// Where a target that has moved sends its initiators.
pub const ELSEWHERE: &str = "192.0.2.77:3260";
/// A target that has moved for ever.
pub const GONE: &str = "iqn.2026-11.io.stampede:gone";
/// Who may log in where CHAP is wanted.
pub const USER: &str = "alice";
/// What that user knows.
pub const SECRET: &str = "correct horse battery";
/// As whom the target answers.
pub const TARGET_USER: &str = "storage";
/// What the target knows.
pub const TARGET_SECRET: &str = "staple of another kind";
/// The portal group of all.
pub const PORTAL_GROUP: u16 = 1;
/// Logical blocks of every unit.
pub const BLOCKS: u64 = 8192;
/// Bytes of a logical block.
pub const BLOCK: usize = 512;

/// What a test wants of the target it runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Shards; the units are dealt out to them.
    pub shards: u16,
    /// Commands of one session at once.
    pub commands: u16,
    /// From accepting a connection to the end of its login, seconds.
    pub login_timeout_s: u32,
    /// At the end: how long initiators have until their sessions are closed, seconds.
    pub drain_timeout_s: u32,
    /// Silence after which an initiator is pinged, seconds; 0 for never. The daemon has no such setting: on the twin
    /// alone.
    pub ping_interval_s: u32,
    /// Targets besides the usual three, which nobody logs in to.
    pub extra_targets: u16,
    /// Clones of the clone target at once.
    pub clones: u32,
    /// Bytes a second that SANITIZE writes to the ordinary disk at most; 0 for no limit.
    pub sanitize_rate: u64,
    /// The ordinary disk is encrypted. On the twin none is.
    pub encrypted: bool,
    /// The ordinary target has moved for now, and [`GONE`] for ever.
    pub redirects: bool,
    /// Initiators must prove themselves by CHAP, in discovery too, but for the target without LUN 0.
    pub chap: bool,
}

impl Site {
    /// An ordinary one.
    pub const PLAIN: Self = Self {
        shards: 1,
        commands: 128,
        login_timeout_s: 15,
        drain_timeout_s: 10,
        ping_interval_s: 0,
        extra_targets: 0,
        clones: 16,
        sanitize_rate: 0,
        encrypted: false,
        redirects: false,
        chap: false,
    };

    /// One where a session may have four commands at once.
    pub const NARROW: Self = Self { commands: 4, ..Self::PLAIN };
}

impl Site {
    /// Makes the images and a configuration of them in `folder`, and returns the configuration's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_config(&self, folder: &Path) -> Outcome<PathBuf> {
        let mut text = format!("limits.clones = {}\n", self.clones);
        if self.chap {
            text.push_str("auth = 'chap'\ndiscovery-auth = 'chap'\n");
            text.push_str(&format!("[[chap]]\nuser = '{USER}'\nsecret = '{SECRET}'\n"));
            text.push_str(&format!("[[chap-mutual]]\nuser = '{TARGET_USER}'\nsecret = '{TARGET_SECRET}'\n"));
        }
        if self.redirects {
            for (target, permanent) in [(DATA, false), (GONE, true)] {
                let permanent = format!("to = '{ELSEWHERE}'\npermanent = {permanent}\n");
                text.push_str(&format!("[[redirect]]\ntarget = '{target}'\n{permanent}"));
            }
        }
        let rate = match self.sanitize_rate {
            0 => "thin = true\n".to_owned(),
            rate => format!("thin = true\nsanitize-rate = '{rate}'\n"),
        };
        let encryption = if self.encrypted { "encryption = 'aes-xts'\n" } else { "" };
        let data = format!("{rate}{encryption}");
        let usual = [
            ("data", data.as_str()),
            ("odd", "lun = 1\nauth = 'none'\n"),
            ("clone", "clone = 'ephemeral'\n"),
        ];
        let usual = usual.map(|(name, options)| (name.to_owned(), options));
        let extra = (0..self.extra_targets).map(|number| (format!("extra{number}"), ""));
        for (name, options) in usual.into_iter().chain(extra) {
            File::create(folder.join(&name))?.set_len(BLOCKS * BLOCK as u64)?;
            text.push_str(&format!("[[target]]\nname = '{name}'\npath = '{name}'\n{options}"));
        }
        let path = folder.join("stampede.toml");
        std::fs::write(&path, text)?;
        // Whoever can read it knows the secrets.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(path)
    }
}

/// A target to test.
pub trait Target {
    /// Connects to its portal.
    ///
    /// # Errors
    /// Nobody listens.
    fn connect(&mut self) -> Outcome<Box<dyn Link>>;

    /// The portal as TargetAddress writes it, without the group.
    fn portal(&self) -> String;

    /// Begins to end it in order, as at a shutdown: initiators are asked to log out.
    ///
    /// # Errors
    /// It cannot be told.
    fn drain(&mut self) -> Outcome;

    /// The folder with the images, and the state directory `state`, of a target that has one.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Runs `stampede` with these arguments as its operator would, and waits for its end.
    ///
    /// # Errors
    /// It fails, or this target has no operator.
    fn operate(&mut self, arguments: &[&str]) -> Outcome {
        crate::failure::fail(format!("nobody can run {arguments:?} here"))
    }
}
