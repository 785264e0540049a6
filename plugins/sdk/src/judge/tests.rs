//! Each rule, broken once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use alloc::{format, string::String, vec, vec::Vec};

use super::{Bounds, Judge, Purpose, Verdict};
use crate::{
    Change, Extent, FileId, Free, MetadataRange, Mode, OpenRequest, Opened, Pages, Patch, Place, Plan, Range,
    Span, Step, View,
};

const FILE: u64 = 64 << 10;
const DISK: u64 = 32 << 10;

fn lengths(file: FileId) -> u64 {
    if file == FileId::MAIN { FILE } else { 0 }
}

fn opened() -> Opened {
    Opened {
        virtual_size: DISK,
        block_size: 512,
        allocation_unit: 4096,
        unmap_unit: 4096,
        files: Vec::new(),
        parent: None,
        identity: None,
        metadata: vec![MetadataRange { file: FileId::MAIN, offset: 0, length: 4096 }],
        needs_recovery: false,
        warnings: Vec::new(),
    }
}

fn judge() -> Judge {
    let mut judge = Judge::new(Bounds::default());
    judge.opening(&OpenRequest { mode: Mode::ReadWrite, files: 1 });
    judge.opened(&opened(), &lengths).unwrap();
    judge
}

fn refused(verdict: Verdict, word: &str) {
    let text = verdict.expect_err(word);
    assert!(text.contains(word), "{text:?} does not say {word:?}");
}

const RANGE: Range = Range { offset: 4096, length: 4096 };

fn data(offset: u64) -> Place {
    Place::Data { file: FileId::MAIN, offset, in_place: true }
}

fn good_plan() -> Plan {
    Plan {
        token: 1,
        now: vec![Step::Put { guest: 4096, length: 4096, file: FileId::MAIN, offset: 8192 }],
        map: vec![Extent { range: RANGE, place: data(8192) }],
        meta: vec![patch(1, 0)],
        ..Plan::default()
    }
}

fn patch(id: u64, offset: u64) -> Patch {
    Patch {
        id,
        file: FileId::MAIN,
        offset,
        bytes: vec![1; 8],
        after: Vec::new(),
        after_data: true,
        lazy: false,
    }
}

fn of_plan(change: impl FnOnce(&mut Plan)) -> Verdict {
    let mut plan = good_plan();
    change(&mut plan);
    judge().plan(&plan, Purpose::Change(&[RANGE], Change::Data), &lengths)
}

#[test]
fn a_good_plan_passes() {
    of_plan(|_| {}).unwrap();
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    let mut bad = Judge::new(Bounds::default());
    let mut of = |change: fn(&mut Opened)| {
        let mut opened = opened();
        change(&mut opened);
        bad.opened(&opened, &lengths)
    };
    refused(of(|opened| opened.virtual_size = 0), "virtual_size 0");
    refused(of(|opened| opened.virtual_size = 513), "virtual_size 513");
    refused(of(|opened| opened.virtual_size = 1 << 62), "virtual_size");
    refused(of(|opened| opened.block_size = 520), "block_size 520");
    refused(of(|opened| opened.allocation_unit = 3 << 10), "allocation_unit 3072");
    refused(of(|opened| opened.metadata[0].length = FILE + 1), "outside its file");
    refused(of(|opened| opened.metadata[0].offset = u64::MAX), "outside its file");
    refused(of(|opened| opened.warnings = vec!["x".repeat(65 << 10)]), "a text of");
    refused(of(|opened| opened.warnings = vec![String::new(); 70_000]), "70000 texts");
}

#[test]
fn extents_go_on_one_after_the_other_and_are_in_their_files() {
    let judge = judge();
    let of = |extents: &[Extent]| judge.resolved(extents, (View::Active, RANGE), 4, &lengths);
    let extent = |offset, length, place| Extent { range: Range { offset, length }, place };
    of(&[extent(0, 8192, data(8192))]).unwrap();
    refused(of(&[]), "0 extents");
    refused(of(&vec![extent(4096, 512, Place::Zero); 5]), "5 extents");
    refused(of(&[extent(4608, 512, Place::Zero)]), "go on at byte 4096");
    refused(of(&[extent(4096, 512, Place::Zero), extent(5120, 512, Place::Zero)]), "go on at byte 4608");
    refused(of(&[extent(4096, 100, Place::Zero)]), "an extent of 100 bytes");
    refused(of(&[extent(4096, 4096, data(FILE - 512))]), "which has");
    refused(of(&[extent(4096, 4096, data(u64::MAX))]), "which has");
    refused(of(&[extent(4096, 4096, data(1024))]), "over metadata");
    refused(
        of(&[extent(4096, 512, Place::Data { file: FileId(1), offset: 0, in_place: false })]),
        "in file 1",
    );
    let packed = |skip| Place::Packed {
        codec: crate::Codec::Zstd,
        file: FileId::MAIN,
        offset: 9000,
        length: 77,
        unpacked: 4096,
        skip,
    };
    of(&[extent(4096, 4096, packed(0))]).unwrap();
    refused(of(&[extent(4096, 4096, packed(512))]), "compressed bytes");
    let sparse = |offset, unit| Place::Sparse {
        file: FileId::MAIN,
        offset: 8192,
        bitmap: crate::Bitmap {
            file: FileId::MAIN,
            offset,
            first_bit: 0,
            order: crate::BitOrder::MsbFirst,
            unit,
        },
        absent: crate::Absent::Parent,
    };
    of(&[extent(4096, 4096, sparse(512, 512))]).unwrap();
    refused(of(&[extent(4096, 4096, sparse(FILE, 512))]), "a bitmap");
    refused(of(&[extent(4096, 4096, sparse(0, 0))]), "no such bitmap");
}

