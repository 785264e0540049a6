//! MODE SELECT (SPC-4 6.9 and 6.10): the whole list is checked before anything changes.

use super::Form;
use super::pages::{self, Page};
use super::state::ModeState;
use crate::cdb::{be16, be32, be64};
use crate::device::{Device, Request};
use crate::draft::{Audience, Draft};
use crate::sense::{PARAMETER_LIST_LENGTH_ERROR, Sense};
use crate::unit_attention::UnitAttention;
use crate::{Media, Reply, Step};

/// MODE SELECT(6).
pub(crate) fn select6(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    select(device, request, Form::Six, usize::from(request.cdb[4]))
}

/// MODE SELECT(10).
pub(crate) fn select10(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    select(device, request, Form::Ten, usize::from(be16(request.cdb, 7)))
}

fn select(device: &mut Device, request: &Request<'_>, form: Form, length: usize) -> Result<Step, Sense> {
    let save = check_flags(device, request.cdb[1])?;
    if device.is_saving() {
        return Ok(Step::Wait);
    }
    let before = device.mode;
    let mut draft = Draft::new(device);
    if length > 0 {
        let list = request.param.get(..length).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
        draft.mode = parse(device, form, list)?;
    }
    if save {
        draft.saved_mode = draft.mode;
    }
    if (draft.mode, draft.saved_mode) != (before, device.saved_mode) {
        draft.tell(Audience::All, UnitAttention::ModeParametersChanged);
    }
    let then = if before.wce && !draft.mode.wce {
        // What the cache still holds must not outlive the promise that there is none (SBC-3 6.4.5).
        Step::Media(Media::Flush { range: None, immediate: false })
    } else {
        Step::Done(Reply::good())
    };
    Ok(device.commit(draft, request.nexus, then))
}

/// PF must be one, RTD zero, SP zero where there is no store. Whether SP is one: all pages are saved as they are then.
fn check_flags(device: &Device, flags: u8) -> Result<bool, Sense> {
    if flags & 0x10 == 0 {
        return Err(Sense::invalid_cdb(1, Some(4)));
    }
    if flags & 0x02 != 0 {
        return Err(Sense::invalid_cdb(1, Some(1)));
    }
    let save = flags & 0x01 != 0;
    if save && !device.config.durable {
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    Ok(save)
}

/// The mode parameters that `list` asks for.
fn parse(device: &Device, form: Form, list: &[u8]) -> Result<ModeState, Sense> {
    let header = list.get(..form.header()).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let (descriptor_bytes, length_field, long_lba) = match form {
        Form::Six => (usize::from(header[3]), 3, false),
        Form::Ten => (usize::from(be16(header, 6)), 6, header[4] & 0x01 != 0),
    };
    let mut at = form.header();
    let descriptor = list.get(at..at + descriptor_bytes).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    match (descriptor_bytes, long_lba) {
        (0, _) => {}
        (8, false) => check_short_descriptor(device, descriptor, at as u16)?,
        (16, true) => check_long_descriptor(device, descriptor, at as u16)?,
        _ => return Err(Sense::invalid_parameter(length_field, None)),
    }
    at += descriptor_bytes;
    let mut state = device.mode;
    while at < list.len() {
        at += parse_page(device, &mut state, &list[at..], at)?;
    }
    Ok(state)
}

/// Capacity and block length cannot be changed: they must be the present ones, or left open (0, or all ones).
fn check_short_descriptor(device: &Device, descriptor: &[u8], at: u16) -> Result<(), Sense> {
    let blocks = be32(descriptor, 0);
    let same = u64::from(blocks) == device.config.blocks;
    if !(same || blocks == 0 || blocks == u32::MAX) {
        return Err(Sense::invalid_parameter(at, None));
    }
    check_block_length(device, be32(descriptor, 4) & 0x00FF_FFFF, at + 5)
}

fn check_long_descriptor(device: &Device, descriptor: &[u8], at: u16) -> Result<(), Sense> {
    let blocks = be64(descriptor, 0);
    if !(blocks == device.config.blocks || blocks == 0 || blocks == u64::MAX) {
        return Err(Sense::invalid_parameter(at, None));
    }
    check_block_length(device, be32(descriptor, 12), at + 12)
}

fn check_block_length(device: &Device, length: u32, at: u16) -> Result<(), Sense> {
    if length == device.config.block_size { Ok(()) } else { Err(Sense::invalid_parameter(at, None)) }
}

/// Checks one page at the start of `rest`, which stands at `at`, takes it over, and says how long it is.
fn parse_page(device: &Device, state: &mut ModeState, rest: &[u8], at: usize) -> Result<usize, Sense> {
    let subpage_format = rest[0] & 0x40 != 0;
    let header = rest.get(..if subpage_format { 4 } else { 2 }).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    let subpage = if subpage_format { header[1] } else { 0 };
    let page = pages::find(&device.config, header[0] & 0x3F, subpage)
        .filter(|page| (page.header() == 4) == subpage_format)
        .ok_or_else(|| no_such_page(device, header[0] & 0x3F, subpage_format, at as u16))?;
    let (body, length_field) =
        if subpage_format { (usize::from(be16(header, 2)), 2) } else { (usize::from(header[1]), 1) };
    if header.len() + body != page.length() {
        return Err(Sense::invalid_parameter((at + length_field) as u16, None));
    }
    let wanted = rest.get(..page.length()).ok_or(PARAMETER_LIST_LENGTH_ERROR)?;
    check_unchangeable(device, page, wanted, at)?;
    (page.apply)(state, wanted);
    Ok(page.length())
}

/// What is wrong with a page header that stands at `at`: the page code, the subpage code of a page that has some, or SPF.
fn no_such_page(device: &Device, code: u8, subpage_format: bool, at: u16) -> Sense {
    let mut formats =
        pages::of(&device.config).filter(|page| page.code == code).map(|page| page.header() == 4).peekable();
    if formats.peek().is_none() {
        Sense::invalid_parameter(at, Some(5))
    } else if subpage_format && formats.any(|long| long) {
        Sense::invalid_parameter(at + 1, None)
    } else {
        Sense::invalid_parameter(at, Some(6))
    }
}

/// Bits that may not change must be as they are.
fn check_unchangeable(device: &Device, page: &Page, wanted: &[u8], at: usize) -> Result<(), Sense> {
    let current = page.current(&device.mode);
    let mask = page.mask(&device.config);
    for index in page.header()..page.length() {
        let wrong = (wanted[index] ^ current[index]) & !mask[index];
        if wrong != 0 {
            let bit = 7 - wrong.leading_zeros() as u8;
            return Err(Sense::invalid_parameter((at + index) as u16, Some(bit)));
        }
    }
    Ok(())
}
