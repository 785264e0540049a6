//! Where sense data points (SPC-4 4.5.2.4.2): each command that the unit reports, and each parameter list, with one bit
//! changed at a time. INVALID FIELD IN CDB and INVALID FIELD IN PARAMETER LIST point at the field that the bit is in, and bits
//! that the unit says it does not look at change nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod lists;

use common::*;
use stampede_scsi::cdb::{Transfer, data_direction_and_len, takes_parameter_list};
use stampede_scsi::copy::{CopyStep, Moment, TokenKey};
use stampede_scsi::{Alua, Device, DeviceConfig, Sense, Step};

/// A unit with every ability.
fn able() -> DeviceConfig {
    DeviceConfig { durable: true, alua: Alua::Explicit, max_atomic_blocks: 64, removable: true, ..config() }
}

/// A unit without any that can be missing.
fn plain() -> DeviceConfig {
    DeviceConfig { alua: Alua::Implicit, thin: false, write_cache: false, ..config() }
}

/// What became of a command: its sense data, or that it had none.
fn outcome(device: &mut Device, cdb: &[u8], list: &[u8]) -> Result<(), Sense> {
    let cdb = padded(cdb);
    let out = match data_direction_and_len(&cdb, device.config().block_size) {
        Transfer::Out(bytes) => u32::try_from(bytes).unwrap_or(u32::MAX),
        _ => 0,
    };
    let mut param = list.to_vec();
    if takes_parameter_list(&cdb) {
        // As long as the CDB says: another length is another mistake.
        param.resize(usize::try_from(out).unwrap().min(1 << 16), 0);
    } else {
        param.clear();
    }
    let reply = match device.start(A, &cdb, out, &param) {
        Step::Done(reply) => reply,
        Step::Fence(fence) => fence.reply,
        Step::Media(_) | Step::Save(_) | Step::Sanitize { .. } | Step::Wait => return Ok(()),
        Step::Copy => {
            let key = TokenKey::new([7; 32]);
            let moment = Moment { now_ns: 0, key: &key, others: 0, changing: &|_| false };
            match device.third_party(A, &cdb, &param, &moment) {
                CopyStep::Done(reply) => reply,
                CopyStep::Copy(_) | CopyStep::Abort(..) => return Ok(()),
            }
        }
    };
    reply.sense.map_or(Ok(()), Err)
}

/// What is wrong with where this sense data points, if byte `byte` and bit `bit` of the CDB or of the list were changed.
/// `field` says where the field begins and ends that a byte is in.
fn misses(
    sense: &Sense,
    in_cdb: bool,
    (byte, bit): (u16, u8),
    field: impl Fn(u16) -> (u16, u16),
) -> Option<String> {
    let Some(pointer) = sense.field else { return Some(format!("{sense:?} points nowhere")) };
    if pointer.in_cdb != in_cdb {
        return Some(format!("{sense:?} points into the other one"));
    }
    let (first, last) = field(byte);
    // The field's first byte; its most significant bit, where a bit is told at all.
    let right = pointer.byte == first
        && match pointer.bit {
            None => true,
            Some(_) if last > first => pointer.bit == Some(7),
            Some(told) => told >= bit,
        };
    (!right).then(|| format!("byte {byte} bit {bit} is wrong, and {pointer:?} is pointed at"))
}
