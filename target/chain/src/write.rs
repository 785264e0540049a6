//! Changing an image: plans carried out, and made durable in order.

use rustix::fs::FallocateFlags;
use stampede_image::mapped::ApplyError;
use stampede_plugin::{Change, FileId, Mode, Patch, Place, Plan, Range, Step, View};

use crate::ChainError;
use crate::chain::{Chain, byte_of_metadata, file_of};
use crate::layer::Layer;

/// Patches that may wait before they are written.
const WAITING_MAX: usize = 8 << 10;
/// Bytes that are copied or zeroed at once.
const CHUNK: u64 = 1 << 20;

/// Reads the disk as it was before a plan, from a byte on.
type ReadOld<'a> = dyn FnMut(&mut Layer, u64, &mut [u8]) -> Result<(), ChainError> + 'a;

impl Chain {
    /// Writes data to the disk; offset and length are multiples of 512, inside it. It is durable after [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), ChainError> {
        let whole = Range { offset, length: data.len() as u64 };
        self.judge_change(whole)?;
        let (top, parents) = split(&mut self.layers)?;
        let mut planned: Vec<Range> = Vec::new();
        for extent in top.resolve(View::Active, whole)? {
            let start = (extent.range.offset - offset) as usize;
            let part = &data[start..start + extent.range.length as usize];
            match extent.place {
                Place::Data { file, offset, in_place: true } => top.put(file, offset, part)?,
                Place::Sparse { file, offset, bitmap, .. } => {
                    top.put(file, offset, part)?;
                    top.set_bits(bitmap, extent.range.length)?;
                }
                _ => match planned.last_mut() {
                    Some(last) if last.end() == extent.range.offset => last.length += extent.range.length,
                    _ => planned.push(extent.range),
                },
            }
        }
        if !planned.is_empty() {
            let plan = top.call(|format, pages| format.plan_write(pages, &planned, Change::Data))?;
            top.carry_out(&plan, Some((offset, data)), &mut |top, at, into| {
                read_old(top, parents, at, into)
            })?;
        }
        self.keep_bounded()
    }

    /// Zeros a range, or gives its space back.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn change(&mut self, range: Range, change: Change) -> Result<(), ChainError> {
        self.judge_change(range)?;
        let (top, parents) = split(&mut self.layers)?;
        let plan = top.call(|format, pages| format.plan_write(pages, &[range], change))?;
        top.carry_out(&plan, None, &mut |top, at, into| read_old(top, parents, at, into))?;
        self.keep_bounded()
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// [`ChainError`]; what is durable then is not known.
    pub fn flush(&mut self) -> Result<(), ChainError> {
        self.layers[0].flush(true)
    }

    /// Without barriers from now on: for an image that counts only when it is whole, and is thrown away if it does not become so.
    /// The last flush needs [`sync`](Self::sync) behind it.
    pub(crate) fn without_barriers(&mut self) {
        self.layers[0].barriers = false;
    }

    /// Makes what was written durable, in one go.
    pub(crate) fn sync(&mut self) -> Result<(), ChainError> {
        self.layers[0].barrier()
    }

    fn keep_bounded(&mut self) -> Result<(), ChainError> {
        if self.layers[0].metadata.waiting() > WAITING_MAX { self.layers[0].flush(true) } else { Ok(()) }
    }

    fn judge_change(&self, range: Range) -> Result<(), ChainError> {
        let top = &self.layers[0];
        if top.mode != Mode::ReadWrite {
            return Err(ChainError::ReadOnly { path: top.path.clone() });
        }
        let inside = range.offset.checked_add(range.length).is_some_and(|end| end <= top.opened.virtual_size);
        if !inside || !(range.offset | range.length).is_multiple_of(512) || range.length == 0 {
            let text =
                format!("{} bytes at byte {} are not whole sectors of the disk", range.length, range.offset);
            return Err(ChainError::Invalid(text));
        }
        Ok(())
    }
}

fn split(layers: &mut [Layer]) -> Result<(&mut Layer, &mut [Layer]), ChainError> {
    layers.split_first_mut().ok_or_else(|| ChainError::Invalid("the chain is empty".into()))
}

/// Reads through one layer and its parents, which are borrowed apart.
fn read_old(top: &mut Layer, parents: &mut [Layer], at: u64, into: &mut [u8]) -> Result<(), ChainError> {
    crate::chain::read_through(top, parents, View::Active, at, into)
}

