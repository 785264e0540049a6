//! What a shard counts, and the file that says it.

use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters once: what the shard counts, what others may read meanwhile, and the file's fields.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a shard has counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: u64,)* }

        impl std::ops::Add for Counters {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }

        /// Counters that one shard writes after every turn and that anybody may read.
        #[derive(Debug, Default)]
        pub struct Published { $($name: AtomicU64,)* }

        impl Published {
            /// Writes the shard's counters.
            pub(crate) fn publish(&self, counters: &Counters) {
                $(self.$name.store(counters.$name, Ordering::Relaxed);)*
            }

            /// The counters as they are now.
            pub fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// SCSI commands, or requests of the floor.
    commands,
    /// Times that the shard went through its loop, mostly after sleeping.
    wakeups,
    /// Vectored sends.
    sends,
    /// Chunks received.
    receives,
    /// Connections accepted.
    connections,
    /// Connections dropped for what they sent or did not take.
    dropped,
}

#[derive(Serialize)]
struct File<'a> {
    pid: u32,
    total: Counters,
    shards: &'a [Counters],
}

/// Writes the counters of all shards as JSON, by way of a second file, so that a reader never sees half of it.
///
/// # Errors
/// The file cannot be written; the error names it.
pub fn write(path: &Path, shards: &[Counters]) -> anyhow::Result<()> {
    use anyhow::Context as _;

    let total = shards.iter().copied().fold(Counters::default(), std::ops::Add::add);
    let file = File { pid: std::process::id(), total, shards };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let put = || -> anyhow::Result<()> {
        let mut out = std::fs::File::create(&part)?;
        serde_json::to_writer_pretty(&mut out, &file)?;
        out.write_all(b"\n")?;
        Ok(std::fs::rename(&part, path)?)
    };
    put().with_context(|| format!("cannot write the counters to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_sum_and_each_shard() {
        let one = Counters { commands: 2, wakeups: 1, ..Counters::default() };
        let published = Published::default();
        published.publish(&one);
        assert_eq!(published.read(), one);
        let path = std::env::temp_dir().join(format!("null-target-stats-{}", std::process::id()));
        write(&path, &[one, one]).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read["total"]["commands"], 4);
        assert_eq!(read["shards"][1]["wakeups"], 1);
        assert!(
            write(Path::new("/nonexistent/file"), &[]).unwrap_err().to_string().contains("/nonexistent/file")
        );
    }
}
