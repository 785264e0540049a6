//! The Basic Header Segment (RFC 7143 11.2.1): the 48 bytes every PDU starts with, before its opcode is looked at.

use crate::{
    DATA_SEGMENT_LEN_MAX, Lun,
    opcode::{self, Opcode},
    pdu::{Pdu, Request, Response},
};
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a basic header segment, bytes (RFC 7143 11.2.1).
pub const BHS_LEN: usize = 48;

/// An untyped header: what all PDUs have in common, by the place it always has.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Bhs(pub [u8; BHS_LEN]);

impl Bhs {
    /// The opcode, or the unknown six-bit code (answer: Reject, command not supported).
    ///
    /// # Errors
    /// The code, when RFC 7143 11.2.1.2 does not define it.
    #[inline]
    pub fn opcode(&self) -> Result<Opcode, u8> {
        Opcode::try_from(self.0[0] & opcode::MASK).map_err(|error| error.number)
    }

    /// The I bit (11.2.1.1); defined for requests only.
    #[must_use]
    #[inline]
    pub fn immediate(&self) -> bool {
        self.0[0] & opcode::IMMEDIATE != 0
    }

    /// The F bit (11.2.1.3); in login PDUs the same bit is T.
    #[must_use]
    #[inline]
    pub fn is_final(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// TotalAHSLength (11.2.1.5) in bytes: 0 to 1,020.
    #[must_use]
    #[inline]
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength (11.2.1.6), bytes without padding: 0 to 2^24-1.
    #[must_use]
    #[inline]
    pub fn data_segment_len(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Writes DataSegmentLength.
    ///
    /// # Panics
    /// When `len` does not fit in 24 bits. No length that was negotiated can do that (13.12).
    #[inline]
    pub fn set_data_segment_len(&mut self, len: u32) {
        assert!(len <= DATA_SEGMENT_LEN_MAX, "a data segment is shorter than 2^24 bytes");
        let [_, high, middle, low] = len.to_be_bytes();
        [self.0[5], self.0[6], self.0[7]] = [high, middle, low];
    }

    /// The LUN field (11.2.1.7). Some PDUs keep other things there: ask the typed view first.
    #[must_use]
    #[inline]
    pub fn lun(&self) -> Lun {
        self.0[8..].first_chunk().map_or(Lun::ZERO, |bytes| Lun(*bytes))
    }

    /// The Initiator Task Tag (11.2.1.8).
    #[must_use]
    #[inline]
    pub fn initiator_task_tag(&self) -> u32 {
        self.word(16)
    }

    /// These bytes as a `T`, whatever their opcode says. See [`Bhs::try_view`].
    #[must_use]
    #[inline]
    pub fn view<T: Pdu>(&self) -> &T {
        T::from_bhs(self)
    }

    /// These bytes as a `T`, if the opcode is `T`'s.
    #[must_use]
    #[inline]
    pub fn try_view<T: Pdu>(&self) -> Option<&T> {
        (self.0[0] & opcode::MASK == T::OPCODE as u8).then(|| T::from_bhs(self))
    }

    /// The typed view of a PDU that an initiator sends; `None` for responses and unknown opcodes.
    #[must_use]
    #[inline]
    pub fn request(&self) -> Option<Request<'_>> {
        Request::of(self)
    }

    /// The typed view of a PDU that a target sends; `None` for requests and unknown opcodes.
    #[must_use]
    #[inline]
    pub fn response(&self) -> Option<Response<'_>> {
        Response::of(self)
    }

    /// The big-endian word at `at`; 0 past the end, which no caller asks for.
    #[inline]
    fn word(&self, at: usize) -> u32 {
        self.0[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

impl AsRef<[u8]> for Bhs {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; BHS_LEN]> for Bhs {
    fn from(bytes: [u8; BHS_LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Bhs {
    /// One line for logs: opcode, the fields all PDUs share, then bytes 16 to 47 as hex words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opcode() {
            Ok(opcode) => write!(f, "{opcode:?}")?,
            Err(code) => write!(f, "opcode {code:#04x}")?,
        }
        let flag = |set, name| if set { name } else { "" };
        write!(f, "{}{}", flag(self.immediate(), " I"), flag(self.is_final(), " F"))?;
        write!(f, " flags={:02x} itt={:08x}", self.0[1], self.initiator_task_tag())?;
        write!(f, " lun={} ahs={} data={} |", self.lun(), self.ahs_len(), self.data_segment_len())?;
        (20..BHS_LEN).step_by(4).try_for_each(|at| write!(f, " {:08x}", self.word(at)))
    }
}
