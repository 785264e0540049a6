//! What the operator sets for every connection of a portal group, and what the target's directory answers.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{ChapPolicy, LoginStage};

/// One second in the unit of every time here.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// The largest command window: a task table of all its slots is about one MiB.
const WINDOW_MAX: u16 = 4096;

/// R2Ts of one command that we keep apart; a larger MaxOutstandingR2T would speed nothing up.
pub(crate) const R2T_MAX: usize = 8;

/// The settings of a connection. Shared by all connections of a shard; a new snapshot serves new connections only.
#[derive(Clone)]
pub struct Settings {
    /// TargetPortalGroupTag (RFC 7143 13.9).
    pub portal_group_tag: u16,
    /// From accept to the last request of the login phase, nanoseconds.
    pub login_timeout_ns: u64,
    /// MaxRecvDataSegmentLength that we declare, bytes (RFC 7143 13.12): 512 to 2^24-1.
    pub max_recv_data_segment: u32,
    /// Largest MaxBurstLength we agree to, bytes (RFC 7143 13.13): 512 to 2^24-1.
    pub max_burst: u32,
    /// Largest FirstBurstLength we agree to, bytes (RFC 7143 13.14): 512 to 2^24-1; cut to the agreed MaxBurstLength.
    pub first_burst: u32,
    /// Largest MaxOutstandingR2T we agree to (RFC 7143 13.17): 1 to 8.
    pub max_outstanding_r2t: u16,
    /// Commands of one session in the target at once, 1 to 4,096: the size of the command window. The task table has
    /// eight slots more, for immediate commands.
    pub window: u16,
    /// Bytes of text that one negotiation (all PDUs of a C-bit sequence together) may bring.
    pub text_bytes_max: u32,
    /// Bytes of text that SendTargets may be answered with; targets that do not fit are not listed.
    pub discovery_bytes_max: u32,
    /// Silence after which an initiator is pinged by NOP-In, nanoseconds; 0 = never. Firmware is never pinged.
    pub ping_interval_ns: u64,
    /// How long a ping may stay unanswered by an initiator that has answered before, nanoseconds.
    pub ping_timeout_ns: u64,
    /// Which HeaderDigest to agree to.
    pub header_digest: DigestPolicy,
    /// Which DataDigest to agree to.
    pub data_digest: DigestPolicy,
    /// The targets that exist.
    pub directory: Arc<dyn Directory + Send + Sync>,
}

impl Settings {
    /// The default settings over `directory`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory + Send + Sync>) -> Self {
        Self {
            portal_group_tag: 1,
            login_timeout_ns: 15 * SECOND_NS,
            max_recv_data_segment: 256 * 1024,
            max_burst: 256 * 1024,
            first_burst: 64 * 1024,
            max_outstanding_r2t: 4,
            window: 128,
            text_bytes_max: 64 * 1024,
            discovery_bytes_max: 1024 * 1024,
            ping_interval_ns: 0,
            ping_timeout_ns: 30 * SECOND_NS,
            header_digest: DigestPolicy::Initiator,
            data_digest: DigestPolicy::Initiator,
            directory,
        }
    }

    /// MaxRecvDataSegmentLength within the range of the RFC.
    pub(crate) fn recv_data_segment(&self) -> u32 {
        self.max_recv_data_segment.clamp(512, stampede_wire::DATA_SEGMENT_LEN_MAX)
    }

    /// The command window within its range.
    pub(crate) fn command_window(&self) -> u16 {
        self.window.clamp(1, WINDOW_MAX)
    }

    /// MaxOutstandingR2T within what we can keep apart.
    pub(crate) fn outstanding_r2t(&self) -> u16 {
        self.max_outstanding_r2t.clamp(1, R2T_MAX as u16)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("portal_group_tag", &self.portal_group_tag)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Which digest to choose from the list that an initiator offers (RFC 7143 13.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestPolicy {
    /// The first value of the offer that we know: the initiator's preference counts.
    Initiator,
    /// CRC32C if offered, else None.
    Prefer,
    /// Only CRC32C: an initiator that does not offer it is refused.
    Require,
    /// Only None.
    Never,
}

/// How an initiator proves its name (RFC 7143 12.1).
#[derive(Clone, Debug)]
pub enum Authentication {
    /// AuthMethod=None: the name is believed.
    None,
    /// AuthMethod=CHAP, by one of these credentials.
    Chap(Arc<ChapPolicy>),
}

/// Who wants in, as far as it has said before it has proven anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applicant<'a> {
    /// InitiatorName, ASCII letters lowered.
    pub initiator: &'a str,
    /// TargetName, ASCII letters lowered; `None` asks for a discovery session.
    pub target: Option<&'a str>,
}

/// Where a target is to be looked for (RFC 7143 11.13.5, class 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirection {
    /// TargetAddress without a portal group tag: `192.0.2.1:3260`, `[2001:db8::1]:3260` or a DNS name with a port.
    pub address: String,
    /// Whether the move is permanent (0102) or temporary (0101).
    pub permanent: bool,
}

/// The targets of this host, as logins and SendTargets see them.
pub trait Directory {
    /// Whether a target of this iSCSI name exists and may be logged in to. Names are compared in their normal form
    /// (lower case, RFC 3722); the caller has lowered ASCII letters already.
    fn contains(&self, target: &str) -> bool;

    /// Calls `visit(name, portals, portal group tag)` for each target that `initiator` may see, in a stable order:
    /// all of them, or only the one named `which`. A portal is written as TargetAddress wants it, without the tag:
    /// `192.0.2.1:3260` or `[2001:db8::1]:3260`. `local` is the address the initiator asked on.
    fn discover(
        &self,
        initiator: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    );

    /// The login stage that the operator set for this target, if any: it beats the fingerprint.
    fn stage_override(&self, target: &str) -> Option<LoginStage>;

    /// What an initiator must prove before it is let in. Asked once for each login, before any key but the
    /// declarations is judged.
    fn authentication(&self, applicant: &Applicant<'_>) -> Authentication {
        let _ = applicant;
        Authentication::None
    }

    /// Where a target is that initiators are sent away from here for, whether or not the directory
    /// [contains](Directory::contains) it.
    fn redirection(&self, target: &str) -> Option<Redirection> {
        let _ = target;
        None
    }
}
