//! A LUN that is added to a target while initiators use it.
//!
//! Its image is opened and checked as at the start, its owner makes the unit, and only then do sessions see it.

use super::ControlThread;
use super::units::{Asker, Doing, done};
use crate::config::{CloneKind, TargetConfig, ValueError};
use crate::identity::LunIdentity;
use crate::registrar::{Backing, Outbox, TargetLun};
use crate::socket::Response;
use crate::status::LunChangeStatus;
use crate::{images, journals, keys, plan};
use crossbeam::channel::Sender;
use stampede_engine::messages::{FromControl, LunAddress, NewDisk};
use stampede_ring::LooseFile;
use stampede_ring::file::OpenedFile;
use std::io;

/// A unit that its owner is making.
#[derive(Debug)]
pub(super) struct Adding {
    entry: TargetConfig,
    iqn: String,
    address: LunAddress,
}

impl ControlThread {
    /// Adds a LUN, which `text` describes as `--target` would, to a target.
    pub(super) fn add_unit(&mut self, target: &str, text: &str, answer: Sender<Response>, now: u64) {
        let planned = self.wanted(target, text).and_then(|(iqn, entry)| self.open_unit(iqn, entry));
        let (adding, disk) = match planned {
            Ok(planned) => planned,
            // Whoever asked may have given up.
            Err(text) => return drop(answer.try_send(Response::Error(text))),
        };
        let bytes = disk.device.blocks.saturating_mul(u64::from(disk.device.block_size));
        let status = LunChangeStatus {
            target: adding.iqn.clone(),
            lun: adding.entry.lun,
            name: adding.entry.name.clone(),
            done: done(&Doing::Add(None)),
            before_bytes: bytes,
            bytes,
        };
        let owner = adding.address.owner;
        let what = Doing::Add(Some(Box::new(adding)));
        let request = self.units.ask(Asker { answer, asked_ns: now, what, status });
        if let Some(link) = self.setup.shards.get_mut(usize::from(owner.0)) {
            link.send(FromControl::AddDisk { request, disk: Box::new(disk) });
        }
    }

    /// What is asked for, checked against what there is.
    fn wanted(&self, target: &str, text: &str) -> Result<(String, TargetConfig), String> {
        let bad = |ValueError { what, help }: ValueError| format!("in `{text}`: {what}; {help}");
        if self.drain.is_some() {
            return Err("stampede is stopping".to_owned());
        }
        let found = self.setup.registrar.find_target(target);
        let found = found.ok_or_else(|| {
            format!(
                "there is no target `{target}`: `stampede lun list` shows all. A new target takes a restart, with it \
                 in the configuration"
            )
        })?;
        let mut entry: TargetConfig = text.parse().map_err(bad)?;
        if entry.clone == CloneKind::Ephemeral {
            return Err(format!(
                "`{}` with clone=ephemeral cannot be added to a target in use: its clones belong to boots that have \
                 begun. Put it into the configuration and restart",
                entry.name
            ));
        }
        if entry.auth.is_some() {
            return Err(
                "`auth` is the target's, and cannot be changed while it is in use: leave it out".to_owned()
            );
        }
        if entry.encryption.is_some() {
            // To look whether nothing is in an image may take long, and the control thread waits for nobody.
            return Err("`encryption` takes a restart, with the LUN in the configuration".to_owned());
        }
        if let Some(iqn) = &entry.iqn
            && iqn.as_str() != found.iqn
        {
            return Err(format!("the target is {}, but iqn={iqn}: leave out iqn=", found.iqn));
        }
        entry.iqn = Some(found.iqn.parse().map_err(bad)?);
        if found.luns.iter().any(|lun| lun.number == entry.lun) {
            let taken = |number: &u16| found.luns.iter().any(|lun| lun.number == *number);
            let free = (0..=u16::MAX).find(|number| !taken(number)).unwrap_or_default();
            return Err(format!("{} has a LUN {} already: add lun={free} to `{text}`", found.iqn, entry.lun));
        }
        Ok((found.iqn.clone(), entry))
    }

