//! What outlives the process: boot epochs, identities and units' states, in one small database file.
//!
//! ```text
//!   STATE_DIR/state.redb
//!     meta        name               -> number      format version, number of runs
//!     epochs      target, initiator  -> JSON        one record per initiator's current boot epoch
//!     identities  target, LUN number -> JSON        NAA designator and serial number
//!     units       target, LUN number -> bytes       a logical unit's lasting state (APTPL, saved mode pages, ...)
//! ```
//!
//! A change is durable when [`Store::apply`] returns. The database's own lock keeps a second instance out.

use crate::identity::LunIdentity;
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize};
use stampede_image::epoch::{EpochRecord, LoginStage, RecordKey};
use stampede_scsi::SavedState;
use std::io;
use std::path::{Path, PathBuf};

/// The layout that this code reads and writes.
const FORMAT: u64 = 2;
/// The oldest layout that becomes ours by adding what it lacks: format 1 had no units.
const FORMAT_OLDEST: u64 = 1;
/// Memory that the database may use for caching, in bytes.
const CACHE_BYTES: usize = 4 << 20;
/// The database's name in the state directory.
const FILE_NAME: &str = "state.redb";

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const EPOCHS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("epochs");
const IDENTITIES: TableDefinition<'_, (&str, u16), &[u8]> = TableDefinition::new("identities");
const UNITS: TableDefinition<'_, (&str, u16), &[u8]> = TableDefinition::new("units");

/// Why the store cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or entered.
    #[error("cannot use the state directory {path}: {source}. Give --state-dir a directory that stampede may write to", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by another stampede. Stop that one, or give this one its own --state-dir", path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file is damaged, or not a database.
    #[error(
        "{path} is damaged or is not a state store of stampede ({why}). Restore it from a backup, or move it away to \
         start anew: then running machines whose clones are gone are no longer recognised, so restart them all",
        path = path.display()
    )]
    Corrupted {
        /// The database.
        path: PathBuf,
        /// What the database says.
        why: String,
    },
    /// A newer stampede wrote it.
    #[error("{path} has format {found}, this stampede knows {FORMAT}. Use the stampede that wrote it, or a newer one", path = path.display())]
    Format {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Reading or writing failed.
    #[error("the state store failed: {why}. Look at the disk and the free space of --state-dir")]
    Failed {
        /// What the database says.
        why: String,
    },
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed { why: error.into().to_string() }
}

/// One change to make durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes an epoch's record, replacing the one of the same key.
    PutEpoch(EpochRecord),
    /// Deletes an epoch's record.
    DeleteEpoch(RecordKey),
}

/// The lasting state of one logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitState {
    /// IQN of its target.
    pub target: String,
    /// LUN number.
    pub lun: u16,
    /// What it saved; nothing when it has nothing to keep.
    pub state: Vec<u8>,
}

/// An epoch's record as it is stored; its key holds the names.
#[derive(Serialize, Deserialize)]
struct StoredEpoch {
    epoch: u64,
    os: bool,
    firmware: bool,
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    /// `None` between a failed commit and the reopening.
    database: Option<Database>,
    medium: Medium,
    run: u64,
}

/// What the database is on.
#[derive(Debug)]
enum Medium {
    /// A file.
    File(PathBuf),
    /// Memory of this process.
    Memory,
    /// What a test opens.
    #[cfg(test)]
    Test(crash::Logged),
}

impl Medium {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    fn open(&self) -> Result<Database, StoreError> {
        let path = match self {
            Self::File(path) => path,
            Self::Memory => {
                let database = Database::builder()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(InMemoryBackend::new());
                return database.map_err(failed);
            }
            #[cfg(test)]
            Self::Test(file) => {
                let builder =
                    Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file.clone());
                return builder.map_err(failed);
            }
        };
        // The database would take an empty file for a new store, and forget every epoch without a word.
        if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
            let why = "it is empty: it was cut off, or the very first start was".to_owned();
            return Err(StoreError::Corrupted { path: path.clone(), why });
        }
        let opened = Database::builder()
            .set_cache_size(CACHE_BYTES)
            // The file is small, and a damaged one must be an error, not a panic in the middle of a boot storm.
            .set_check_integrity_on_open(true)
            .create(path);
        opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            DatabaseError::Storage(StorageError::Io(source))
                if source.kind() != io::ErrorKind::InvalidData =>
            {
                let path = path.parent().unwrap_or(path).to_owned();
                StoreError::Directory { path, source }
            }
            other => StoreError::Corrupted { path: path.clone(), why: other.to_string() },
        })
    }
}

