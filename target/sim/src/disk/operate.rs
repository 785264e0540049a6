//! What happens at a disk when its operations are executed, complete, or meet a crash.

use super::{Action, Request, Stage, overlap};
use crate::disk::DiskId;
use crate::fault::FaultKind;
use crate::state::{State, Work};
use stampede_ring::Errno;
use std::ops::Range;

/// What fills the part of a read's buffer that the read did not reach: the kernel promises nothing there.
const RUBBISH: u8 = 0xdb;

impl State {
    /// Executes a disk operation at the disk. Its completion is already scheduled.
    pub(crate) fn execute(&mut self, key: u64) {
        let Some(mut pending) = self.operations.remove(&key) else { return };
        if let Work::Disk(request) = &mut pending.work
            && matches!(request.stage, Stage::Submitted)
        {
            let result = self.result_of(key, request);
            request.stage = Stage::Executed(result);
        }
        self.operations.insert(key, pending);
    }

    /// Completes a disk operation, executing it first if both fall on one time.
    pub(crate) fn complete(&mut self, key: u64) {
        if let Some(Work::Disk(Request { stage: Stage::Submitted, .. })) = self.work(key) {
            self.execute(key);
        }
        let Some(pending) = self.operations.remove(&key) else { return };
        let Work::Disk(request) = pending.work else { return };
        let in_flight = &mut self.disks[request.disk.0 as usize].in_flight;
        in_flight.remove(&key);
        if in_flight.first().is_some_and(|first| *first < key) {
            self.faults.hit(FaultKind::Reordered);
        }
        let Stage::Executed(result) = request.stage else { return };
        self.post(pending.ring, pending.token, request.into_event(result));
    }

    fn work(&self, key: u64) -> Option<&Work> {
        self.operations.get(&key).map(|pending| &pending.work)
    }

    /// Does a disk operation at the disk, and says what came of it. `key` orders it among all operations.
    pub(crate) fn result_of(&mut self, key: u64, request: &mut Request) -> Result<u32, Errno> {
        let disk = request.disk.0 as usize;
        let alignment = u64::from(self.disks[disk].config.alignment);
        let range = request.range.clone();
        let moves = matches!(request.action, Action::Read { .. } | Action::Write { .. });
        if moves && !(range.start.is_multiple_of(alignment) && range.end.is_multiple_of(alignment)) {
            return Err(Errno(libc::EINVAL));
        }
        if request.is_change() && range.end > self.disks[disk].media.len() {
            return Err(Errno(if moves { libc::ENOSPC } else { libc::EINVAL }));
        }
        match request.action {
            Action::Read { .. } => self.read(request),
            Action::Write { .. } | Action::Discard | Action::Zero => self.change(key, request),
            Action::Allocate => self.allocate(key, request),
            Action::Flush => self.flush(key, request),
        }
    }

    fn strikes_disk(&mut self, disk: DiskId, kind: FaultKind) -> bool {
        self.disks[disk.0 as usize].config.faulty && self.strikes(kind)
    }

    fn read(&mut self, request: &mut Request) -> Result<u32, Errno> {
        let disk = request.disk.0 as usize;
        let len = self.disks[disk].media.len();
        let range = request.range.start.min(len)..request.range.end.min(len);
        self.mingle(disk, &range);
        if self.strikes_disk(request.disk, FaultKind::BadRange) {
            self.disks[disk].bad_reads.push(range.clone());
        }
        let failed =
            self.disks[disk].is_bad_read(&range) || self.strikes_disk(request.disk, FaultKind::ReadError);
        let mut moved = range.end - range.start;
        if !failed {
            moved = self.shortened(request.disk, moved, FaultKind::ShortRead);
        }
        let whole = (request.range.end - request.range.start) as usize;
        let Action::Read { buffer, start } = &mut request.action else { return Err(Errno(libc::EINVAL)) };
        let Some(bytes) = buffer.bytes_mut() else {
            self.misuse(format_args!("a buffer was shared while it was being read into"));
            return Err(Errno(libc::EFAULT));
        };
        let target = &mut bytes[*start..*start + whole];
        if failed {
            target.fill(RUBBISH);
            return Err(Errno(libc::EIO));
        }
        let (head, tail) = target.split_at_mut(moved as usize);
        self.disks[disk].media.read(range.start, head);
        tail.fill(RUBBISH);
        Ok(moved as u32)
    }

    /// Perhaps fewer bytes than `len`, in whole units of the disk's alignment.
    fn shortened(&mut self, disk: DiskId, len: u64, kind: FaultKind) -> u64 {
        let unit = u64::from(self.disks[disk.0 as usize].config.alignment);
        if len > unit && self.strikes_disk(disk, kind) {
            self.rng.u64(1..len.div_ceil(unit)) * unit
        } else {
            len
        }
    }

