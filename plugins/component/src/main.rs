//! `component MODULE COMPONENT`: wraps a core module, in which a bindings generator has left what world it is of, into a component.
#![forbid(unsafe_code)]

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use wit_component::ComponentEncoder;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, component] = &arguments[..] else {
        bail!("usage: component MODULE COMPONENT");
    };
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("{} cannot be made a component", module.display()))?;
    fs::write(component, encoded).with_context(|| format!("cannot write {}", component.display()))
}
