//! Whether the session on a clone is alive, when somebody else asks for the clone.
//!
//! An operating system is pinged: it must answer a NOP-In (RFC 7143 section 11.19). Firmware is only listened to: iPXE
//! never answers, and looks at its connection only when somebody reads the disk.

use super::entry::{Entry, Session};
use super::types::{LoginFacts, LoginStage, Probe, ProbeAnswer, SECOND, Time};

/// How long an OS-stage session has to answer a ping.
pub const PING_WAIT: Time = 3 * SECOND;

/// How long a firmware session must have been silent for the machine to have gone on: to its system, or, after a
/// reset, to a new login from the same address. Starting a kernel and its network takes longer.
pub const QUIET: Time = SECOND / 2;

/// How long a firmware session must have been silent before firmware at another address may take its place.
pub const FIRMWARE_RECENT: Time = 5 * SECOND;

/// What stands in a newcomer's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    /// Not known yet.
    Ask { probe: Probe, wait: Time },
    /// A live machine.
    Alive,
    /// A session that is silent, whose machine the newcomer is not known to be.
    MayReturn,
    /// A session that was attached while another was being asked.
    Changed,
    /// Nothing: the session is silent and the newcomer may replace it.
    Dead,
}

/// Judges the session attached to `entry`. `answers` is empty in a login's first round.
pub(super) fn judge(
    entry: &Entry,
    session: &Session,
    newcomer: &LoginFacts,
    answers: &[ProbeAnswer],
    now: Time,
) -> Rival {
    let answer = answers.iter().find(|answer| answer.session == session.id);
    if answer.is_none() && !answers.is_empty() {
        return Rival::Changed;
    }
    if answer.is_some_and(|answer| answer.last_heard > answer.asked_at) {
        return Rival::Alive;
    }
    match (session.stage, answer) {
        (LoginStage::Os, None) => ask(session, true, PING_WAIT),
        (LoginStage::Os, Some(_)) if entry.may_be_its_machine(session, newcomer) => Rival::Dead,
        (LoginStage::Os, Some(_)) => Rival::MayReturn,
        (LoginStage::Firmware, None) => ask(session, false, 0),
        (LoginStage::Firmware, Some(answer)) => {
            judge_firmware(session, newcomer, now.saturating_sub(answer.last_heard))
        }
    }
}

fn judge_firmware(session: &Session, newcomer: &LoginFacts, silent_for: Time) -> Rival {
    if newcomer.stage == LoginStage::Firmware && newcomer.address != session.address {
        return if silent_for >= FIRMWARE_RECENT { Rival::Dead } else { Rival::Alive };
    }
    if silent_for >= QUIET { Rival::Dead } else { ask(session, false, QUIET.saturating_sub(silent_for)) }
}

fn ask(session: &Session, ping: bool, wait: Time) -> Rival {
    Rival::Ask { probe: Probe { session: session.id, ping }, wait }
}
