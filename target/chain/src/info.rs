//! What there is to say of an image.

use std::os::unix::fs::MetadataExt;

use stampede_plugin::{Job, SnapshotInfo};

use crate::ChainError;
use crate::chain::Chain;
use crate::layer::{Formats, Layer};

/// What there is to say of an image and its parents.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChainInfo {
    /// The image and its parents, in order.
    pub layers: Vec<LayerInfo>,
    /// Its internal snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// What there is to say of one image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LayerInfo {
    /// Its file.
    pub path: String,
    /// Its format.
    pub format: String,
    /// The size of its disk in bytes.
    pub virtual_size: u64,
    /// What its files take on their file system, in bytes.
    pub allocated: u64,
    /// Its logical block size in bytes.
    pub block_size: u32,
    /// The unit in which it allocates space, in bytes.
    pub allocation_unit: u32,
    /// Other files that belong to it.
    pub files: Vec<String>,
    /// The names by which it knows its parent, the best first.
    pub parent: Vec<String>,
    /// Its identity, as a UUID.
    pub identity: Option<String>,
    /// What the format says of it, name and value.
    pub details: Vec<(String, String)>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// The size of the disk then, in bytes.
    pub virtual_size: u64,
}

impl Chain {
    /// What there is to say of it. Nothing is checked.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn info(&mut self, formats: &dyn Formats) -> Result<ChainInfo, ChainError> {
        let lists = self.layers[0].format.describe().snapshots;
        let report =
            if lists { self.job(formats, Job::SnapshotList, &mut |_, _| ())? } else { Default::default() };
        let mut layers = self.layers.iter().map(layer_info).collect::<Result<Vec<_>, _>>()?;
        layers[0].details = report.details;
        Ok(ChainInfo { layers, snapshots: report.snapshots.into_iter().map(Snapshot::from).collect() })
    }
}

impl From<SnapshotInfo> for Snapshot {
    fn from(found: SnapshotInfo) -> Self {
        let SnapshotInfo { id, name, time, virtual_size } = found;
        Self { id, name, time, virtual_size }
    }
}

fn layer_info(layer: &Layer) -> Result<LayerInfo, ChainError> {
    let mut allocated = 0;
    for file in &layer.files {
        allocated += 512 * file.file.metadata().map_err(file.io("fstat".into()))?.blocks();
    }
    let opened = &layer.opened;
    let names =
        |parent: &stampede_plugin::ParentRef| parent.hints.iter().map(|hint| hint.name.clone()).collect();
    Ok(LayerInfo {
        path: layer.path.display().to_string(),
        format: layer.format_name.clone(),
        virtual_size: opened.virtual_size,
        allocated,
        block_size: opened.block_size,
        allocation_unit: opened.allocation_unit,
        files: layer.files[1..].iter().map(|file| file.path.display().to_string()).collect(),
        parent: opened.parent.as_ref().map(names).unwrap_or_default(),
        identity: opened.identity.map(|identity| uuid(identity.id)),
        details: Vec::new(),
        warnings: opened.warnings.clone(),
    })
}

/// 8-4-4-4-12 hexadecimal digits.
fn uuid(id: [u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
