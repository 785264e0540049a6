//! What the tests of VHD share: images on the model host, and a plain model of the disk.
#![allow(dead_code, reason = "each test takes its part")]

pub(crate) mod crash;
pub(crate) mod ledger;
pub(crate) mod reader;
pub(crate) mod tools;

use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Created, Identity, Job, Mode, ParentHint, ParentRef, Range, Repair,
    model::{Disk, Model, ModelError},
};

/// The UUID that parents have in these tests.
pub(crate) const PARENT_ID: [u8; 16] = *b"parent of others";
/// The UUID that images have.
pub(crate) const OWN_ID: [u8; 16] = *b"the image itself";
/// A time in 2026.
pub(crate) const TIME: u64 = 1_780_000_000;

/// An image to be tested.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) kind: &'static str,
    pub(crate) block_size: u32,
    pub(crate) size: u64,
    /// The parent's disk.
    pub(crate) parent: Vec<u8>,
}

impl Shape {
    pub(crate) fn new(kind: &'static str, block_size: u32, size: u64) -> Self {
        let parent = if kind == "differencing" { pattern(size, 0xA0) } else { vec![] };
        Self { kind, block_size, size, parent }
    }

    pub(crate) fn created(&self) -> Created {
        let mut options = vec![("type".into(), self.kind.into())];
        if self.kind != "fixed" {
            options.push(("block_size".into(), self.block_size.to_string()));
        }
        let parent = (self.kind == "differencing").then(|| parent_ref("golden.vhd", Some(self.size)));
        let identity = Identity { id: OWN_ID, time: Some(TIME) };
        Created { virtual_size: self.size, options, parent, identity }
    }

    /// The bytes of a new image of this shape.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut model = Model::new(Vhd::default(), Disk::new(vec![vec![]]));
        model.job(Job::Create(self.created())).unwrap();
        model.into_disk().files()[0].clone()
    }

    /// A new image, open for writing.
    pub(crate) fn model(&self) -> Model<Vhd> {
        self.opened(self.file(), Mode::ReadWrite).unwrap()
    }

    /// An image of this shape, open.
    pub(crate) fn opened(&self, file: Vec<u8>, mode: Mode) -> Result<Model<Vhd>, ModelError> {
        let mut model = Model::new(Vhd::default(), Disk::new(vec![file])).with_parent(self.parent.clone());
        model.open(mode)?;
        Ok(model)
    }

    /// The disk as a new image has it.
    pub(crate) fn first_disk(&self) -> Vec<u8> {
        if self.kind == "differencing" {
            self.parent.clone()
        } else {
            vec![0; usize::try_from(self.size).unwrap()]
        }
    }
}

/// A parent by the name of a file beside the image.
pub(crate) fn parent_ref(name: &str, virtual_size: Option<u64>) -> ParentRef {
    ParentRef {
        hints: vec![
            ParentHint { kind: "relative".into(), name: name.into() },
            ParentHint { kind: "absolute".into(), name: format!("/srv/images/{name}") },
        ],
        format: Some("vhd".into()),
        identity: Some(Identity { id: PARENT_ID, time: Some(TIME - 5) }),
        virtual_size,
    }
}

/// Bytes of which each sector tells its number and `mark`.
pub(crate) fn pattern(length: u64, mark: u8) -> Vec<u8> {
    (0..length / 512).flat_map(|sector| sector_bytes(sector, mark.into())).collect()
}

/// A sector that tells which it is, and of which write.
pub(crate) fn sector_bytes(sector: u64, write: u64) -> [u8; 512] {
    let mut bytes = [0x5A; 512];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..16].copy_from_slice(&write.to_le_bytes());
    bytes
}

/// What a check without repairs finds.
pub(crate) fn check(file: Vec<u8>) -> stampede_plugin::Report {
    Model::new(Vhd::default(), Disk::new(vec![file])).job(Job::Check(Repair::No)).unwrap()
}

/// All of a disk.
pub(crate) fn whole(size: u64) -> Range {
    Range { offset: 0, length: size }
}

/// Numbers drawn by a seed (splitmix64).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
