//! How much a plugin may ask for and answer.

/// Bounds on what a plugin asks for and answers; beyond one of them it has broken a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How often in a row a call may answer that it needs pages.
    pub need_rounds_max: u32,
    /// How many bytes of pages a call may need, all rounds together.
    pub need_bytes_max: u64,
    /// How many files an image may have.
    pub files_max: u16,
    /// How long a file may be made, in bytes.
    pub file_length_max: u64,
    /// How large the guest's disk may be, in bytes.
    pub virtual_size_max: u64,
    /// How many metadata ranges opening and each plan may name.
    pub metadata_ranges_max: u32,
    /// How many steps, patches, extents and free ranges (each) a plan may have.
    pub plan_items_max: u32,
    /// How many bytes the patches of a plan may have together.
    pub patch_bytes_max: u64,
    /// How long a text may be (a name, a warning), in bytes.
    pub text_bytes_max: u32,
    /// How many texts, names or snapshots an answer may list.
    pub texts_max: u32,
    /// How many bytes a compressed extent may give.
    pub unpacked_bytes_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            need_rounds_max: 10_000,
            need_bytes_max: 1 << 30,
            files_max: 64,
            file_length_max: 1 << 48,
            virtual_size_max: 1 << 46,
            metadata_ranges_max: 1 << 20,
            plan_items_max: 1 << 18,
            patch_bytes_max: 64 << 20,
            text_bytes_max: 64 << 10,
            texts_max: 1 << 16,
            unpacked_bytes_max: 64 << 20,
        }
    }
}
