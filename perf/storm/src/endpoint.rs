//! The target's side of a session, and ours: portal, names, offers.

use crate::cli::Common;
use crate::failure::Failure;
use stampede_initiator::SessionConfig;
use stampede_trace::Stage;
use stampede_wire::{Isid, Lun};
use std::net::SocketAddr;
use std::sync::Arc;

/// The longest iSCSI name, bytes (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;

/// What every session logs in to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The portal's address.
    pub(crate) portal: SocketAddr,
    /// TargetName.
    pub(crate) target: String,
    /// The unit.
    pub(crate) lun: Lun,
    /// The unit's number.
    pub(crate) lun_number: u16,
    name_template: String,
    header_digest: bool,
    data_digest: bool,
    login_timeout_ns: u64,
    /// Of this run, so that its sessions are not taken for those of another.
    isid_base: u32,
}

impl Endpoint {
    /// From the command line; looks the portal's name up.
    ///
    /// # Errors
    /// Usage: no legal initiator name. Runtime: no address for the portal's name.
    pub(crate) fn new(common: &Common) -> Result<Self, Failure> {
        let template = &common.initiator_name;
        let name = name_of(template, common.sessions);
        let is_name = ["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix));
        if !is_name || name.len() > NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Usage(format!(
                "`{template}` is no initiator name: it begins with iqn., eui. or naa., has no spaces and at most \
                 {NAME_MAX} bytes; {{n}} in it stands for the session's number"
            )));
        }
        Ok(Self {
            portal: common.url.portal().map_err(Failure::runtime)?,
            target: common.url.target.clone(),
            lun: common.url.lun_field(),
            lun_number: common.url.lun,
            name_template: template.clone(),
            header_digest: common.header_digest,
            data_digest: common.data_digest,
            login_timeout_ns: common.login_timeout * 1_000_000_000,
            isid_base: std::process::id(),
        })
    }

    /// The initiator name of session `session`.
    pub(crate) fn initiator_name(&self, session: u32) -> String {
        name_of(&self.name_template, session)
    }

    /// What session `session` logs in with; each has an ISID of its own, whatever their names.
    pub(crate) fn session(&self, session: u32, depth: u16) -> Arc<SessionConfig> {
        // The qualifier has 16 bits; further sessions differ in the bits above the process's number.
        let [high, low] = [session >> 16, session & 0xffff];
        let isid = Isid::random(self.isid_base << 8 ^ high, low as u16);
        let name = self.initiator_name(session);
        Arc::new(SessionConfig {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            depth,
            login_timeout_ns: self.login_timeout_ns,
            ..SessionConfig::new(name, self.target.clone(), isid)
        })
    }
}

/// The constant part of iPXE's ISIDs: an enterprise number (10019) and four bits of a kind.
const IPXE: [u8; 4] = [0x40, 0x00, 0x27, 0x23];
/// The constant part of open-iscsi's ISIDs.
const OPEN_ISCSI: [u8; 5] = [0x00, 0x02, 0x3d, 0x00, 0x00];

impl Endpoint {
    /// What a machine logs in with at a stage of its boot, as session `session` of its trace: as iPXE does, and as Linux
    /// does.
    pub(crate) fn boot_session(
        &self,
        machine: u32,
        session: u8,
        stage: Stage,
        depth: u16,
    ) -> Arc<SessionConfig> {
        let usual = |isid| SessionConfig {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            depth,
            login_timeout_ns: self.login_timeout_ns,
            max_outstanding_r2t: 1,
            ..SessionConfig::new(self.initiator_name(machine), self.target.clone(), isid)
        };
        Arc::new(match stage {
            Stage::Firmware => {
                let [a, b, c, d] = IPXE;
                // iPXE's is random; another run's is another.
                let random = self.isid_base as u8;
                SessionConfig {
                    max_recv_data_segment_length: 8192,
                    max_burst_length: 256 * 1024,
                    first_burst_length: 64 * 1024,
                    initial_r2t: true,
                    immediate_data: false,
                    answers_pings: false,
                    ..usual(Isid([a, b, c, d, random, session]))
                }
            }
            Stage::Os => {
                let [a, b, c, d, e] = OPEN_ISCSI;
                SessionConfig {
                    max_burst_length: 16_776_192,
                    security_stage: false,
                    ..usual(Isid([a, b, c, d, e, session]))
                }
            }
        })
    }
}

fn name_of(template: &str, session: u32) -> String {
    template.replace("{n}", &session.to_string())
}
