//! All connections of a capture.

use crate::CaptureError;
use crate::connection::{Connection, Facts, What};
use crate::limits::{CONNECTIONS_MAX, FACTS_MAX, HELD_BYTES_MAX};
use crate::packets::Packet;
use crate::pdus::Lost;
use crate::report::Report;
use crate::segment::{self, Kind, Segment};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A fact with its connection.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) at_us: u64,
    /// Connections are numbered as they begin.
    pub(crate) connection: u64,
    pub(crate) what: What,
}

/// What a capture told so far.
#[derive(Debug, Default)]
pub struct Capture {
    /// By the initiator's end and the target's.
    connections: BTreeMap<(SocketAddr, SocketAddr), (u64, Connection)>,
    begun: u64,
    held_bytes: usize,
    pub(crate) facts: Vec<Fact>,
    pub(crate) report: Report,
    /// The time of the last packet.
    pub(crate) now_us: u64,
}

/// Facts of one connection.
struct Own<'a> {
    facts: &'a mut Vec<Fact>,
    connection: u64,
}

impl Facts for Own<'_> {
    fn push(&mut self, at_us: u64, what: What) -> Option<usize> {
        if self.facts.len() >= FACTS_MAX {
            return None;
        }
        self.facts.push(Fact { at_us, connection: self.connection, what });
        Some(self.facts.len() - 1)
    }

    fn end(&mut self, fact: usize, at_us: u64, status: u8) {
        if let Some(Fact { what: What::Command(told), .. }) = self.facts.get_mut(fact) {
            told.end = Some((at_us, status));
        }
    }
}

impl Capture {
    /// Takes a packet in.
    pub(crate) fn packet(&mut self, packet: &Packet<'_>) -> Result<(), CaptureError> {
        self.report.packets += 1;
        // Several interfaces' packets may be out of order by a little.
        self.now_us = self.now_us.max(packet.at_us);
        match segment::of(packet) {
            Kind::Tcp(segment) => self.segment(&segment, self.now_us),
            Kind::Fragment => {
                self.report.fragments += 1;
                Ok(())
            }
            Kind::Other => {
                self.report.other_packets += 1;
                Ok(())
            }
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, at_us: u64) -> Result<(), CaptureError> {
        let Segment { from, to, seq, .. } = *segment;
        if segment.syn && segment.ack.is_none() {
            return self.begin((from, to), seq, at_us);
        }
        let (key, side) = if self.connections.contains_key(&(from, to)) {
            ((from, to), 0)
        } else if self.connections.contains_key(&(to, from)) {
            ((to, from), 1)
        } else {
            self.report.headless_segments += u64::from(!segment.payload.is_empty());
            return Ok(());
        };
        let Some((number, connection)) = self.connections.get_mut(&key) else { return Ok(()) };
        if segment.syn {
            connection.answered(seq);
            return Ok(());
        }
        let mut facts = Own { facts: &mut self.facts, connection: *number };
        let held_before = connection.held_bytes();
        let mut result = connection.segment(side, (seq, segment.payload, segment.missing), at_us, &mut facts);
        if let Some(ack) = segment.ack {
            result = result.and(connection.acknowledged(side, ack, at_us, &mut facts));
        }
        self.held_bytes = (self.held_bytes + connection.held_bytes()).saturating_sub(held_before);
        let is_closing = segment.fin || segment.rst;
        let is_over = is_closing && connection.closing(side, segment.rst, at_us);
        if is_over || result.is_err() {
            self.end(key, result, at_us);
        }
        if self.held_bytes > HELD_BYTES_MAX {
            let mib = HELD_BYTES_MAX >> 20;
            return Err(CaptureError::Limit(format!(
                "more than {mib} MiB of segments wait for ones that are missing"
            )));
        }
        if self.facts.len() >= FACTS_MAX {
            return Err(CaptureError::Limit(format!("more than {FACTS_MAX} commands")));
        }
        Ok(())
    }

    fn begin(&mut self, key: (SocketAddr, SocketAddr), seq: u32, at_us: u64) -> Result<(), CaptureError> {
        if let Some((_, connection)) = self.connections.get(&key) {
            if connection.is_begun_by(seq) {
                return Ok(());
            }
            if let Some((_, connection)) = self.connections.get_mut(&key) {
                connection.closing(0, true, at_us);
            }
            self.end(key, Ok(()), at_us);
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(CaptureError::Limit(format!("more than {CONNECTIONS_MAX} connections at once")));
        }
        self.begun += 1;
        self.connections.insert(key, (self.begun, Connection::new(seq)));
        Ok(())
    }

    /// Forgets a connection that ended, or that cannot be followed any further.
    fn end(&mut self, key: (SocketAddr, SocketAddr), result: Result<(), Lost>, at_us: u64) {
        let Some((number, mut connection)) = self.connections.remove(&key) else { return };
        let held = connection.held_bytes();
        let mut facts = Own { facts: &mut self.facts, connection: number };
        let result = result.and_then(|()| connection.finish(at_us, &mut facts));
        self.held_bytes = self.held_bytes.saturating_sub(held);
        // Other protocols' connections are lost at their first bytes, and are nobody's business.
        if !connection.is_session() {
            return;
        }
        for counts in connection.counts() {
            self.report.repeated_bytes += counts.repeated;
            self.report.cut_bytes += counts.cut;
            self.report.gaps += counts.gaps;
            self.report.gap_bytes += counts.gap_bytes;
        }
        self.report.connections += 1;
        if let Err(lost) = result {
            self.report.lost_connections += 1;
            let (initiator, target) = key;
            self.report.first_loss.get_or_insert_with(|| format!("{initiator} to {target}: {lost}"));
        }
    }

    /// The capture is over: what still stands, stays.
    pub(crate) fn finish(&mut self) -> Result<(), CaptureError> {
        let mut keys: Vec<_> = self.connections.iter().map(|(key, (number, _))| (*number, *key)).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            self.end(key, Ok(()), self.now_us);
        }
        Ok(())
    }
}
