//! What the operator does to logical units while they are in use: capacity, medium, asymmetric access; that they go.
//!
//! A unit's owner does it, behind the commands that came before, and says what came of it; whoever asked is answered then.

use super::ControlThread;
use super::add::Adding;
use crate::keys::UnitKey;
use crate::registrar::{Backing, Outbox, Registrar, TargetLun};
use crate::socket::{AccessName, Response};
use crate::status::LunChangeStatus;
use crossbeam::channel::Sender;
use stampede_engine::messages::{ChangeRefusal, FromControl, LunAddress, LunId, ShardId, UnitChange};
use stampede_ring::file::OpenedFile;
use stampede_scsi::AccessState;
use std::collections::BTreeMap;

/// How long whoever asked waits, in nanoseconds; the socket gives up sooner.
const WAIT_NS: u64 = 10_000_000_000;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) answer: Sender<Response>,
    pub(super) asked_ns: u64,
    pub(super) what: Doing,
    pub(super) status: LunChangeStatus,
}

/// What a unit's owner does.
#[derive(Debug)]
pub(super) enum Doing {
    /// It changes a unit.
    Change(UnitChange, LunAddress),
    /// It makes one.
    Add(Option<Box<Adding>>),
}

/// Requests on their way, and what is known of units.
#[derive(Debug, Default)]
pub(super) struct Units {
    next: u64,
    askers: BTreeMap<u64, Asker>,
    /// Who waits until a unit that was taken away is closed.
    closing: BTreeMap<LunId, Asker>,
    /// Capacities that were changed, in blocks.
    resized: BTreeMap<LunId, u64>,
}

impl Units {
    /// Remembers who asked; the number is the request's.
    pub(super) fn ask(&mut self, asker: Asker) -> u64 {
        let now = asker.asked_ns;
        // A unit that is being made is not forgotten: its owner would have it, and nobody see it.
        let waits = |asker: &Asker| {
            now.saturating_sub(asker.asked_ns) < WAIT_NS || matches!(asker.what, Doing::Add(_))
        };
        self.askers.retain(|_, asker| waits(asker));
        let request = self.next;
        self.next = request.wrapping_add(1);
        self.askers.insert(request, asker);
        request
    }

    pub(super) fn forget(&mut self, lun: LunId) {
        self.resized.remove(&lun);
    }
}

/// A plain unit that a request is about.
struct Found {
    iqn: String,
    number: u16,
    name: String,
    address: LunAddress,
}

impl From<AccessName> for AccessState {
    fn from(name: AccessName) -> Self {
        match name {
            AccessName::Active => Self::ActiveOptimized,
            AccessName::NonOptimized => Self::ActiveNonOptimized,
            AccessName::Standby => Self::Standby,
            AccessName::Unavailable => Self::Unavailable,
        }
    }
}

impl From<AccessState> for AccessName {
    fn from(state: AccessState) -> Self {
        match state {
            AccessState::ActiveOptimized => Self::Active,
            AccessState::ActiveNonOptimized => Self::NonOptimized,
            AccessState::Standby => Self::Standby,
            AccessState::Unavailable => Self::Unavailable,
        }
    }
}

impl ControlThread {
    /// Has a unit resized: to so many bytes, to which a shorter file is made longer first, or to what its image has.
    pub(super) fn resize_unit(
        &mut self,
        (target, lun): (&str, Option<u16>),
        bytes: Option<u64>,
        force: bool,
        answer: Sender<Response>,
        now: u64,
    ) {
        let planned = find(&self.setup.registrar, target, lun).and_then(|found| {
            let before = self.bytes_of(&found);
            let bytes = self.length(&found, bytes, before, force)?;
            Ok((found, before, bytes))
        });
        match planned {
            Ok((found, before, bytes)) => {
                let blocks = bytes / u64::from(found.address.block_size.max(1));
                self.change_unit(found, UnitChange::Resize { blocks }, (before, bytes), answer, now);
            }
            // Whoever asked may have given up.
            Err(text) => drop(answer.try_send(Response::Error(text))),
        }
    }

