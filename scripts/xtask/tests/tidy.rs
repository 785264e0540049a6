//! Style as a test: crate edges, cargo's output folder, file size, where `unsafe` may be, banned calls, stray files.
//!
//! Each test collects every problem it finds and fails with the whole list, so that one run is enough to mend them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Who may depend on whom: ARCHITECTURE.md's one direction. The simulator is for tests alone.
const EDGES: &[(&str, &[&str])] = &[
    ("stampede-wire", &[]),
    ("stampede-scsi", &["wire"]),
    ("stampede-session", &["wire", "scsi"]),
    ("stampede-plugin", &[]),
    ("stampede-guest", &["plugin"]),
    ("stampede-format-raw", &["plugin", "guest"]),
    ("stampede-format-vhd", &["plugin", "guest"]),
    ("stampede-format-qcow2", &["plugin", "guest"]),
    ("stampede-image", &["plugin"]),
    ("stampede-chain", &["plugin", "image", "ring"]),
    ("stampede-ring", &[]),
    ("stampede-ebpf-common", &[]),
    ("stampede-reuseport", &["ebpf-common"]),
    ("stampede-embed", &[]),
    ("stampede-component", &[]),
    ("stampede-test-evil", &["plugin", "guest"]),
    ("stampede-plugin-host", &["plugin", "embed"]),
    ("stampede-steer", &["ring", "ebpf-common", "embed"]),
    ("stampede-sim", &["ring", "wire"]),
    ("stampede-engine", &["wire", "scsi", "session", "image", "ring"]),
    ("stampede-control", &["wire", "scsi", "session", "image", "ring", "steer", "engine"]),
    (
        "stampede",
        &[
            "wire",
            "scsi",
            "session",
            "image",
            "ring",
            "steer",
            "engine",
            "control",
            "plugin",
            "chain",
            "plugin-host",
        ],
    ),
    ("stampede-conformance", &["wire", "scsi", "session", "image", "ring", "sim", "engine", "control"]),
    ("stampede-initiator", &["wire", "ring"]),
    ("stampede-verify", &[]),
    ("stampede-report", &[]),
    ("stampede-trace", &[]),
    ("stampede-capture", &["wire", "trace"]),
    ("storm", &["wire", "ring", "initiator", "report", "trace", "capture", "verify"]),
    ("stampede-null-target", &["wire", "ring", "report"]),
    ("compare", &["report"]),
    ("stampede-bench", &["wire", "scsi", "session", "image", "ring", "sim", "engine"]),
    ("xtask", &[]),
];
/// Crates that may use the simulator in their tests.
const SIMULATED: &[&str] = &["stampede-ring", "stampede-engine", "stampede-control", "stampede"];
/// Crates that may hold `unsafe`; each block there says why it is sound.
const UNSAFE_CRATES: &[&str] =
    &["target/ring", "target/steer", "ebpf/reuseport", "plugins/guest", "target/plugin-host"];
/// Workspaces: the product's, and those whose crates run inside something else.
const WORKSPACES: &[&str] = &["Cargo.toml", "ebpf/Cargo.toml", "plugins/Cargo.toml"];
/// Crates into which time, bytes and randomness come as arguments.
const PURE_CRATES: &[&str] = &["wire", "scsi", "session", "image", "engine", "sim"];
/// Longest Rust file, in lines; a file that nears it wants to be split by state.
const LINES_MAX: usize = 800;
/// Largest file, in bytes, but for lock files.
const FILE_BYTES_MAX: u64 = 400_000;
/// What may stand at the top of the repository.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "bench",
    "clippy.toml",
    "deny.toml",
    "docs",
    "ebpf",
    "perf",
    "plugins",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
    "target",
];
/// What a pure crate must not name outside its tests, and why.
const BANNED_IN_PURE: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("thread::sleep", "nothing waits in a pure crate"),
    ("TcpStream", "bytes come in and go out as arguments"),
    ("TcpListener", "bytes come in and go out as arguments"),
    ("UdpSocket", "bytes come in and go out as arguments"),
    ("RandomState", "a seed must replay a run"),
    ("collections::HashMap", "its hasher is seeded at random"),
    ("collections::HashSet", "its hasher is seeded at random"),
];
/// What no library prints: the daemon alone talks to the terminal.
const BANNED_PRINTS: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the root").to_path_buf()
}

fn metadata(workspace: &str) -> Metadata {
    MetadataCommand::new()
        .current_dir(root())
        .manifest_path(root().join(workspace))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("cargo metadata answers")
}

/// Files that git tracks or would add, relative to the root.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let names: BTreeSet<&str> = listing.split('\0').filter(|name| !name.is_empty()).collect();
    names.into_iter().map(PathBuf::from).filter(|name| root().join(name).is_file()).collect()
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let is_rust = |name: &PathBuf| name.extension().is_some_and(|extension| extension == "rs");
    files().into_iter().filter(is_rust).map(|name| (name.clone(), text(&name))).collect()
}

fn text(name: &Path) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_default()
}

/// The folder below `target/` that a file belongs to: the crate's short name.
fn crate_of(name: &Path) -> Option<&str> {
    name.strip_prefix("target").ok()?.iter().next()?.to_str()
}

fn is_test_file(name: &Path) -> bool {
    let is = |part: &str| name.iter().any(|piece| piece == part);
    is("tests") || is("benches") || is("examples") || name.ends_with("tests.rs")
}

/// The lines of code with their numbers: no comments, and nothing from `#[cfg(test)] mod` on (tests come last).
fn code(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod "))
        .unwrap_or(lines.len());
    let mut kept = Vec::new();
    for (index, line) in lines[..tests].iter().enumerate() {
        let line = line.trim();
        if !line.starts_with("//") {
            kept.push((index + 1, line.split(" // ").next().unwrap_or(line)));
        }
    }
    kept
}

