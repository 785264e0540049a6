//! What an initiator does when something does not go as it should.

use stampede_initiator::{Ending, LoginRefused, Outcome, Reason, Sense};
use stampede_trace::Stage;
use stampede_wire::pdu::status;

const MS: u64 = 1_000_000;
/// Between a lost session and its next login: what DefaultTime2Wait asks for.
pub(super) const LOST_NS: u64 = 2000 * MS;
/// Between two logins, as iPXE waits.
const LOGIN_NS: u64 = 5000 * MS;
/// Logins that iPXE tries before it gives the boot up.
const FIRMWARE_LOGINS: u32 = 11;
/// Logins that an operating system tries: five minutes.
const OS_LOGINS: u32 = 60;
/// How often a command is tried that something passing is in the way of; with the waits below about three minutes.
const TRIES: u16 = 200;
/// How often one is tried that ends with ABORTED COMMAND, or that the target could not execute: as Linux does.
const TRIES_ABORTED: u16 = 6;
/// The longest wait before a command is sent again.
const WAIT_MAX_NS: u64 = 1000 * MS;

/// How long to wait before the next login, unless it makes no sense.
pub(super) fn login(ending: &Ending, stage: Stage, failures: u32) -> Option<u64> {
    let tries = if stage == Stage::Firmware { FIRMWARE_LOGINS } else { OS_LOGINS };
    if failures >= tries {
        return None;
    }
    match ending {
        // An initiator error (RFC 7143 11.13.5) comes again, and so does what the two cannot agree on.
        Ending::Lost(Reason::Refused(LoginRefused { status: 0x0200..=0x02ff, .. })) => None,
        Ending::Lost(Reason::Authentication(_) | Reason::NoDigest(_) | Reason::Negotiation { .. }) => None,
        _ => Some(LOGIN_NS),
    }
}

/// What is done about a command's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It was done.
    Done,
    /// It is sent again.
    Again { wait_ns: u64 },
    /// The unit does not know the command, which initiators live with.
    Refused,
    /// It failed.
    Failed,
}

/// `tries` counts this one; `asks` is for commands that only ask something.
pub(super) fn command(outcome: Outcome, tries: u16, asks: bool) -> Verdict {
    let backoff = Verdict::Again { wait_ns: ((10 * MS) << tries.min(10)).min(WAIT_MAX_NS) };
    let passing = |verdict| if tries < TRIES { verdict } else { Verdict::Failed };
    match outcome {
        _ if outcome.is_good() => Verdict::Done,
        // It goes with the next session.
        Outcome::Lost => passing(Verdict::Again { wait_ns: 0 }),
        Outcome::TargetFailure if tries < TRIES_ABORTED => backoff,
        Outcome::Status { status: status::BUSY | status::TASK_SET_FULL, .. } => passing(backoff),
        Outcome::Status { sense: Some(sense), .. } => match sense {
            Sense { key: Sense::UNIT_ATTENTION, .. } => passing(Verdict::Again { wait_ns: 0 }),
            Sense { key: Sense::NOT_READY, asc: 0x04, .. } => passing(backoff),
            Sense { key: 0x0b, .. } if tries < TRIES_ABORTED => Verdict::Again { wait_ns: 0 },
            Sense { key: Sense::ILLEGAL_REQUEST, .. } if asks => Verdict::Refused,
            _ => Verdict::Failed,
        },
        _ => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(key: u8, asc: u8) -> Outcome {
        Outcome::Status { status: status::CHECK_CONDITION, sense: Some(Sense { key, asc, ascq: 0 }) }
    }

    #[test]
    fn what_passes_is_tried_again_and_the_rest_is_not() {
        let plain = |status| Outcome::Status { status, sense: None };
        assert_eq!(command(plain(status::GOOD), 1, false), Verdict::Done);
        assert_eq!(command(sense(6, 0x29), 1, false), Verdict::Again { wait_ns: 0 });
        assert_eq!(command(plain(status::BUSY), 1, false), Verdict::Again { wait_ns: 20 * MS });
        assert_eq!(command(plain(status::TASK_SET_FULL), 90, false), Verdict::Again { wait_ns: WAIT_MAX_NS });
        assert_eq!(command(plain(status::BUSY), TRIES, false), Verdict::Failed);
        assert_eq!(command(sense(5, 0x20), 1, true), Verdict::Refused);
        assert_eq!(command(sense(5, 0x20), 1, false), Verdict::Failed);
        assert_eq!(command(sense(3, 0x11), 1, false), Verdict::Failed);
        assert_eq!(command(plain(status::RESERVATION_CONFLICT), 1, false), Verdict::Failed);
    }

    #[test]
    fn logins_are_tried_as_long_as_initiators_do() {
        let refused = |status| Ending::Lost(Reason::Refused(LoginRefused { status, address: None }));
        assert_eq!(login(&refused(0x0301), Stage::Firmware, 10), Some(LOGIN_NS));
        assert_eq!(login(&refused(0x0301), Stage::Firmware, 11), None);
        assert_eq!(login(&refused(0x0301), Stage::Os, 11), Some(LOGIN_NS));
        assert_eq!(login(&refused(0x0203), Stage::Os, 1), None);
    }
}
