//! iSCSI, as little of it as clients need.
//!
//! ```text
//!   bytes ──► Framer ──► at the end of a PDU: login | command | Data-Out | text | NOP | management | logout
//!                         READ:  Data-In from the canned payload, status in the last one
//!                         WRITE: payload dropped; R2Ts where the data does not come by itself; status
//!                         other: small answers by `scsi`
//! ```
//!
//! Parsed and numbered as RFC 7143 says: tags, CmdSN, StatSN, the command window, segment and burst lengths, digests.
//! Not done: order of CmdSN on more than one connection, task sets, aborts (a command is over before the next one is
//! looked at, but for writes that wait for data), error recovery above level 0.

mod login;
mod scsi;
mod session;
mod writes;

use crate::outbox::{Memory, Outbox};
use crate::server;
use login::{Agreed, Login};
pub use scsi::Geometry;
use session::Session;
use stampede_wire::Opcode;
use stampede_wire::frame::{Frame, FrameError, Framer, FramerConfig};
use std::net::SocketAddr;
use std::sync::Arc;

/// The longest login or other text, and the longest ping, bytes.
const COLLECT_MAX: usize = 16 * 1024;

/// The one target of discovery; a login may name any other.
pub const TARGET_NAME: &str = "iqn.2026-11.io.stampede:null";

/// Why a connection is dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("its bytes are no PDUs: {0}")]
    Frame(#[from] FrameError),
    #[error("a data digest is wrong")]
    DataDigest,
    #[error("a text or ping of more than {COLLECT_MAX} bytes")]
    TooLong,
    #[error("a PDU that does not belong here: {0:?}")]
    Unexpected(stampede_wire::Bhs),
    #[error("the login is wrong: {0}")]
    Login(&'static str),
    #[error("more than {0} writes wait for data")]
    Writes(usize),
    #[error(transparent)]
    Overload(#[from] crate::Overload),
}

/// One connection of the null target.
#[derive(Debug)]
pub struct Connection {
    framer: Framer,
    /// Data of a PDU that is looked at as a whole: text and pings.
    collected: Vec<u8>,
    collect: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    FullFeature(Box<Session>),
    Over,
}

impl server::Connection for Connection {
    type Shared = Geometry;

    fn new(geometry: &Arc<Geometry>, local: SocketAddr) -> Self {
        Self {
            framer: Framer::new(FramerConfig::login()),
            collected: Vec::new(),
            collect: false,
            phase: Phase::Login(Box::new(Login::new(Arc::clone(geometry), local))),
        }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        memory: &Memory,
        commands: &mut u64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        self.parse(bytes, outbox, memory, commands).map_err(Into::into)
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }
}

impl Connection {
    fn parse(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        memory: &Memory,
        commands: &mut u64,
    ) -> Result<(), Dropped> {
        let mut input = bytes;
        while let Some(frame) = self.framer.next(&mut input)? {
            match frame {
                Frame::Header => {
                    let opcode = self.framer.header().bhs().opcode();
                    self.collect = !matches!(opcode, Ok(Opcode::ScsiCommand | Opcode::DataOut));
                }
                Frame::Data(data) if self.collect => {
                    if self.collected.len() + data.len() > COLLECT_MAX {
                        return Err(Dropped::TooLong);
                    }
                    self.collected.extend_from_slice(data);
                }
                Frame::Data(_) => {}
                Frame::End { data_digest_ok: false } => return Err(Dropped::DataDigest),
                Frame::End { data_digest_ok: true } => self.end(outbox, memory, commands)?,
            }
        }
        Ok(())
    }

    /// A PDU is complete.
    #[inline]
    fn end(&mut self, outbox: &mut Outbox, memory: &Memory, commands: &mut u64) -> Result<(), Dropped> {
        let bhs = self.framer.header().bhs();
        match &mut self.phase {
            Phase::FullFeature(session) => {
                let over = session.pdu(bhs, &self.collected, (outbox, memory), commands)?;
                if over {
                    self.phase = Phase::Over;
                }
            }
            Phase::Login(login) => {
                if let Some(session) = login.pdu(bhs, &self.collected, outbox, memory)? {
                    let Agreed { header_digest, data_digest, .. } = session.agreed();
                    self.framer.set_digests(header_digest, data_digest);
                    self.framer.set_max_data_segment(login::RECV_DATA_SEGMENT);
                    self.phase = Phase::FullFeature(Box::new(session));
                }
            }
            Phase::Over => {}
        }
        self.collected.clear();
        Ok(())
    }
}
