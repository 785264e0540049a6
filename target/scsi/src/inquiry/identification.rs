//! Who the unit is: unit serial number (80h) and device identification (83h); how it is reached: management network
//! addresses (85h) and SCSI ports (88h).

use super::ascii;
use crate::{DeviceConfig, Identity};

/// The longest serial number told, in bytes.
const SERIAL_MAX: usize = 36;
/// The longest iSCSI name, in bytes (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;

/// Unit serial number (80h, SPC-4 7.8.15).
pub(super) fn unit_serial_number(config: &DeviceConfig) -> Vec<u8> {
    serial(config).collect()
}

fn serial(config: &DeviceConfig) -> impl Iterator<Item = u8> {
    config.identity.serial.bytes().take(SERIAL_MAX).map(ascii)
}

/// What a designator names (ASSOCIATION, SPC-4 table 596).
#[derive(Clone, Copy)]
enum Names {
    Unit = 0,
    Port = 1,
    Target = 2,
}

/// How a designator is written (CODE SET).
#[derive(Clone, Copy)]
enum CodeSet {
    Binary = 1,
    Ascii = 2,
    Utf8 = 3,
}

/// DESIGNATOR TYPE (SPC-4 table 597).
#[derive(Clone, Copy)]
enum Kind {
    T10Vendor = 1,
    Naa = 3,
    RelativePort = 4,
    PortGroup = 5,
    ScsiName = 8,
}

/// Device identification (83h, SPC-4 7.8.6): the unit by NAA and by vendor and serial, the port by its number, group
/// and name, the target by its name.
pub(crate) fn device_identification(config: &DeviceConfig) -> Vec<u8> {
    let identity = &config.identity;
    let mut body = Vec::with_capacity(128 + 2 * identity.target_name.len());
    let mut naa = identity.naa;
    naa[0] = 0x60 | (naa[0] & 0x0F);
    push(&mut body, Names::Unit, CodeSet::Binary, Kind::Naa, &naa);
    let vendor: Vec<u8> = identity.vendor.iter().copied().map(ascii).chain(serial(config)).collect();
    push(&mut body, Names::Unit, CodeSet::Ascii, Kind::T10Vendor, &vendor);
    let [high, low] = identity.relative_port.to_be_bytes();
    push(&mut body, Names::Port, CodeSet::Binary, Kind::RelativePort, &[0, 0, high, low]);
    let [high, low] = identity.target_port_group.to_be_bytes();
    push(&mut body, Names::Port, CodeSet::Binary, Kind::PortGroup, &[0, 0, high, low]);
    push(&mut body, Names::Port, CodeSet::Utf8, Kind::ScsiName, &name_string(&port_name(identity)));
    let name = truncated(&identity.target_name);
    push(&mut body, Names::Target, CodeSet::Utf8, Kind::ScsiName, &name_string(name));
    body
}

/// Management network addresses (85h, SPC-4 7.8.7): none is told to initiators.
pub(super) fn management_addresses(_: &DeviceConfig) -> Vec<u8> {
    Vec::new()
}

/// SCSI ports (88h, SPC-4 7.8.13): the one target port and its name.
pub(super) fn scsi_ports(config: &DeviceConfig) -> Vec<u8> {
    let identity = &config.identity;
    let mut designator = Vec::new();
    push(&mut designator, Names::Port, CodeSet::Utf8, Kind::ScsiName, &name_string(&port_name(identity)));
    let [high, low] = identity.relative_port.to_be_bytes();
    let mut body = vec![0, 0, high, low, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&(designator.len() as u16).to_be_bytes());
    body.extend_from_slice(&designator);
    body
}

/// Name of the target port (RFC 7143 4.4.1).
fn port_name(identity: &Identity) -> String {
    format!("{},t,0x{:04x}", truncated(&identity.target_name), identity.target_port_group)
}

/// The designation descriptor of the target, by its name.
pub(crate) fn target_descriptor(identity: &Identity) -> Vec<u8> {
    let mut body = Vec::new();
    push(
        &mut body,
        Names::Target,
        CodeSet::Utf8,
        Kind::ScsiName,
        &name_string(truncated(&identity.target_name)),
    );
    body
}

/// Appends a designation descriptor; those of port and target say that they are iSCSI's.
fn push(body: &mut Vec<u8>, names: Names, code_set: CodeSet, kind: Kind, designator: &[u8]) {
    const ISCSI: u8 = 5 << 4;
    const PIV: u8 = 0x80;
    let (protocol, piv) = match names {
        Names::Unit => (0, 0),
        Names::Port | Names::Target => (ISCSI, PIV),
    };
    let header =
        [protocol | code_set as u8, piv | (names as u8) << 4 | kind as u8, 0, designator.len() as u8];
    body.extend_from_slice(&header);
    body.extend_from_slice(designator);
}

/// A SCSI name string: ends with a zero, padded with zeroes to a multiple of four bytes (SPC-4 7.8.6.12).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(bytes.len() / 4 * 4 + 4, 0);
    bytes
}

fn truncated(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
