//! The container: packets of a pcap or pcapng file with their clocks and link types.

use crate::CaptureError;
use crate::limits::{BLOCK_MAX, INTERFACES_MAX};
use crate::table::Capture;
use pcap_parser::pcapng::Block;
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};
use std::io::Read;

/// Bytes that are read at once, in the beginning.
const BUFFER: usize = 1 << 20;
/// The clock of pcapng where an interface does not say.
const MICROSECONDS: u64 = 1_000_000;

/// A packet as it was captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Since the epoch of the capture's clock, microseconds.
    pub(crate) at_us: u64,
    pub(crate) link: i32,
    pub(crate) data: &'a [u8],
    /// Bytes of the packet behind `data` that the file has not.
    pub(crate) missing: u32,
}

/// What an interface's packets are like.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Units of its clock in a second.
    resolution: u64,
    snap_len: u32,
}

/// Gives each packet of a file to `capture`.
pub(crate) fn each<'a>(input: impl Read + Send + 'a, capture: &mut Capture) -> Result<(), CaptureError> {
    let wrong = |what: String| CaptureError::File(what);
    // A first read that is short would make a small header look cut off.
    let mut reader = create_reader(BUFFER, Eager(input)).map_err(|error| match error {
        PcapError::Eof => wrong("the file is empty".to_owned()),
        PcapError::ReadError => wrong("the file cannot be read".to_owned()),
        _ => wrong("it is neither a pcap nor a pcapng file".to_owned()),
    })?;
    let mut clocks = Clocks { interfaces: Vec::new(), legacy: None };
    let mut capacity = BUFFER;
    loop {
        let at = reader.consumed();
        let taken = match reader.next() {
            Ok((len, block)) => {
                clocks.block(&block, capture)?;
                Some(len)
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::UnexpectedEof) => {
                capture.report.is_cut_off = true;
                return Ok(());
            }
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => None,
            Err(PcapError::ReadError) => return Err(wrong(format!("it cannot be read behind byte {at}"))),
            Err(_) => {
                return Err(wrong(format!("it is damaged at byte {at}: no block of a capture begins there")));
            }
        };
        if let Some(len) = taken {
            reader.consume(len);
            continue;
        }
        // What is there is not all of a block: more of the file, and more room when there is none left.
        if reader.data().len() >= capacity {
            capacity *= 2;
            if capacity > BLOCK_MAX || !reader.grow(capacity) {
                return Err(wrong(format!("a block of more than {} MiB at byte {at}", BLOCK_MAX >> 20)));
            }
        }
        let before = reader.data().len();
        reader.refill().map_err(|_| CaptureError::File(format!("it cannot be read behind byte {at}")))?;
        if reader.data().len() == before && !reader.reader_exhausted() {
            // BufferTooSmall with room left: the block announces more than the buffer could ever have.
            capacity *= 2;
            if capacity > BLOCK_MAX || !reader.grow(capacity) {
                return Err(wrong(format!("a block of more than {} MiB at byte {at}", BLOCK_MAX >> 20)));
            }
        }
    }
}

/// Reads as much as there is room for, as a file may give less at once than it has.
struct Eager<R>(R);

impl<R: Read> Read for Eager<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read(&mut into[done..]) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

struct Clocks {
    interfaces: Vec<Interface>,
    /// Of a classic file: its link type, and whether its clock counts nanoseconds.
    legacy: Option<(Linktype, bool)>,
}

impl Clocks {
    fn block(&mut self, block: &PcapBlockOwned<'_>, capture: &mut Capture) -> Result<(), CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.legacy = Some((header.network, header.is_nanosecond_precision()));
                Ok(())
            }
            PcapBlockOwned::Legacy(packet) => {
                let (link, nanoseconds) = self.legacy.unwrap_or((Linktype(-1), false));
                let fraction = u64::from(packet.ts_usec) / if nanoseconds { 1000 } else { 1 };
                let at_us = u64::from(packet.ts_sec) * MICROSECONDS + fraction;
                let missing = packet.origlen.saturating_sub(packet.caplen);
                let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
                capture.packet(&Packet { at_us, link: link.0, data, missing })
            }
            PcapBlockOwned::NG(block) => self.ng(block, capture),
        }
    }

    fn ng(&mut self, block: &Block<'_>, capture: &mut Capture) -> Result<(), CaptureError> {
        match block {
            Block::SectionHeader(_) => self.interfaces.clear(),
            Block::InterfaceDescription(interface) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Err(CaptureError::Limit(format!("more than {INTERFACES_MAX} interfaces")));
                }
                let resolution = interface.ts_resolution().filter(|units| *units > 0).unwrap_or(MICROSECONDS);
                self.interfaces.push(Interface {
                    link: interface.linktype,
                    resolution,
                    snap_len: interface.snaplen,
                });
            }
            Block::EnhancedPacket(packet) => {
                let Some(interface) = self.interfaces.get(packet.if_id as usize) else {
                    return Err(CaptureError::File(format!(
                        "it is damaged: a packet of interface {}, which it does not describe",
                        packet.if_id
                    )));
                };
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let at_us = u128::from(units) * u128::from(MICROSECONDS) / u128::from(interface.resolution);
                let at_us = u64::try_from(at_us).unwrap_or(u64::MAX);
                let missing = packet.origlen.saturating_sub(packet.caplen);
                let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
                return capture.packet(&Packet { at_us, link: interface.link.0, data, missing });
            }
            // A block without a time of its own: that of the packet before.
            Block::SimplePacket(packet) => {
                if let Some(interface) = self.interfaces.first() {
                    let snapped = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
                    let len = packet.origlen.min(snapped) as usize;
                    let data = packet.data.get(..len).unwrap_or(packet.data);
                    let missing =
                        packet.origlen.saturating_sub(u32::try_from(data.len()).unwrap_or(u32::MAX));
                    let at_us = capture.now_us;
                    return capture.packet(&Packet { at_us, link: interface.link.0, data, missing });
                }
            }
            _ => {}
        }
        Ok(())
    }
}