    /// Lands, atom by atom at random, what overlapping changes in flight have not landed yet: a read sees each
    /// atom old or new, and what it has seen as new stays so.
    fn mingle(&mut self, disk: usize, range: &Range<u64>) {
        let Self { disks, operations, rng, faults, .. } = self;
        let super::Disk { in_flight, media, .. } = &mut disks[disk];
        for key in in_flight.iter() {
            let Some(Work::Disk(other)) = operations.get_mut(key).map(|pending| &mut pending.work) else {
                continue;
            };
            if !other.is_pending_change() || !overlap(&other.range, range) || other.range.end > media.len() {
                continue;
            }
            let both = other.range.start.max(range.start)..other.range.end.min(range.end);
            let (mut new, mut old) = (0, 0);
            for index in media.atoms(&both) {
                if other.landed.contains(&index) {
                    new += 1;
                } else if rng.bool() {
                    media.land(index, &other.range, other.data(), other.allocates(), *key);
                    other.landed.insert(index);
                    new += 1;
                } else {
                    old += 1;
                }
            }
            if new > 0 && old > 0 {
                faults.hit(FaultKind::TornRead);
            }
        }
    }

    fn change(&mut self, key: u64, request: &mut Request) -> Result<u32, Errno> {
        let disk = request.disk.0 as usize;
        let is_write = matches!(request.action, Action::Write { .. });
        let range = request.range.clone();
        let error = if is_write { FaultKind::WriteError } else { FaultKind::DiscardError };
        if self.disks[disk].is_bad_write(&range) || self.strikes_disk(request.disk, error) {
            self.land_some(key, request);
            return Err(Errno(libc::EIO));
        }
        if request.allocates() && self.is_full(request.disk, &range) {
            return Err(Errno(libc::ENOSPC));
        }
        let len = range.end - range.start;
        let moved = if is_write { self.shortened(request.disk, len, FaultKind::ShortWrite) } else { len };
        let done = range.start..range.start + moved;
        let media = &mut self.disks[disk].media;
        let data = request.data().map(|data| &data[..moved as usize]);
        for index in media.atoms(&done) {
            if !request.landed.contains(&index) {
                media.land(index, &done, data, request.allocates(), key);
            }
        }
        self.disks[disk].remap(&done);
        Ok(moved.min(u64::from(u32::MAX)) as u32)
    }

    fn is_full(&mut self, disk: DiskId, range: &Range<u64>) -> bool {
        let super::Disk { media, config, .. } = &self.disks[disk.0 as usize];
        let full = config.capacity.is_some_and(|capacity| media.allocated() + media.holes(range) > capacity);
        if full {
            self.faults.hit(FaultKind::NoSpace);
        }
        full || self.strikes_disk(disk, FaultKind::NoSpace)
    }

    /// Gives the holes of a range space; no byte changes.
    fn allocate(&mut self, key: u64, request: &Request) -> Result<u32, Errno> {
        let range = request.range.clone();
        if range.end > self.disks[request.disk.0 as usize].media.len() {
            return Err(Errno(libc::EINVAL));
        }
        if self.is_full(request.disk, &range) {
            return Err(Errno(libc::ENOSPC));
        }
        let media = &mut self.disks[request.disk.0 as usize].media;
        for index in media.atoms(&range) {
            if media.is_hole(index) {
                let atom = media.bounds(index);
                media.land(index, &atom, None, true, key);
            }
        }
        Ok(0)
    }

    /// Lands a random part of a change that failed or was cut off.
    fn land_some(&mut self, key: u64, request: &mut Request) {
        let mode = self.rng.u8(..3);
        let Self { disks, rng, .. } = self;
        let media = &mut disks[request.disk.0 as usize].media;
        if request.range.end > media.len() {
            return;
        }
        for index in media.atoms(&request.range) {
            let lands = mode == 0 || (mode == 1 && rng.bool());
            if lands && !request.landed.contains(&index) {
                media.land(index, &request.range, request.data(), request.allocates(), key);
            }
        }
    }

    fn flush(&mut self, key: u64, request: &Request) -> Result<u32, Errno> {
        if self.strikes_disk(request.disk, FaultKind::FlushError) {
            return Err(Errno(libc::EIO));
        }
        let Self { disks, rng, .. } = self;
        disks[request.disk.0 as usize].media.flush(key, &request.unfinished, rng);
        Ok(0)
    }

    /// Lets operations in flight at a disk land in part, as when the process or the power goes. They stay in
    /// flight; executing them later changes nothing.
    pub(crate) fn interrupt(&mut self, disk: DiskId) {
        let keys: Vec<u64> = self.disks[disk.0 as usize].in_flight.iter().copied().collect();
        for key in keys {
            let Some(mut pending) = self.operations.remove(&key) else { continue };
            if let Work::Disk(request) = &mut pending.work
                && matches!(request.stage, Stage::Submitted)
            {
                self.faults.hit(FaultKind::CrashInFlight);
                if request.is_change() {
                    self.land_some(key, request);
                }
                request.stage = Stage::Executed(Err(Errno(libc::EIO)));
            }
            self.operations.insert(key, pending);
        }
    }

    /// Power loss at a disk.
    pub(crate) fn crash_disk(&mut self, disk: DiskId) {
        self.interrupt(disk);
        let Self { disks, rng, .. } = self;
        let report = disks[disk.0 as usize].media.crash(rng);
        for _ in 0..report.lost {
            self.faults.hit(FaultKind::CrashLost);
        }
        for _ in 0..report.torn {
            self.faults.hit(FaultKind::CrashTorn);
        }
    }
}
