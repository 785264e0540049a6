//! PDUs in one direction of a connection (RFC 7143 11.2.1): headers are kept, data segments skipped, texts of logins gathered.
//!
//! Unlike the framer of a program that takes part, this one goes on over bytes that are missing, as long as they lie
//! within a data segment, whose end its header tells.

use crate::limits::TEXT_MAX;
use crate::stream::Piece;
use stampede_wire::{BHS_LEN, Bhs, Opcode};

/// Bytes of a digest.
const DIGEST: u32 = 4;

/// Why the next header cannot be found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("a gap of {0} bytes goes over a header")]
    Gap(u32),
    #[error("a PDU with operation code {0:#04x}, which this side never sends")]
    Opcode(u8),
    #[error("a login text of more than {TEXT_MAX} bytes")]
    Text,
    #[error("a gap within a login text")]
    TextGap,
}

/// Where in a PDU a header is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At<'a> {
    /// The header is complete.
    Header,
    /// All of it is; with the text of a login.
    End(&'a [u8]),
}

/// Who hears of PDUs. At a PDU's end it may say whether headers, and data, carry digests from then on.
pub(crate) type PduSink<'a> = &'a mut dyn FnMut(&Bhs, At<'_>) -> Option<(bool, bool)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Header,
    /// Further header segments and the header's digest.
    Extra,
    Data,
    /// Padding and the data's digest.
    Tail,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// Whether initiators' PDUs come here, or targets'.
    requests: bool,
    header_digest: bool,
    data_digest: bool,
    place: Place,
    header: [u8; BHS_LEN],
    have: usize,
    /// Bytes that are left of the place.
    left: u32,
    text: Vec<u8>,
}

impl Cutter {
    pub(crate) fn new(requests: bool) -> Self {
        Self {
            requests,
            header_digest: false,
            data_digest: false,
            place: Place::Header,
            header: [0; BHS_LEN],
            have: 0,
            left: 0,
            text: Vec::new(),
        }
    }

    /// From the next PDU on.
    pub(crate) fn set_digests(&mut self, header: bool, data: bool) {
        (self.header_digest, self.data_digest) = (header, data);
    }

