//! Operations on their way in: checked against the seam's contract, then started.

use super::{Occurrence, Pending, RingKey, Socket, State, Work};
use crate::disk::{Action, Request, Stage};
use crate::fault::FaultKind;
use crate::network::SendStage;
use stampede_ring::{Buffer, Errno, Event, FileId, Operation, Received, SendList, SocketId, Token};
use std::collections::BTreeSet;

impl State {
    /// Starts one operation.
    pub(crate) fn start(&mut self, ring: RingKey, token: Token, operation: Operation) {
        self.trace_operation(ring, token, &operation);
        match operation {
            Operation::Accept { listener } => self.start_accept(ring, token, listener),
            Operation::Receive { socket } => self.start_receive(ring, token, socket),
            Operation::Send { socket, list } => self.start_send(ring, token, socket, list),
            Operation::Read { file, offset, buffer, start, len } => {
                self.start_transfer(ring, token, file, offset, (buffer, start, len), true);
            }
            Operation::Write { file, offset, buffer, start, len } => {
                self.start_transfer(ring, token, file, offset, (buffer, start, len), false);
            }
            Operation::Flush { file } => self.start_plain(ring, token, file, Action::Flush, 0, 0),
            Operation::Discard { file, offset, len } => {
                self.start_plain(ring, token, file, Action::Discard, offset, len);
            }
            Operation::Zero { file, offset, len } => {
                self.start_plain(ring, token, file, Action::Zero, offset, len)
            }
            Operation::Allocate { file, offset, len } => {
                self.start_plain(ring, token, file, Action::Allocate, offset, len);
            }
            Operation::Release { .. } => {
                let mut delay = self.short_latency();
                if self.strikes(FaultKind::SlowRelease) {
                    delay *= self.rng.u64(100..10_000);
                }
                self.schedule_in(delay, Occurrence::Short { ring, token, operation });
            }
            Operation::Cancel { .. }
            | Operation::Close { .. }
            | Operation::Wake { .. }
            | Operation::Survey { .. } => {
                let delay = self.short_latency();
                self.schedule_in(delay, Occurrence::Short { ring, token, operation });
            }
        }
    }

    /// A short operation takes effect.
    pub(crate) fn short(&mut self, ring: RingKey, token: Token, operation: Operation) {
        match operation {
            Operation::Cancel { target } => self.cancel(ring, token, target),
            Operation::Close { socket } => self.close(ring, token, socket),
            Operation::Survey { file, offset, len, max } => {
                let result = match self.file(ring, file) {
                    Some(disk) => Ok(self.disks[disk.0 as usize].media.survey(offset, len, max)),
                    None => Err(Errno(libc::EBADF)),
                };
                self.post(ring, token, Event::Surveyed { result });
            }
            Operation::Release { socket } => self.release(ring, token, socket),
            Operation::Wake { peer } => {
                if let Some(key) = self.rings.get(&peer.0).map(|peer| peer.key) {
                    self.post(key, Token(0), Event::Woken);
                } else {
                    self.finish(ring, token, Err(Errno(libc::EBADF)));
                }
            }
            _ => {}
        }
    }

    /// Perhaps does a read or write of a disk now; whatever else comes back, as do those that break the seam's contract.
    pub(crate) fn at_once(&mut self, ring: RingKey, operation: Operation) -> Result<Event, Operation> {
        let (file, range, fits) = match &operation {
            Operation::Read { file, offset, buffer, start, len } => {
                let fits = *start as usize + *len as usize <= buffer.len() && !buffer.is_shared();
                (*file, *offset..offset.saturating_add(u64::from(*len)), fits)
            }
            Operation::Write { file, offset, buffer, start, len } => {
                let fits = *start as usize + *len as usize <= buffer.len();
                (*file, *offset..offset.saturating_add(u64::from(*len)), fits)
            }
            _ => return Err(operation),
        };
        let Some(disk) = self.file(ring, file).filter(|_| fits) else { return Err(operation) };
        if !self.strikes(FaultKind::AtOnce) {
            return Err(operation);
        }
        let key = self.next_key();
        self.trace_operation(ring, Token(key), &operation);
        let action = match operation {
            Operation::Read { buffer, start, .. } => Action::Read { buffer, start: start as usize },
            Operation::Write { buffer, start, .. } => Action::Write { buffer, start: start as usize },
            other => return Err(other),
        };
        let stage = Stage::Submitted;
        let mut request =
            Request { disk, action, range, stage, landed: BTreeSet::new(), unfinished: BTreeSet::new() };
        let result = self.result_of(key, &mut request);
        let event = request.into_event(result);
        self.trace_event(ring, Token(key), &event);
        Ok(event)
    }

    fn start_accept(&mut self, ring: RingKey, token: Token, socket: SocketId) {
        let Some(Socket::Listener(listener)) = self.socket(ring, socket) else {
            self.misuse(format_args!("accept on {socket:?}, which is no listener"));
            let result = Err(Errno(libc::EBADF));
            return self.post(ring, token, Event::Accepted { result, more: false });
        };
        let key = self.next_key();
        if self.network.listeners[listener].accept.replace(key).is_some() {
            self.misuse(format_args!("two accepts at once on {socket:?}"));
        }
        self.operations.insert(key, Pending { ring, token, work: Work::Accept { listener } });
        let delay = self.short_latency();
        self.schedule_in(delay, Occurrence::PumpListener(listener));
    }

