//! A packet's headers: link layer, VLAN tags, IPv4 or IPv6, TCP.

use crate::packets::Packet;
use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use std::net::{IpAddr, SocketAddr};

/// Link types by their numbers (the registry of tcpdump.org).
mod link {
    pub(super) const NULL: i32 = 0;
    pub(super) const ETHERNET: i32 = 1;
    /// Raw IP has three numbers, by operating system.
    pub(super) const RAW: [i32; 3] = [12, 14, 101];
    pub(super) const LOOP: i32 = 108;
    pub(super) const LINUX_SLL: i32 = 113;
    pub(super) const IPV4: i32 = 228;
    pub(super) const IPV6: i32 = 229;
    pub(super) const LINUX_SLL2: i32 = 276;
}

/// Bytes of the header of Linux' cooked captures; its last two are the protocol.
const SLL: usize = 16;
/// The same of their second version, whose first two bytes are the protocol.
const SLL2: usize = 20;
/// Bytes of the address family before packets of loopback devices.
const FAMILY: usize = 4;

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) seq: u32,
    /// What the sender has received, when it says so.
    pub(crate) ack: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) payload: &'a [u8],
    /// Bytes of payload that the capture cut off.
    pub(crate) missing: u32,
}

/// What a packet is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Tcp(Segment<'a>),
    Fragment,
    Other,
}

/// Looks through a packet's headers.
pub(crate) fn of<'a>(packet: &Packet<'a>) -> Kind<'a> {
    let Some(sliced) = slice(packet) else { return Kind::Other };
    let (source, destination) = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()))
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
        }
        _ => return Kind::Other,
    };
    if sliced.net.as_ref().and_then(LaxNetSlice::ip_payload_ref).is_some_and(|payload| payload.fragmented) {
        return Kind::Fragment;
    }
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return Kind::Other };
    Kind::Tcp(Segment {
        from: SocketAddr::new(source, tcp.source_port()),
        to: SocketAddr::new(destination, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: payload(packet.data, tcp.payload()),
        missing: packet.missing,
    })
}

/// The same bytes with the packet's lifetime, which slices of slices lose.
fn payload<'a>(packet: &'a [u8], payload: &[u8]) -> &'a [u8] {
    let start = (payload.as_ptr() as usize).saturating_sub(packet.as_ptr() as usize);
    packet.get(start..start + payload.len()).unwrap_or_default()
}

fn slice<'a>(packet: &Packet<'a>) -> Option<LaxSlicedPacket<'a>> {
    let data = packet.data;
    let typed = |protocol: [u8; 2], rest: &'a [u8]| {
        LaxSlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(protocol)), rest)
    };
    match packet.link {
        link::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        link::LINUX_SLL => {
            let (header, rest) = data.split_first_chunk::<SLL>()?;
            Some(typed([header[14], header[15]], rest))
        }
        link::LINUX_SLL2 => {
            let (header, rest) = data.split_first_chunk::<SLL2>()?;
            Some(typed([header[0], header[1]], rest))
        }
        link::NULL | link::LOOP => LaxSlicedPacket::from_ip(data.get(FAMILY..)?).ok(),
        link::IPV4 | link::IPV6 => LaxSlicedPacket::from_ip(data).ok(),
        other if link::RAW.contains(&other) => LaxSlicedPacket::from_ip(data).ok(),
        _ => None,
    }
}
