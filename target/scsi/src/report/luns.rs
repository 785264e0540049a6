//! REPORT LUNS, and commands to a LUN that is not there.

use crate::cdb::{be16, be32};
use crate::device::{Device, Request};
use crate::sense::{self, Sense, SenseFormat};
use crate::{Reply, Step};

/// The reply to a command for a logical unit that does not exist (SAM-5 4.6.5.2, SPC-4 6.4.2).
///
/// INQUIRY says peripheral qualifier 011b, REQUEST SENSE returns 05h/25h/00h as data, everything else gets CHECK
/// CONDITION 05h/25h/00h. REPORT LUNS is answered by [`report_luns`] for any LUN.
pub fn no_such_lun(cdb: &[u8; 16]) -> Reply {
    match cdb[0] {
        0x12 => absent_inquiry(cdb),
        0x03 => {
            let format = if cdb[1] & 0x01 != 0 { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            let sense = sense::LUN_NOT_SUPPORTED.with_format(format);
            Reply::data(sense.encode().to_vec(), usize::from(cdb[4]))
        }
        _ => Reply::check(sense::LUN_NOT_SUPPORTED),
    }
}

/// INQUIRY data of an absent unit: 7Fh and nothing else to say.
fn absent_inquiry(cdb: &[u8; 16]) -> Reply {
    const ABSENT: u8 = 0x7F;
    let mut data;
    if cdb[1] & 0x01 != 0 {
        data = vec![ABSENT, cdb[2], 0, 0];
    } else if cdb[2] != 0 {
        return Reply::check(Sense::invalid_cdb(2, None));
    } else {
        data = vec![0; 36];
        data[..5].copy_from_slice(&[ABSENT, 0, 0x06, 0x12, 31]);
        data[8..].fill(b' ');
    }
    Reply::data(data, usize::from(be16(cdb, 3)))
}

/// The reply to REPORT LUNS (SPC-4 6.33) for a target with `luns`, in ascending order.
///
/// LUNs below 256 use peripheral device addressing, others flat space addressing (SAM-5 4.6.7 and 4.6.8); only the
/// low 14 bits count. There are no well known logical units. An allocation length under 16 bytes is refused.
pub fn report_luns(cdb: &[u8; 16], luns: &[u16]) -> Reply {
    let allocation_length = be32(cdb, 6);
    if allocation_length < 16 {
        return Reply::check(Sense::invalid_cdb(6, None));
    }
    let luns = match cdb[2] {
        0x00 | 0x02 => luns,
        0x01 => &[],
        _ => return Reply::check(Sense::invalid_cdb(2, None)),
    };
    let mut data = Vec::with_capacity(8 + 8 * luns.len());
    data.extend_from_slice(&(8 * luns.len() as u32).to_be_bytes());
    data.extend_from_slice(&[0; 4]);
    for lun in luns {
        let [high, low] = lun.to_be_bytes();
        let method = if *lun < 256 { 0 } else { 0x40 };
        data.extend_from_slice(&[method | (high & 0x3F), low, 0, 0, 0, 0, 0, 0]);
    }
    Reply::data(data, allocation_length as usize)
}

/// REPORT LUNS that the engine did not answer itself: a target with this unit as LUN 0.
pub(crate) fn own_lun(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    device.luns_reported(request.nexus);
    Ok(Step::Done(report_luns(request.cdb, &[0])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn luns_use_both_addressing_methods() {
        let reply = report_luns(&cdb(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), &[0, 7, 300]);
        assert_eq!(reply.status, Status::Good);
        assert_eq!(reply.data.len(), 32);
        assert_eq!(reply.data[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
        assert_eq!(reply.data[16..18], [0, 7]);
        assert_eq!(reply.data[24..26], [0x41, 0x2C]);
    }

    #[test]
    fn luns_are_cut_and_checked() {
        let reply = report_luns(&cdb(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16]), &[0, 1, 2]);
        assert_eq!(reply.data.len(), 16);
        assert_eq!(reply.data[3], 24);
        assert_eq!(
            report_luns(&cdb(&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 15]), &[0]).status,
            Status::CheckCondition
        );
        assert_eq!(
            report_luns(&cdb(&[0xA0, 0, 3, 0, 0, 0, 0, 0, 1, 0]), &[0]).status,
            Status::CheckCondition
        );
        let well_known = report_luns(&cdb(&[0xA0, 0, 1, 0, 0, 0, 0, 0, 1, 0]), &[0]);
        assert_eq!(well_known.data, [0; 8]);
    }

    #[test]
    fn an_absent_lun_answers_inquiry_and_request_sense() {
        let inquiry = no_such_lun(&cdb(&[0x12, 0, 0, 0, 96, 0]));
        assert_eq!((inquiry.status, inquiry.data[0], inquiry.data.len()), (Status::Good, 0x7F, 36));
        let sense = no_such_lun(&cdb(&[0x03, 0, 0, 0, 252, 0]));
        assert_eq!((sense.status, sense.data[2], sense.data[12]), (Status::Good, 0x05, 0x25));
        let read = no_such_lun(&cdb(&[0x28]));
        assert_eq!(read.sense, Some(sense::LUN_NOT_SUPPORTED));
    }
}
