//! The tokens of one unit, and what POPULATE TOKEN does (SBC-3 5.20).
//!
//! A token is a point in time copy that is vulnerable to change: it stands for its blocks until one of them is written,
//! and is revoked then. So it costs no space, and a copy made with it is never a mixture of old and new.

use super::limits::{INACTIVITY_S, INACTIVITY_S_MAX, RANGES_MAX, TOKEN_BYTES_MAX, TOKENS_MAX};
use super::parameters::{Ranges, overlap, parameter_list, ranges, total};
use super::rod::{self, CHANGE_VULNERABLE, HEADER_BYTES, POINT_IN_TIME_ANY, SECRET_BYTES, Token};
use super::state::Begin;
use super::{DELETE_TOKEN, Moment};
use crate::cdb::{be16, be32};
use crate::sense::{self, PARAMETER_LIST_LENGTH_ERROR, Sense};
use crate::{Blocks, Device, NexusId, Reply, Status};
use std::collections::VecDeque;

/// One token and what it stands for.
#[derive(Debug)]
struct Rod {
    token: Token,
    secret: [u8; SECRET_BYTES],
    /// Empty when it was revoked: it is kept, to say so.
    ranges: Ranges,
    block_size: u32,
    timeout_ns: u64,
    used_ns: u64,
}

/// The tokens of one unit, oldest first: at most [`TOKENS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Rods {
    rods: VecDeque<Rod>,
    /// How many stand for something.
    live: u32,
    made: u64,
}

impl Rods {
    /// Whether any token stands for something: else no change of the medium matters.
    #[inline]
    pub(crate) fn any_live(&self) -> bool {
        self.live > 0
    }

    /// Blocks are about to change.
    pub(super) fn changed(&mut self, range: Blocks) {
        self.revoke(|rod| rod.ranges.iter().any(|other| overlap(*other, range)));
    }

    /// Any block may have changed.
    pub(crate) fn all_changed(&mut self) {
        self.revoke(|_| true);
    }

    fn revoke(&mut self, hit: impl Fn(&Rod) -> bool) {
        for rod in &mut self.rods {
            if !rod.ranges.is_empty() && hit(rod) {
                rod.ranges.clear();
                self.live -= 1;
            }
        }
    }

    /// Forgets tokens that were not used for their time.
    pub(super) fn expire(&mut self, now_ns: u64) {
        self.rods.retain(|rod| now_ns.saturating_sub(rod.used_ns) <= rod.timeout_ns);
        self.count();
    }

    fn count(&mut self) {
        self.live = self.rods.iter().filter(|rod| !rod.ranges.is_empty()).count() as u32;
    }

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        self.rods.clear();
        self.live = 0;
    }

    fn add(&mut self, rod: Rod) {
        if self.rods.len() == TOKENS_MAX {
            self.rods.pop_front();
        }
        self.rods.push_back(rod);
        self.count();
    }

    /// What managing needs to know of each token that stands for something.
    pub(super) fn headers(&self) -> impl Iterator<Item = &[u8]> {
        self.rods.iter().filter(|rod| !rod.ranges.is_empty()).map(|rod| &rod.token[..HEADER_BYTES])
    }

    /// Answers a copier: the token, its block size and its ranges; or deletes it.
    ///
    /// # Errors
    /// TOKEN UNKNOWN, or TOKEN REVOKED.
    pub(super) fn serve(&mut self, cdb: &[u8; 16], now_ns: u64) -> Result<Reply, Sense> {
        self.expire(now_ns);
        let at = self.rods.iter().position(|rod| cdb[1..] == rod.secret).ok_or(sense::TOKEN_UNKNOWN)?;
        if cdb[0] == DELETE_TOKEN {
            self.rods.remove(at);
            self.count();
            return Ok(Reply::good());
        }
        let rod = &mut self.rods[at];
        if rod.ranges.is_empty() {
            return Err(sense::TOKEN_REVOKED);
        }
        rod.used_ns = now_ns;
        let mut data = rod.token.to_vec();
        data.extend_from_slice(&rod.block_size.to_be_bytes());
        for range in &rod.ranges {
            data.extend_from_slice(&range.lba.to_be_bytes());
            data.extend_from_slice(&range.count.to_be_bytes());
        }
        Ok(Reply { status: Status::Good, sense: None, data })
    }
}

/// What [`Rods::serve`] tells of a token.
pub(super) struct Served {
    /// The whole token.
    pub(super) token: Vec<u8>,
    /// Logical block length of its unit, in bytes.
    pub(super) block_size: u32,
    /// What it stands for.
    pub(super) ranges: Ranges,
}

impl Served {
    /// Reads the answer; `None` when it is none.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let (token, rest) = data.split_at_checked(rod::TOKEN_BYTES)?;
        let (block_size, ranges) = rest.split_first_chunk::<4>()?;
        let ranges = ranges
            .chunks_exact(12)
            .map(|range| Blocks { lba: crate::cdb::be64(range, 0), count: be32(range, 8) });
        Some(Self {
            token: token.to_vec(),
            block_size: u32::from_be_bytes(*block_size),
            ranges: ranges.collect(),
        })
    }
}

impl Device {
    /// POPULATE TOKEN (SBC-3 5.20). A change of these blocks that is under way could still come between two uses of the
    /// token, so then the initiator has to try again.
    pub(super) fn populate_token(
        &mut self,
        nexus: NexusId,
        cdb: &[u8; 16],
        param: &[u8],
        moment: &Moment<'_>,
    ) -> Result<Reply, Sense> {
        const HEADER: usize = 16;
        let list = parameter_list(cdb, param, HEADER + 16 * RANGES_MAX)?;
        if list.is_empty() {
            return Ok(Reply::good());
        }
        if list.len() < HEADER {
            return Err(PARAMETER_LIST_LENGTH_ERROR);
        }
        if usize::from(be16(list, 0)) + 2 < HEADER {
            return Err(Sense::invalid_parameter(0, None));
        }
        let timeout_s = match be32(list, 4) {
            0 => INACTIVITY_S,
            given if given > INACTIVITY_S_MAX => return Err(Sense::invalid_parameter(4, None)),
            given => given,
        };
        // RTV: the initiator wants a certain type.
        if list[2] & 0x02 != 0 && !matches!(be32(list, 8), CHANGE_VULNERABLE | POINT_IN_TIME_ANY) {
            return Err(Sense::invalid_parameter(8, None));
        }
        let ranges = ranges(list, 14, self)?;
        let blocks = total(&ranges);
        let bytes = blocks * u64::from(self.config.block_size);
        if blocks == 0 || bytes > TOKEN_BYTES_MAX {
            return Err(Sense::invalid_parameter(14, None));
        }
        if ranges.iter().any(|range| (moment.changing)(*range)) {
            return Ok(Reply::status(Status::Busy));
        }
        let copy = match self.copies.begin(nexus, Some(be32(cdb, 6)), 0x10) {
            Begin::Begun(copy) => copy,
            Begin::InProgress => return Err(sense::OPERATION_IN_PROGRESS),
            Begin::Full => return Ok(Reply::status(Status::Busy)),
        };
        let token = rod::make(&self.config, moment.key, self.rods.made, bytes);
        self.rods.made += 1;
        self.copies.populated(copy, blocks, &token);
        self.rods.add(Rod {
            secret: rod::secret(&token),
            token,
            ranges,
            block_size: self.config.block_size,
            timeout_ns: u64::from(timeout_s) * 1_000_000_000,
            used_ns: moment.now_ns,
        });
        Ok(Reply::good())
    }
}
