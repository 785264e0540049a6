//! A target's own recording of a boot: which blocks of the golden were used first, in which order and when.
//!
//! The file, all numbers little-endian (docs/storm.md describes it for other programs, too):
//!
//! ```text
//!   0    8  "STAMPREC"
//!   8    4  version: 1
//!  12    4  bytes of a block
//!  16   16  device and inode of the golden       (not looked at)
//!  32    8  length of the golden, bytes
//!  40   24  its time of change, its generation   (not looked at)
//!  64    4  1 if the machine had come to rest
//!  68    4  number n of blocks
//!  72  8*n  each: number of the block u32, microseconds since the one before u32
//!   +    4  CRC32C of all before
//! ```
//!
//! A recording has each block once, where it was used first: no logins, no writes, and nothing that was read again. Its
//! trace is one operating system's session that reads these blocks one after the other.

use crate::CaptureError;
use stampede_trace::{BLOCK, BLOCKS_MAX, Command, Event, Gatherer, Op, Origin, Stage, Trace};

/// How the file begins.
pub const MAGIC: &[u8; 8] = b"STAMPREC";
const VERSION: u32 = 1;
const HEADER: usize = 72;
const ENTRY: usize = 8;
const CHECKSUM: usize = 4;
/// Bytes of the longest file that is read.
pub const FILE_MAX: u64 = 64 << 20;

/// A trace of a recording's file, and whether the machine had come to rest in it.
///
/// # Errors
/// [`CaptureError::File`] when it is none, of another version, or damaged.
pub fn read(file: &[u8], name: &str) -> Result<(Trace, bool), CaptureError> {
    let wrong = |what: &str| CaptureError::File(what.to_owned());
    let word =
        |at: usize| file.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    if !file.starts_with(MAGIC) {
        return Err(wrong("it is no recording of a boot"));
    }
    let version = word(8).unwrap_or(0);
    if version != VERSION {
        return Err(CaptureError::File(format!(
            "it is a recording of version {version}; this program reads version {VERSION}"
        )));
    }
    let cut = "the recording is cut off, or too long";
    let (body, checksum) = file.split_last_chunk::<CHECKSUM>().ok_or_else(|| wrong(cut))?;
    let entries = body.get(HEADER..).ok_or_else(|| wrong(cut))?;
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    if !rest.is_empty() || word(68).is_none_or(|count| count as usize != entries.len()) {
        return Err(wrong(cut));
    }
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(wrong("the recording's checksum is wrong"));
    }
    let block_len = u64::from(word(12).unwrap_or(0));
    if block_len == 0 || block_len % BLOCK != 0 || block_len / BLOCK > u64::from(BLOCKS_MAX) {
        return Err(CaptureError::File(format!("the recording has blocks of {block_len} bytes")));
    }
    let len = file.get(32..40).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let mut gatherer = Gatherer::new(name, Origin::Recorded).map_err(CaptureError::File)?;
    let mut push = |event| gatherer.push(event).map_err(CaptureError::File);
    push(Event::Login { session: 1, stage: Stage::Os, think_us: 0 })?;
    for [a, b, c, d, gap @ ..] in entries {
        let start = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) * block_len;
        // The golden's last block may be a part of one.
        let blocks = len.saturating_sub(start).min(block_len) / BLOCK;
        if blocks == 0 {
            return Err(wrong("the recording names a block that its golden does not have"));
        }
        let op = Op::Read { lba: start / BLOCK, blocks: blocks as u32 };
        push(Event::Command(Command { op, depth: 0, think_us: u64::from(u32::from_le_bytes(*gap)) }))?;
    }
    let trace = gatherer.finish().map_err(CaptureError::File)?;
    Ok((trace, word(64) == Some(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64, uses: &[(u32, u32)]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(VERSION.to_le_bytes());
        file.extend(32_768_u32.to_le_bytes());
        file.extend([7; 16]);
        file.extend(len.to_le_bytes());
        file.extend([9; 24]);
        file.extend(1_u32.to_le_bytes());
        file.extend((uses.len() as u32).to_le_bytes());
        for (block, gap) in uses {
            file.extend(block.to_le_bytes());
            file.extend(gap.to_le_bytes());
        }
        file.extend(crc32c::crc32c(&file).to_le_bytes());
        file
    }

    #[test]
    fn a_recording_becomes_reads_with_its_gaps() {
        let (trace, complete) = read(&file(32_768 * 3 + 1024, &[(2, 50), (3, 0), (0, 7)]), "a").unwrap();
        let text = stampede_trace::text::write(&trace, "");
        let wanted = "stampede-trace 1\nname a\norigin recorded\nlogin 1 os\nr 128 64 50\nr = 2\nr 0 64 7\n";
        assert_eq!((text.as_str(), complete), (wanted, true));
    }

    #[test]
    fn damage_is_told() {
        let good = file(1 << 30, &[(2, 50), (3, 0)]);
        let told = |file: &[u8]| read(file, "a").unwrap_err().to_string();
        for len in 0..good.len() {
            assert!(read(&good[..len], "a").is_err(), "{len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&bad, "a").is_err(), "{at}");
        }
        assert!(told(b"nothing").contains("no recording"));
        assert!(told(&file(65_536, &[(2, 0)])).contains("does not have"));
        assert!(told(&file(65_536, &[])).contains("without commands"));
        let mut newer = good.clone();
        newer[8] = 2;
        assert!(told(&newer).contains("version 2"));
    }
}
