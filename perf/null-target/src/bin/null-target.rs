//! `null-target`: the limit for an iSCSI target under a given client. See the crate.

#![forbid(unsafe_code)]

use anyhow::ensure;
use clap::Parser;
use stampede_null_target::arguments::Bytes;
use stampede_null_target::iscsi::{Connection, Geometry};
use stampede_null_target::processes::{ServeArguments, Voice, serve};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An iSCSI target that has nothing to do: any login, then canned data and status from memory
///
/// LUN 0 of any target name; iqn.2026-11.io.stampede:null is what discovery says. Writes are taken and dropped.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,
    /// Size of the logical unit, a multiple of 512 bytes; units k, m, g, t
    #[arg(long, value_name = "SIZE", default_value = "1g")]
    size: Bytes,
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null-target: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Bytes(bytes) = arguments.size;
    ensure!(
        bytes > 0 && bytes.is_multiple_of(512),
        "--size {}: a logical unit has whole blocks of 512 bytes, and at least one",
        arguments.size
    );
    let voice = Voice {
        listening: |address| println!("listening on {address}"),
        dropped: |why| eprintln!("connection dropped: {why}"),
    };
    serve::<Connection>(&arguments.serve, Geometry { blocks: bytes / 512 }, voice)
}
