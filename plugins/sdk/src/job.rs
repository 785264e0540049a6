//! What is done to an image as a whole.

use alloc::{string::String, vec::Vec};

use crate::{ParentRef, Plan};

/// An image's identity: its UUID, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The UUID (VHD's unique ID, VHDX' data write GUID), in the order in which it stands in the file.
    pub id: [u8; 16],
    /// When the image was last changed, in seconds since 1970, if the format records it.
    pub time: Option<u64>,
}

/// What two records of an identity say: a child's of its parent, and the parent's of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Likeness {
    /// The UUID is the same, and so is the time where both have one.
    Same,
    /// The UUID is the same, the time is not: a copy was made, or the image was changed since. Worth a warning.
    OtherTime,
    /// The UUID is another: it is another image.
    Other,
}

impl Identity {
    /// Compares what a child recorded of its parent with what the parent says of itself. The UUID decides, since a copy of a file has another
    /// time.
    pub fn compare(self, recorded: Self) -> Likeness {
        if self.id != recorded.id {
            return Likeness::Other;
        }
        match (self.time, recorded.time) {
            (Some(own), Some(recorded)) if own != recorded => Likeness::OtherTime,
            _ => Likeness::Same,
        }
    }
}

/// What is to be done to an image. While a job runs nothing else is asked of the instance but `done` and `released`.
/// After a job that changed the image the host makes everything durable, and opens it again with a fresh instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Makes an image in an empty file. The instance was not opened.
    Create(Created),
    /// Looks for contradictions, and mends them as far as it was asked to. Also of an image that `open` refused as corrupt: then the instance
    /// was not opened.
    Check(Repair),
    /// Gives the guest's disk another size, in bytes. What is new reads as zeros.
    Resize {
        /// The new size, a multiple of 512.
        virtual_size: u64,
        /// Whether what lies behind a smaller size may be given up.
        shrink: bool,
    },
    /// Lists the internal snapshots.
    SnapshotList,
    /// Makes an internal snapshot of the disk as it is.
    SnapshotCreate {
        /// Its name.
        name: String,
        /// The time in seconds since 1970.
        time: u64,
    },
    /// Makes the disk what it was at a snapshot.
    SnapshotApply {
        /// Its name or id.
        name: String,
    },
    /// Removes a snapshot.
    SnapshotDelete {
        /// Its name or id.
        name: String,
    },
    /// Writes down another name, format or identity of the parent. The disk's contents are not changed.
    Relink(ParentRef),
    /// Leaves the image as one that was closed: what is only kept while it is open is written (a dirty bit cleared, lazy reference counts).
    Close,
}

/// What an image that is made is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The size of the guest's disk in bytes.
    pub virtual_size: u64,
    /// Options as `describe` lists them, name and value.
    pub options: Vec<(String, String)>,
    /// The parent.
    pub parent: Option<ParentRef>,
    /// An identity that nobody else has, and the time.
    pub identity: Identity,
}

/// What a check may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repair {
    /// Nothing.
    No,
    /// Space that nobody refers to.
    Leaks,
    /// Everything.
    All,
}

/// What a step of a job gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStep {
    /// A plan. The host carries it out, `meta` too, until all is durable; then it calls `done` and asks for the next step.
    Plan(Plan),
    /// Nothing yet: so much of so much is done.
    Progress {
        /// How much.
        done: u64,
        /// Of how much.
        total: u64,
    },
    /// The job is done.
    Done(Report),
}

/// What a job found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Contradictions that can cost data, a sentence each; at most 1,000 are named.
    pub errors: Vec<String>,
    /// How many there are.
    pub error_count: u64,
    /// How many bytes are allocated that nobody refers to.
    pub leaked_bytes: u64,
    /// How many errors were mended.
    pub repaired_errors: u64,
    /// How many leaked bytes were given back.
    pub repaired_bytes: u64,
    /// How many bytes of the file hold guest data.
    pub allocated_bytes: u64,
    /// The snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// More about the image, name and value (`compat`, `1.1`), for `info`.
    pub details: Vec<(String, String)>,
}

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id, as the format has it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// The size of the guest's disk then, in bytes.
    pub virtual_size: u64,
}
