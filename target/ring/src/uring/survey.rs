//! Where a file has data and where holes (SEEK_DATA, SEEK_HOLE). io_uring has no such operation, and looking may read
//! the file system's own blocks from the disk: so a thread beside the shards does it. A file in memory takes no wait.

use super::wake::Waker;
use crate::file::OpenedFile;
use crate::seam::{Completion, Errno, Event, Stretch, Token};
use rustix::fs::SeekFrom;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Surveys that may wait for the thread.
const WAITING_MAX: usize = 32;

/// What is to be looked at.
struct Order {
    token: Token,
    file: OwnedFd,
    wanted: Wanted,
}

/// A part of a file, and how many stretches of it are enough.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) max: u16,
}

type Found = (Token, Result<Vec<Stretch>, Errno>);

/// Who looks: a thread that is started with the first survey.
pub(super) struct Surveyor {
    waker: Waker,
    shard_cores: Vec<usize>,
    found: Arc<Mutex<Vec<Found>>>,
    orders: Option<SyncSender<Order>>,
    outstanding: usize,
}

impl Surveyor {
    /// One that wakes its ring, and whose thread keeps off these cores.
    pub(super) fn new(waker: Waker, shard_cores: Vec<usize>) -> Self {
        Self { waker, shard_cores, found: Arc::default(), orders: None, outstanding: 0 }
    }

    fn thread(&mut self) -> Result<&SyncSender<Order>, Errno> {
        if self.orders.is_none() {
            let (orders, receiver) = sync_channel(WAITING_MAX);
            let (found, waker) = (Arc::clone(&self.found), self.waker.clone());
            let cores = self.shard_cores.clone();
            let thread = std::thread::Builder::new().name("survey".to_owned());
            thread
                .spawn(move || look(&receiver, &found, &waker, &cores))
                .map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
            self.orders = Some(orders);
        }
        self.orders.as_ref().ok_or(Errno(libc::EAGAIN))
    }

    /// Orders a survey.
    ///
    /// # Errors
    /// EBUSY when too many wait, or why the file has no second descriptor.
    pub(super) fn order(&mut self, token: Token, file: &OpenedFile, wanted: Wanted) -> Result<(), Errno> {
        let fd = file.as_fd().try_clone_to_owned();
        let file = fd.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
        self.thread()?.try_send(Order { token, file, wanted }).map_err(|error| match error {
            TrySendError::Full(_) => Errno(libc::EBUSY),
            TrySendError::Disconnected(_) => Errno(libc::EIO),
        })?;
        self.outstanding += 1;
        Ok(())
    }

    /// Moves what was found to the ring's completions.
    pub(super) fn collect(&mut self, ready: &mut VecDeque<Completion>) {
        if self.outstanding == 0 {
            return;
        }
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        self.outstanding = self.outstanding.saturating_sub(found.len());
        let completion = |(token, result)| Completion { token, event: Event::Surveyed { result } };
        ready.extend(found.into_iter().map(completion));
    }
}

/// The thread's life: until the ring is dropped.
fn look(orders: &Receiver<Order>, found: &Mutex<Vec<Found>>, waker: &Waker, cores: &[usize]) {
    // It inherits the shard's core. If it cannot leave it, it is in the shard's way for a moment now and then.
    let _ = crate::cpu::keep_off(cores);
    for Order { token, file, wanted } in orders {
        let result = survey(file.as_fd(), wanted);
        found.lock().unwrap_or_else(PoisonError::into_inner).push((token, result));
        waker.wake();
    }
}

/// The stretches of a part of a file, from its start on, at most so many.
pub(super) fn survey(file: impl AsFd, wanted: Wanted) -> Result<Vec<Stretch>, Errno> {
    let file = file.as_fd();
    let seek = |from| match rustix::fs::seek(file, from) {
        Ok(at) => Ok(at),
        // Nothing of that kind follows.
        Err(rustix::io::Errno::NXIO) => Ok(wanted.end),
        Err(errno) => Err(Errno(errno.raw_os_error())),
    };
    let mut stretches = Vec::new();
    let mut at = wanted.start;
    while at < wanted.end && stretches.len() < usize::from(wanted.max) {
        let data = seek(SeekFrom::Data(at))?.clamp(at, wanted.end);
        let is_data = data == at;
        let until = if is_data { seek(SeekFrom::Hole(at))?.clamp(at, wanted.end) } else { data };
        if until == at {
            // It changed under us, or is shorter than was thought.
            break;
        }
        stretches.push(Stretch { start: at, len: until - at, is_data });
        at = until;
    }
    Ok(stretches)
}