    /// Has a unit changed in any other way.
    pub(super) fn alter_unit(
        &mut self,
        (target, lun): (&str, Option<u16>),
        what: UnitChange,
        answer: Sender<Response>,
        now: u64,
    ) {
        match find(&self.setup.registrar, target, lun) {
            Ok(found) => {
                let bytes = self.bytes_of(&found);
                self.change_unit(found, what, (bytes, bytes), answer, now);
            }
            Err(text) => drop(answer.try_send(Response::Error(text))),
        }
    }

    fn change_unit(
        &mut self,
        found: Found,
        what: UnitChange,
        (before_bytes, bytes): (u64, u64),
        answer: Sender<Response>,
        now: u64,
    ) {
        let LunAddress { lun, owner, .. } = found.address;
        let doing = Doing::Change(what, found.address);
        let status = LunChangeStatus {
            target: found.iqn,
            lun: found.number,
            name: found.name,
            done: done(&doing),
            before_bytes,
            bytes,
        };
        let request = self.units.ask(Asker { answer, asked_ns: now, what: doing, status });
        if let Some(link) = self.setup.shards.get_mut(usize::from(owner.0)) {
            link.send(FromControl::Change { request, lun, what });
        }
    }

    /// A unit's owner says what came of a change.
    pub(super) fn unit_changed(
        &mut self,
        request: u64,
        lun: LunId,
        result: Result<(), ChangeRefusal>,
        out: &mut Outbox,
    ) {
        let Some(mut asker) = self.units.askers.remove(&request) else { return };
        let status = &asker.status;
        if let Err(why) = result {
            let text = format!("LUN {} of {} was not changed: {why}", status.lun, status.target);
            if let Doing::Add(Some(adding)) = &asker.what {
                self.unit_not_added(adding);
            }
            return drop(asker.answer.try_send(Response::Error(text)));
        }
        tracing::info!(target = %status.target, lun = status.lun, name = %status.name, bytes = status.bytes, "the operator changed a LUN: {}", status.done);
        match &mut asker.what {
            Doing::Change(UnitChange::Resize { blocks }, _) => {
                self.units.resized.insert(lun, *blocks);
                if let Some(image) = self.setup.facts.images.get_mut(&status.name) {
                    image.bytes = status.bytes;
                }
            }
            Doing::Change(UnitChange::Remove { .. }, address) => {
                self.forget_unit(&status.name, *address);
                self.setup.registrar.remove_unit(lun, out);
                self.units.closing.insert(lun, asker);
                return;
            }
            Doing::Change(..) => {}
            Doing::Add(adding) => {
                if let Some(adding) = adding.take() {
                    self.unit_added(*adding, out);
                }
            }
        }
        let _ = asker.answer.try_send(Response::Changed(asker.status));
    }

    /// The last command of a unit that was taken away has ended, and its image is closed.
    pub(super) fn unit_closed(&mut self, lun: LunId) {
        self.setup.units.remove(&lun);
        self.setup.keys.remove(&lun);
        if let Some(Asker { answer, status, .. }) = self.units.closing.remove(&lun) {
            // Whoever asked may have given up.
            let _ = answer.try_send(Response::Changed(status));
        }
    }

    /// A unit's owner wants its key destroyed.
    pub(super) fn rekey(&mut self, shard: ShardId, lun: LunId) {
        let (cipher, destroyed) = self.setup.keys.get_mut(&lun).map_or((None, false), UnitKey::renew);
        if let Some(link) = self.setup.shards.get_mut(usize::from(shard.0)) {
            link.send(FromControl::Rekeyed { lun, cipher, destroyed });
        }
    }

