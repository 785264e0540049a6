//! What sessions see of their target changes while they live: units come and go by the operator's hand.

use super::Shard;
use crate::messages::{ChangeRefusal, LunMap, NewDisk, ToControl};
use crate::request::Message;
use crate::setup::{DiskSetup, JournalSetup};
use crate::token::Key;
use stampede_image::align::Alignment;
use stampede_ring::{Errno, FileId, LooseFile, Ring};
use stampede_session::SessionId;
use std::sync::Arc;

impl<R: Ring> Shard<R> {
    /// Owns another plain unit.
    #[cold]
    pub(super) fn take_disk(&mut self, request: u64, disk: NewDisk) {
        let lun = disk.lun;
        let result = self.open_disk(disk).map(|disk| self.add_disk(disk)).map_err(|error| {
            tracing::error!(lun = lun.0, %error, "a new LUN's files find no place");
            ChangeRefusal::NoRoom
        });
        self.control.send(ToControl::Changed { request, lun, result });
    }

    fn open_disk(&mut self, disk: NewDisk) -> Result<DiskSetup, Errno> {
        let NewDisk { lun, file: (file, alignment), in_memory, journal, device, saved } = disk;
        let file = self.take_file(file)?;
        let journal = journal.map(|journal| self.open_journal(journal)).transpose();
        match journal {
            Ok(journal) => {
                Ok(DiskSetup { lun, file, alignment, in_memory, device, saved, cipher: None, journal })
            }
            Err(error) => {
                self.ring_mut().drop_file(file);
                Err(error)
            }
        }
    }

    fn open_journal(&mut self, (file, alignment): (LooseFile, Alignment)) -> Result<JournalSetup, Errno> {
        Ok(JournalSetup { file: self.take_file(file)?, alignment })
    }

    fn take_file(&mut self, file: LooseFile) -> Result<FileId, Errno> {
        self.ring_mut().take_file(file)
    }

    /// A session sees other units from now on. Commands for one that is gone find none, and those for a new one come to
    /// it behind the greeting that goes first.
    #[cold]
    pub(super) fn set_luns(&mut self, session: SessionId, luns: Arc<LunMap>) {
        let has = |map: &LunMap, lun| map.0.iter().any(|(_, address)| address.lun == lun);
        let Some(key) = self.by_session.get(&session).copied() else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (before, mut now) = (conn.luns().clone(), (*luns).clone());
        for (_, address) in &mut now.0 {
            // A clone may have moved since the control thread last heard.
            if let Some((_, known)) = before.0.iter().find(|(_, known)| known.lun == address.lun) {
                *address = *known;
            }
        }
        let luns = Arc::new(now);
        conn.side.set_luns(Arc::clone(&luns));
        if !conn.attached {
            return;
        }
        let nexus = conn.nexus();
        if conn.attaching > 0 {
            // Units still greet it from its login: the new ones with them.
            let new = luns.0.iter().filter(|(_, address)| !has(&before, address.lun));
            conn.attaching += new.count() as u32;
        }
        for (_, address) in before.0.iter().filter(|(_, address)| !has(&luns, address.lun)) {
            self.post(address.owner, Message::Detach { lun: address.lun, nexus });
        }
        for (_, address) in &luns.0 {
            let (lun, luns) = (address.lun, Arc::clone(&luns));
            if has(&before, lun) {
                self.post(address.owner, Message::LunsChanged { lun, nexus, luns });
            } else {
                self.greet(key, *address, luns);
            }
        }
    }

    /// REPORT LUNS has told a session what it sees: 3Fh/0Eh is no news any more (SPC-4 6.33).
    pub(super) fn tell_of_report(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (nexus, luns) = (conn.nexus(), conn.luns().clone());
        for (_, address) in &luns.0 {
            self.post(address.owner, Message::LunsReported { lun: address.lun, nexus });
        }
    }
}
