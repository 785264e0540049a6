//! Small answers of SCSI: what clients ask before they read and write. Nothing here is on the way of an I/O.

use stampede_wire::Lun;

/// Bytes per logical block.
pub(super) const BLOCK: u32 = 512;
/// MAXIMUM TRANSFER LENGTH, blocks: 16 MiB.
const TRANSFER_MAX: u32 = 32_768;

/// The disk that there is not.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Logical blocks of 512 bytes.
    pub blocks: u64,
}

/// What a command comes to, for which no data is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// GOOD, with this data, cut to the allocation length.
    Data(Vec<u8>),
    /// GOOD.
    Good,
    /// CHECK CONDITION with sense key, additional sense code and its qualifier.
    Check(u8, u8, u8),
}

/// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
const UNKNOWN: Answer = Answer::Check(5, 0x20, 0);
/// ILLEGAL REQUEST, INVALID FIELD IN CDB.
const FIELD: Answer = Answer::Check(5, 0x24, 0);
/// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE.
pub(super) const RANGE: Answer = Answer::Check(5, 0x21, 0);
/// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
const NO_LUN: Answer = Answer::Check(5, 0x25, 0);

/// A READ or WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) write: bool,
    pub(super) lba: u64,
    pub(super) blocks: u32,
}

/// READ and WRITE (10) and (16); nothing for any other command.
#[inline]
pub(super) fn transfer(cdb: &[u8; 16]) -> Option<Transfer> {
    let ten = |write| Transfer { write, lba: be(&cdb[2..6]), blocks: be(&cdb[7..9]) as u32 };
    let sixteen = |write| Transfer { write, lba: be(&cdb[2..10]), blocks: be(&cdb[10..14]) as u32 };
    match cdb[0] {
        0x28 => Some(ten(false)),
        0x2a => Some(ten(true)),
        0x88 => Some(sixteen(false)),
        0x8a => Some(sixteen(true)),
        _ => None,
    }
}

impl Geometry {
    /// Whether a transfer lies on the disk.
    #[inline]
    pub(super) fn holds(&self, transfer: Transfer) -> bool {
        transfer.blocks <= TRANSFER_MAX
            && transfer.lba.checked_add(u64::from(transfer.blocks)).is_some_and(|end| end <= self.blocks)
    }

    /// Any command but READ and WRITE.
    pub(super) fn answer(&self, cdb: &[u8; 16], lun: Lun) -> Answer {
        if cdb[0] == 0xa0 {
            // One unit, number 0 (SPC-4 6.33).
            return cut(vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], be(&cdb[6..10]));
        }
        if lun.decode() != Some(0) {
            let absent = cdb[0] == 0x12 && cdb[1] & 1 == 0;
            return if absent { inquiry_of(0x7f, be(&cdb[3..5])) } else { NO_LUN };
        }
        match cdb[0] {
            // TEST UNIT READY, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, VERIFY(10), SYNCHRONIZE CACHE(10) and
            // (16), UNMAP, RESERVE(6) and RELEASE(6).
            0x00 | 0x1b | 0x1e | 0x2f | 0x35 | 0x91 | 0x42 | 0x16 | 0x17 => Answer::Good,
            // REQUEST SENSE: there is none.
            0x03 => cut(sense(0, 0, 0), be(&cdb[4..5])),
            0x12 if cdb[1] & 1 == 0 => inquiry_of(0, be(&cdb[3..5])),
            0x12 => vital_product_data(cdb[2]).map_or(FIELD, |page| cut(page, be(&cdb[3..5]))),
            // MODE SENSE(6) and (10): headers alone.
            0x1a => cut(vec![3, 0, 0, 0], be(&cdb[4..5])),
            0x5a => cut(vec![0, 6, 0, 0, 0, 0, 0, 0], be(&cdb[7..9])),
            0x25 => cut(self.capacity_10(), 8),
            0x9e if cdb[1] & 0x1f == 0x10 => cut(self.capacity_16(), be(&cdb[10..14])),
            // PERSISTENT RESERVE IN, READ KEYS and READ RESERVATION: nobody has any.
            0x5e if cdb[1] & 0x1f < 2 => cut(vec![0; 8], be(&cdb[7..9])),
            _ => UNKNOWN,
        }
    }

    fn capacity_10(&self) -> Vec<u8> {
        let last = u32::try_from(self.blocks - 1).unwrap_or(u32::MAX);
        [last.to_be_bytes(), BLOCK.to_be_bytes()].concat()
    }

    fn capacity_16(&self) -> Vec<u8> {
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&(self.blocks - 1).to_be_bytes());
        data[8..12].copy_from_slice(&BLOCK.to_be_bytes());
        // Eight logical blocks are a physical one.
        data[13] = 3;
        data
    }
}

