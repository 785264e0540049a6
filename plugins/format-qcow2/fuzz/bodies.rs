//! What must hold for any bytes. The fuzz target runs this, and so does a test of the normal suite, over drawn mutations.

use stampede_format_qcow2::Qcow2;
use stampede_plugin::{
    Change, FileId, Format, Halt, Job, JobStep, Mode, OpenRequest, Pages, Range, Repair, Span, View,
};

/// How many steps a check of so small a file may take.
const STEPS_MAX: u32 = 10_000;

/// A file whose pages are all at hand.
struct Whole<'a>(&'a [u8]);

impl Pages for Whole<'_> {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        let start = usize::try_from(span.offset).ok()?;
        self.0.get(start..start.checked_add(span.length as usize)?).map(<[u8]>::to_vec)
    }

    fn file_length(&self, file: FileId) -> u64 {
        if file == FileId::MAIN { self.0.len() as u64 } else { 0 }
    }
}

/// Opens, resolves, plans and checks an image: the first eight bytes choose the ranges, the rest is the file. Nothing panics, nothing
/// asks for pages that are at hand, and what is resolved goes on where it should.
pub(crate) fn image(bytes: &[u8]) {
    let Some((choice, file)) = bytes.split_first_chunk::<8>() else { return };
    let mut choice = u64::from_le_bytes(*choice);
    let mut pages = Whole(file);
    for mode in [Mode::ReadOnly, Mode::ReadWrite] {
        let mut format = Qcow2::default();
        let request = OpenRequest { mode, files: 1 };
        let opened = match format.open(&mut pages, &request) {
            Ok(opened) => opened,
            Err(Halt::Fail(_)) => continue,
            Err(Halt::Need(spans)) => panic!("opening needs {spans:?}"),
        };
        for change in [Change::Data, Change::Zero, Change::Unmap] {
            choice = choice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let offset = choice % (opened.virtual_size / 512) * 512;
            let end = (offset + (choice >> 48) % 128 * 512 + 512).min(opened.virtual_size);
            let range = Range::between(offset, end);
            resolve(&mut format, &mut pages, range);
            if let Err(Halt::Need(spans)) = format.plan_write(&mut pages, &[range], change) {
                panic!("a plan needs {spans:?}");
            }
        }
    }
    check(&mut pages);
}

fn resolve(format: &mut Qcow2, pages: &mut Whole<'_>, range: Range) {
    for view in [View::Active, View::Snapshot(0)] {
        match format.resolve(pages, view, range, 16) {
            Ok(extents) => {
                let mut at = range.offset;
                for extent in &extents {
                    assert!(extent.range.offset == at && extent.range.length > 0, "{extents:?}");
                    at = extent.range.end();
                }
                assert!((1..=16).contains(&extents.len()));
            }
            Err(Halt::Fail(_)) => {}
            Err(Halt::Need(spans)) => panic!("resolving needs {spans:?}"),
        }
    }
}

fn check(pages: &mut Whole<'_>) {
    let mut format = Qcow2::default();
    format.job_start(Job::Check(Repair::No)).expect("every image can be checked");
    for _ in 0..STEPS_MAX {
        match format.job_step(pages) {
            Ok(JobStep::Progress { .. }) => {}
            Ok(JobStep::Plan(_)) => panic!("a check without repair plans"),
            Ok(JobStep::Done(_)) | Err(Halt::Fail(_)) => return,
            Err(Halt::Need(spans)) => panic!("a check needs {spans:?}"),
        }
    }
}
