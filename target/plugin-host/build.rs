//! Passes the components that `scripts/plugins` has made of the shipped plugins on to be embedded: a list of names and bytes.

#![forbid(unsafe_code)]

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use stampede_embed::Guests;

const PLUGINS: Guests = Guests {
    what: "the plugins",
    sums: "plugins.sum",
    sources: "plugins",
    endings: &["rs", "toml", "wit", "lock"],
};

fn main() {
    if let Err(error) = list() {
        println!("cargo::error={error}: run `scripts/plugins` (and once before, `scripts/setup --build`)");
    }
}

fn list() -> Result<(), Box<dyn Error>> {
    let guests = stampede_embed::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), PLUGINS)?;
    // What the tests load, and nobody else.
    println!("cargo::rustc-env=STAMPEDE_TEST_EVIL={}", guests.join("test-plugins/test-evil.wasm").display());
    let folder = guests.join("plugins");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending == "wasm"));
    files.sort();
    let mut text = String::from(
        "/// The shipped plugins: the file's name, and the component.\nconst SHIPPED: &[(&str, &[u8])] = &[\n",
    );
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("a plugin's file has no name")?;
        writeln!(text, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())?;
    }
    text.push_str("];\n");
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("shipped.rs"), text)?;
    Ok(())
}
