//! Logins under overload: who waits, what was refused, and the limits.

use crate::config::Limits;
use crate::registrar::AdmissionCounts;
use serde::{Deserialize, Serialize};

/// How logins go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionStatus {
    /// Logins that wait for their turn.
    pub queued: usize,
    /// Logins that wait for room for their clone.
    pub no_room: usize,
    /// Logins that are being admitted.
    pub admitting: usize,
    /// How long the one of them that waits longest has waited, in milliseconds.
    pub oldest_wait_ms: u64,
    /// Sessions with targets that were admitted and have not ended.
    pub sessions: usize,
    /// Logins admitted, since start as all that follow.
    pub admitted: u64,
    /// Logins that had to wait for their turn or for room.
    pub waited: u64,
    /// Logins answered 0301 since more came than were let in at once.
    pub refused_busy: u64,
    /// Logins answered 0302 since there was no room.
    pub refused_full: u64,
    /// Connections that gave way to others before their login was complete.
    pub displaced: u64,
    /// The limits.
    pub limits: Limits,
}

impl AdmissionStatus {
    /// What the registrar counted, what gave way on the shards, and the limits.
    #[must_use]
    pub fn new(counts: AdmissionCounts, displaced: u64, limits: Limits) -> Self {
        Self {
            queued: counts.queued,
            no_room: counts.no_room,
            admitting: counts.admitting,
            oldest_wait_ms: counts.oldest_wait_ns / 1_000_000,
            sessions: counts.sessions,
            admitted: counts.admitted,
            waited: counts.waited,
            refused_busy: counts.refused_busy,
            refused_full: counts.refused_full,
            displaced,
            limits,
        }
    }

    /// For people: a line of what is, and one of what had to wait, if anything had.
    pub(super) fn describe(&self) -> String {
        let limits = &self.limits;
        let mut text = format!(
            "sessions {} of {}; limits: {} sessions and {} logins a shard, {} admissions at once, {} clones a target\n",
            self.sessions,
            limits.sessions,
            limits.connections,
            limits.logins,
            limits.admissions,
            limits.clones
        );
        let counts = [
            (self.queued as u64, "wait for their turn"),
            (self.no_room as u64, "wait for room"),
            (self.waited, "had to wait"),
            (self.refused_busy, "answered 0301"),
            (self.refused_full, "answered 0302"),
            (self.displaced, "gave way before they were complete"),
        ];
        let told: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !told.is_empty() {
            text.push_str(&format!("logins: {}\n", told.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_to_wait_is_told_only_if_anything_had() {
        let counts = AdmissionCounts { sessions: 3, ..AdmissionCounts::default() };
        let limits = Limits { sessions: 9, clones: 7, ..Limits::default() };
        let quiet = AdmissionStatus::new(counts, 0, limits).describe();
        assert!(quiet.starts_with("sessions 3 of 9;") && quiet.lines().count() == 1, "{quiet}");
        let counts = AdmissionCounts { queued: 2, refused_full: 1, ..counts };
        let busy = AdmissionStatus::new(counts, 5, limits).describe();
        let last = "logins: 2 wait for their turn, 1 answered 0302, 5 gave way before they were complete";
        assert_eq!(busy.lines().last(), Some(last));
    }
}