#[test]
fn steps_stay_in_their_files_and_off_metadata() {
    let put = |guest, offset| vec![Step::Put { guest, length: 4096, file: FileId::MAIN, offset }];
    refused(of_plan(|plan| plan.now = put(4096, FILE)), "guest data");
    refused(of_plan(|plan| plan.now = put(4096, 2048)), "over metadata");
    refused(of_plan(|plan| plan.now = put(0, 8192)), "byte 4096 of the disk is next");
    refused(of_plan(|plan| plan.now.clear()), "goes nowhere");
    refused(of_plan(|plan| plan.now.extend(put(4096, 16384))), "not in the change");
    let fill = |offset| Step::Fill { file: FileId::MAIN, offset, length: 512 };
    refused(of_plan(|plan| plan.now.push(fill(8192 + 512))), "two steps write byte 8704");
    refused(
        of_plan(|plan| plan.now.push(Step::SetLength { file: FileId::MAIN, length: u64::MAX })),
        "is to get",
    );
    refused(
        of_plan(|plan| plan.now.push(Step::SetLength { file: FileId::MAIN, length: 4096 })),
        "which has 4096",
    );
    let copy = Step::Copy { guest: DISK, length: 512, file: FileId::MAIN, offset: 16384 };
    refused(of_plan(|plan| plan.now.push(copy)), "of the disk, which has");
    let verdict = judge().plan(&good_plan(), Purpose::Upkeep, &lengths);
    refused(verdict, "data that there is none of");
}

#[test]
fn patches_stay_in_their_files_and_have_an_order() {
    refused(of_plan(|plan| plan.meta[0].offset = FILE - 4), "a patch");
    refused(of_plan(|plan| plan.meta[0].bytes.clear()), "is empty");
    refused(of_plan(|plan| plan.meta.push(patch(1, 64))), "two patches 1");
    refused(of_plan(|plan| (plan.meta[0].after, _) = (vec![2], plan.meta.push(patch(2, 64)))), "behind it");
    refused(of_plan(|plan| plan.meta[0].bytes = vec![0; 65 << 20]), "a patch");
}

#[test]
fn a_map_tells_of_all_that_was_changed() {
    refused(of_plan(|plan| plan.map.clear()), "does not have all");
    refused(of_plan(|plan| plan.map[0].range.length = 512), "does not have all");
    refused(of_plan(|plan| plan.map[0].place = data(0)), "over metadata");
}

#[test]
fn what_a_plan_protects_is_metadata_until_it_is_released() {
    let mut judge = judge();
    let range = MetadataRange { file: FileId::MAIN, offset: 16384, length: 4096 };
    let protect = Plan { token: 1, protect: vec![range], ..Plan::default() };
    judge.plan(&protect, Purpose::Upkeep, &lengths).unwrap();
    let over = Plan {
        token: 2,
        now: vec![Step::Put { guest: 4096, length: 4096, file: FileId::MAIN, offset: 16384 }],
        map: vec![Extent { range: RANGE, place: Place::Zero }],
        ..Plan::default()
    };
    let change = Purpose::Change(&[RANGE], Change::Data);
    refused(judge.plan(&over, change, &lengths), "over metadata");
    let free = Free { file: FileId::MAIN, offset: 16384, length: 4096, after: Vec::new(), punch: false };
    judge.plan(&Plan { token: 3, free: vec![free], ..Plan::default() }, Purpose::Upkeep, &lengths).unwrap();
    refused(judge.plan(&over, change, &lengths), "over metadata");
    judge.released(3);
    judge.plan(&over, change, &lengths).unwrap();
}

/// A file of which only the first 4 KiB are at hand.
struct Some4096;

impl Pages for Some4096 {
    fn read(&mut self, span: Span) -> Option<Vec<u8>> {
        (span.offset + u64::from(span.length) <= 4096).then(|| vec![0; span.length as usize])
    }

    fn file_length(&self, file: FileId) -> u64 {
        lengths(file)
    }
}

#[test]
fn what_is_needed_is_in_the_file_and_not_there_yet_and_not_without_end() {
    let bounds = Bounds { need_rounds_max: 3, need_bytes_max: 9000, ..Bounds::default() };
    let mut judge = Judge::new(bounds);
    let span = |offset, length| Span::main(offset, length);
    refused(judge.need(&mut Some4096, &[]), "0 spans");
    refused(judge.need(&mut Some4096, &[span(8192, 8); 65]), "65 spans");
    refused(judge.need(&mut Some4096, &[span(8192, 0)]), "empty");
    refused(judge.need(&mut Some4096, &[span(FILE - 4, 8)]), "outside");
    refused(judge.need(&mut Some4096, &[span(0, 512)]), "was given");
    judge.answered();
    for _ in 0..3 {
        judge.need(&mut Some4096, &[span(8192, 8)]).unwrap();
    }
    refused(judge.need(&mut Some4096, &[span(8192, 8)]), "4 times in a row");
    judge.answered();
    refused(judge.need(&mut Some4096, &[span(8192, 9001)]), "9001 bytes");
    let _ = format!("{judge:?}");
}
