//! The image that machines boot from, as far as storm knows it.

use super::arguments::GoldenArguments;
use crate::failure::Failure;
use crate::values::size_text;
use stampede_trace::BLOCK;
use stampede_verify::{Golden, SECTOR, Stamp};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// See the module. Its copies share the file.
#[derive(Clone, Debug)]
pub(crate) enum Image {
    /// One of `storm golden`.
    Stamped,
    /// A file that storm can read, too.
    File(Arc<File>),
}

impl Golden for Image {
    fn is_stamped(&self) -> bool {
        matches!(self, Self::Stamped)
    }

    fn content(&mut self, offset: u64, into: &mut [u8]) -> bool {
        let Self::File(file) = self else { return false };
        let mut done = 0;
        while done < into.len() {
            match file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => {
                    into[done..].fill(0);
                    return true;
                }
                Ok(len) => done += len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl Image {
    /// The file of `--golden`; a stamped one needs no reading.
    ///
    /// # Errors
    /// It cannot be read, or is too short for the unit.
    pub(crate) fn open(path: &Path, unit_bytes: u64) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::Runtime(format!("--golden {}: {what}", path.display()));
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let bytes = file.metadata().map_err(|error| wrong(error.to_string()))?.len();
        if bytes != unit_bytes && !path.starts_with("/dev") {
            return Err(wrong(format!(
                "it has {} and the unit {}: this is not what the unit's machines boot from",
                size_text(bytes),
                size_text(unit_bytes)
            )));
        }
        Ok(Self::File(Arc::new(file)))
    }

    /// Whether these are the bytes that a stamped golden has from block `lba` on.
    pub(crate) fn is_stamp(lba: u64, bytes: &[u8]) -> bool {
        let sectors = bytes.as_chunks::<SECTOR>().0;
        !sectors.is_empty()
            && sectors.iter().zip(lba..).all(|(sector, lba)| Stamp::parse(sector) == Ok(Stamp::golden(lba)))
    }
}

/// Makes a stamped golden.
///
/// # Errors
/// The file is there, or cannot be written.
pub(crate) fn make(arguments: &GoldenArguments) -> Result<(), Failure> {
    let GoldenArguments { file: path, size, force } = arguments;
    if *size == 0 || size % BLOCK != 0 {
        return Err(Failure::Usage(format!("--size {size}: a multiple of {BLOCK} bytes, and some")));
    }
    let wrong = |error: std::io::Error| Failure::Runtime(format!("cannot write {}: {error}", path.display()));
    let mut options = File::options();
    options.write(true).create_new(!force).create(true).truncate(true);
    let file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::Runtime(format!("{} is there: give --force to write over it", path.display()))
        }
        _ => wrong(error),
    })?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut sector = [0; SECTOR];
    for lba in 0..size / BLOCK {
        Stamp::golden(lba).write(&mut sector);
        out.write_all(&sector).map_err(wrong)?;
    }
    let file = out.into_inner().map_err(|error| wrong(error.into_error()))?;
    file.sync_all().map_err(wrong)?;
    println!("{}: {} in blocks that tell their places", path.display(), size_text(*size));
    Ok(())
}
