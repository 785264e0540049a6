//! A plugin that was loaded.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use stampede_plugin::{Checked, Description, Judge};
use wasmtime::{Engine, component};

use crate::{
    Component, Counters, Host, PluginError,
    bindings::{State, format},
};

/// The magic number of WebAssembly.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module, and of a component.
const CORE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
/// What a format plugin exports and may import, and the version of it that we know.
const IMAGE: &str = "stampede:format/image@";
const IMPORTS: [&str; 2] = ["stampede:format/pages@", "stampede:format/types@"];
const FORMAT_VERSION: &str = "0.1";

/// Which world a plugin is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum World {
    /// An image format; with the version of the world, as the plugin has it.
    Format(String),
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Format(version) => write!(f, "format {version}"),
        }
    }
}

/// A plugin: compiled, and asked what it is.
pub struct Plugin {
    pub(crate) name: String,
    pub(crate) description: Description,
    pub(crate) counters: Counters,
    pub(crate) host: Host,
    pre: format::FormatPre<State>,
    world: World,
    file: String,
    digest: String,
    bytes: usize,
}

impl Plugin {
    pub(crate) fn load(host: &Host, bytes: &[u8], file: &str) -> Result<Arc<Self>, PluginError> {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let component = compile(host, bytes, file, &digest)?;
        let world = world_of(host.engine(), &component, file)?;
        let misfit =
            |error: wasmtime::Error| PluginError::Misfit { file: file.into(), why: format!("{error:#}") };
        let pre =
            host.linker().instantiate_pre(&component).and_then(format::FormatPre::new).map_err(misfit)?;
        let unnamed = Description {
            name: String::new(),
            version: String::new(),
            extensions: Vec::new(),
            writable: false,
            parents: false,
            snapshots: false,
            options: Vec::new(),
        };
        let mut plugin = Self {
            name: file.into(),
            description: unnamed,
            counters: Counters::default(),
            host: host.clone(),
            pre,
            world,
            file: file.into(),
            digest,
            bytes: bytes.len(),
        };
        let broken = |why: String| PluginError::Broken { file: file.into(), why };
        let asked = Arc::new(plugin.twin());
        let description = asked.component("(none)")?.described().map_err(|fail| broken(fail.text))?;
        let verdict = Judge::new(host.limits().bounds).description(&description);
        verdict.map_err(|rule| broken(format!("describe broke a rule: {rule}")))?;
        plugin.name.clone_from(&description.name);
        plugin.description = description;
        Ok(Arc::new(plugin))
    }

    /// The same with counters of its own.
    fn twin(&self) -> Self {
        Self {
            name: self.name.clone(),
            description: self.description.clone(),
            counters: Counters::default(),
            host: self.host.clone(),
            pre: self.pre.clone(),
            world: self.world.clone(),
            file: self.file.clone(),
            digest: self.digest.clone(),
            bytes: self.bytes,
        }
    }

    /// An instance for an image, judged by the host's rules; `image` is what messages call it.
    ///
    /// # Errors
    /// When there are as many instances as there may be, or its start traps.
    pub fn image(self: &Arc<Self>, image: &str) -> Result<Checked<Component>, PluginError> {
        let name = format!("plugin {}, image {image}", self.name);
        Ok(Checked::new(self.component(image)?, name, self.host.limits().bounds))
    }

    /// An instance that nobody judges: for a host that does so itself.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn component(self: &Arc<Self>, image: &str) -> Result<Component, PluginError> {
        let mut store = self.host.store();
        store.data_mut().begin(self.host.limits().slow_call_max);
        store.set_epoch_deadline(1);
        let ticking = self.host.ticker().call();
        let made = self.pre.instantiate(&mut store);
        drop(ticking);
        let exports = made.map_err(|error| PluginError::NoInstance {
            plugin: self.name.clone(),
            image: image.into(),
            why: format!("{error:#} (at most {} at once)", self.host.limits().instances_max),
        })?;
        Ok(Component::new(Arc::clone(self), image.into(), store, exports))
    }

    /// The format's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The world that it is of.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Where it came from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The SHA-256 of the file, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How large the file is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all its instances did together.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Refuses what is no component by its first bytes, and compiles the rest.
fn compile(host: &Host, bytes: &[u8], file: &str, digest: &str) -> Result<component::Component, PluginError> {
    let (file, most) = (String::from(file), host.limits().file_bytes_max);
    if bytes.len() > most {
        return Err(PluginError::TooLarge { file, bytes: bytes.len(), most });
    }
    let Some(layer) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<4>()) else {
        return Err(PluginError::NotWasm { file });
    };
    match *layer {
        COMPONENT => {}
        CORE => return Err(PluginError::CoreModule { file }),
        other => return Err(PluginError::UnknownLayer { file, found: other.to_vec() }),
    }
    if let Some(component) = host.cache().and_then(|cache| cache.find(host.engine(), digest)) {
        return Ok(component);
    }
    let component = component::Component::from_binary(host.engine(), bytes)
        .map_err(|error| PluginError::Invalid { file, why: format!("{error:#}") })?;
    if let Some(cache) = host.cache() {
        cache.keep(digest, &component);
    }
    Ok(component)
}

/// Which world a component is of, by its exports and imports.
fn world_of(engine: &Engine, component: &component::Component, file: &str) -> Result<World, PluginError> {
    let file = String::from(file);
    let kind = component.component_type();
    let exports: Vec<&str> = kind.exports(engine).map(|(name, _)| name).collect();
    let Some(found) = exports.iter().find(|name| name.starts_with(IMAGE)) else {
        let exports = if exports.is_empty() { String::from("nothing") } else { exports.join(", ") };
        return Err(PluginError::WrongWorld { file, exports });
    };
    let version = &found[IMAGE.len()..];
    let known = version.strip_prefix(FORMAT_VERSION).is_some_and(|rest| rest.starts_with('.'));
    if !known {
        return Err(PluginError::WrongVersion { file, found: (*found).into(), known: FORMAT_VERSION });
    }
    let ours = |name: &str| IMPORTS.iter().any(|import| name.starts_with(import));
    if let Some((import, _)) = kind.imports(engine).find(|(name, _)| !ours(name)) {
        return Err(PluginError::UnknownImport { file, import: import.into() });
    }
    Ok(World::Format(version.into()))
}
