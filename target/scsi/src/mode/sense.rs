//! MODE SENSE (SPC-4 6.11 and 6.12).

use super::Form;
use super::pages::{self, Page};
use super::state::ModeState;
use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::sense::{SAVING_NOT_SUPPORTED, Sense};
use crate::{DeviceConfig, Reply, Step};

/// All pages; all subpages.
const ALL_PAGES: u8 = 0x3F;
const ALL_SUBPAGES: u8 = 0xFF;
/// Parameters saveable (SPC-4 7.5.7): MODE SELECT with SP saves the page.
const PS: u8 = 0x80;

/// MODE SENSE(6).
pub(crate) fn sense6(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    sense(device, request, Form::Six, usize::from(request.cdb[4]))
}

/// MODE SENSE(10).
pub(crate) fn sense10(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    sense(device, request, Form::Ten, usize::from(be16(request.cdb, 7)))
}

fn sense(
    device: &Device,
    request: &Request<'_>,
    form: Form,
    allocation_length: usize,
) -> Result<Step, Sense> {
    let cdb = request.cdb;
    let pages = selected(&device.config, cdb[2] & 0x3F, cdb[3])?;
    let long_lba = form == Form::Ten && cdb[1] & 0x10 != 0;
    let mut data = vec![0; form.header()];
    if cdb[1] & 0x08 == 0 {
        push_block_descriptor(&mut data, device, long_lba);
    }
    let descriptor_bytes = data.len() - form.header();
    for page in pages {
        let at = data.len();
        match cdb[2] >> 6 {
            0b00 => data.extend_from_slice(&page.current(&device.mode)),
            0b01 => data.extend_from_slice(&page.mask(&device.config)),
            0b10 => data.extend_from_slice(&page.current(&ModeState::new(&device.config))),
            _ if !device.config.durable => return Err(SAVING_NOT_SUPPORTED.with_cdb_field(2, Some(7))),
            _ => data.extend_from_slice(&page.current(&device.saved_mode)),
        }
        if device.config.durable {
            data[at] |= PS;
        }
    }
    fill_header(&mut data, form, device_specific(device), descriptor_bytes, long_lba);
    Ok(Step::Done(Reply::data(data, allocation_length)))
}

/// The pages a page code and a subpage code ask for (SPC-4 table 149).
fn selected(
    config: &DeviceConfig,
    code: u8,
    subpage: u8,
) -> Result<impl Iterator<Item = &'static Page>, Sense> {
    let wanted = move |page: &&Page| {
        (code == ALL_PAGES || page.code == code) && (subpage == ALL_SUBPAGES || page.subpage == subpage)
    };
    if !pages::of(config).any(|page| code == ALL_PAGES || page.code == code) {
        return Err(Sense::invalid_cdb(2, Some(5)));
    }
    if (code == ALL_PAGES && !matches!(subpage, 0 | ALL_SUBPAGES))
        || !pages::of(config).any(|page| wanted(&page))
    {
        return Err(Sense::invalid_cdb(3, Some(7)));
    }
    Ok(pages::of(config).filter(wanted))
}

/// DEVICE-SPECIFIC PARAMETER: WP and DPOFUA (SBC-3 6.4.1).
fn device_specific(device: &Device) -> u8 {
    let wp = if device.write_protected() { 0x80 } else { 0 };
    wp | 0x10
}

/// The short or long LBA mode parameter block descriptor (SBC-3 6.4.2).
fn push_block_descriptor(data: &mut Vec<u8>, device: &Device, long_lba: bool) {
    let (blocks, block_size) = (device.config.blocks, device.config.block_size);
    if long_lba {
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
    } else {
        data.extend_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
    }
    data.extend_from_slice(&block_size.to_be_bytes());
}

/// The mode parameter header (SPC-4 7.5.5). MODE DATA LENGTH does not count itself.
fn fill_header(data: &mut [u8], form: Form, device_specific: u8, descriptor_bytes: usize, long_lba: bool) {
    match form {
        Form::Six => {
            data[0] = u8::try_from(data.len() - 1).unwrap_or(u8::MAX);
            data[2] = device_specific;
            data[3] = descriptor_bytes as u8;
        }
        Form::Ten => {
            let length = (data.len() - 2) as u16;
            data[..2].copy_from_slice(&length.to_be_bytes());
            data[3] = device_specific;
            data[4] = u8::from(long_lba);
            data[6..8].copy_from_slice(&(descriptor_bytes as u16).to_be_bytes());
        }
    }
}
