//! O_DIRECT: whether a file can be read past the page cache, and with which alignment.

/// What O_DIRECT transfers must be aligned to; both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlignment {
    /// Of the memory address, in bytes.
    pub memory: u32,
    /// Of the file offset and the length, in bytes.
    pub offset: u32,
}
