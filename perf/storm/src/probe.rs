//! A first look at the unit, over a session of its own: is it there, how large is it, does somebody use it, what can it
//! do.

use crate::endpoint::Endpoint;
use crate::failure::{Failure, advice};
use crate::values::size_text;
use stampede_initiator::{
    Client, ClientConfig, Command, Completed, Event, Outcome, Sense, SessionConfig, SessionId, Transfer, cdb,
};
use stampede_ring::{Buffer, Pool, PoolConfig};
use stampede_trace::Stage;
use stampede_wire::pdu::status;
use std::sync::Arc;

/// Bytes that an answer may have.
const ANSWER_MAX: u32 = 64 * 1024;
/// A unit attention is told once per cause; more than so many in a row are a fault.
const ATTENTIONS_MAX: u32 = 20;
/// How long one turn waits.
const TURN_NS: u64 = 100_000_000;

/// What the unit is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    /// Vendor and product, as INQUIRY names them.
    pub(crate) product: String,
    /// Bytes of a logical block.
    pub(crate) block_size: u32,
    /// Logical blocks.
    pub(crate) blocks: u64,
    /// The longest transfer of one command, logical blocks; 0 where the unit names none.
    pub(crate) transfer_max: u32,
    /// Most blocks of one UNMAP; 0 where it does none.
    pub(crate) unmap_max: u32,
    /// Most blocks of one WRITE SAME(16); 0 where it does none.
    pub(crate) write_same_max: u32,
    /// Blocks that were unmapped read as zeros.
    pub(crate) unmapped_is_zero: bool,
    /// It takes SYNCHRONIZE CACHE.
    pub(crate) syncs: bool,
    /// Why it is taken to be in use by somebody else.
    pub(crate) in_use: Option<String>,
    /// It refuses writes.
    pub(crate) is_read_only: bool,
}

/// Logs in, looks, and logs out.
///
/// # Errors
/// The target or the unit cannot be used, and what to do.
pub(crate) fn probe(endpoint: &Endpoint) -> Result<Unit, Failure> {
    let mut probe = Probe::start(endpoint)?;
    let unit = probe.look()?;
    probe.finish()?;
    Ok(unit)
}

/// Logs in and out: is the target there, and does it let us in?
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn probe_login(endpoint: &Endpoint) -> Result<(), Failure> {
    Probe::start(endpoint)?.finish()
}

/// Looks as machine 0's firmware, since a target of clones may let nobody else in; also what the first blocks hold.
///
/// # Errors
/// The target or the unit cannot be used, and what to do.
pub(crate) fn probe_machine(endpoint: &Endpoint) -> Result<(Unit, Vec<u8>), Failure> {
    const START: u32 = 4096;
    let config = endpoint.boot_session(0, 0, Stage::Firmware, 4);
    let mut probe = Probe::start_as(endpoint, config)?;
    let unit = probe.look()?;
    unit.check_use(false)?;
    let blocks = START / unit.block_size;
    let (outcome, start) = probe.execute(cdb::read(0, blocks.max(1)), START.max(unit.block_size))?;
    if !outcome.is_good() {
        return Err(Failure::Runtime(format!("the unit's first blocks cannot be read: {outcome}")));
    }
    probe.finish()?;
    Ok((unit, start))
}

struct Probe<'a> {
    endpoint: &'a Endpoint,
    client: Client,
    session: SessionId,
    events: Vec<Event>,
    answers: Arc<Pool>,
}

impl<'a> Probe<'a> {
    fn start(endpoint: &'a Endpoint) -> Result<Self, Failure> {
        Self::start_as(endpoint, endpoint.session(0, 4))
    }

    fn start_as(endpoint: &'a Endpoint, config: Arc<SessionConfig>) -> Result<Self, Failure> {
        let mut client = Client::new(&ClientConfig::new(1)).map_err(Failure::runtime)?;
        let answers = Pool::new(PoolConfig { slot_len: ANSWER_MAX, slots: 4 }).map_err(Failure::runtime)?;
        let session = client.connect(endpoint.portal, config).map_err(Failure::runtime)?;
        let mut probe = Self { endpoint, client, session, events: Vec::new(), answers };
        probe.until(|event| matches!(event, Event::LoggedIn { .. }).then_some(()))?;
        Ok(probe)
    }

