//! The image formats that there are: the plugins that are part of this program, and those of `--plugin-dir`.

use std::path::{Path, PathBuf};

use clap::Args;
use stampede_plugin::Format;
use stampede_plugin_host::{Host, Limits, Plugins};

use crate::Failure;

/// Images that one command may have open, parents too; and an instance for each plugin while it is loaded.
const INSTANCES_MAX: u32 = 512;

/// Where plugins come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct PluginArgs {
    /// A folder with plugins (*.wasm), which are added to those that this program has with it, or replace what has their name.
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(crate) plugin_dir: Option<PathBuf>,
}

/// The plugins.
pub(crate) struct Formats(Plugins);

impl Formats {
    /// Loads all plugins.
    pub(crate) fn load(arguments: &PluginArgs) -> Result<Self, Failure> {
        let limits = Limits { instances_max: INSTANCES_MAX, ..Limits::default() };
        let host = Host::new(limits, cache_folder().as_deref()).map_err(Failure::runtime)?;
        let plugins = Plugins::load(&host, arguments.plugin_dir.as_deref()).map_err(Failure::usage)?;
        Ok(Self(plugins))
    }
}

impl stampede_chain::Formats for Formats {
    fn instance(&self, format: &str, image: &Path) -> Option<Result<Box<dyn Format>, String>> {
        let found = self.0.image(format, &image.display().to_string())?;
        Some(found.map(|instance| -> Box<dyn Format> { instance }).map_err(|error| error.to_string()))
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(_, plugin)| plugin.name().to_string()).collect()
    }
}

/// Where compiled plugins are kept: the folder that systemd gives, or the user's.
fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("CACHE_DIRECTORY")
        .or_else(|| folder("XDG_CACHE_HOME").map(|base| base.join("stampede")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/stampede")))?;
    Some(base.join("plugins"))
}
