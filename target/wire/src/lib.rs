//! iSCSI on the wire (RFC 7143, RFC 7144), for the target and for an initiator alike: PDU layouts, text keys,
//! digests, sequence numbers, and the framer that cuts a byte stream into PDUs.
//!
//! Sans-IO and without a clock: bytes come in as slices, values and slices go out. `no_std` with `alloc`.
//!
//! ```text
//!   bytes of a TCP stream                                   values
//!   ---------------------                                   ------
//!   chunk ──► frame::Framer ──► Header ──► Bhs ──► pdu::Request / pdu::Response (views, no copy)
//!                          └──► Data(&chunk[..]) ──► text::Pairs, SCSI data, sense
//!                          └──► End { data_digest_ok }
//!
//!   pdu::ScsiResponse::new(..) ──► AsRef<[u8]> (48 bytes) + data + pad4() zeros + digests ──► socket
//! ```
//!
//! Two levels of types, as in every module here: a *view* of 48 received bytes, whose accessors cannot fail and
//! which may hold anything a peer sent, and *owned values* made by constructors that only make legal PDUs.
//!
//! ```
//! use stampede_wire::{Sn, frame::{Frame, Framer, FramerConfig}, pdu::{self, NopOut, InitiatorSns}};
//!
//! let sns = InitiatorSns { cmd_sn: Sn(7), exp_stat_sn: Sn(1) };
//! let ping = NopOut::ping(0x11, sns);
//! let mut framer = Framer::new(FramerConfig::login());
//! let mut input: &[u8] = ping.as_ref();
//! assert!(matches!(framer.next(&mut input), Ok(Some(Frame::Header))));
//! let pdu::Request::NopOut(seen) = framer.header().bhs().request().expect("a request") else { unreachable!() };
//! assert_eq!(seen.initiator_task_tag(), 0x11);
//! assert!(matches!(framer.next(&mut input), Ok(Some(Frame::End { data_digest_ok: true }))));
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod field;

pub mod ahs;
pub mod bhs;
pub mod digest;
pub mod encode;
pub mod frame;
pub mod isid;
pub mod lun;
pub mod opcode;
pub mod pdu;
pub mod serial;
pub mod text;

pub use bhs::{BHS_LEN, Bhs};
pub use encode::pad4;
pub use isid::{Isid, IsidType, Tsih};
pub use lun::Lun;
pub use opcode::Opcode;
pub use serial::Sn;

/// The tag value that means "no tag": Initiator Task Tag, Target Transfer Tag and Referenced Task Tag share it
/// (RFC 7143 11.2.1.8, 11.7.4, 11.5.4).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// The largest value of the 24-bit DataSegmentLength field, bytes (RFC 7143 11.2.1.6).
pub const DATA_SEGMENT_LEN_MAX: u32 = 0x00ff_ffff;
