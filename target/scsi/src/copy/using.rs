//! WRITE USING TOKEN (SBC-3 5.46).

use super::copier::{Work, ZeroWork};
use super::limits::{RANGES_MAX, TOKEN_BYTES_MAX};
use super::parameters::{Ranges, parameter_list, ranges, total};
use super::resolve::{Place, Resolver};
use super::rod::{self, Kind, TOKEN_BYTES};
use super::target::Target;
use crate::Device;
use crate::cdb::{be16, be32, be64};
use crate::sense::{PARAMETER_LIST_LENGTH_ERROR, Sense};

/// Bytes before the ranges.
const HEADER: usize = 536;

/// What a WRITE USING TOKEN with a unit's token shall do.
#[derive(Debug)]
pub(super) struct Using {
    /// The token, as the initiator gave it.
    pub(super) token: Box<[u8; TOKEN_BYTES]>,
    /// OFFSET INTO ROD, in logical blocks.
    pub(super) offset: u64,
    /// DEL_TKN: the token is not wanted any more afterwards.
    pub(super) delete: bool,
    /// Where the data goes.
    pub(super) ranges: Ranges,
    /// The unit that got the command.
    pub(super) own: Place,
    /// Bytes that one command moves at most.
    pub(super) chunk: u64,
    /// Finds the unit that made the token.
    pub(super) resolver: Resolver,
}

/// Reads the parameter list: its list identifier, and what is to be done.
pub(super) fn parse(
    cdb: &[u8; 16],
    param: &[u8],
    device: &Device,
    others: u16,
) -> Result<(u32, Work), Sense> {
    let id = be32(cdb, 6);
    let list = parameter_list(cdb, param, HEADER + 16 * RANGES_MAX)?;
    if list.is_empty() {
        return Ok((id, Work::Nothing));
    }
    if list.len() < HEADER {
        return Err(PARAMETER_LIST_LENGTH_ERROR);
    }
    if usize::from(be16(list, 0)) + 2 < HEADER {
        return Err(Sense::invalid_parameter(0, None));
    }
    let delete = list[2] & 0x02 != 0;
    let offset = be64(list, 8);
    let mut token = Box::new([0; TOKEN_BYTES]);
    token.copy_from_slice(&list[16..16 + TOKEN_BYTES]);
    let kind = rod::parse(&token)?;
    let ranges = ranges(list, HEADER - 2, device)?;
    let own = Place::own(device);
    if total(&ranges) * u64::from(own.block_size) > TOKEN_BYTES_MAX {
        return Err(Sense::invalid_parameter(HEADER as u16 - 2, None));
    }
    let work = match kind {
        Kind::Zero => Work::Zero(ZeroWork::new(ranges, device)),
        Kind::Made(creator) => {
            let creator = Target { block_length: 0, ..creator };
            let resolver = Resolver::new(&[creator], device, others);
            let chunk = super::copier::chunk_bytes(device);
            Work::token(Using { token, offset, delete, ranges, own, chunk, resolver })
        }
    };
    Ok((id, work))
}