    /// Takes a piece of the stream in.
    pub(crate) fn push(&mut self, piece: Piece<'_>, sink: PduSink<'_>) -> Result<(), Lost> {
        match piece {
            Piece::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    let len = self.bytes(bytes, sink)?;
                    bytes = bytes.get(len..).unwrap_or_default();
                }
                Ok(())
            }
            Piece::Gap(len) => self.gap(len, sink),
        }
    }

    /// Takes the beginning of `bytes`, which are some; how many.
    fn bytes(&mut self, bytes: &[u8], sink: PduSink<'_>) -> Result<usize, Lost> {
        if self.place == Place::Header {
            let len = bytes.len().min(BHS_LEN - self.have);
            self.header[self.have..self.have + len].copy_from_slice(&bytes[..len]);
            self.have += len;
            if self.have == BHS_LEN {
                self.header_done(sink)?;
                self.go_on(sink);
            }
            return Ok(len);
        }
        let len = bytes.len().min(self.left as usize);
        if self.place == Place::Data && self.has_text() {
            if self.text.len() + len > TEXT_MAX {
                return Err(Lost::Text);
            }
            self.text.extend_from_slice(&bytes[..len]);
        }
        // At most `left`.
        self.left -= len as u32;
        self.go_on(sink);
        Ok(len)
    }

    fn gap(&mut self, len: u32, sink: PduSink<'_>) -> Result<(), Lost> {
        let mut rest = len;
        while rest > 0 {
            match self.place {
                Place::Data if self.has_text() => return Err(Lost::TextGap),
                Place::Data | Place::Tail => {
                    let skipped = rest.min(self.left);
                    self.left -= skipped;
                    rest -= skipped;
                    self.go_on(sink);
                }
                Place::Header | Place::Extra => return Err(Lost::Gap(len)),
            }
        }
        Ok(())
    }

    fn opcode(&self) -> Result<Opcode, u8> {
        Bhs(self.header).opcode()
    }

    fn has_text(&self) -> bool {
        matches!(self.opcode(), Ok(Opcode::LoginRequest | Opcode::LoginResponse))
    }

    fn header_done(&mut self, sink: PduSink<'_>) -> Result<(), Lost> {
        let bhs = Bhs(self.header);
        match bhs.opcode() {
            Ok(opcode) if opcode.is_request() == self.requests => {}
            Ok(opcode) => return Err(Lost::Opcode(opcode.into())),
            Err(code) => return Err(Lost::Opcode(code)),
        }
        sink(&bhs, At::Header);
        self.text.clear();
        self.place = Place::Extra;
        // At most 1,020 bytes.
        self.left = bhs.ahs_len() as u32 + if self.header_digest { DIGEST } else { 0 };
        Ok(())
    }

    /// Goes to the next place as long as the present one is over.
    fn go_on(&mut self, sink: PduSink<'_>) {
        while self.left == 0 {
            let bhs = Bhs(self.header);
            let len = bhs.data_segment_len();
            match self.place {
                Place::Header => return,
                Place::Extra => (self.place, self.left) = (Place::Data, len),
                Place::Data => {
                    let digest = if self.data_digest && len > 0 { DIGEST } else { 0 };
                    (self.place, self.left) = (Place::Tail, len.wrapping_neg() % 4 + digest);
                }
                Place::Tail => {
                    (self.place, self.have) = (Place::Header, 0);
                    if let Some((header, data)) = sink(&bhs, At::End(&self.text)) {
                        self.set_digests(header, data);
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NOP-Outs with this much data each.
    fn nops(lens: &[u32], digests: (bool, bool)) -> Vec<u8> {
        let mut stream = Vec::new();
        for (tag, len) in (1_u32..).zip(lens) {
            let mut bhs = Bhs([0; BHS_LEN]);
            bhs.set_data_segment_len(*len);
            bhs.0[16..20].copy_from_slice(&tag.to_be_bytes());
            stream.extend(bhs.0);
            stream.extend(vec![1; if digests.0 { 4 } else { 0 }]);
            stream.extend(vec![0x55; *len as usize + (len.wrapping_neg() % 4) as usize]);
            stream.extend(vec![2; if digests.1 && *len > 0 { 4 } else { 0 }]);
        }
        stream
    }

    fn tags(cutter: &mut Cutter, pieces: &[Piece<'_>]) -> Result<Vec<u32>, Lost> {
        let mut tags = Vec::new();
        for piece in pieces {
            cutter.push(*piece, &mut |bhs, at| {
                if let At::End(_) = at {
                    tags.push(bhs.initiator_task_tag());
                }
                None
            })?;
        }
        Ok(tags)
    }

    #[test]
    fn pdus_are_found_however_the_stream_is_cut() {
        for digests in [(false, false), (true, false), (false, true), (true, true)] {
            let stream = nops(&[0, 1, 4, 0, 777], digests);
            for len in [1, 7, 48, 49, 10_000] {
                let mut cutter = Cutter::new(true);
                cutter.set_digests(digests.0, digests.1);
                let pieces: Vec<Piece<'_>> = stream.chunks(len).map(Piece::Bytes).collect();
                assert_eq!(tags(&mut cutter, &pieces), Ok(vec![1, 2, 3, 4, 5]), "{digests:?} {len}");
                assert_eq!((cutter.place, cutter.have), (Place::Header, 0));
            }
        }
    }

    #[test]
    fn a_gap_in_data_is_passed_and_one_over_a_header_is_not() {
        let stream = nops(&[100, 8, 0], (false, false));
        let with_gap = |from: usize, len: usize| {
            let pieces =
                [Piece::Bytes(&stream[..from]), Piece::Gap(len as u32), Piece::Bytes(&stream[from + len..])];
            tags(&mut Cutter::new(true), &pieces)
        };
        assert_eq!(with_gap(48, 100), Ok(vec![1, 2, 3]));
        assert_eq!(with_gap(60, 88), Ok(vec![1, 2, 3]));
        assert_eq!(with_gap(60, 89), Err(Lost::Gap(89)));
        assert_eq!(with_gap(20, 4), Err(Lost::Gap(4)));
    }

    #[test]
    fn what_the_side_never_sends_ends_it() {
        let stream = nops(&[0], (false, false));
        assert_eq!(tags(&mut Cutter::new(false), &[Piece::Bytes(&stream)]), Err(Lost::Opcode(0)));
        let http = [b'G'; 48];
        assert_eq!(tags(&mut Cutter::new(true), &[Piece::Bytes(&http)]), Err(Lost::Opcode(7)));
    }
}
