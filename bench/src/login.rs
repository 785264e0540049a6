//! What a session needs before its first command: the one target that there is, and the login to it.

use stampede_session::{Directory, LoginStage, Settings};
use stampede_wire::encode::{Digests, append_pdu};
use stampede_wire::pdu::{InitiatorSns, LoginRequest, LoginStep, Stage};
use stampede_wire::text::Builder;
use stampede_wire::{Isid, Sn, Tsih};
use std::net::SocketAddr;
use std::sync::Arc;

/// CmdSN of the login request, and so of the session's first command (RFC 7143, 11.12.7).
pub(crate) const FIRST_CMD_SN: u32 = 1;

const TARGET: &str = "iqn.2026-11.io.stampede:bench";

struct OneTarget;

impl Directory for OneTarget {
    fn contains(&self, target: &str) -> bool {
        target == TARGET
    }

    fn discover(&self, _: &str, _: SocketAddr, _: Option<&str>, _: &mut dyn FnMut(&str, &[String], u16)) {}

    fn stage_override(&self, _: &str) -> Option<LoginStage> {
        None
    }
}

/// Settings of a portal group with the one target.
pub(crate) fn settings() -> Arc<Settings> {
    Arc::new(Settings::new(Arc::new(OneTarget)))
}

/// The one PDU of a login without authentication: all write data may be immediate, and Data-In may be long.
pub(crate) fn request() -> Vec<u8> {
    let mut text = Builder::new();
    text.push("InitiatorName", "iqn.2026-11.io.stampede:client").push("TargetName", TARGET);
    text.push("SessionType", "Normal").push("InitialR2T", "No").push("ImmediateData", "Yes");
    text.push("MaxRecvDataSegmentLength", 262_144).push("FirstBurstLength", 262_144);
    let isid = Isid([0x40, 0, 0, 0, 0, 1]);
    let sns = InitiatorSns { cmd_sn: Sn(FIRST_CMD_SN), exp_stat_sn: Sn(0) };
    let step = LoginStep::Transit(Stage::FullFeature);
    let request = LoginRequest::new(isid, Tsih::NEW, 0, 1, Stage::Operational, step, sns);
    let mut pdu = Vec::new();
    append_pdu(&mut pdu, &request, text.as_bytes(), Digests::default());
    pdu
}
