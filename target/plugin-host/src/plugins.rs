//! The plugins that there are: those that are part of this program, and those of a folder.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use stampede_plugin::{Checked, Format};

use crate::{Component, Host, Plugin, PluginError};

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is part of this program.
    Shipped,
    /// It lies in the folder of plugins.
    Folder,
}

/// All plugins, by name.
pub struct Plugins(BTreeMap<String, (Origin, Arc<Plugin>)>);

impl Plugins {
    /// What this program has with it; and the files `*.wasm` of a folder, which are added, or replace what has their name.
    ///
    /// # Errors
    /// When a file is no plugin, or two files of the folder have one name.
    pub fn load(host: &Host, folder: Option<&Path>) -> Result<Self, PluginError> {
        let mut plugins = BTreeMap::new();
        for (file, bytes) in SHIPPED {
            let plugin = host.load(bytes, &format!("{file} (shipped)"))?;
            plugins.insert(plugin.name().to_string(), (Origin::Shipped, plugin));
        }
        for plugin in folder.map_or_else(|| Ok(Vec::new()), |folder| of_folder(host, folder))? {
            let name = plugin.name().to_string();
            if let Some((Origin::Folder, other)) = plugins.get(&name) {
                let (first, second) = (other.file().into(), plugin.file().into());
                return Err(PluginError::Twice { name, first, second });
            }
            plugins.insert(name, (Origin::Folder, plugin));
        }
        Ok(Self(plugins))
    }

    /// A plugin by its name.
    pub fn find(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.0.get(name).map(|(_, plugin)| plugin)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, &Arc<Plugin>)> {
        self.0.values().map(|(origin, plugin)| (*origin, plugin))
    }

    /// A fresh instance for an image of this format, judged; `None` when there is no such plugin.
    ///
    /// # Errors
    /// When there is no room for another.
    pub fn image(&self, format: &str, image: &str) -> Option<Result<Box<dyn Format + Send>, PluginError>> {
        let boxed = |checked: Checked<Component>| -> Box<dyn Format + Send> { Box::new(checked) };
        self.find(format).map(|plugin| plugin.image(image).map(boxed))
    }
}

/// The plugins of a folder, by their files' names.
fn of_folder(host: &Host, folder: &Path) -> Result<Vec<Arc<Plugin>>, PluginError> {
    let cannot = |path: &Path, source| PluginError::Read { path: path.into(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| cannot(folder, error))? {
        paths.push(entry.map_err(|error| cannot(folder, error))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    paths.sort();
    let load = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).map_err(|error| cannot(path, error))?;
        host.load(&bytes, &path.display().to_string())
    };
    paths.iter().map(load).collect()
}