/// Standard INQUIRY data (SPC-4 6.4.2).
fn inquiry_of(peripheral: u8, allocation: u64) -> Answer {
    let mut data = vec![peripheral, 0, 6, 0x12, 31, 0, 0, 2];
    data.extend_from_slice(b"STAMPEDENull target     1   ");
    cut(data, allocation)
}

/// A page of vital product data (SPC-4 7.8, SBC-3 6.5).
fn vital_product_data(code: u8) -> Option<Vec<u8>> {
    let body = match code {
        0x00 => vec![0x00, 0x80, 0x83, 0xb0, 0xb1],
        0x80 => b"NULL0001".to_vec(),
        // One designator: NAA, locally assigned.
        0x83 => vec![1, 3, 0, 8, 0x30, 0, 0, 0, 0x4e, 0x55, 0x4c, 0x4c],
        0xb0 => {
            let mut body = vec![0; 60];
            body[4..8].copy_from_slice(&TRANSFER_MAX.to_be_bytes());
            body
        }
        0xb1 => {
            let mut body = vec![0; 60];
            body[1] = 1;
            body
        }
        _ => return None,
    };
    let mut page = vec![0, code, 0, body.len() as u8];
    page.extend_from_slice(&body);
    Some(page)
}

/// Fixed format sense data (SPC-4 4.5.3), 18 bytes.
pub(super) fn sense(key: u8, code: u8, qualifier: u8) -> Vec<u8> {
    vec![0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0]
}

fn cut(mut data: Vec<u8>, allocation: u64) -> Answer {
    data.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    Answer::Data(data)
}

#[inline]
fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Geometry = Geometry { blocks: 2048 };

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn transfers_are_read_from_both_lengths() {
        let ten = transfer(&cdb(&[0x28, 0, 0, 0, 1, 2, 0, 0, 8, 0]));
        assert_eq!(ten, Some(Transfer { write: false, lba: 0x102, blocks: 8 }));
        let sixteen = transfer(&cdb(&[0x8a, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0]));
        assert_eq!(sixteen, Some(Transfer { write: true, lba: 1 << 56 | 2, blocks: 256 }));
        assert_eq!(transfer(&cdb(&[0x12])), None);
    }

    #[test]
    fn the_end_of_the_disk_holds() {
        let at = |lba, blocks| Transfer { write: false, lba, blocks };
        assert!(DISK.holds(at(2047, 1)) && DISK.holds(at(2048, 0)));
        assert!(
            !DISK.holds(at(2047, 2)) && !DISK.holds(at(u64::MAX, 2)) && !DISK.holds(at(0, TRANSFER_MAX + 1))
        );
    }

    #[test]
    fn answers_are_cut_and_absent_units_told() {
        assert_eq!(DISK.answer(&cdb(&[0x25]), Lun::ZERO), Answer::Data(vec![0, 0, 7, 255, 0, 0, 2, 0]));
        let inquiry = |lun| match DISK.answer(&cdb(&[0x12, 0, 0, 0, 36]), lun) {
            Answer::Data(data) => (data[0], data.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(inquiry(Lun::ZERO), (0, 36));
        assert_eq!(inquiry(Lun([0, 1, 0, 0, 0, 0, 0, 0])), (0x7f, 36));
        assert_eq!(DISK.answer(&cdb(&[0]), Lun([0, 1, 0, 0, 0, 0, 0, 0])), NO_LUN);
        assert_eq!(DISK.answer(&cdb(&[0x12, 1, 0xc0, 0, 255]), Lun::ZERO), FIELD);
        assert_eq!(DISK.answer(&cdb(&[0xff]), Lun::ZERO), UNKNOWN);
    }
}
