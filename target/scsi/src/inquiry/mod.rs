//! INQUIRY: standard data and vital product data (SPC-4 6.4 and 7.8, SBC-3 6.5).

mod block_pages;
mod identification;
mod standard;

pub(crate) use identification::{device_identification, target_descriptor};

use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{DeviceConfig, Reply, Step};

/// A vital product data page: its code and what fills it (everything behind the 4-byte page header).
struct Page {
    code: u8,
    body: fn(&DeviceConfig) -> Vec<u8>,
}

/// The supported pages, ascending.
static PAGES: [Page; 11] = [
    Page { code: 0x00, body: supported_pages },
    Page { code: 0x80, body: identification::unit_serial_number },
    Page { code: 0x83, body: device_identification },
    Page { code: 0x85, body: identification::management_addresses },
    Page { code: 0x86, body: standard::extended_inquiry },
    Page { code: 0x87, body: standard::mode_page_policy },
    Page { code: 0x88, body: identification::scsi_ports },
    Page { code: 0x8F, body: crate::copy::third_party_copy },
    Page { code: 0xB0, body: block_pages::block_limits },
    Page { code: 0xB1, body: block_pages::block_device_characteristics },
    Page { code: 0xB2, body: block_pages::logical_block_provisioning },
];

/// INQUIRY (SPC-4 6.4). CMDDT is obsolete and refused; a page code without EVPD is refused.
pub(crate) fn inquiry(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let (flags, code) = (request.cdb[1], request.cdb[2]);
    if flags & 0x02 != 0 {
        return Err(Sense::invalid_cdb(1, Some(1)));
    }
    let data = if flags & 0x01 != 0 {
        page(&device.config, code)?
    } else if code != 0 {
        return Err(Sense::invalid_cdb(2, Some(7)));
    } else {
        standard::standard(&device.config)
    };
    Ok(Step::Done(Reply::data(data, usize::from(be16(request.cdb, 3)))))
}

fn page(config: &DeviceConfig, code: u8) -> Result<Vec<u8>, Sense> {
    let page = PAGES.iter().find(|page| page.code == code).ok_or(Sense::invalid_cdb(2, Some(7)))?;
    let body = (page.body)(config);
    let [high, low] = (body.len() as u16).to_be_bytes();
    let mut data = vec![0, code, high, low];
    data.extend_from_slice(&body);
    Ok(data)
}

/// Supported VPD pages (00h, SPC-4 7.8.14).
fn supported_pages(_: &DeviceConfig) -> Vec<u8> {
    PAGES.iter().map(|page| page.code).collect()
}

/// Printable ASCII, anything else as `?`.
fn ascii(byte: u8) -> u8 {
    if matches!(byte, 0x20..=0x7E) { byte } else { b'?' }
}
