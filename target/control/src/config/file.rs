//! The TOML file.

use super::auth::{Algorithm, RawChap, RedirectConfig};
use super::error::{ConfigError, Origin};
use super::target::TargetConfig;
use super::values::{AuthMethod, ByteSize, IrqAffinity, LogFormat, Period, SteeringMode, WarmRule};
use super::{Cores, Numa, Partial, PartialLimits};
use serde::Deserialize;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use zeroize::Zeroizing;

/// The longest configuration file, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// The file's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Raw {
    listen: Vec<SocketAddr>,
    cores: Option<Cores>,
    control_core: Option<u16>,
    numa: Option<Numa>,
    steering: Option<SteeringMode>,
    busy_poll: Option<u32>,
    irq_affinity: Option<IrqAffinity>,
    arena: Option<ByteSize>,
    arena_dir: Option<PathBuf>,
    scratch: Option<PathBuf>,
    scratch_size: Option<ByteSize>,
    cache: Option<ByteSize>,
    warm: Option<WarmRule>,
    buffers: Option<ByteSize>,
    state_dir: Option<PathBuf>,
    control: Option<PathBuf>,
    login_timeout: Option<Period>,
    drain_timeout: Option<Period>,
    nop_interval: Option<Period>,
    limits: PartialLimits,
    log: Option<String>,
    log_format: Option<LogFormat>,
    auth: Option<AuthMethod>,
    discovery_auth: Option<AuthMethod>,
    chap_algorithms: Option<Vec<Algorithm>>,
    chap: Vec<Spanned<RawChap>>,
    chap_mutual: Vec<Spanned<RawChap>>,
    redirect: Vec<Spanned<RedirectConfig>>,
    target: Vec<Spanned<TargetConfig>>,
}

/// Reads a TOML file. Relative paths in it are taken from the file's own directory.
///
/// # Errors
/// The file cannot be read, is not TOML, or has an unknown key or a bad value; the error names the line.
pub fn read(path: &Path) -> Result<Partial, ConfigError> {
    let whole = || Origin::File { path: path.to_owned(), line: 0 };
    let (text, metadata) = read_text(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "give --config the path of an existing file",
            io::ErrorKind::PermissionDenied => "make it readable for the user that runs stampede",
            _ => "give --config a TOML file in UTF-8",
        };
        ConfigError::new(whole(), format!("cannot read the configuration: {error}"), help)
    })?;
    let raw: Raw = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(&text, span.start));
        let help = "`stampede serve --print-config` prints every key with its default";
        ConfigError::new(Origin::File { path: path.to_owned(), line }, error.message().trim_end(), help)
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    raw.into_partial(path, &text, base, &metadata)
}

/// The file's text, which may have secrets in it, and its metadata.
fn read_text(path: &Path) -> io::Result<(Zeroizing<String>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 > FILE_MAX {
        true => Err(io::Error::other(format!("it is longer than {FILE_MAX} bytes"))),
        false => Ok((text, metadata)),
    }
}

/// The line, from 1, of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

impl Raw {
    fn into_partial(
        self,
        path: &Path,
        text: &str,
        base: &Path,
        metadata: &Metadata,
    ) -> Result<Partial, ConfigError> {
        let origin =
            |span: Range<usize>| Origin::File { path: path.to_owned(), line: line_of(text, span.start) };
        let chap = |entries: Vec<Spanned<RawChap>>| {
            let entry = |spanned: Spanned<RawChap>| {
                let origin = origin(spanned.span());
                Ok((origin.clone(), spanned.into_inner().finish(&origin, metadata, base)?))
            };
            entries.into_iter().map(entry).collect::<Result<Vec<_>, ConfigError>>()
        };
        let targets = self.target.into_iter().map(|spanned| {
            let origin = origin(spanned.span());
            let mut target = spanned.into_inner();
            target.path = base.join(&target.path);
            (origin, target)
        });
        Ok(Partial {
            listen: self.listen,
            cores: self.cores,
            control_core: self.control_core,
            numa: self.numa,
            steering: self.steering,
            busy_poll: self.busy_poll,
            irq_affinity: self.irq_affinity,
            arena: self.arena,
            arena_dir: self.arena_dir.map(|dir| base.join(dir)),
            scratch: self.scratch.map(|path| base.join(path)),
            scratch_size: self.scratch_size,
            cache: self.cache,
            warm: self.warm,
            buffers: self.buffers,
            state_dir: self.state_dir.map(|dir| base.join(dir)),
            control: self.control.map(|socket| base.join(socket)),
            login_timeout: self.login_timeout,
            drain_timeout: self.drain_timeout,
            nop_interval: self.nop_interval,
            limits: self.limits,
            log: self.log,
            log_format: self.log_format,
            auth: self.auth,
            discovery_auth: self.discovery_auth,
            chap_algorithms: self.chap_algorithms,
            chap: chap(self.chap)?,
            chap_mutual: chap(self.chap_mutual)?,
            redirects: self
                .redirect
                .into_iter()
                .map(|spanned| (origin(spanned.span()), spanned.into_inner()))
                .collect(),
            targets: targets.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CloneKind, Config};
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)?.finish()
    }