/// `word` as a whole identifier: `unsafe` but not `unsafe_code`.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|piece| piece == word)
}

fn report(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn crate_edges_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut problems = Vec::new();
    let workspaces: Vec<Metadata> = WORKSPACES.iter().map(|workspace| metadata(workspace)).collect();
    for package in workspaces.iter().flat_map(Metadata::workspace_packages) {
        let name = package.name.as_str();
        let Some(edges) = allowed.get(name) else {
            problems.push(format!("{name} is not in this test's table of crates"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let other = dependency.name.trim_start_matches("stampede-");
            let simulated =
                other == "sim" && dependency.kind == DependencyKind::Development && SIMULATED.contains(&name);
            // The daemon's tests run the conformance suite against it.
            let suite = other == "conformance"
                && dependency.kind == DependencyKind::Development
                && name == "stampede";
            // Tests may use the format plugins as libraries: then they compile no sandbox.
            let plugin = other.starts_with("format-") && dependency.kind == DependencyKind::Development;
            // A crate's tests may switch on a feature of their own crate.
            let own = dependency.name == name && dependency.kind == DependencyKind::Development;
            if !edges.contains(&other) && !simulated && !suite && !plugin && !own {
                problems.push(format!("{name} -> {other} ({:?})", dependency.kind));
            }
        }
    }
    report("crate edges that point back", &problems);
}

#[test]
fn cargo_builds_outside_the_source_folder() {
    let source = root().join("target");
    for workspace in WORKSPACES {
        let metadata = metadata(workspace);
        assert!(
            !metadata.target_directory.as_std_path().starts_with(&source),
            "cargo would build into {}, where the source is: run from the root, or export CARGO_TARGET_DIR=build",
            source.display()
        );
    }
}

#[test]
fn rust_files_stay_small() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{}: {lines} lines, more than {LINES_MAX}", name.display()));
        }
    }
    report("files to split", &problems);
}

#[test]
fn every_module_says_what_it_is() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        if !text.starts_with("//!") {
            problems.push(name.display().to_string());
        }
    }
    report("files that do not start with `//!`", &problems);
}

#[test]
fn unsafe_stays_in_its_crates() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        if UNSAFE_CRATES.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.starts_with("//") && !line.contains('"') && has_word(line, "unsafe") {
                problems.push(format!("{}:{}: unsafe", name.display(), index + 1));
            }
        }
        let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
        if is_root && !text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{}: wants #![forbid(unsafe_code)]", name.display()));
        }
    }
    report("unsafe outside of its crates", &problems);
}

#[test]
fn pure_crates_stay_pure() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let pure = crate_of(&name).is_some_and(|owner| PURE_CRATES.contains(&owner));
        if !pure || is_test_file(&name) {
            continue;
        }
        for (number, line) in code(&text) {
            for (banned, why) in BANNED_IN_PURE {
                if line.contains(banned) {
                    problems.push(format!("{}:{number}: {banned}: {why}", name.display()));
                }
            }
        }
    }
    report("calls that a pure crate must not make", &problems);
}

#[test]
fn libraries_do_not_print() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let library = crate_of(&name).is_some_and(|owner| owner != "daemon");
        // A build script speaks to cargo by printing.
        if !library || is_test_file(&name) || name.ends_with("build.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let prints = |banned: &str| {
                line.find(banned).is_some_and(|at| !line[..at].ends_with(|c: char| c.is_alphanumeric()))
            };
            if BANNED_PRINTS.iter().any(|banned| prints(banned)) {
                problems.push(format!("{}:{number}: a library logs, it does not print", name.display()));
            }
        }
    }
    report("prints in libraries", &problems);
}

#[test]
fn nothing_lies_about() {
    let mut problems = Vec::new();
    for name in files() {
        let top = name.iter().next().and_then(|piece| piece.to_str()).unwrap_or_default();
        if !TOP_LEVEL.contains(&top) {
            problems.push(format!("{}: not part of the layout", name.display()));
        }
        let Ok(content) = std::fs::read(root().join(&name)) else { continue };
        let is_lock = name.extension().is_some_and(|extension| extension == "lock");
        if content.len() as u64 > FILE_BYTES_MAX && !is_lock {
            problems.push(format!("{}: {} bytes, more than {FILE_BYTES_MAX}", name.display(), content.len()));
        }
        // Seeds of a fuzz target are bytes by nature, and small.
        let is_seed = name.components().any(|piece| piece.as_os_str() == "corpus") && content.len() < 4096;
        if !is_seed && content.iter().take(8192).any(|byte| *byte == 0) {
            problems.push(format!("{}: a binary file", name.display()));
        }
    }
    report("stray files", &problems);
}

#[cfg(unix)]
#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut problems = Vec::new();
    for name in files().into_iter().filter(|name| name.starts_with("scripts") || name.starts_with(".ci")) {
        let text = text(&name);
        let is_command = name.starts_with(".ci") || (name.starts_with("scripts") && name.iter().count() == 2);
        if !is_command {
            continue;
        }
        let mode = std::fs::metadata(root().join(&name)).map(|found| found.permissions().mode()).unwrap_or(0);
        if mode & 0o111 == 0 {
            problems.push(format!("{}: not executable", name.display()));
        }
        let steady = text.contains("lib/common.sh")
            || (text.contains("set -euo pipefail") && text.contains("CARGO_TARGET_DIR"));
        if !text.starts_with("#!/usr/bin/env bash\n") || !steady {
            problems
                .push(format!("{}: wants bash, `set -euo pipefail` and CARGO_TARGET_DIR", name.display()));
        }
    }
    report("scripts", &problems);
}
