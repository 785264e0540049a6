//! Cutting a byte stream into PDUs, in place.
//!
//! ```text
//!            ┌──────────────── 48 + AHS (+ 4) bytes, copied ───────────────┐
//!   Header ──┤ next() == Frame::Header; see Framer::header()               │
//!            └──────────────────────────────┬──────────────────────────────┘
//!            ┌──────────────────────────────▼──────────────────────────────┐
//!   Data   ──┤ next() == Frame::Data(piece), as often as chunks cut it     │
//!            └──────────────────────────────┬──────────────────────────────┘
//!            ┌──────────────────────────────▼──────────────────────────────┐
//!   Tail   ──┤ padding and digest, swallowed; next() == Frame::End         │──► Header
//!            └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! Only header bytes and at most seven bytes of padding and digest are copied; payload is handed out as slices of the
//! caller's chunk. Any split of a stream gives the same PDUs; only where [`Frame::Data`] is cut differs.

use crate::{
    BHS_LEN, Bhs,
    digest::{Crc32c, DIGEST_LEN, from_wire},
    encode::{Digests, pad4},
};

/// The most bytes of additional header segments a PDU can have (RFC 7143 11.2.1.5).
pub const AHS_MAX: usize = 255 * 4;

/// Limits and digests of one direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FramerConfig {
    /// The longest data segment to take, bytes: the MaxRecvDataSegmentLength that was declared (13.12).
    pub max_data_segment: u32,
    /// The most bytes of additional header segments to take, up to [`AHS_MAX`].
    pub max_ahs: u16,
    /// Whether headers carry a digest.
    pub header_digest: bool,
    /// Whether data segments carry a digest.
    pub data_digest: bool,
}

impl FramerConfig {
    /// What holds during login: 8,192 bytes of data (13.12's default), any AHS, no digests.
    #[must_use]
    pub const fn login() -> Self {
        Self { max_data_segment: 8192, max_ahs: AHS_MAX as u16, header_digest: false, data_digest: false }
    }
}

/// One step through a PDU. Every PDU gives one `Header`, any number of `Data`, and one `End`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// The header is complete and its digest right: see [`Framer::header`].
    Header,
    /// The next payload bytes, never empty, never padding: a slice of the chunk that was passed in.
    Data(&'a [u8]),
    /// The PDU is over.
    End {
        /// `false` when a data digest was due and is wrong: discard the data and Reject (RFC 7143 7.7).
        data_digest_ok: bool,
    },
}

/// Why a stream cannot be cut any further: the place of the next header is unknown, or not worth reaching. The
/// connection is to be dropped (RFC 7143 7.7, 7.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The header digest is wrong.
    #[error("header digest is {found:08x}, should be {expected:08x}")]
    HeaderDigest {
        /// The digest of the bytes that came.
        expected: u32,
        /// The digest that came.
        found: u32,
    },
    /// The data segment is longer than was declared acceptable.
    #[error("data segment of {len} bytes, at most {max} were declared acceptable")]
    DataSegmentTooLong {
        /// DataSegmentLength, bytes.
        len: u32,
        /// The limit, bytes.
        max: u32,
    },
    /// There are more additional header segments than are taken.
    #[error("additional header segments of {len} bytes, at most {max} are taken")]
    AhsTooLong {
        /// TotalAHSLength, bytes.
        len: u16,
        /// The limit, bytes.
        max: u16,
    },
}

/// A PDU's header: basic header segment and additional ones, in place.
#[derive(Clone)]
pub struct Header {
    bhs: Bhs,
    /// AHS and header digest as they come; `ahs_len` bytes of it are AHS.
    rest: [u8; AHS_MAX + DIGEST_LEN],
    ahs_len: u16,
}

impl Header {
    /// The basic header segment.
    #[must_use]
    #[inline]
    pub fn bhs(&self) -> &Bhs {
        &self.bhs
    }

    /// The additional header segments, a multiple of four bytes; see [`crate::ahs`].
    #[must_use]
    #[inline]
    pub fn ahs(&self) -> &[u8] {
        &self.rest[..usize::from(self.ahs_len)]
    }

