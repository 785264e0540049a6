//! Why a file is no plugin that we can run.

use std::path::PathBuf;

/// Why a plugin cannot be loaded, or an instance of it be made. Each says which file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no WebAssembly at all.
    #[error(
        "{file}: not a WebAssembly file (it does not begin with `\\0asm`): a plugin is a component, see docs/plugins.md"
    )]
    NotWasm {
        /// The file.
        file: String,
    },
    /// It is a core module.
    #[error(
        "{file}: a core module, where a component is needed: wrap it with `component` (plugins/component) or `wasm-tools component new`"
    )]
    CoreModule {
        /// The file.
        file: String,
    },
    /// It is WebAssembly of a version that there is not.
    #[error(
        "{file}: WebAssembly of an unknown version or layer ({found:02x?}); a component has [0d, 00, 01, 00]"
    )]
    UnknownLayer {
        /// The file.
        file: String,
        /// The four bytes behind the magic number.
        found: Vec<u8>,
    },
    /// It is larger than plugins may be.
    #[error("{file}: {bytes} bytes; a plugin may have {most}")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size in bytes.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It does not compile.
    #[error("{file}: does not compile: {why}")]
    Invalid {
        /// The file.
        file: String,
        /// The compiler's words.
        why: String,
    },
    /// It is a component of another world.
    #[error(
        "{file}: a component, but no plugin: it exports {exports}, where a format plugin exports stampede:format/image@0.1.0"
    )]
    WrongWorld {
        /// The file.
        file: String,
        /// What it exports.
        exports: String,
    },
    /// It is of a version of our world that we do not know.
    #[error(
        "{file}: made for {found}, of which this target knows {known}: build it against that version of plugins/wit"
    )]
    WrongVersion {
        /// The file.
        file: String,
        /// The interface with its version.
        found: String,
        /// The version that we know.
        known: &'static str,
    },
    /// It wants what no host of its world has.
    #[error(
        "{file}: it imports {import}, which the host does not have; a format plugin imports stampede:format/pages alone"
    )]
    UnknownImport {
        /// The file.
        file: String,
        /// What it wants.
        import: String,
    },
    /// It is of our world by name, but a function has another type or is missing.
    #[error("{file}: does not fit its world: {why}")]
    Misfit {
        /// The file.
        file: String,
        /// Which function, and how.
        why: String,
    },
    /// It failed while it was asked what it is, or broke a rule with its answer.
    #[error("{file}: {why}")]
    Broken {
        /// The file.
        file: String,
        /// What it did.
        why: String,
    },
    /// There is no room for another instance.
    #[error("plugin {plugin}, image {image}: no instance can be made: {why}")]
    NoInstance {
        /// The plugin.
        plugin: String,
        /// The image.
        image: String,
        /// Why.
        why: String,
    },
    /// The machine or its configuration cannot run plugins.
    #[error("plugins cannot be run: {why}")]
    Engine {
        /// Why.
        why: String,
    },
    /// Two files have plugins of one name.
    #[error("plugin {name}: both {first} and {second} have it: remove one")]
    Twice {
        /// The plugin.
        name: String,
        /// A file.
        first: String,
        /// The other.
        second: String,
    },
}
