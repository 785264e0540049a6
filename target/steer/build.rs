//! Passes the places of the eBPF programs that `scripts/guests` has built on to be embedded.

#![forbid(unsafe_code)]

use std::path::Path;

use stampede_embed::Guests;

const PROGRAMS: Guests =
    Guests { what: "the eBPF programs", sums: "ebpf.sum", sources: "ebpf", endings: &[] };

fn main() {
    match stampede_embed::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), PROGRAMS) {
        Ok(folder) => {
            println!("cargo::rustc-env=STAMPEDE_REUSEPORT={}", folder.join("reuseport").display())
        }
        Err(error) => {
            println!("cargo::error={error}: run `scripts/guests` (and once before, `scripts/setup --build`)")
        }
    }
}
