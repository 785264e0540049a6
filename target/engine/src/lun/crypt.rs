//! Units whose blocks are encrypted in their file ([`stampede_image::cipher`]).
//!
//! ```text
//!  file ─► Read, Align ─► decrypted in place ─► whatever the job does ─► Merge ─► encrypted ─► Write, or journal ─► file
//! ```
//!
//! Jobs know nothing of it but these two places, and the direct path has none of it: an encrypted unit's commands are
//! jobs. What is encrypted in place is in buffers that the job alone has; anything else is copied first, since a
//! command's data may be compared or looked at later.
//!
//! Long data is worked on in slices, one a turn of the shard for all jobs together, so that no command holds up the others
//! for longer than a slice takes.

use super::job::Job;
use super::step::{Step, Went};
use super::{Backend, Io, Lun, Medium};
use crate::payload::Payload;
use stampede_image::cipher::Cipher;
use stampede_ring::Ring;
use stampede_scsi::MediaError;

impl Lun {
    /// What its blocks are encrypted with.
    #[inline]
    pub(super) fn cipher(&self) -> Option<&Cipher> {
        match &self.medium {
            Medium::Disk(disk) => disk.cipher.as_deref(),
            Medium::Clone(_) => None,
        }
    }
}

/// Bytes that the cipher works on in one turn: a few tenths of a millisecond. Longer data takes several turns.
const SLICE: u64 = 256 << 10;

impl Job {
    /// Decrypts what was read, before anything sees it; false while more of it is left for other turns.
    #[inline(never)]
    pub(super) fn unseal(&mut self, cipher: &Cipher) -> bool {
        let start = match self.step {
            Step::Align => self.around.unwrap_or_default(),
            _ => self.range().start,
        };
        let done = match self.ciphered {
            None if self.read.len() > SLICE => Some(0),
            done => {
                slice(&mut self.read, start, done.unwrap_or(0), |offset, bytes| cipher.open(offset, bytes))
            }
        };
        if done.is_none() {
            debug_assert!(false, "somebody else has what a job has just read");
            self.error = Some(MediaError::Hardware);
        }
        self.ciphered = done.filter(|done| *done < self.read.len());
        self.ciphered.is_none()
    }

    /// Encrypts what is to be written. Without buffers for that it is as it was.
    #[inline(never)]
    pub(super) fn seal<R: Ring>(&mut self, cipher: &Cipher, io: &mut Io<'_, R>) -> Went {
        let Some(done) = self.ciphered else { return self.begin_seal(cipher, io) };
        match slice(&mut self.write, self.write_start, done, |offset, bytes| cipher.seal(offset, bytes)) {
            None => Went::Failed(MediaError::Hardware),
            Some(done) if done < self.write.len() => {
                self.ciphered = Some(done);
                Went::Rests
            }
            Some(_) => {
                self.ciphered = None;
                Went::Done
            }
        }
    }

    fn begin_seal<R: Ring>(&mut self, cipher: &Cipher, io: &mut Io<'_, R>) -> Went {
        let block = cipher.block_size() as u32;
        let fits = self
            .write
            .0
            .iter_mut()
            .all(|piece| piece.len.is_multiple_of(block) && piece.buffer.bytes_mut().is_some());
        if !fits {
            match Payload::copied(io.memory, &self.write.to_vec()) {
                Some(copy) => self.write = copy,
                None => return Went::Starved,
            }
        }
        self.ciphered = Some(0);
        if self.write.len() > SLICE { Went::Rests } else { self.seal(cipher, io) }
    }
}

/// Calls `work` with a slice of the payload's bytes, from `from` on, and where each of its pieces is in the file; how far
/// that is. `None` when somebody else has one, too.
fn slice(payload: &mut Payload, start: u64, from: u64, work: impl Fn(u64, &mut [u8])) -> Option<u64> {
    let end = from + SLICE;
    let mut at = 0;
    for piece in payload.0.iter_mut() {
        let next = at + u64::from(piece.len);
        let (low, high) = (from.max(at), end.min(next));
        if low < high {
            let first = piece.start as usize + (low - at) as usize;
            let last = first + (high - low) as usize;
            work(start + low, piece.buffer.bytes_mut()?.get_mut(first..last)?);
        }
        at = next;
    }
    Some(end.min(at))
}

impl Backend {
    /// Whether a job has given up the rest of its turn and can go on.
    #[inline]
    pub(crate) fn rests(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Goes on with the job that has rested longest.
    #[cold]
    pub(crate) fn run_resting<R: Ring>(&mut self, io: &mut Io<'_, R>) {
        if let Some(key) = self.resting.pop_front() {
            self.go_on(key, io);
            self.settle(io);
        }
    }
}
