//! What the operator has an initiator told (RFC 7143 11.9).

use super::{MoveError, Notice, Outbox, Registrar};
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
}
