//! PDUs as they were on the wire, digests and padding included, legal or not.

use stampede_wire::digest::DIGEST_LEN;
use stampede_wire::encode::{Digests, data_digest, header_digest_with_ahs, pad4};
use stampede_wire::pdu::Pdu;
use stampede_wire::{BHS_LEN, Bhs, Opcode};
use std::fmt;

/// A whole PDU.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw {
    /// The basic header segment.
    pub bhs: Bhs,
    /// Additional header segments.
    pub ahs: Vec<u8>,
    /// The data segment without padding.
    pub data: Vec<u8>,
    /// Its padding.
    pub padding: Vec<u8>,
    /// The header digest, where there is one.
    pub header_digest: Option<[u8; DIGEST_LEN]>,
    /// The data digest, where there is one.
    pub data_digest: Option<[u8; DIGEST_LEN]>,
}

impl Raw {
    /// A PDU with this header and data: lengths, padding and digests are made right.
    pub fn new(bhs: Bhs, data: &[u8], digests: Digests) -> Self {
        Self::with_ahs(bhs, &[], data, digests)
    }

    /// The same with additional header segments, whose length is a multiple of four.
    pub fn with_ahs(mut bhs: Bhs, ahs: &[u8], data: &[u8], digests: Digests) -> Self {
        bhs.0[4] = (ahs.len() / 4) as u8;
        bhs.set_data_segment_len(data.len() as u32);
        let mut raw = Self {
            bhs,
            ahs: ahs.to_vec(),
            data: data.to_vec(),
            padding: vec![0; pad4(data.len())],
            header_digest: None,
            data_digest: None,
        };
        raw.seal(digests);
        raw
    }

    /// Makes the digests right.
    pub fn seal(&mut self, digests: Digests) {
        self.header_digest = digests.header.then(|| header_digest_with_ahs(&self.bhs, &self.ahs));
        self.data_digest = (digests.data && !self.data.is_empty()).then(|| data_digest(&self.data));
    }

    /// Makes those digests right that are there.
    pub fn reseal(&mut self) {
        let digests = Digests { header: self.header_digest.is_some(), data: self.data_digest.is_some() };
        self.seal(digests);
    }

    /// Puts other data in.
    pub fn set_data(&mut self, data: Vec<u8>) {
        self.bhs.set_data_segment_len(data.len() as u32);
        self.padding = vec![0; pad4(data.len())];
        self.data = data;
        self.reseal();
    }

    /// As bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let digest = |digest: &Option<[u8; DIGEST_LEN]>| digest.map_or(Vec::new(), |bytes| bytes.to_vec());
        let (header, data) = (digest(&self.header_digest), digest(&self.data_digest));
        [&self.bhs.0[..], &self.ahs, &header, &self.data, &self.padding, &data].concat()
    }

    /// Cuts the first PDU off `bytes`, if it is there as a whole.
    pub fn cut(bytes: &mut Vec<u8>, digests: Digests) -> Option<Self> {
        let bhs = Bhs(*bytes.first_chunk::<BHS_LEN>()?);
        let len = bhs.data_segment_len() as usize;
        let header_end = BHS_LEN + bhs.ahs_len();
        let data_start = header_end + if digests.header { DIGEST_LEN } else { 0 };
        let data_end = data_start + len + pad4(len);
        let has_data_digest = digests.data && len > 0;
        let end = data_end + if has_data_digest { DIGEST_LEN } else { 0 };
        if bytes.len() < end {
            return None;
        }
        let digest = |at: usize| bytes[at..].first_chunk::<DIGEST_LEN>().copied();
        let raw = Self {
            bhs,
            ahs: bytes[BHS_LEN..header_end].to_vec(),
            data: bytes[data_start..data_start + len].to_vec(),
            padding: bytes[data_start + len..data_end].to_vec(),
            header_digest: digests.header.then(|| digest(header_end)).flatten(),
            data_digest: has_data_digest.then(|| digest(data_end)).flatten(),
        };
        bytes.drain(..end);
        Some(raw)
    }

    /// The opcode, if it is one of the RFC's.
    pub fn opcode(&self) -> Option<Opcode> {
        self.bhs.opcode().ok()
    }

    /// These bytes as a `T`, if the opcode is `T`'s.
    pub fn view<T: Pdu>(&self) -> Option<&T> {
        self.bhs.try_view()
    }

    /// Whether it is a `T`.
    pub fn is<T: Pdu>(&self) -> bool {
        self.view::<T>().is_some()
    }

    /// The 32-bit field at a byte offset of the header.
    pub fn word(&self, at: usize) -> u32 {
        word(&self.bhs, at)
    }

    /// Writes the 32-bit field at a byte offset of the header.
    pub fn set_word(&mut self, at: usize, value: u32) {
        set_word(&mut self.bhs, at, value);
        self.reseal();
    }

    /// A byte of the header.
    pub fn byte(&self, at: usize) -> u8 {
        self.bhs.0[at]
    }

    /// Changes a byte of the header.
    pub fn set_byte(&mut self, at: usize, value: u8) {
        self.bhs.0[at] = value;
        self.reseal();
    }

    /// StatSN, as every PDU of a target has it.
    pub fn stat_sn(&self) -> u32 {
        self.word(24)
    }

    /// Whether it uses up a StatSN (RFC 7143 4.2.2.2).
    pub fn carries_status(&self) -> bool {
        const NO_TAG: u32 = u32::MAX;
        match self.opcode() {
            Some(Opcode::DataIn) => self.byte(1) & 1 != 0,
            Some(Opcode::NopIn) => self.word(16) != NO_TAG,
            Some(Opcode::ReadyToTransfer) | None => false,
            Some(_) => true,
        }
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.bhs)
    }
}

/// The 32-bit field at a byte offset of a header.
pub fn word(bhs: &Bhs, at: usize) -> u32 {
    bhs.0[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Writes the 32-bit field at a byte offset of a header.
pub fn set_word(bhs: &mut Bhs, at: usize, value: u32) {
    bhs.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
