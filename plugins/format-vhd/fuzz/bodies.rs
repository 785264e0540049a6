//! What must hold for any bytes. The fuzz target runs this, and so do the tests of the normal suite.

use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Change, Created, Identity, Job, Mode, ParentHint, ParentRef, Range, Repair,
    model::{Disk, Model, ModelError},
};

/// Images are made longer by at most so many bytes, so that a run is short.
const GROWTH_MAX: u32 = 1 << 20;
/// So much of a disk is looked at, at its beginning and its end, in bytes.
const LOOKED_AT: u64 = 64 << 10;

/// A file is refused, or it is an image that keeps what is written to it and never leaves its file; a check ends, and what it mended is sound.
/// The first four bytes say what is done, and whether the rest is the file, or changes of one of ours: which, and three bytes for each change, two of
/// them its place.
pub(crate) fn image(bytes: &[u8]) {
    let Some(([flags, first, second, length], rest)) = bytes.split_first_chunk() else { return };
    let mut file = rest.to_vec();
    if flags & 0x80 != 0 {
        let Some((which, changes)) = rest.split_first() else { return };
        file = made(*which);
        for &[high, low, value] in changes.as_chunks().0 {
            let at = usize::from(u16::from_be_bytes([high, low])) % file.len();
            file[at] = value;
        }
    }
    if flags & 1 != 0 {
        mend_checksums(&mut file);
    }
    mended(&file);
    if let Some(mut model) = opened(&file, Mode::ReadOnly) {
        read(&mut model);
    }
    let Some(mut model) = opened(&file, Mode::ReadWrite) else { return };
    let before = read(&mut model);
    let known = model.opened().expect("it was opened").clone();
    if known.allocation_unit > GROWTH_MAX || known.virtual_size > 1 << 40 {
        return;
    }
    let after = write(&mut model, before, [*first, *second, *length], flags >> 1);
    reopened(&model, &after, known.virtual_size);
    if flags & 0x20 != 0 {
        job(
            &mut model,
            Job::Resize {
                virtual_size: known.virtual_size / 512 * 512 + u64::from(*length) * 512,
                shrink: true,
            },
        );
    }
    if flags & 0x40 != 0 {
        let hints = vec![ParentHint { kind: "relative".into(), name: "parent.vhd".into() }];
        job(&mut model, Job::Relink(ParentRef { hints, format: None, identity: None, virtual_size: None }));
    }
}

/// An image of ours with something in it.
fn made(which: u8) -> Vec<u8> {
    let kind = ["fixed", "dynamic", "differencing"][usize::from(which % 3)];
    let mut options = vec![("type".to_owned(), kind.to_owned())];
    let identity = Identity { id: [which; 16], time: None };
    let hints = vec![ParentHint { kind: "absolute".into(), name: "/srv/golden.vhd".into() }];
    let parent = ParentRef { hints, format: None, identity: Some(identity), virtual_size: None };
    if kind != "fixed" {
        options.push(("block_size".to_owned(), "4K".to_owned()));
    }
    let parent = (kind == "differencing").then_some(parent);
    let mut model = Model::new(Vhd::default(), Disk::new(vec![vec![]]));
    let created = Job::Create(Created { virtual_size: 20 * 512, options, parent, identity });
    kept(model.job(created)).expect("it can be made");
    let mut model = opened(&model.disk().files()[0], Mode::ReadWrite).expect("it can be opened");
    kept(model.write(512, &[7; 6144])).expect("it can be written");
    kept(model.close()).expect("it can be closed");
    model.disk().files()[0].clone()
}

/// An image, unless it is refused; a broken rule is a finding.
fn opened(file: &[u8], mode: Mode) -> Option<Model<Vhd>> {
    let mut model = Model::new(Vhd::default(), Disk::new(vec![file.to_vec()])).with_parent(vec![0xAB; 4096]);
    kept(model.open(mode)).map(|_| model)
}

