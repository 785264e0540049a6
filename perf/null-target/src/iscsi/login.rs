//! The login phase: any name is let in, and the keys are agreed to as the product agrees to them by default.

use super::Dropped;
use super::scsi::Geometry;
use super::session::Session;
use crate::outbox::{Memory, Outbox};
use stampede_wire::pdu::{LoginRequest, LoginResponse, LoginStep, Pdu as _, Stage, TargetSns};
use stampede_wire::text::value::{boolean, boolean_text, list, number_in};
use stampede_wire::text::{Builder, Pairs, reserved};
use stampede_wire::{Bhs, Sn, Tsih, pad4};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// MaxRecvDataSegmentLength that we declare, bytes.
pub(super) const RECV_DATA_SEGMENT: u32 = 256 * 1024;
/// The most we agree to, bytes and R2Ts; as the product's defaults.
const MAX_BURST: u32 = 256 * 1024;
const FIRST_BURST: u32 = 64 * 1024;
const OUTSTANDING_R2T: u32 = 4;
/// The command window, as the product's default.
pub(super) const WINDOW: u32 = 128;

/// DataSegmentLength and burst lengths (RFC 7143 13.12 to 13.14), bytes.
const SEGMENT_RANGE: RangeInclusive<u64> = 512..=0x00ff_ffff;

/// What both sides agreed on; first the RFC's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The initiator's MaxRecvDataSegmentLength, bytes.
    pub(super) segment: u32,
    pub(super) max_burst: u32,
    pub(super) first_burst: u32,
    pub(super) outstanding_r2t: u32,
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            segment: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            outstanding_r2t: 1,
            header_digest: false,
            data_digest: false,
        }
    }
}

/// A connection in its login phase.
#[derive(Debug)]
pub(super) struct Login {
    geometry: Arc<Geometry>,
    local: SocketAddr,
    text: Vec<u8>,
    agreed: Agreed,
    /// CmdSN of the first request, which all of the login repeats.
    first: Option<Sn>,
    stat_sn: Sn,
    /// TargetPortalGroupTag was said.
    introduced: bool,
    /// MaxRecvDataSegmentLength was declared.
    declared: bool,
    discovery: bool,
}

impl Login {
    pub(super) fn new(geometry: Arc<Geometry>, local: SocketAddr) -> Self {
        Self {
            geometry,
            local,
            text: Vec::new(),
            agreed: Agreed::default(),
            first: None,
            stat_sn: Sn(1),
            introduced: false,
            declared: false,
            discovery: false,
        }
    }

    /// A Login Request with its text. The session, when this was the last one.
    pub(super) fn pdu(
        &mut self,
        bhs: &Bhs,
        text: &[u8],
        outbox: &mut Outbox,
        memory: &Memory,
    ) -> Result<Option<Session>, Dropped> {
        let request = bhs.try_view::<LoginRequest>().ok_or(Dropped::Unexpected(*bhs))?;
        let stage = request.current_stage().map_err(|_| Dropped::Login("CSG is the reserved stage"))?;
        let first = *self.first.get_or_insert(request.cmd_sn());
        if self.text.len() + text.len() > super::COLLECT_MAX {
            return Err(Dropped::TooLong);
        }
        self.text.extend_from_slice(text);
        let (mut reply, mut step) = (Builder::new(), LoginStep::Stay);
        if !request.continues() {
            let text = std::mem::take(&mut self.text);
            self.negotiate(&text, stage, &mut reply)?;
            if request.transit() {
                let next = request.next_stage().map_err(|_| Dropped::Login("NSG is the reserved stage"))?;
                step = LoginStep::Transit(next);
            }
        }
        let sns = TargetSns { stat_sn: self.stat_sn, exp_cmd_sn: first, max_cmd_sn: first.add(WINDOW - 1) };
        self.stat_sn = self.stat_sn.next();
        let over = step == LoginStep::Transit(Stage::FullFeature);
        let tsih = if over { Tsih(1) } else { request.tsih() };
        let pdu = LoginResponse::new(request.isid(), tsih, request.initiator_task_tag(), stage, step, sns)
            .with_data_segment_len(reply.len() as u32);
        outbox.copy(pdu.as_ref(), memory)?;
        outbox.copy(reply.as_bytes(), memory)?;
        outbox.copy(&[0; 3][..pad4(reply.len())], memory)?;
        let session = || {
            let mut agreed = self.agreed;
            agreed.first_burst = agreed.first_burst.min(agreed.max_burst);
            Session::new(agreed, first, self.stat_sn, Arc::clone(&self.geometry), self.local, self.discovery)
        };
        Ok(over.then(session))
    }

