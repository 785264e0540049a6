//! Reports as JSON files.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::{ReportError, SCHEMA};

/// Writes `value` to `path` as indented JSON with a line feed at the end. `path` may be a pipe or a device such as
/// `/dev/stdout`.
///
/// # Errors
/// [`ReportError::File`] if the file cannot be made or written, [`ReportError::Value`] if `value` has no JSON form.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ReportError> {
    // Two steps, so that a value without a JSON form leaves an earlier file as it was.
    let value = serde_json::to_value(value)
        .map_err(|error| ReportError::Value { path: path.into(), what: error.to_string() })?;
    let file = File::create(path).map_err(|error| ReportError::writing(path, error))?;
    let mut out = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut out, &value)
        .map_err(|error| ReportError::writing(path, error.into()))?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(|error| ReportError::writing(path, error))
}

/// Reads a report whose top level has a `schema` number, as [`crate::StormReport`] has.
///
/// # Errors
/// [`ReportError::File`] if the file cannot be read, [`ReportError::Schema`] if it is of another version,
/// [`ReportError::Json`] if it is anything else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ReportError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let wrong = |source| ReportError::Json { path: path.into(), source };
    let text = std::fs::read(path).map_err(|error| ReportError::reading(path, error))?;
    // The version comes first: a later one's fields would else be reported as a broken file.
    let found = serde_json::from_slice::<Versioned>(&text).map_err(wrong)?.schema;
    if found != SCHEMA {
        return Err(ReportError::Schema { path: path.into(), found, wanted: SCHEMA });
    }
    serde_json::from_slice(&text).map_err(wrong)
}
