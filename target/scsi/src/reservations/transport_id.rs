//! iSCSI TransportIDs (SPC-4 7.6.4.6): initiator ports as persistent reservations name them.

use crate::cdb::be16;

/// Who an initiator port is across sessions: iSCSI name and ISID (SPC-4 7.6.4.6, RFC 7143 4.4.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId {
    /// iSCSI name of the initiator.
    pub initiator_name: String,
    /// ISID of its session.
    pub isid: [u8; 6],
}

/// Bytes of a TransportID's header: format and protocol, a reserved byte, ADDITIONAL LENGTH.
const HEADER: usize = 4;
/// FORMAT CODE 01b (an initiator port) and PROTOCOL IDENTIFIER 5 (iSCSI).
const PORT_FORMAT: u8 = 0x45;
/// The longest iSCSI name, in bytes (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;

impl TransportId {
    /// The TransportID bytes: "name,i,0xISID", ended by a zero and padded to a multiple of four.
    pub(super) fn encode(&self) -> Vec<u8> {
        let isid = self.isid.iter().fold(0u64, |isid, byte| isid << 8 | u64::from(*byte));
        let name = format!("{},i,0x{isid:012x}", self.initiator_name);
        let length = (name.len() / 4 * 4 + 4).max(20);
        let mut bytes = vec![PORT_FORMAT, 0, 0, 0];
        bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(HEADER + length, 0);
        bytes
    }

    /// Reads a TransportID of an iSCSI initiator port from the start of `bytes`.
    ///
    /// # Errors
    /// The offset of the first field that is wrong: FORMAT CODE and PROTOCOL IDENTIFIER, ADDITIONAL LENGTH, ISCSI NAME.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, u16> {
        const LENGTH_AT: u16 = 2;
        if bytes.first() != Some(&PORT_FORMAT) {
            return Err(0);
        }
        let length = bytes.get(2..HEADER).ok_or(LENGTH_AT)?;
        let length = usize::from(be16(length, 0));
        let text = bytes.get(HEADER..HEADER + length).ok_or(LENGTH_AT)?;
        Self::parse(text).ok_or(HEADER as u16)
    }

    /// Reads the name and the ISID of an initiator port: "name,i,0xISID", perhaps with zeros behind it.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.split(|byte| *byte == 0).next()?;
        let (name, isid) = std::str::from_utf8(text).ok()?.rsplit_once(",i,0x")?;
        let digits = isid.bytes().all(|digit| digit.is_ascii_hexdigit());
        if name.is_empty() || name.len() > NAME_MAX || isid.len() > 12 || !digits {
            return None;
        }
        let value = u64::from_str_radix(isid, 16).ok()?.to_be_bytes();
        let mut isid = [0; 6];
        isid.copy_from_slice(&value[2..]);
        Some(Self { initiator_name: name.to_owned(), isid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(name in "iqn\\.[0-9]{4}-[0-9]{2}\\.[a-z.]{1,20}:[a-z0-9,]{0,30}", isid in any::<[u8; 6]>()) {
            let id = TransportId { initiator_name: name, isid };
            let bytes = id.encode();
            prop_assert_eq!(bytes.len() % 4, 0);
            prop_assert_eq!(TransportId::decode(&bytes), Ok(id));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = bytes;
            let _ = TransportId::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = PORT_FORMAT;
            }
            let _ = TransportId::decode(&bytes);
        }
    }
}