    /// Opens the image, and takes note of it.
    fn open_unit(&mut self, iqn: String, entry: TargetConfig) -> Result<(Adding, NewDisk), String> {
        let config = self.setup.config.with_target(entry.clone()).map_err(|error| error.to_string())?;
        let file = images::open_beside(&entry, self.present()).map_err(|error| error.to_string())?;
        keys::check_is_plain(&self.setup.config, &entry, &file).map_err(|error| error.to_string())?;
        let journal =
            journals::open_for(&self.setup.config, &entry, &file).map_err(|error| error.to_string())?;
        let failed = |error: &dyn std::fmt::Display| format!("`{}` cannot be added: {error}", entry.name);
        let store = &self.setup.store;
        let identity = store.identity(&iqn, entry.lun, LunIdentity::derive(&iqn, entry.lun));
        let identity = identity.map_err(|error| failed(&error))?.to_scsi(&iqn, false);
        let saved = store.unit_state(&iqn, entry.lun).map_err(|error| failed(&error))?;
        let mut device = plan::disk_device(&entry, file.traits(), identity);
        if journal.is_some() {
            plan::offer_atomic_writes(&mut device);
        }
        let loose = |file: &OpenedFile| -> io::Result<_> {
            Ok((LooseFile::new(file.try_clone()?), plan::alignment(file.traits())))
        };
        let journal = journal.as_ref().map(loose).transpose().map_err(|error| failed(&error))?;
        let lun = self.setup.registrar.new_unit();
        let shards = u16::try_from(self.setup.shards.len()).unwrap_or(u16::MAX);
        let owner = plan::owner_of(lun, shards);
        let (block_size, in_memory) = (device.block_size, file.traits().in_memory);
        let address = LunAddress { lun, owner, block_size, is_clone: false, in_memory };
        let disk = NewDisk {
            lun,
            file: loose(&file).map_err(|error| failed(&error))?,
            in_memory,
            journal,
            device,
            saved,
        };
        self.setup.facts.images.insert(entry.name.clone(), plan::image_facts(&entry, file.traits()));
        self.setup.units.insert(lun, (iqn.clone(), entry.lun));
        self.setup.files.insert(lun, file);
        self.setup.config = config;
        Ok((Adding { entry, iqn, address }, disk))
    }

    /// The images that are open, and whose they are.
    fn present(&self) -> impl Iterator<Item = (&OpenedFile, String)> {
        let units = &self.setup.units;
        let files = self.setup.files.iter().map(|(lun, file)| {
            let name = units.get(lun).map_or_else(String::new, |(iqn, lun)| format!("LUN {lun} of {iqn}"));
            (file, name)
        });
        files.chain(self.setup.goldens.iter().map(|(_, file)| (file, "a golden".to_owned())))
    }

    /// Its owner has a new unit: sessions see it.
    pub(super) fn unit_added(&mut self, adding: Adding, out: &mut Outbox) {
        let Adding { entry, iqn, address } = adding;
        let lun = TargetLun { number: entry.lun, name: entry.name, backing: Backing::Plain(address) };
        self.setup.registrar.add_unit(&iqn, lun, out);
    }

    /// Its owner could not make a new unit: it is as if it had never been asked for.
    pub(super) fn unit_not_added(&mut self, adding: &Adding) {
        self.forget_unit(&adding.entry.name, adding.address);
        self.setup.units.remove(&adding.address.lun);
    }

    /// Nothing shows a unit any more.
    pub(super) fn forget_unit(&mut self, name: &str, address: LunAddress) {
        self.setup.config.targets.retain(|target| target.name != name);
        self.setup.facts.images.remove(name);
        self.setup.files.remove(&address.lun);
        self.units.forget(address.lun);
        self.forget_space(address.lun);
    }
}