    fn negotiate(&mut self, text: &[u8], stage: Stage, reply: &mut Builder) -> Result<(), Dropped> {
        let pairs = Pairs::parse(text).map_err(|_| Dropped::Login("its text is no list of keys"))?;
        for (key, value) in pairs {
            self.answer(key, value, reply);
        }
        if !std::mem::replace(&mut self.introduced, true) && !self.discovery {
            reply.push("TargetPortalGroupTag", 1);
        }
        if stage == Stage::Operational && !std::mem::replace(&mut self.declared, true) {
            reply.push("MaxRecvDataSegmentLength", RECV_DATA_SEGMENT);
        }
        Ok(())
    }

    /// Answers one key by its result function (RFC 7143 13).
    fn answer(&mut self, key: &str, value: &str, reply: &mut Builder) {
        let agreed = &mut self.agreed;
        let number = |range| number_in(value, range).and_then(|number| u32::try_from(number).ok());
        let least = |range, cap: u32| number(range).map(|offer| offer.min(cap));
        let counted = |place: Option<&mut u32>, result: Option<u32>, reply: &mut Builder| {
            if let (Some(place), Some(result)) = (place, result) {
                *place = result;
            }
            match result {
                Some(result) => drop(reply.push(key, result)),
                None => drop(reply.push(key, reserved::REJECT)),
            }
        };
        match key {
            "InitiatorName" | "InitiatorAlias" | "TargetName" => {}
            "SessionType" => self.discovery = value == "Discovery",
            "AuthMethod" => drop(reply.push(key, "None")),
            "HeaderDigest" => drop(reply.push(key, digest(value, &mut agreed.header_digest))),
            "DataDigest" => drop(reply.push(key, digest(value, &mut agreed.data_digest))),
            "MaxRecvDataSegmentLength" => agreed.segment = number(SEGMENT_RANGE).unwrap_or(agreed.segment),
            "MaxBurstLength" => {
                counted(Some(&mut agreed.max_burst), least(SEGMENT_RANGE, MAX_BURST), reply);
            }
            "FirstBurstLength" => {
                counted(Some(&mut agreed.first_burst), least(SEGMENT_RANGE, FIRST_BURST), reply);
            }
            "MaxOutstandingR2T" => {
                counted(Some(&mut agreed.outstanding_r2t), least(1..=65_535, OUTSTANDING_R2T), reply);
            }
            "MaxConnections" => counted(None, least(1..=65_535, 1), reply),
            "ErrorRecoveryLevel" => counted(None, least(0..=2, 0), reply),
            "DefaultTime2Wait" => counted(None, least(0..=3600, 3600), reply),
            "DefaultTime2Retain" => counted(None, least(0..=3600, 0), reply),
            "iSCSIProtocolLevel" => counted(None, least(0..=31, 1), reply),
            // What the initiator offers is what we take: its Data-Out PDUs say the rest.
            "InitialR2T" | "ImmediateData" => {
                let result = boolean(value).map_or(reserved::REJECT, boolean_text);
                reply.push(key, result);
            }
            "DataPDUInOrder" | "DataSequenceInOrder" => drop(reply.push(key, "Yes")),
            "IFMarker" | "OFMarker" => drop(reply.push(key, "No")),
            "IFMarkInt" | "OFMarkInt" => drop(reply.push(key, reserved::IRRELEVANT)),
            _ => drop(reply.push(key, reserved::NOT_UNDERSTOOD)),
        }
    }
}

/// The first of the offered digests that we know, as in the product.
fn digest(offer: &str, agreed: &mut bool) -> &'static str {
    let known = |item: &str| ["CRC32C", reserved::NONE].into_iter().find(|known| *known == item);
    match list(offer).and_then(|mut items| items.find_map(known)) {
        Some(value) => {
            *agreed = value == "CRC32C";
            value
        }
        None => reserved::REJECT,
    }
}