impl Store {
    /// Opens the store in a directory; makes both if they are missing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let bad_directory = |source| StoreError::Directory { path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(bad_directory)?;
        Self::begin(Medium::File(directory.join(FILE_NAME)))
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// None are known.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::begin(Medium::Memory)
    }

    /// Checks the format and counts the run.
    fn begin(medium: Medium) -> Result<Self, StoreError> {
        let database = medium.open()?;
        let run = count_run(&database).map_err(|error| match (error, medium.path()) {
            (BeginError::Format(found), path) => {
                StoreError::Format { path: path.unwrap_or(Path::new("")).to_owned(), found }
            }
            (BeginError::Database(error), Some(path)) => {
                StoreError::Corrupted { path: path.to_owned(), why: error.to_string() }
            }
            (BeginError::Database(error), None) => failed(error),
        })?;
        Ok(Self { database: Some(database), medium, run })
    }

    fn database(&self) -> Result<&Database, StoreError> {
        let why = "a commit failed before, and it could not be opened again".to_owned();
        self.database.as_ref().ok_or(StoreError::Failed { why })
    }

    /// Runs a change. The database takes nothing more once its file has failed, even when the cause has gone (the disk has
    /// room again), so it is opened anew for the next change. What is in memory only has nothing to be opened again.
    fn change(&mut self, run: impl FnOnce(&Database) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.database.is_none() {
            self.database = Some(self.medium.open()?);
            tracing::info!("the state store is open again after a failure");
        }
        let result = run(self.database()?);
        if result.is_err() && !matches!(self.medium, Medium::Memory) {
            self.database = None;
        }
        result
    }

    /// The database file; `None` for a store in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.medium.path()
    }

    /// How often this store was opened, counting this time.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// All records of epochs.
    ///
    /// # Errors
    /// Reading fails, or a record is not one of ours.
    pub fn epochs(&self) -> Result<Vec<EpochRecord>, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        let table = transaction.open_table(EPOCHS).map_err(failed)?;
        let mut records = Vec::new();
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let (target, initiator) = key.value();
            let stored: StoredEpoch = self.decode(value.value())?;
            records.push(EpochRecord {
                target: target.to_owned(),
                initiator: initiator.to_owned(),
                epoch: stored.epoch,
                stage: if stored.os { LoginStage::Os } else { LoginStage::Firmware },
                firmware: stored.firmware,
            });
        }
        Ok(records)
    }

    /// The identity of a target's LUN: the stored one, or this one, which is stored then.
    ///
    /// # Errors
    /// Reading or writing fails.
    pub fn identity(&self, target: &str, lun: u16, new: LunIdentity) -> Result<LunIdentity, StoreError> {
        let transaction = self.database()?.begin_write().map_err(failed)?;
        let identity = {
            let mut table = transaction.open_table(IDENTITIES).map_err(failed)?;
            let stored = match table.get((target, lun)).map_err(failed)? {
                Some(value) => Some(self.decode(value.value())?),
                None => None,
            };
            match stored {
                Some(identity) => identity,
                None => {
                    table.insert((target, lun), encode(&new)?.as_slice()).map_err(failed)?;
                    new
                }
            }
        };
        transaction.commit().map_err(failed)?;
        Ok(identity)
    }

    /// Makes changes durable, all or none.
    ///
    /// # Errors
    /// Writing fails; nothing has changed then.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.change(|database| put_epochs(database, changes))
    }

    /// What a target's LUN saved last.
    ///
    /// # Errors
    /// Reading fails, or the state is damaged: then whom its reservation keeps out is not known.
    pub fn unit_state(&self, target: &str, lun: u16) -> Result<SavedState, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        let table = transaction.open_table(UNITS).map_err(failed)?;
        let Some(bytes) = table.get((target, lun)).map_err(failed)? else { return Ok(SavedState::default()) };
        SavedState::decode(bytes.value()).map_err(|error| StoreError::Corrupted {
            path: self.path().unwrap_or(Path::new("")).to_owned(),
            why: format!("{target} LUN {lun}: {error}"),
        })
    }

    /// Makes units' states durable, all or none.
    ///
    /// # Errors
    /// Writing fails; nothing has changed then.
    pub fn put_units(&mut self, units: &[UnitState]) -> Result<(), StoreError> {
        self.change(|database| put_units(database, units))
    }

    fn decode<'a, T: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupted {
            path: self.path().unwrap_or(Path::new("")).to_owned(),
            why: error.to_string(),
        })
    }
}

fn put_epochs(database: &Database, changes: &[Change]) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut table = transaction.open_table(EPOCHS).map_err(failed)?;
        for change in changes {
            match change {
                Change::PutEpoch(record) => {
                    let stored = StoredEpoch {
                        epoch: record.epoch,
                        os: record.stage == LoginStage::Os,
                        firmware: record.firmware,
                    };
                    let key = (record.target.as_str(), record.initiator.as_str());
                    table.insert(key, encode(&stored)?.as_slice()).map_err(failed)?;
                }
                Change::DeleteEpoch(key) => {
                    table.remove((key.target.as_str(), key.initiator.as_str())).map_err(failed)?;
                }
            }
        }
    }
    transaction.commit().map_err(failed)
}

fn put_units(database: &Database, units: &[UnitState]) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut table = transaction.open_table(UNITS).map_err(failed)?;
        for UnitState { target, lun, state } in units {
            let key = (target.as_str(), *lun);
            if state.is_empty() {
                table.remove(key).map_err(failed)?;
            } else {
                table.insert(key, state.as_slice()).map_err(failed)?;
            }
        }
    }
    transaction.commit().map_err(failed)
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Failed { why: error.to_string() })
}

enum BeginError {
    Format(u64),
    Database(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for BeginError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

fn count_run(database: &Database) -> Result<u64, BeginError> {
    let transaction = database.begin_write()?;
    let run = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|value| value.value());
        if let Some(found) = format.filter(|found| !(FORMAT_OLDEST..=FORMAT).contains(found)) {
            return Err(BeginError::Format(found));
        }
        let run = meta.get("runs")?.map_or(0, |value| value.value()).saturating_add(1);
        meta.insert("format", FORMAT)?;
        meta.insert("runs", run)?;
        run
    };
    transaction.open_table(EPOCHS)?;
    transaction.open_table(IDENTITIES)?;
    transaction.open_table(UNITS)?;
    transaction.commit()?;
    Ok(run)
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
