//! What ends a run: for the exit code, and in words.

use stampede_initiator::{Ending, Reason};
use stampede_ring::Errno;
use stampede_wire::pdu::LoginStatus;
use std::net::SocketAddr;

/// Why storm ends.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is not right.
    Usage(String),
    /// The target, the unit or this machine.
    Runtime(String),
}

impl Failure {
    pub(crate) fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    pub(crate) fn runtime(error: impl std::fmt::Display) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// A broken ring.
impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Runtime(format!("io_uring failed: {errno}"))
    }
}

/// What an ending that was not asked for says to a user who wants to know what to do.
pub(crate) fn advice(ending: &Ending, portal: SocketAddr, target: &str, initiator: &str) -> String {
    let Ending::Lost(reason) = ending else {
        return "the session was closed".to_owned();
    };
    match reason {
        Reason::Connection(errno) if errno.0 == rustix::io::Errno::CONNREFUSED.raw_os_error() => {
            format!(
                "nothing listens on {portal} (connection refused): start the target, or check address and port"
            )
        }
        Reason::Connection(errno) => {
            format!("the connection to {portal} failed: {errno}. Check address, route and firewall")
        }
        Reason::LoginTimeout(seconds) => format!(
            "no login at {portal} within {seconds} s: check address and firewall, and whether it is an iSCSI target; \
             a slow one needs a longer --login-timeout"
        ),
        Reason::Refused(refused) => match refused.known() {
            Some(LoginStatus::NotFound) => format!(
                "the target at {portal} does not know {target} (login status {refused}): check the name, for example \
                 with `iscsi-ls iscsi://{portal}`"
            ),
            Some(LoginStatus::AuthorizationFailure) => format!(
                "{target} does not let {initiator} in (login status {refused}): allow that name at the target, or give \
                 one that is allowed with --initiator-name"
            ),
            Some(LoginStatus::AuthenticationFailure) => format!(
                "{target} wants authentication, which storm does not do (login status {refused}): allow {initiator} \
                 without it"
            ),
            _ if refused.address.is_some() => {
                format!("{target} has moved (login status {refused}): give that portal in the URL")
            }
            _ => format!("{target} refuses {initiator}: login status {refused}"),
        },
        Reason::Authentication(_) => format!("{target}: {reason}. Allow {initiator} without it"),
        Reason::NoDigest(key) => {
            format!(
                "{target} does not take {key}=CRC32C: leave the digest option out, or switch it on at the target"
            )
        }
        other => format!("the session with {target} at {portal} was lost: {other}"),
    }
}
