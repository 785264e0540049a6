//! The device server of one logical unit: mutable state with one owner.

use crate::{DeviceConfig, Media, MediaError, NexusId, Reply, SenseFormat, Step, TransportId, sense};

/// The device server of one logical unit. One owner: every command, reset and change of the unit goes through it.
#[derive(Debug)]
pub struct Device {
    config: DeviceConfig,
}

impl Device {
    /// A logical unit that has just been powered on, with no nexus attached.
    pub fn new(config: DeviceConfig) -> Self {
        Self { config }
    }

    /// What the unit was made from; `blocks` follows [`Device::resize`].
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Adds an I_T nexus (a session that has logged in) and establishes 29h/00h for it. A nexus that is attached
    /// already starts anew. `transport_id` ties it to its persistent registration.
    pub fn attach(&mut self, nexus: NexusId, transport_id: TransportId) {
        let _ = (nexus, transport_id);
    }

    /// Removes an I_T nexus (its session has ended): its RESERVE is released, its persistent registration stays.
    pub fn detach(&mut self, nexus: NexusId) {
        let _ = nexus;
    }

    /// Starts one command of `nexus`.
    ///
    /// `data_out_len` is the number of data-out bytes the initiator really gave (or will give); a block command with
    /// less than its CDB asks for is cut to whole blocks. `param` is the gathered parameter list where
    /// [`cdb::takes_parameter_list`](crate::cdb::takes_parameter_list) says so, else empty.
    pub fn start(&mut self, nexus: NexusId, cdb: &[u8; 16], data_out_len: u32, param: &[u8]) -> Step {
        let _ = (nexus, cdb, data_out_len, param);
        Step::Done(Reply::check(sense::INVALID_OPERATION_CODE))
    }

    /// The reply of medium work that failed, in the sense data format that D_SENSE selects.
    pub fn media_failed(&self, error: &MediaError, media: &Media) -> Reply {
        let mut reply = crate::media_failed(error, media);
        reply.sense = reply.sense.map(|sense| sense.with_format(self.sense_format()));
        reply
    }

    /// The sense data format that D_SENSE selects.
    pub fn sense_format(&self) -> SenseFormat {
        SenseFormat::Fixed
    }

    /// Whether there is a volatile write cache in use (WCE).
    pub fn write_cache_enabled(&self) -> bool {
        self.config.write_cache
    }

    /// Power on, hard reset or target reset (SAM-5 6.3.2): mode parameters return to their defaults, RESERVE is
    /// released, every nexus gets 29h/02h.
    pub fn reset(&mut self) {}

    /// LOGICAL UNIT RESET asked for by `nexus` (SAM-5 6.3.3): as [`Device::reset`], but the other nexuses get
    /// 29h/03h and the asking one, which has its function response, gets nothing.
    pub fn reset_by(&mut self, nexus: NexusId) {
        let _ = nexus;
    }

    /// I_T nexus loss (SAM-5 6.3.4): the nexus stays attached, its RESERVE is released, it gets 29h/07h.
    pub fn nexus_lost(&mut self, nexus: NexusId) {
        let _ = nexus;
    }

    /// CLEAR TASK SET by `nexus` ended tasks of `victims`: each of them but `nexus` gets 2Fh/00h.
    pub fn tasks_cleared_by(&mut self, nexus: NexusId, victims: &[NexusId]) {
        let _ = (nexus, victims);
    }

    /// The capacity is now `blocks` logical blocks: every nexus gets 2Ah/09h if that is a change.
    pub fn resize(&mut self, blocks: u64) {
        self.config.blocks = blocks;
    }

    /// The target's LUN list changed: every nexus gets 3Fh/0Eh.
    pub fn luns_changed(&mut self) {}

    /// `nexus` was sent the LUN list: a pending 3Fh/0Eh is dropped (SPC-4 6.33).
    pub fn luns_reported(&mut self, nexus: NexusId) {
        let _ = nexus;
    }
}
