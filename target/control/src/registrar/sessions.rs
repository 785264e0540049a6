//! The table of all sessions that shards asked about, and their TSIHs.

use super::AttachedClone;
use stampede_engine::messages::ShardId;
use stampede_session::{LoginStage, SessionId};
use stampede_wire::Isid;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One session, from its login request until all its I/O is over.
#[derive(Clone, Debug)]
pub struct SessionEntry {
    /// Where it lives: the shard that last said so.
    pub shard: ShardId,
    /// The shard that carries it, for a session without a clone; those with one count with their clone.
    pub home: Option<ShardId>,
    /// How often it was moved since it was admitted.
    pub moves: u32,
    /// Its target's place in the registrar's list.
    pub target: usize,
    /// InitiatorName, in lower case.
    pub initiator: String,
    /// The initiator's half of the session identifier.
    pub isid: Isid,
    /// The target's half, once it was admitted.
    pub tsih: Option<u16>,
    /// Connection identifier.
    pub cid: u16,
    /// Firmware or operating system.
    pub stage: LoginStage,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The clone it uses, if any.
    pub clone: AttachedClone,
    /// The boot epoch it belongs to, and whether its clone was made for it.
    pub boot: Option<(u64, bool)>,
    /// Whether we asked its shard to end it.
    pub closing: bool,
}

/// All sessions, by number and by TSIH.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<SessionId, SessionEntry>,
    by_tsih: BTreeMap<u16, SessionId>,
    last_tsih: u16,
}

impl Sessions {
    pub(super) fn find(&self, session: SessionId) -> Option<&SessionEntry> {
        self.by_id.get(&session)
    }

    pub(super) fn find_mut(&mut self, session: SessionId) -> Option<&mut SessionEntry> {
        self.by_id.get_mut(&session)
    }

    pub(super) fn insert(&mut self, session: SessionId, entry: SessionEntry) {
        self.by_id.insert(session, entry);
    }

    pub(super) fn remove(&mut self, session: SessionId) -> Option<SessionEntry> {
        let entry = self.by_id.remove(&session)?;
        if let Some(tsih) = entry.tsih
            && self.by_tsih.get(&tsih) == Some(&session)
        {
            self.by_tsih.remove(&tsih);
        }
        Some(entry)
    }

    /// Sessions that were admitted: each has a TSIH.
    pub(super) fn admitted_len(&self) -> usize {
        self.by_tsih.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &SessionEntry)> {
        self.by_id.iter().map(|(id, entry)| (*id, entry))
    }

    /// The sessions between one initiator port and a target (RFC 7143 4.4.3: there should be one, but closed ones
    /// may linger until their I/O is over).
    pub(super) fn of_port(&self, target: usize, initiator: &str, isid: Isid) -> Vec<SessionId> {
        let same = |entry: &SessionEntry| {
            entry.target == target && entry.isid == isid && entry.initiator == initiator
        };
        self.by_id.iter().filter(|(_, entry)| same(entry)).map(|(id, _)| *id).collect()
    }

    /// Gives a session its TSIH: the one wanted, or a free one. `None` when all 65,535 are in use.
    pub(super) fn assign_tsih(&mut self, session: SessionId, wanted: Option<u16>) -> Option<u16> {
        let tsih = match wanted.filter(|tsih| !self.by_tsih.contains_key(tsih)) {
            Some(tsih) => tsih,
            None => self.free_tsih()?,
        };
        self.by_tsih.insert(tsih, session);
        self.by_id.get_mut(&session)?.tsih = Some(tsih);
        Some(tsih)
    }

    /// The next free one after the last given: a TSIH is not used again soon, so a stale one is recognised.
    fn free_tsih(&mut self) -> Option<u16> {
        if self.by_tsih.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_tsih = self.last_tsih.wrapping_add(1);
            if self.last_tsih != 0 && !self.by_tsih.contains_key(&self.last_tsih) {
                return Some(self.last_tsih);
            }
        }
    }
}
