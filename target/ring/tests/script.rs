//! The shared scripts over io_uring, real sockets and real files: on disk and in memory.

mod common;

use common::{Config, UringWorld};
use stampede_ring::script;

fn run(config: Config) {
    for script in script::all::<UringWorld>() {
        eprintln!("{}", script.name);
        (script.run)(&mut UringWorld::new(config));
    }
}

#[test]
fn with_files_on_disk() {
    run(Config::default());
}

#[test]
fn with_files_in_memory() {
    run(Config { in_memory: true, ..Config::default() });
}

#[test]
fn with_o_direct_off_and_nothing_registered() {
    run(Config { direct: false, register: false, ..Config::default() });
}

#[test]
fn in_one_world() {
    script::run_all(&mut UringWorld::new(Config::default()));
}
