//! What an image can be made with.

use alloc::{format, string::String, vec::Vec};

use stampede_plugin::{CreateOption, Fail};

use crate::{
    job::invalid,
    layout::{COMPRESSION, DATA_FILE, DATA_FILE_RAW, EXTENDED_L2},
};

/// Name, help, default.
const OPTIONS: [(&str, &str, &str); 8] = [
    ("cluster_size", "The unit of allocation in bytes: a power of two, 512 to 2097152", "65536"),
    ("compat", "0.10 (version 2) or 1.1 (version 3)", "1.1"),
    ("refcount_bits", "The width of a reference count: 1, 2, 4, 8, 16, 32 or 64", "16"),
    ("lazy_refcounts", "Whether others may write reference counts late: on or off", "off"),
    ("extended_l2", "Whether a cluster has 32 subclusters: on or off", "off"),
    ("compression_type", "How others may compress clusters: zlib or zstd", "zlib"),
    ("data_file", "The name of another file for the data", ""),
    ("data_file_raw", "Whether the data file stays a raw image: on or off", "off"),
];

/// The options of a new image, all of them legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) version: u32,
    pub(crate) cluster_bits: u32,
    pub(crate) refcount_order: u32,
    pub(crate) lazy_refcounts: bool,
    pub(crate) extended: bool,
    pub(crate) zstd: bool,
    pub(crate) data_file: Option<String>,
    pub(crate) data_file_raw: bool,
}

/// The options, for `describe`.
pub(crate) fn list() -> Vec<CreateOption> {
    let owned = |&(name, help, default): &(&str, &str, &str)| CreateOption {
        name: name.into(),
        help: help.into(),
        default: default.into(),
    };
    OPTIONS.iter().map(owned).collect()
}

impl Options {
    /// Reads options by name.
    ///
    /// # Errors
    /// When there is no such option, or not with that value, or two exclude each other.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, Fail> {
        let mut options = Self {
            version: 3,
            cluster_bits: 16,
            refcount_order: 4,
            lazy_refcounts: false,
            extended: false,
            zstd: false,
            data_file: None,
            data_file_raw: false,
        };
        for (name, value) in pairs {
            options.set(name, value)?;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Fail> {
        match name {
            "cluster_size" => self.cluster_bits = logarithm(name, value, 512, 2 << 20)?,
            "compat" => self.version = chosen(name, value, &[("0.10", 2), ("v2", 2), ("1.1", 3), ("v3", 3)])?,
            "refcount_bits" => self.refcount_order = logarithm(name, value, 1, 64)?,
            "lazy_refcounts" => self.lazy_refcounts = switch(name, value)?,
            "extended_l2" => self.extended = switch(name, value)?,
            "compression_type" => self.zstd = chosen(name, value, &[("zlib", 0), ("zstd", 1)])? == 1,
            "data_file" => self.data_file = (!value.is_empty()).then(|| value.into()),
            "data_file_raw" => self.data_file_raw = switch(name, value)?,
            _ => return Err(invalid(format!("option {name}: qcow2 has no such option"))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Fail> {
        let newer = self.refcount_order != 4
            || self.lazy_refcounts
            || self.extended
            || self.zstd
            || self.data_file.is_some();
        if self.version < 3 && newer {
            return Err(invalid("compat=0.10 has 16-bit reference counts, and no features: use compat=1.1"));
        }
        if self.extended && self.cluster_bits < 14 {
            return Err(invalid("extended_l2 needs a cluster_size of 16384 at least"));
        }
        if self.data_file_raw && self.data_file.is_none() {
            return Err(invalid("data_file_raw needs a data_file"));
        }
        Ok(())
    }

    /// The incompatible features of the header.
    pub(crate) fn incompatible(&self) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(self.data_file.is_some(), DATA_FILE)
            | bit(self.zstd, COMPRESSION)
            | bit(self.extended, EXTENDED_L2)
    }

    /// The autoclear features of the header.
    pub(crate) fn autoclear(&self) -> u64 {
        if self.data_file_raw { DATA_FILE_RAW } else { 0 }
    }
}

fn logarithm(name: &str, value: &str, from: u64, to: u64) -> Result<u32, Fail> {
    match value.parse::<u64>() {
        Ok(number) if number.is_power_of_two() && (from..=to).contains(&number) => {
            Ok(number.trailing_zeros())
        }
        _ => Err(invalid(format!("option {name}: {value} is no power of two from {from} to {to}"))),
    }
}

fn chosen(name: &str, value: &str, choices: &[(&str, u32)]) -> Result<u32, Fail> {
    let found = choices.iter().find(|(choice, _)| *choice == value);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        invalid(format!("option {name}: {value} is none of {}", names.join(", ")))
    })
}

fn switch(name: &str, value: &str) -> Result<bool, Fail> {
    Ok(chosen(name, value, &[("on", 1), ("off", 0), ("true", 1), ("false", 0)])? == 1)
}
