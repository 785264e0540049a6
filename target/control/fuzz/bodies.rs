//! What must hold for any bytes. The fuzz targets run these, and so do the property tests of the normal suite.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use stampede_control::config::{Config, ConfigError, TargetConfig, read};

/// A file without a name, whose owner alone may read it: there may be secrets in it.
fn nameless(text: &str) -> (File, PathBuf) {
    use std::os::fd::AsRawFd;
    let file = rustix::fs::memfd_create("config", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("our own file");
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).expect("memory");
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    (file, path)
}

fn effective(text: &str) -> Result<Config, ConfigError> {
    let (_file, path) = nameless(text);
    read(&path)?.effective()
}

/// Any text is a configuration, or a mistake that says where it is and what to do; what is taken is printed as one that
/// reads the same. So are the words of `--target`.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<TargetConfig>() {
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // The path of a secret's file leads out of the input, to whatever there is.
    // An escape could spell it otherwise.
    let escapes =
        ["\\n", "\\t", "\\\"", "\\\\"].iter().fold(text.to_owned(), |text, escape| text.replace(escape, ""));
    if text.contains("file") || escapes.contains('\\') {
        return;
    }
    match effective(text) {
        Err(error) => {
            assert!(!error.what.is_empty() && !error.help.is_empty());
            assert!(!error.to_string().is_empty());
        }
        Ok(config) if config.chap.is_empty() && config.chap_mutual.is_empty() => {
            let printed = config.to_toml();
            let again = effective(&printed).unwrap_or_else(|error| panic!("{error}:\n{printed}"));
            assert_eq!(again, config, "{printed}");
        }
        // Secrets are never printed.
        Ok(config) => drop(config.to_toml()),
    }
}