    /// What the header digest covers (RFC 7143 11.2.3).
    #[inline]
    fn crc(&self) -> u32 {
        let mut crc = Crc32c::new();
        crc.update(&self.bhs.0);
        if self.ahs_len != 0 {
            crc.update(self.ahs());
        }
        crc.finish()
    }
}

impl core::fmt::Debug for Header {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Header").field("bhs", &self.bhs).field("ahs", &self.ahs()).finish()
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing of a PDU is here.
    Start,
    /// `filled` of the 48 bytes are here.
    Bhs { filled: u8 },
    /// `filled` of the AHS and header digest bytes are here.
    Rest { filled: u16 },
    /// `left` payload bytes are still to come.
    Data { left: u32 },
    /// `filled` of the padding and data digest bytes are here; there are such bytes.
    Tail { filled: u8 },
    /// Every byte is here.
    Complete,
    /// The stream is lost.
    Failed(FrameError),
}

/// The de-framer of one direction of one connection.
///
/// Pulls: it reads no byte beyond the [`Frame`] it returns, so what the caller changes on a frame (digests after the
/// login, the data limit) holds for the bytes right behind it, even in the same chunk.
#[derive(Clone, Debug)]
pub struct Framer {
    state: State,
    /// In force for the PDU under way.
    digests: Digests,
    /// In force from the next PDU on.
    next_digests: Digests,
    max_data_segment: u32,
    max_ahs: u16,
    crc: Crc32c,
    tail: [u8; 3 + DIGEST_LEN],
    header: Header,
}

impl Framer {
    /// A framer at the start of a PDU.
    #[must_use]
    pub fn new(config: FramerConfig) -> Self {
        let digests = Digests { header: config.header_digest, data: config.data_digest };
        Self {
            state: State::Start,
            digests,
            next_digests: digests,
            max_data_segment: config.max_data_segment,
            max_ahs: config.max_ahs,
            crc: Crc32c::new(),
            tail: [0; 3 + DIGEST_LEN],
            header: Header { bhs: Bhs([0; BHS_LEN]), rest: [0; AHS_MAX + DIGEST_LEN], ahs_len: 0 },
        }
    }

    /// Sets the digests of the PDUs after the one under way: digests start with the full feature phase (13.1).
    pub fn set_digests(&mut self, header: bool, data: bool) {
        self.next_digests = Digests { header, data };
    }

    /// Sets the longest data segment to take, bytes, for headers not yet returned (13.12; may change by a Text
    /// negotiation).
    pub fn set_max_data_segment(&mut self, max: u32) {
        self.max_data_segment = max;
    }

    /// The header of the PDU under way: from its [`Frame::Header`] until `next` is called after its [`Frame::End`].
    #[must_use]
    #[inline]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether bytes of a PDU have been seen but not its end.
    #[must_use]
    #[inline]
    pub fn in_pdu(&self) -> bool {
        !matches!(self.state, State::Start)
    }

    /// The next step, taken from the front of `input`, which is moved past what was used. `None`: all of `input`
    /// is used and more is needed. Call again until `None`, also with an empty `input`: an end without
    /// padding and digest needs no bytes of its own.
    ///
    /// # Errors
    /// The stream is lost: see [`FrameError`]. Every later call returns the same error.
    #[inline]
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, FrameError> {
        if matches!(self.state, State::Start) {
            self.digests = self.next_digests;
            if let Some((bhs, rest)) = input.split_first_chunk() {
                *input = rest;
                self.header.bhs = Bhs(*bhs);
                return self.bhs_complete(input);
            }
        }
        match self.state {
            State::Start => self.bhs_in_pieces(0, input),
            State::Bhs { filled } => self.bhs_in_pieces(filled, input),
            State::Rest { filled } => self.rest_in_pieces(filled, input),
            State::Data { left } => Ok(self.data(left, input)),
            State::Tail { filled } => Ok(self.tail(filled, input)),
            State::Complete => {
                self.state = State::Start;
                Ok(Some(Frame::End { data_digest_ok: true }))
            }
            State::Failed(error) => Err(error),
        }
    }