    fn start_receive(&mut self, ring: RingKey, token: Token, socket: SocketId) {
        let Some(Socket::Stream(connection)) = self.socket(ring, socket) else {
            self.misuse(format_args!("receive on {socket:?}, which is no connection"));
            let received = Received::Failed(Errno(libc::EBADF));
            return self.post(ring, token, Event::Received { received, more: false });
        };
        let key = self.next_key();
        if self.network.connections[connection].receive.replace(key).is_some() {
            self.misuse(format_args!("two receives at once on {socket:?}"));
        }
        self.operations.insert(key, Pending { ring, token, work: Work::Receive { connection } });
        let delay = self.short_latency();
        self.schedule_in(delay, Occurrence::Pump(connection));
    }

    fn start_send(&mut self, ring: RingKey, token: Token, socket: SocketId, list: SendList) {
        let Some(Socket::Stream(connection)) = self.socket(ring, socket) else {
            self.misuse(format_args!("send on {socket:?}, which is no connection"));
            return self.post(ring, token, Event::Sent { result: Err(Errno(libc::EBADF)), list });
        };
        let key = self.next_key();
        let sends = &mut self.network.connections[connection].sends;
        sends.push_back(key);
        if sends.len() > 1 {
            self.misuse(format_args!("two sends at once on {socket:?}: their order is not defined"));
        }
        let work = Work::Send { connection, list, stage: SendStage::Queued, hasty: false };
        self.operations.insert(key, Pending { ring, token, work });
        let delay = self.short_latency();
        self.schedule_in(delay, Occurrence::SendReady(key));
    }

    fn start_transfer(
        &mut self,
        ring: RingKey,
        token: Token,
        file: FileId,
        offset: u64,
        (buffer, start, len): (Buffer, u32, u32),
        is_read: bool,
    ) {
        let start = start as usize;
        let problem = if self.file(ring, file).is_none() {
            Some(("no such file", libc::EBADF))
        } else if start + len as usize > buffer.len() {
            Some(("beyond the buffer's end", libc::EINVAL))
        } else if is_read && buffer.is_shared() {
            Some(("a read into a shared buffer", libc::EINVAL))
        } else {
            None
        };
        if let Some((what, errno)) = problem {
            self.misuse(format_args!("{what}: {file:?} offset {offset} len {len}"));
            let result = Err(Errno(errno));
            return self.post(ring, token, Event::Transferred { result, buffer });
        }
        let action = if is_read { Action::Read { buffer, start } } else { Action::Write { buffer, start } };
        self.start_plain(ring, token, file, action, offset, u64::from(len));
    }

    fn start_plain(
        &mut self,
        ring: RingKey,
        token: Token,
        file: FileId,
        action: Action,
        offset: u64,
        len: u64,
    ) {
        let Some(disk) = self.file(ring, file) else {
            self.misuse(format_args!("{action:?} on {file:?}, which is not open"));
            return self.finish(ring, token, Err(Errno(libc::EBADF)));
        };
        let range = offset..offset.saturating_add(len);
        let key = self.next_key();
        let unfinished = match action {
            Action::Flush => self.disks[disk.0 as usize].in_flight.clone(),
            _ => BTreeSet::new(),
        };
        let request =
            Request { disk, action, range, stage: Stage::Submitted, landed: BTreeSet::new(), unfinished };
        let disk = &mut self.disks[disk.0 as usize];
        disk.in_flight.insert(key);
        let latency = disk.config.latency.clone();
        let faulty = disk.config.faulty;
        self.operations.insert(key, Pending { ring, token, work: Work::Disk(request) });
        let mut delay = self.draw(latency);
        if faulty && self.strikes(FaultKind::SlowDisk) {
            delay *= self.rng.u64(10..100);
        }
        let execute = self.draw(0..delay + 1);
        self.schedule_in(execute, Occurrence::Execute(key));
        self.schedule_in(delay, Occurrence::Complete(key));
    }

    fn trace_operation(&mut self, ring: RingKey, token: Token, operation: &Operation) {
        let (kind, one, two) = match operation {
            Operation::Accept { listener } => (1, u64::from(listener.0), 0),
            Operation::Receive { socket } => (2, u64::from(socket.0), 0),
            Operation::Send { socket, list } => (3, u64::from(socket.0), list.bytes()),
            Operation::Read { offset, len, .. } => (4, *offset, u64::from(*len)),
            Operation::Write { offset, len, .. } => (5, *offset, u64::from(*len)),
            Operation::Flush { file } => (6, u64::from(file.0), 0),
            Operation::Discard { offset, len, .. } => (7, *offset, *len),
            Operation::Zero { offset, len, .. } => (8, *offset, *len),
            Operation::Cancel { target } => (9, target.0, 0),
            Operation::Close { socket } => (10, u64::from(socket.0), 0),
            Operation::Wake { peer } => (11, u64::from(peer.0), 0),
            Operation::Release { socket } => (12, u64::from(socket.0), 0),
            Operation::Allocate { offset, len, .. } => (13, *offset, *len),
            Operation::Survey { offset, len, .. } => (14, *offset, *len),
        };
        for word in [self.now, kind << 16 | u64::from(ring.shard), token.0, one, two] {
            self.trace.mix(word);
        }
    }
}