    /// Turns until `found` finds its event; the session's end is a failure.
    fn until<T>(&mut self, found: impl Fn(&Event) -> Option<T>) -> Result<T, Failure> {
        loop {
            self.client.turn(self.client.now_ns() + TURN_NS, &mut self.events)?;
            let mut result = None;
            for event in self.events.drain(..) {
                if let Some(value) = found(&event) {
                    result = Some(value);
                } else if let Event::Ended { ending, .. } = event {
                    let Endpoint { portal, target, .. } = self.endpoint;
                    let name = self.endpoint.initiator_name(0);
                    return Err(Failure::Runtime(advice(&ending, *portal, target, &name)));
                }
            }
            if let Some(value) = result {
                return Ok(value);
            }
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.client.logout(self.session);
        self.until(|event| matches!(event, Event::Ended { .. }).then_some(()))
    }

    /// One command that reads at most `len` bytes; unit attentions are heard and the command is sent again.
    fn execute(&mut self, cdb: [u8; 16], len: u32) -> Result<(Outcome, Vec<u8>), Failure> {
        let mut attentions = 0;
        loop {
            let (outcome, bytes) = self.execute_once(cdb, len)?;
            let is_attention = outcome.sense().is_some_and(|sense| sense.key == Sense::UNIT_ATTENTION);
            attentions += 1;
            if !is_attention || attentions > ATTENTIONS_MAX {
                return Ok((outcome, bytes));
            }
        }
    }

    fn execute_once(&mut self, cdb: [u8; 16], len: u32) -> Result<(Outcome, Vec<u8>), Failure> {
        let transfer = if len == 0 {
            Transfer::None
        } else {
            let buffer = self.answers.take();
            let buffer = buffer.ok_or_else(|| Failure::runtime("no buffer is left for an answer"))?;
            Transfer::In { buffer, len }
        };
        let command = Command { lun: self.endpoint.lun, cdb, transfer, tag: 0 };
        if self.client.submit(self.session, command).is_err() {
            return Err(Failure::runtime("the target's command window is closed right after the login"));
        }
        let mut done: Option<(Outcome, Vec<u8>)> = None;
        while done.is_none() {
            self.client.turn(self.client.now_ns() + TURN_NS, &mut self.events)?;
            for event in self.events.drain(..) {
                match event {
                    Event::Completed(Completed { outcome, received, buffer, .. }) => {
                        let bytes = buffer.as_ref().map(Buffer::bytes).unwrap_or_default();
                        done = Some((outcome, bytes[..(received as usize).min(bytes.len())].to_vec()));
                    }
                    Event::Ended { ending, .. } => {
                        let Endpoint { portal, target, .. } = self.endpoint;
                        let name = self.endpoint.initiator_name(0);
                        return Err(Failure::Runtime(advice(&ending, *portal, target, &name)));
                    }
                    _ => {}
                }
            }
        }
        done.ok_or_else(|| Failure::runtime("a command without an outcome"))
    }

    fn look(&mut self) -> Result<Unit, Failure> {
        let mut unit = Unit::default();
        self.inquire(&mut unit)?;
        self.test_ready(&mut unit)?;
        self.capacity(&mut unit)?;
        self.reservations(&mut unit)?;
        self.limits(&mut unit)?;
        let (outcome, mode) = self.execute(cdb::mode_sense_6(0x3f, 252), 252)?;
        unit.is_read_only = outcome.is_good() && mode.get(2).is_some_and(|parameter| parameter & 0x80 != 0);
        Ok(unit)
    }

    fn inquire(&mut self, unit: &mut Unit) -> Result<(), Failure> {
        let (outcome, data) = self.execute(cdb::inquiry(None, 96), 96)?;
        let is_there = outcome.is_good() && data.first().is_some_and(|byte| byte >> 5 == 0);
        if !is_there {
            return Err(self.no_unit()?);
        }
        if let Some(kind) = data.first().map(|byte| byte & 0x1f)
            && kind != 0
        {
            return Err(Failure::Runtime(format!(
                "LUN {} of {} is no disk (peripheral device type {kind:#04x}): give the LUN of a disk",
                self.endpoint.lun_number, self.endpoint.target
            )));
        }
        let text = |range: std::ops::Range<usize>| {
            let bytes = data.get(range).unwrap_or_default();
            String::from_utf8_lossy(bytes).trim().to_owned()
        };
        unit.product = format!("{} {}", text(8..16), text(16..32)).trim().to_owned();
        Ok(())
    }

    /// The failure that says which units there are.
    fn no_unit(&mut self) -> Result<Failure, Failure> {
        let (outcome, data) = self.execute(cdb::report_luns(4096), 4096)?;
        let mut there = Vec::new();
        if outcome.is_good() {
            for entry in data.get(8..).unwrap_or_default().as_chunks::<8>().0 {
                there.push(stampede_wire::Lun(*entry).to_string());
            }
        }
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let Endpoint { target, lun_number, .. } = self.endpoint;
        Ok(Failure::Runtime(format!(
            "{target} has no LUN {lun_number}: it reports these LUNs: {there}. Put one of them at the URL's end"
        )))
    }

    fn test_ready(&mut self, unit: &mut Unit) -> Result<(), Failure> {
        let (outcome, _) = self.execute(cdb::test_unit_ready(), 0)?;
        match outcome {
            Outcome::Status { status: status::RESERVATION_CONFLICT, .. } => {
                unit.in_use = Some("another initiator has reserved it (RESERVATION CONFLICT)".to_owned());
                Ok(())
            }
            outcome if outcome.is_good() => Ok(()),
            other => Err(Failure::Runtime(format!(
                "LUN {} of {} is not ready: {other}. Look at the target's log",
                self.endpoint.lun_number, self.endpoint.target
            ))),
        }
    }

    fn capacity(&mut self, unit: &mut Unit) -> Result<(), Failure> {
        let (outcome, data) = self.execute(cdb::read_capacity_16(32), 32)?;
        if let (true, Some(last), Some(size)) = (outcome.is_good(), be64(&data, 0), be32(&data, 8)) {
            unit.blocks = last.saturating_add(1);
            unit.block_size = size;
            unit.unmapped_is_zero = data.get(14).is_some_and(|byte| byte & 0x40 != 0);
        } else {
            let (outcome, data) = self.execute(cdb::read_capacity_10(), 8)?;
            if let (true, Some(last), Some(size)) = (outcome.is_good(), be32(&data, 0), be32(&data, 4)) {
                unit.blocks = u64::from(last) + 1;
                unit.block_size = size;
            } else if unit.in_use.is_none() {
                return Err(Failure::Runtime(format!("the unit does not tell its capacity: {outcome}")));
            }
        }
        if unit.in_use.is_none() && (unit.blocks == 0 || !(512..=65_536).contains(&unit.block_size)) {
            return Err(Failure::Runtime(format!(
                "the unit has {} blocks of {} bytes, which cannot be driven",
                unit.blocks, unit.block_size
            )));
        }
        Ok(())
    }

    fn reservations(&mut self, unit: &mut Unit) -> Result<(), Failure> {
        let (outcome, data) = self.execute(cdb::persistent_reserve_in(false, 1024), 1024)?;
        match outcome {
            Outcome::Status { status: status::RESERVATION_CONFLICT, .. } => {
                unit.in_use = Some("another initiator has reserved it (RESERVATION CONFLICT)".to_owned());
            }
            _ if outcome.is_good() => {
                let keys = be32(&data, 4).unwrap_or(0) / 8;
                if keys > 0 {
                    unit.in_use = Some(format!("{keys} persistent reservation keys are registered with it"));
                }
            }
            // A unit that knows no reservations.
            _ => {}
        }
        Ok(())
    }

    fn limits(&mut self, unit: &mut Unit) -> Result<(), Failure> {
        let (outcome, page) = self.execute(cdb::inquiry(Some(0xb0), 64), 64)?;
        let limits = if outcome.is_good() && page.get(1) == Some(&0xb0) { page } else { Vec::new() };
        unit.transfer_max = be32(&limits, 8).unwrap_or(0);
        let (outcome, page) = self.execute(cdb::inquiry(Some(0xb2), 64), 64)?;
        let provisioning = if outcome.is_good() && page.get(1) == Some(&0xb2) { page } else { Vec::new() };
        let provisioning = provisioning.get(5).copied().unwrap_or(0);
        if provisioning & 0x80 != 0 && self.supports(0x42)? {
            unit.unmap_max = be32(&limits, 20).unwrap_or(0).min(1 << 24);
        }
        if self.supports(0x93)? {
            let named = be64(&limits, 36).unwrap_or(0);
            unit.write_same_max = if named == 0 { 1 << 16 } else { named.min(1 << 24) as u32 };
        }
        unit.syncs = self.supports(0x35)?;
        Ok(())
    }

    /// Whether REPORT SUPPORTED OPERATION CODES says that an operation is supported.
    fn supports(&mut self, opcode: u8) -> Result<bool, Failure> {
        let (outcome, data) = self.execute(cdb::report_supported_operation_code(opcode, 64), 64)?;
        Ok(outcome.is_good() && data.get(1).is_some_and(|byte| matches!(byte & 7, 3 | 5)))
    }
}

impl Unit {
    /// Bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }

    /// Refuses a unit that is in use, unless `--destroy` allows it.
    ///
    /// # Errors
    /// Who uses it and what to do.
    pub(crate) fn check_use(&self, destroy: bool) -> Result<(), Failure> {
        match &self.in_use {
            Some(why) if !destroy => Err(Failure::Runtime(format!(
                "the unit is in use: {why}. Choose another one, or give --destroy if nobody needs it"
            ))),
            Some(why) if self.blocks == 0 => {
                Err(Failure::Runtime(format!("the unit cannot be used even with --destroy: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// `ACME DISK, 1g in blocks of 512 bytes`.
    pub(crate) fn describe(&self) -> String {
        format!("{}, {} in blocks of {} bytes", self.product, size_text(self.bytes()), self.block_size)
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}
