//! Units whose blocks are encrypted in their file ([`stampede_image::cipher`]).
//!
//! ```text
//!  file ─► Read, Align ─► decrypted in place ─► whatever the job does ─► Merge ─► encrypted ─► Write, or journal ─► file
//! ```
//!
//! Jobs know nothing of it but these two places, and the direct path has none of it: an encrypted unit's commands are
//! jobs. What is encrypted in place is in buffers that the job alone has; anything else is copied first, since a
//! command's data may be compared or looked at later.

use super::job::Job;
use super::step::{Step, Went};
use super::{Io, Lun, Medium};
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

impl Job {
    /// Decrypts what was read, before anything sees it.
    #[inline(never)]
    pub(super) fn unseal(&mut self, cipher: &Cipher) {
        let start = match self.step {
            Step::Align => self.around.unwrap_or_default(),
            _ => self.range().start,
        };
        let opened = each_piece(&mut self.read, start, |offset, bytes| cipher.open(offset, bytes));
        if opened.is_none() {
            debug_assert!(false, "somebody else has what a job has just read");
            self.error = Some(MediaError::Hardware);
        }
    }

    /// Encrypts what is to be written. Without buffers for that it is as it was.
    #[inline(never)]
    pub(super) fn seal<R: Ring>(&mut self, cipher: &Cipher, io: &mut Io<'_, R>) -> Went {
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
        match each_piece(&mut self.write, self.write_start, |offset, bytes| cipher.seal(offset, bytes)) {
            Some(()) => Went::Done,
            None => Went::Failed(MediaError::Hardware),
        }
    }
}

/// Calls `work` with each piece's bytes and where they are in the file; `None` when somebody else has one, too.
fn each_piece(payload: &mut Payload, start: u64, work: impl Fn(u64, &mut [u8])) -> Option<()> {
    let mut offset = start;
    for piece in payload.0.iter_mut() {
        let (from, len) = (piece.start as usize, piece.len as usize);
        work(offset, piece.buffer.bytes_mut()?.get_mut(from..from + len)?);
        offset += len as u64;
    }
    Some(())
}