    #[test]
    fn a_whole_file() {
        let config = parse(
            "listen = ['127.0.0.1:3260', '[::1]:3261']\ncores = '0,2-3,numa1'\ncontrol-core = 1\nnuma = 0\nbusy-poll = 50\nirq-affinity = 'report'\narena = '2G'\ncache = '512M'\nwarm = 'all'\n\
             arena-dir = 'arena'\nstate-dir = 'state'\nscratch = 'spill'\nscratch-size = '8G'\n\
             buffers = 8388608\nlogin-timeout = 20\n[limits]\ncommands = 64\n\
             [[target]]\nname = 'debian'\npath = 'golden.img'\nclone = 'ephemeral'\nstage = 'os'\n\
             [[target]]\nname = 'data'\npath = '/srv/disk.raw'\n",
        )
        .unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.cores, "0,2-3,numa1".parse().unwrap());
        assert_eq!(config.irq_affinity, IrqAffinity::Report);
        assert_eq!((config.numa, config.busy_poll), ("0".parse().unwrap(), 50));
        assert_eq!(config.control_core, Some(1));
        assert_eq!((config.arena, config.buffers), (ByteSize(2 << 30), ByteSize(8 << 20)));
        assert_eq!(config.cache, ByteSize(512 << 20));
        assert!(config.arena_dir.is_some_and(|path| path.is_absolute()), "relative to the file");
        assert!(config.scratch.is_some_and(|path| path.is_absolute()), "relative to the file");
        assert_eq!(config.scratch_size, Some(ByteSize(8 << 30)));
        assert_eq!(config.warm, WarmRule::All);
        assert_eq!(config.login_timeout, Period::seconds(20));
        assert_eq!((config.limits.commands, config.limits.clones), (64, 4096));
        assert_eq!(config.targets[0].clone, CloneKind::Ephemeral);
        assert!(config.targets[0].path.is_absolute(), "relative to the file");
        assert_eq!(config.targets[1].path, Path::new("/srv/disk.raw"));
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, line, what) in [
            ("listen = ['127.0.0.1:3260']\ncoers = '0'\n", 2, "unknown field `coers`"),
            ("\n\narena = 'much'\n", 3, "`much` is not a size"),
            ("cores = '0'\ncores = '1'\n", 2, "duplicate key"),
            ("listen = ['here']\n", 1, "invalid socket address"),
            ("steering = 'ntuple'\n", 1, "`ntuple` is not a way of steering"),
            ("[[target]]\nname = 'a'\npath = 'a'\nsize = 3\n", 4, "unknown field `size`"),
            ("[[target]]\nname = 'a'\n", 1, "missing field `path`"),
            ("[limits]\ncommands = 100000\n", 2, "invalid value"),
            ("a = = 2\n", 1, ""),
            (
                "[[target]]\nname = 'a'\npath = 'a'\n\n[[target]]\nname = 'a'\npath = 'b'\n",
                5,
                "two targets of one name",
            ),
            ("[[target]]\nname = 'a'\npath = 'a'\nstage = 'os'\n", 1, "means nothing without clones"),
            ("[[target]]\nname = 'a'\npath = 'a'\niqn = 'IQN.x'\n", 4, "capital letter"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error}");
            let Origin::File { line: at, .. } = error.origin else { panic!("{error}") };
            assert_eq!(at, line, "{text}: {error}");
            assert!(!error.help.is_empty());
        }
    }

    #[test]
    fn a_missing_file_says_so() {
        let error = read(Path::new("/nonexistent/s.toml")).unwrap_err();
        assert!(error.to_string().contains("cannot read the configuration"), "{error}");
        assert!(error.help.contains("existing file"));
    }
}