impl Layer {
    /// Carries a plan out; `data` is the guest's data by its place on the disk.
    pub(crate) fn carry_out(
        &mut self,
        plan: &Plan,
        data: Option<(u64, &[u8])>,
        read_old: &mut ReadOld<'_>,
    ) -> Result<(), ChainError> {
        for step in &plan.now {
            if let Step::SetLength { file, length } = *step {
                let file = file_of(self, file)?;
                file.file.set_len(length).map_err(file.io(format!("setting its length to {length}")))?;
                self.metadata.set_length(step_file(step), length);
            }
        }
        // What is copied up is the disk before the plan: first all copies, in case one goes where another came from.
        let mut copies = Vec::new();
        for step in &plan.now {
            if let Step::Copy { guest, length, file, offset } = *step {
                let mut bytes = vec![0; buffer_length(length)?];
                read_old(self, guest, &mut bytes)?;
                copies.push((file, offset, bytes));
            }
        }
        for (file, offset, bytes) in copies {
            self.put(file, offset, &bytes)?;
        }
        for step in &plan.now {
            match *step {
                Step::SetLength { .. } | Step::Copy { .. } => {}
                Step::Put { guest, length, file, offset } => {
                    let part = data.and_then(|(start, bytes)| {
                        let from = usize::try_from(guest.checked_sub(start)?).ok()?;
                        bytes.get(from..from.checked_add(usize::try_from(length).ok()?)?)
                    });
                    let Some(part) = part else {
                        let text = format!(
                            "a plan puts {length} bytes of byte {guest}, which are not being written"
                        );
                        return Err(self.bad_answer(text));
                    };
                    self.put(file, offset, part)?;
                }
                Step::Fill { file, offset, length } => self.fill(file, offset, length)?,
            }
        }
        self.apply(plan)?;
        for extent in &plan.map {
            self.map.insert(*extent);
        }
        self.format.done(plan.token);
        Ok(())
    }

    /// Applies a plan's patches to what is seen.
    pub(crate) fn apply(&mut self, plan: &Plan) -> Result<(), ChainError> {
        loop {
            match self.metadata.apply(plan) {
                Ok(()) => break,
                Err(ApplyError::Missing(keys)) => self.supply(&keys)?,
            }
        }
        self.metadata.answered();
        Ok(())
    }

    /// Writes guest data.
    pub(crate) fn put(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), ChainError> {
        file_of(self, file)?.write(offset, bytes)?;
        self.metadata.data_written(file, offset, bytes.len() as u64);
        Ok(())
    }

    fn fill(&mut self, file: FileId, offset: u64, length: u64) -> Result<(), ChainError> {
        let target = file_of(self, file)?;
        let zeros = vec![0; CHUNK.min(length) as usize];
        let mut at = offset;
        while at < offset + length {
            let part = (offset + length - at).min(zeros.len() as u64) as usize;
            target.write(at, &zeros[..part])?;
            at += part as u64;
        }
        self.metadata.data_written(file, offset, length);
        Ok(())
    }

    /// Marks sectors as there, once their data is durable.
    pub(crate) fn set_bits(
        &mut self,
        bitmap: stampede_plugin::Bitmap,
        length: u64,
    ) -> Result<(), ChainError> {
        for number in 0..length.div_ceil(u64::from(bitmap.unit.max(512))) {
            let (at, mask) = bitmap.bit(number);
            let byte = byte_of_metadata(self, bitmap.file, at)?;
            if byte & mask == 0 {
                let (file, bytes) = (bitmap.file, vec![byte | mask]);
                let patch = Patch {
                    id: 0,
                    file,
                    offset: at,
                    bytes,
                    after: Vec::new(),
                    after_data: true,
                    lazy: false,
                };
                while let Err(ApplyError::Missing(keys)) = self.metadata.apply_own(patch.clone()) {
                    self.supply(&keys)?;
                }
            }
        }
        Ok(())
    }

    /// The plugin's answer makes no sense; nothing is done with it.
    fn bad_answer(&self, text: String) -> ChainError {
        self.plugin_error(stampede_plugin::Fail::new(stampede_plugin::FailKind::Corrupt, text))
    }

    /// Makes patches durable, level by level.
    pub(crate) fn flush(&mut self, lazy_too: bool) -> Result<(), ChainError> {
        let flush = self.metadata.begin_flush(lazy_too);
        for level in &flush.levels {
            for part in &level.writes {
                file_of(self, part.file)?.write(part.offset, &part.bytes)?;
            }
            if self.barriers {
                self.barrier()?;
            }
        }
        self.metadata.end_flush(&flush);
        for (token, frees) in self.metadata.freed() {
            for free in frees.iter().filter(|free| free.punch) {
                let file = file_of(self, free.file)?;
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // A file system without holes keeps the space: a leak of nobody's data.
                let _ = rustix::fs::fallocate(&file.file, flags, free.offset, free.length);
            }
            self.format.released(token);
        }
        Ok(())
    }

    pub(crate) fn barrier(&self) -> Result<(), ChainError> {
        for file in &self.files {
            file.file.sync_data().map_err(file.io("fdatasync".into()))?;
        }
        Ok(())
    }
}

fn step_file(step: &Step) -> FileId {
    let (Step::SetLength { file, .. }
    | Step::Copy { file, .. }
    | Step::Put { file, .. }
    | Step::Fill { file, .. }) = *step;
    file
}

/// The length of a copy, which is bounded by the largest cluster that any format has.
fn buffer_length(length: u64) -> Result<usize, ChainError> {
    const COPY_MAX: u64 = 64 << 20;
    match usize::try_from(length) {
        Ok(bytes) if length <= COPY_MAX => Ok(bytes),
        _ => Err(ChainError::Invalid(format!("a plan copies {length} bytes at once, more than {COPY_MAX}"))),
    }
}