    #[cold]
    fn bhs_in_pieces<'i>(
        &mut self,
        filled: u8,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'i>>, FrameError> {
        let taken = fill(&mut self.header.bhs.0, usize::from(filled), input);
        if taken < BHS_LEN {
            self.state = if taken == 0 { State::Start } else { State::Bhs { filled: taken as u8 } };
            return Ok(None);
        }
        self.bhs_complete(input)
    }

    #[inline]
    fn bhs_complete<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, FrameError> {
        self.header.ahs_len = self.header.bhs.ahs_len() as u16;
        if self.header.ahs_len > self.max_ahs {
            return self.fail(FrameError::AhsTooLong { len: self.header.ahs_len, max: self.max_ahs });
        }
        if self.header.ahs_len == 0 && !self.digests.header {
            return self.header_complete();
        }
        self.rest_in_pieces(0, input)
    }

    /// AHS and header digest.
    fn rest_in_pieces<'i>(
        &mut self,
        filled: u16,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'i>>, FrameError> {
        let ahs_len = usize::from(self.header.ahs_len);
        let needed = if self.digests.header { ahs_len + DIGEST_LEN } else { ahs_len };
        let taken = fill(&mut self.header.rest[..needed], usize::from(filled), input);
        if taken < needed {
            self.state = State::Rest { filled: taken as u16 };
            return Ok(None);
        }
        if self.digests.header {
            let expected = self.header.crc();
            let found = wire_digest(&self.header.rest[ahs_len..needed]);
            if expected != found {
                return self.fail(FrameError::HeaderDigest { expected, found });
            }
        }
        self.header_complete()
    }

    #[inline]
    fn header_complete<'i>(&mut self) -> Result<Option<Frame<'i>>, FrameError> {
        let len = self.header.bhs.data_segment_len();
        if len > self.max_data_segment {
            return self.fail(FrameError::DataSegmentTooLong { len, max: self.max_data_segment });
        }
        self.crc = Crc32c::new();
        self.state = if len == 0 { State::Complete } else { State::Data { left: len } };
        Ok(Some(Frame::Header))
    }

    #[inline]
    fn data<'i>(&mut self, left: u32, input: &mut &'i [u8]) -> Option<Frame<'i>> {
        if input.is_empty() {
            return None;
        }
        let (data, rest) = input.split_at(input.len().min(left as usize));
        *input = rest;
        if self.digests.data {
            self.crc.update(data);
        }
        // `data` is at most `left` bytes long.
        let left = left - data.len() as u32;
        self.state = match left {
            0 if self.digests.data || self.padding() != 0 => State::Tail { filled: 0 },
            0 => State::Complete,
            left => State::Data { left },
        };
        Some(Frame::Data(data))
    }

    /// Bytes of padding behind the data of the PDU under way.
    #[inline]
    fn padding(&self) -> usize {
        pad4(self.header.bhs.data_segment_len() as usize)
    }

    /// Padding and data digest. A PDU without data has neither (RFC 7143 11.2.3).
    fn tail<'i>(&mut self, filled: u8, input: &mut &'i [u8]) -> Option<Frame<'i>> {
        let padding = self.padding();
        let needed = if self.digests.data { padding + DIGEST_LEN } else { padding };
        let taken = fill(&mut self.tail[..needed], usize::from(filled), input);
        if taken < needed {
            self.state = State::Tail { filled: taken as u8 };
            return None;
        }
        let mut data_digest_ok = true;
        if self.digests.data {
            self.crc.update(&self.tail[..padding]);
            data_digest_ok = self.crc.finish() == wire_digest(&self.tail[padding..needed]);
        }
        self.state = State::Start;
        Some(Frame::End { data_digest_ok })
    }

    #[cold]
    fn fail<T>(&mut self, error: FrameError) -> Result<T, FrameError> {
        self.state = State::Failed(error);
        Err(error)
    }
}

/// Copies from the front of `input` into `place[filled..]`, as much as there is; how far `place` is now filled.
#[inline]
fn fill(place: &mut [u8], filled: usize, input: &mut &[u8]) -> usize {
    let open = &mut place[filled..];
    let (taken, rest) = input.split_at(open.len().min(input.len()));
    open[..taken.len()].copy_from_slice(taken);
    *input = rest;
    filled + taken.len()
}

/// The CRC in four digest bytes.
#[inline]
fn wire_digest(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| from_wire(*bytes))
}
