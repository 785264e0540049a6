//! PDUs as the little target sees them.

/// A received PDU.
pub(super) struct Pdu {
    pub(super) header: [u8; 48],
    pub(super) data: Vec<u8>,
}

impl Pdu {
    pub(super) fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    pub(super) fn is_immediate(&self) -> bool {
        self.header[0] & 0x40 != 0
    }

    pub(super) fn is_final(&self) -> bool {
        self.header[1] & 0x80 != 0
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.header[at..at + 4].try_into().expect("4 bytes"))
    }

    pub(super) fn tag(&self) -> u32 {
        self.word(16)
    }

    pub(super) fn cdb(&self) -> [u8; 16] {
        self.header[32..48].try_into().expect("16 bytes")
    }
}

/// The header of an answer to a PDU.
pub(super) fn response(opcode: u8, pdu: &Pdu) -> [u8; 48] {
    let mut header = [0; 48];
    header[0] = opcode;
    header[1] = 0x80;
    header[16..20].copy_from_slice(&pdu.header[16..20]);
    header
}

/// Cuts a stream into PDUs without digests.
#[derive(Default)]
pub(super) struct Parser(Vec<u8>);

impl Parser {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn next_pdu(&mut self) -> Option<Pdu> {
        let header: [u8; 48] = *self.0.first_chunk()?;
        let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let end = 48 + len.next_multiple_of(4);
        if self.0.len() < end {
            return None;
        }
        let data = self.0[48..48 + len].to_vec();
        self.0.drain(..end);
        Some(Pdu { header, data })
    }
}
