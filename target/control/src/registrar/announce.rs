//! What initiators are told without having asked (RFC 7143 11.9): by the operator, or since another reset the target.

use super::{Backing, MoveError, Notice, Outbox, Registrar};
use stampede_engine::messages::FromControl;
use stampede_session::{Announcement, SessionId};

impl Registrar {
    /// Tells the initiator of a session that lives. Returns its name.
    ///
    /// # Errors
    /// The session is unknown, still logging in, or ending.
    pub fn announce(
        &mut self,
        session: SessionId,
        what: Announcement,
        out: &mut Outbox,
    ) -> Result<String, MoveError> {
        let entry = self.sessions.find(session);
        let entry = entry.ok_or_else(|| MoveError::Unknown { name: session.to_string() })?;
        if self.held.contains_key(&session) || entry.tsih.is_none() {
            return Err(MoveError::LoggingIn(session));
        }
        if entry.closing {
            return Err(MoveError::Ending(session));
        }
        out.notices.push(Notice {
            alert: false,
            event: "session",
            target: self.targets[entry.target].iqn.clone(),
            initiator: entry.initiator.clone(),
            peer: Some(entry.peer),
            text: match what {
                Announcement::Logout { seconds } => format!("asked to log out within {seconds} s"),
                Announcement::Renegotiate { seconds } => format!("asked to renegotiate within {seconds} s"),
                Announcement::DropConnection | Announcement::DropSession => {
                    "dropped by the operator".to_owned()
                }
            },
        });
        out.messages.push((entry.shard, FromControl::Announce { session, what }));
        Ok(entry.initiator.clone())
    }

    /// A session's initiator has reset its target as a power on does: whoever shares a logical unit with it loses the
    /// session too (RFC 7143 11.5.1). Clones are each initiator's own: one machine cannot end the sessions of the others
    /// that boot from the same golden.
    pub(super) fn target_reset(&mut self, session: SessionId, out: &mut Outbox) {
        let Some(by) = self.sessions.find(session) else { return };
        let target = &self.targets[by.target];
        let has_plain = target.luns.iter().any(|lun| matches!(lun.backing, Backing::Plain(_)));
        for (other, entry) in self.sessions.iter().filter(|(other, _)| *other != session) {
            let shares = entry.target == by.target && (has_plain || entry.clone == by.clone);
            if !shares || entry.closing {
                continue;
            }
            out.notices.push(Notice {
                alert: false,
                event: "session",
                target: target.iqn.clone(),
                initiator: entry.initiator.clone(),
                peer: Some(entry.peer),
                text: format!("dropped, since {} reset the target (TARGET COLD RESET)", by.initiator),
            });
            let what = Announcement::DropSession;
            out.messages.push((entry.shard, FromControl::Announce { session: other, what }));
        }
    }
}
