//! What a session asks for, and what it got.

use stampede_wire::Isid;

/// Who logs in, to what, and what it offers. The target's answers may lower every number.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// InitiatorName (RFC 7143 4.2.7).
    pub initiator_name: String,
    /// TargetName.
    pub target_name: String,
    /// The initiator's half of the session identifier; unique per initiator name.
    pub isid: Isid,
    /// Whether CRC32C is demanded for headers.
    pub header_digest: bool,
    /// Whether CRC32C is demanded for data.
    pub data_digest: bool,
    /// The longest data segment that is taken, bytes (13.12).
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength to offer, bytes (13.13).
    pub max_burst_length: u32,
    /// FirstBurstLength to offer, bytes (13.14).
    pub first_burst_length: u32,
    /// MaxOutstandingR2T to offer (13.17).
    pub max_outstanding_r2t: u16,
    /// Whether data beyond the immediate data is to wait for an R2T (13.10).
    pub initial_r2t: bool,
    /// Whether commands may carry data (13.11).
    pub immediate_data: bool,
    /// Whether the login begins in the security stage. Initiators that do not authenticate may leave it out (6.3.1).
    pub security_stage: bool,
    /// Commands in flight at most.
    pub depth: u16,
    /// Whether the target's pings (NOP-In, 11.19) are answered, as they must be. iPXE never does.
    pub answers_pings: bool,
    /// How long connecting and logging in may take, and logging out, nanoseconds.
    pub login_timeout_ns: u64,
    /// How long the target may be silent while commands wait for it, nanoseconds.
    pub silence_timeout_ns: u64,
}

impl SessionConfig {
    /// The usual offers: immediate data, unsolicited data, bursts of a MiB, no digests, 32 commands.
    #[must_use]
    pub fn new(initiator_name: String, target_name: String, isid: Isid) -> Self {
        Self {
            initiator_name,
            target_name,
            isid,
            header_digest: false,
            data_digest: false,
            max_recv_data_segment_length: 256 * 1024,
            max_burst_length: 1024 * 1024,
            first_burst_length: 256 * 1024,
            max_outstanding_r2t: 8,
            initial_r2t: false,
            immediate_data: true,
            security_stage: true,
            depth: 32,
            answers_pings: true,
            login_timeout_ns: 15_000_000_000,
            silence_timeout_ns: 30_000_000_000,
        }
    }
}

/// What holds in a session after its login (RFC 7143 13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Headers carry a digest.
    pub header_digest: bool,
    /// Data segments carry a digest.
    pub data_digest: bool,
    /// Commands may carry data.
    pub immediate_data: bool,
    /// Data beyond the immediate data waits for an R2T.
    pub initial_r2t: bool,
    /// Bytes per burst.
    pub max_burst_length: u32,
    /// Bytes of unsolicited data, immediate data among them.
    pub first_burst_length: u32,
    /// The longest data segment that the target takes, bytes.
    pub target_data_segment_length: u32,
}

impl Negotiated {
    /// What holds where the target does not answer a key: the defaults of RFC 7143 13, and our offers where the
    /// result is ours to declare.
    pub(crate) fn before(config: &SessionConfig) -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            immediate_data: config.immediate_data,
            initial_r2t: true,
            max_burst_length: 262_144.min(config.max_burst_length),
            first_burst_length: 65_536.min(config.first_burst_length),
            target_data_segment_length: 8192,
        }
    }

    /// Bytes that a write of `len` bytes sends with its command.
    pub(crate) fn immediate_len(&self, len: u32) -> u32 {
        if !self.immediate_data {
            return 0;
        }
        len.min(self.first_burst_length).min(self.target_data_segment_length)
    }

    /// Bytes that a write of `len` bytes sends before any R2T, immediate data among them.
    pub(crate) fn unsolicited_len(&self, len: u32) -> u32 {
        if self.initial_r2t { self.immediate_len(len) } else { len.min(self.first_burst_length) }
    }
}