    /// A unit's capacity in bytes.
    fn bytes_of(&self, found: &Found) -> u64 {
        let block = u64::from(found.address.block_size.max(1));
        let resized = self.units.resized.get(&found.address.lun).map(|blocks| blocks.saturating_mul(block));
        let length = || self.setup.files.get(&found.address.lun).map(|file| file.traits().len_bytes);
        resized.or_else(length).unwrap_or(0)
    }

    /// The length that a unit gets. A file that is shorter is made longer.
    fn length(&self, found: &Found, wanted: Option<u64>, before: u64, force: bool) -> Result<u64, String> {
        let Found { name, address, .. } = found;
        let Some(file) = self.setup.files.get(&address.lun) else {
            return Err(format!("the image of `{name}` is not open"));
        };
        let has =
            file.reidentify().map_err(|error| format!("cannot look at the image of `{name}`: {error}"))?;
        let block = u64::from(address.block_size.max(1));
        let wanted = wanted.unwrap_or(has.len_bytes / block * block);
        if wanted == 0 || !wanted.is_multiple_of(block) {
            return Err(format!(
                "{wanted} bytes are no capacity of `{name}`: give a multiple of {block}, not 0"
            ));
        }
        if wanted < before && !force {
            return Err(format!(
                "`{name}` has {before} bytes and would have {wanted}: what initiators keep behind that would be out of \
                 reach. Shrink their partitions and file systems first, then use --force"
            ));
        }
        if wanted > has.len_bytes {
            lengthen(name, file, wanted)?;
        }
        Ok(wanted)
    }
}

fn lengthen(name: &str, file: &OpenedFile, bytes: u64) -> Result<(), String> {
    let path = file.path().display();
    if file.traits().device {
        return Err(format!(
            "{path} of `{name}` is a device that is shorter than {bytes} bytes: make it longer first (as lvextend \
             does), then resize without --size"
        ));
    }
    if !file.traits().writable {
        return Err(format!(
            "{path} of `{name}` is open for reading only: make it longer by other means, then resize without --size"
        ));
    }
    file.lengthen(bytes)
        .map_err(|error| format!("cannot make {path} of `{name}` {bytes} bytes long: {error}"))
}

pub(super) fn done(what: &Doing) -> String {
    let what = match what {
        Doing::Add(_) => return "added".to_owned(),
        Doing::Change(what, _) => *what,
    };
    match what {
        UnitChange::Resize { .. } => "resized".to_owned(),
        UnitChange::Eject { .. } => "ejected".to_owned(),
        UnitChange::Load => "loaded".to_owned(),
        UnitChange::Access(state) => format!("access {}", AccessName::from(state)),
        UnitChange::Remove { .. } => "removed".to_owned(),
    }
}

/// The plain unit that an operator means: by the name of its `--target`, or by IQN and number.
fn find(registrar: &Registrar, target: &str, lun: Option<u16>) -> Result<Found, String> {
    let all = registrar.targets().iter().flat_map(|of| of.luns.iter().map(move |lun| (of, lun)));
    let matches = |iqn: &str, entry: &TargetLun| {
        (entry.name == target || iqn.eq_ignore_ascii_case(target))
            && lun.is_none_or(|lun| lun == entry.number)
    };
    let mut found = all.filter(|(of, entry)| matches(&of.iqn, entry));
    let Some((of, entry)) = found.next() else {
        let number = lun.map_or(String::new(), |lun| format!(" with LUN {lun}"));
        return Err(format!("there is no target `{target}`{number}: `stampede lun list` shows all"));
    };
    if found.next().is_some() {
        return Err(format!("{target} has several LUNs: say which with --lun, or give a LUN's own name"));
    }
    match &entry.backing {
        Backing::Plain(address) => Ok(Found {
            iqn: of.iqn.clone(),
            number: entry.number,
            name: entry.name.clone(),
            address: *address,
        }),
        Backing::Clone { .. } => Err(format!(
            "`{}` is a golden: each initiator has a clone of its own, which keeps the size that it was made with. Publish \
             a new golden as a new file",
            entry.name
        )),
    }
}