/// What was answered, unless it was refused in words.
fn kept<T>(answer: Result<T, ModelError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(ModelError::Fail(fail)) => {
            assert!(!fail.text.is_empty());
            None
        }
        Err(ModelError::Violation(text)) => panic!("{text}"),
    }
}

/// The ends of the disk: where, and the bytes.
fn read(model: &mut Model<Vhd>) -> Vec<(u64, Vec<u8>)> {
    let size = model.opened().expect("it was opened").virtual_size;
    let length = size.min(LOOKED_AT);
    let places = [0, size - length];
    places
        .map(|offset| (offset, kept(model.read(Range { offset, length })).expect("an open image is read")))
        .to_vec()
}

/// Writes, zeros and unmaps something; gives what the ends of the disk have then.
fn write(
    model: &mut Model<Vhd>,
    mut ends: Vec<(u64, Vec<u8>)>,
    drawn: [u8; 3],
    flags: u8,
) -> Vec<(u64, Vec<u8>)> {
    for (offset, bytes) in &mut ends {
        let sectors = bytes.len() as u64 / 512;
        let [first, second, length] = drawn.map(u64::from);
        for (start, change) in [
            (first % sectors, Change::Data),
            (second % sectors, Change::Zero),
            (first % sectors, Change::Unmap),
        ] {
            let length = (1 + length % 16).min(sectors - start) * 512;
            let range = Range { offset: *offset + start * 512, length };
            match change {
                Change::Data => kept(model.write(range.offset, &vec![0x77; length as usize])),
                Change::Unmap if flags & 1 == 0 => None,
                change => kept(model.change(range, change)),
            };
        }
    }
    if flags & 2 != 0 {
        kept(model.flush()).expect("a flush is never refused");
    }
    read(model)
}

/// Closed and opened again it is the same disk, with nothing to recover.
fn reopened(model: &Model<Vhd>, ends: &[(u64, Vec<u8>)], size: u64) {
    // Without a flush only its files' data is there; that is the crash tests' matter.
    let mut copy = opened(&model.disk().files()[0], Mode::ReadWrite).expect("it was open for writing");
    assert_eq!(copy.opened().map(|opened| opened.virtual_size), Some(size));
    if model.disk().barriers() > 0 && ends == read(&mut copy) {
        return;
    }
    kept(copy.close()).expect("an image can be closed");
    assert!(!copy.opened().expect("it was opened").needs_recovery || copy.disk().barriers() > 0);
}

/// A job is refused, or leaves an image that opens.
fn job(model: &mut Model<Vhd>, job: Job) {
    kept(model.flush()).expect("a flush is never refused");
    if kept(model.job(job)).is_some() {
        let again = opened(&model.disk().files()[0], Mode::ReadWrite).expect("a job leaves an image");
        *model = again;
    }
}

/// A check that mended all it found leaves nothing to be found.
fn mended(file: &[u8]) {
    let mut model = Model::new(Vhd::default(), Disk::new(vec![file.to_vec()]));
    let Some(report) = kept(model.job(Job::Check(Repair::All))) else { return };
    if report.error_count == report.repaired_errors {
        let mended = model.into_disk().files()[0].clone();
        let again = kept(Model::new(Vhd::default(), Disk::new(vec![mended])).job(Job::Check(Repair::No)));
        let again = again.expect("it was checked before");
        assert_eq!(again.error_count, 0, "{report:?} {again:?}");
    }
}

/// Gives footers and header the checksums that their bytes make, so that what is behind them is reached.
fn mend_checksums(file: &mut [u8]) {
    let tail = file.len().saturating_sub(512);
    let header = file.get(16..24).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
    for (at, length, field) in
        [(0, 512, 64), (tail, 512, 64), (usize::try_from(header).unwrap_or(usize::MAX), 1024, 36)]
    {
        let Some(part) = at.checked_add(length).and_then(|end| file.get_mut(at..end)) else { continue };
        part[field..field + 4].fill(0);
        let sum: u32 = part.iter().map(|&byte| u32::from(byte)).sum();
        part[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
    }
}
