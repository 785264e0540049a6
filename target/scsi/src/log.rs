//! LOG SENSE (SPC-4 6.6 and 7.3).
//!
//! A thin unit says what space it takes and what is left. There is no mechanism behind the unit whose wear or heat could be told, so the pages say what is true of such a
//! medium: no temperature, no start-stop cycles, no endurance used, no informational exception.

use crate::cdb::be16;
use crate::device::{Device, Request};
use crate::sense::Sense;
use crate::{Reply, Step};

/// One log parameter: its code, how it is written (FORMAT AND LINKING), its value.
struct Parameter<'a> {
    code: u16,
    format: Format,
    value: &'a [u8],
}

/// FORMAT AND LINKING (SPC-4 table 373).
#[derive(Clone, Copy)]
enum Format {
    Counter = 0b00,
    Ascii = 0b01,
    Binary = 0b11,
}

/// One log page whose values never change.
struct Page {
    code: u8,
    parameters: &'static [Parameter<'static>],
}

/// A temperature that cannot be told.
const NO_TEMPERATURE: u8 = 0xFF;

/// Logical Block Provisioning (SBC-4 6.4.5): the page of units that count their space.
const PROVISIONING: u8 = 0x0C;
/// SCOPE (SBC-4 table 199): not reported; of this unit alone; of other units too.
const UNKNOWN: u8 = 0b00;
const DEDICATED: u8 = 0b01;
const SHARED: u8 = 0b10;

const fn parameter(code: u16, format: Format, value: &[u8]) -> Parameter<'_> {
    Parameter { code, format, value }
}

/// The pages with parameters that every unit has, ascending.
static PAGES: [Page; 4] = [
    // Temperature (SPC-4 7.3.19): now, and the highest allowed.
    Page {
        code: 0x0D,
        parameters: &[
            parameter(0x0000, Format::Binary, &[0, NO_TEMPERATURE]),
            parameter(0x0001, Format::Binary, &[0, NO_TEMPERATURE]),
        ],
    },
    // Start-Stop Cycle Counter (SPC-4 7.3.18): manufacture and accounting dates, cycles over the lifetime and so far.
    Page {
        code: 0x0E,
        parameters: &[
            parameter(0x0001, Format::Ascii, b"      "),
            parameter(0x0002, Format::Ascii, b"      "),
            parameter(0x0003, Format::Binary, &[0; 4]),
            parameter(0x0004, Format::Binary, &[0; 4]),
        ],
    },
    // Solid State Media (SBC-3 6.3.6): PERCENTAGE USED ENDURANCE INDICATOR.
    Page { code: 0x11, parameters: &[parameter(0x0001, Format::Binary, &[0; 4])] },
    // Informational Exceptions (SPC-4 7.3.11): none; the temperature again.
    Page { code: 0x2F, parameters: &[parameter(0x0000, Format::Counter, &[0, 0, NO_TEMPERATURE, 0])] },
];

/// LOG SENSE. Nothing is saved, so SP is refused; all values are the same for each page control.
pub(crate) fn log_sense(device: &mut Device, request: &Request<'_>) -> Result<Step, Sense> {
    let cdb = request.cdb;
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::invalid_cdb(1, Some(0)));
    }
    let (code, subpage, pointer) = (cdb[2] & 0x3F, cdb[3], be16(cdb, 5));
    let body = match (code, subpage) {
        (0x00, 0x00) => supported(device, false),
        (0x00, 0xFF) => supported(device, true),
        (PROVISIONING, 0x00) if device.config.counts_space() => provisioning(device, pointer)?,
        (code, 0x00) => parameters(constants(code)?, pointer)?,
        (code, _) if code == 0 || codes(device).any(|own| own == code) => {
            return Err(Sense::invalid_cdb(3, Some(7)));
        }
        _ => return Err(Sense::invalid_cdb(2, Some(5))),
    };
    if code == 0 && pointer != 0 {
        return Err(Sense::invalid_cdb(5, Some(7)));
    }
    // DS: LOG SELECT does not save it. SPF with a subpage code.
    let spf = if subpage == 0 { 0 } else { 0x40 };
    let [high, low] = (body.len() as u16).to_be_bytes();
    let mut data = vec![0x80 | spf | code, subpage, high, low];
    data.extend_from_slice(&body);
    Ok(Step::Done(Reply::data(data, usize::from(be16(cdb, 7)))))
}

/// The codes of the unit's pages with parameters, ascending.
fn codes(device: &Device) -> impl Iterator<Item = u8> {
    let provisioning = device.config.counts_space().then_some(PROVISIONING);
    provisioning.into_iter().chain(PAGES.iter().map(|page| page.code))
}

/// Supported log pages (SPC-4 7.3.16), with subpages if asked (7.3.17).
fn supported(device: &Device, subpages: bool) -> Vec<u8> {
    let codes = codes(device);
    if subpages {
        let pages = [(0x00, 0x00), (0x00, 0xFF)].into_iter().chain(codes.map(|code| (code, 0x00)));
        pages.flat_map(|(code, subpage)| [code, subpage]).collect()
    } else {
        std::iter::once(0x00).chain(codes).collect()
    }
}

/// The parameters of a page whose values never change.
fn constants(code: u8) -> Result<&'static [Parameter<'static>], Sense> {
    let page = PAGES.iter().find(|page| page.code == code).ok_or(Sense::invalid_cdb(2, Some(5)))?;
    Ok(page.parameters)
}

/// Available and used LBA mapping resources, in threshold sets: RESOURCE COUNT, SCOPE, and three reserved bytes.
fn provisioning(device: &Device, pointer: u16) -> Result<Vec<u8>, Sense> {
    let counts = device.resource_counts();
    let value = |kind: usize, scope: u8| {
        let mut value = [0; 8];
        value[..4].copy_from_slice(&counts.map_or(0, |counts| counts[kind]).to_be_bytes());
        value[4] = if counts.is_some() { scope } else { UNKNOWN };
        value
    };
    // What is left is there for whoever comes first.
    let (available, used) = (value(0, SHARED), value(1, DEDICATED));
    let all = [parameter(0x0001, Format::Binary, &available), parameter(0x0002, Format::Binary, &used)];
    parameters(&all, pointer)
}

/// The parameters of a page from PARAMETER POINTER on.
fn parameters(all: &[Parameter<'_>], pointer: u16) -> Result<Vec<u8>, Sense> {
    if all.last().is_none_or(|last| last.code < pointer) {
        return Err(Sense::invalid_cdb(5, Some(7)));
    }
    let mut body = Vec::new();
    for parameter in all.iter().filter(|parameter| parameter.code >= pointer) {
        body.extend_from_slice(&parameter.code.to_be_bytes());
        body.extend_from_slice(&[parameter.format as u8, parameter.value.len() as u8]);
        body.extend_from_slice(parameter.value);
    }
    Ok(body)
}
