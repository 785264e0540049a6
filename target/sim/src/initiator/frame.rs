//! PDUs as bytes: headers by offset, padding, digests. RFC 7143 11.2.

use super::report::{Violation, ViolationKind};

/// Bytes of a basic header segment.
pub(super) const HEADER: usize = 48;

/// A basic header segment, read and written by byte offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header(pub(super) [u8; HEADER]);

impl Header {
    /// A header with this first byte (opcode and I bit), flags, tag, and zeros.
    pub(super) fn new(opcode: u8, flags: u8, tag: u32) -> Self {
        let mut header = Self([0; HEADER]);
        header.0[0] = opcode;
        header.0[1] = flags;
        header.set(16, tag);
        header
    }

    pub(super) fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    pub(super) fn flags(&self) -> u8 {
        self.0[1]
    }

    /// The 32-bit number at a byte offset.
    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub(super) fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    pub(super) fn set(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub(super) fn tag(&self) -> u32 {
        self.word(16)
    }

    pub(super) fn data_len(&self) -> usize {
        (self.word(4) & 0x00ff_ffff) as usize
    }

    fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Single-level LUN by peripheral or flat addressing.
    pub(super) fn set_lun(&mut self, lun: u16) {
        let [high, low] = lun.to_be_bytes();
        self.0[8..10].copy_from_slice(&[if lun > 255 { high | 0x40 } else { 0 }, low]);
    }
}

/// The whole PDU as bytes.
pub(super) fn encode(mut header: Header, data: &[u8], header_digest: bool, data_digest: bool) -> Vec<u8> {
    header.0[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    let mut bytes = Vec::with_capacity(HEADER + data.len() + 12);
    bytes.extend_from_slice(&header.0);
    if header_digest {
        bytes.extend_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
    }
    let start = bytes.len();
    bytes.extend_from_slice(data);
    bytes.resize(start + data.len().next_multiple_of(4), 0);
    if data_digest && !data.is_empty() {
        let digest = crc32c::crc32c(&bytes[start..]);
        bytes.extend_from_slice(&digest.to_le_bytes());
    }
    bytes
}

/// Cuts a byte stream into PDUs.
pub(super) struct Framer {
    bytes: Vec<u8>,
    start: usize,
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    /// The longest data segment that this side declared to take.
    pub(super) data_max: usize,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, header_digest: false, data_digest: false, data_max: 8192 }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 64 * 1024 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole PDU.
    pub(super) fn next(&mut self) -> Result<Option<(Header, Vec<u8>)>, Violation> {
        let bytes = &self.bytes[self.start..];
        let Some(first) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let header = Header(*first);
        let wrong = |detail: String| Err(Violation { kind: ViolationKind::Format, detail });
        let len = header.data_len();
        if len > self.data_max {
            return wrong(format!("a data segment of {len} bytes where {} were declared", self.data_max));
        }
        let headers = HEADER + header.ahs_len();
        let data_start = headers + if self.header_digest { 4 } else { 0 };
        if bytes.len() < data_start {
            return Ok(None);
        }
        if self.header_digest && !has_digest(&bytes[..headers], &bytes[headers..]) {
            return wrong(format!("a wrong header digest on {header:?}"));
        }
        let data_end = data_start + len.next_multiple_of(4);
        let end = data_end + if self.data_digest && len > 0 { 4 } else { 0 };
        if bytes.len() < end {
            return Ok(None);
        }
        if self.data_digest && len > 0 && !has_digest(&bytes[data_start..data_end], &bytes[data_end..]) {
            return wrong(format!("a wrong data digest on {header:?}"));
        }
        let data = bytes[data_start..data_start + len].to_vec();
        self.start += end;
        Ok(Some((header, data)))
    }
}

fn has_digest(covered: &[u8], rest: &[u8]) -> bool {
    rest.starts_with(&crc32c::crc32c(covered).to_le_bytes())
}

/// `key=value` pairs as a text segment.
pub(super) fn encode_keys(keys: &[(String, String)]) -> Vec<u8> {
    keys.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
}

/// The pairs of a text segment; `None` where one has no `=`.
pub(super) fn parse_keys(data: &[u8]) -> Option<Vec<(String, String)>> {
    let texts = data.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    texts
        .map(|text| {
            let text = std::str::from_utf8(text).ok()?;
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // RFC 7143 appendix A: 32 bytes of zeros have the CRC aa 36 91 8a on the wire.
        assert_eq!(crc32c::crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn pdus_survive_any_split() {
        let header = Header::new(0x25, 0x80, 7);
        let pdu = encode(header, b"hello", true, true);
        assert_eq!(pdu.len(), 48 + 4 + 8 + 4);
        let mut framer = Framer { header_digest: true, data_digest: true, ..Framer::new() };
        for round in 0..3 {
            for byte in &pdu {
                assert!(framer.next().expect("no fault").is_none(), "{round}");
                framer.feed(&[*byte]);
            }
            let (header, data) = framer.next().expect("no fault").expect("a PDU");
            assert_eq!((header.tag(), data), (7, b"hello".to_vec()));
        }
        let mut wrong = pdu;
        wrong[53] ^= 1;
        framer.feed(&wrong);
        assert!(framer.next().is_err());
    }

    #[test]
    fn keys_survive() {
        let keys = vec![("A".to_owned(), "b=c".to_owned()), ("D".to_owned(), String::new())];
        assert_eq!(parse_keys(&encode_keys(&keys)), Some(keys));
        assert_eq!(parse_keys(b"nonsense\0"), None);
    }
}
