//! Images of each kind: made, written, read by the second reader, refused where they must be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use common::{OWN_ID, PARENT_ID, Shape, TIME, check, parent_ref, pattern, reader::Reader, whole};
use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Change, Identity, Job, Likeness, Mode, ParentHint, Place, Range, Repair,
    model::{Disk, Model, ModelError},
};

const KINDS: [&str; 3] = ["fixed", "dynamic", "differencing"];

#[test]
fn a_new_image_is_what_the_second_reader_expects() {
    for kind in KINDS {
        let shape = Shape::new(kind, 32 << 10, 200 << 10);
        let file = shape.file();
        let reader = Reader::strict(&file).unwrap();
        assert_eq!((reader.size, reader.uuid), (shape.size, OWN_ID), "{kind}");
        assert!(reader.disk(&shape.parent) == shape.first_disk(), "{kind}");
        let mut model = shape.opened(file.clone(), Mode::ReadOnly).unwrap();
        let opened = model.opened().unwrap().clone();
        assert_eq!(opened.warnings, Vec::<String>::new(), "{kind}");
        assert_eq!(opened.identity, Some(Identity { id: OWN_ID, time: Some(TIME) }));
        assert!(model.read(whole(shape.size)).unwrap() == shape.first_disk(), "{kind}");
        let report = check(file);
        assert_eq!((report.error_count, report.leaked_bytes), (0, 0), "{kind} {report:?}");
    }
}

#[test]
fn a_parents_names_and_identity_come_back() {
    let shape = Shape::new("differencing", 32 << 10, 64 << 10);
    let file = shape.file();
    let mut model = shape.opened(file.clone(), Mode::ReadOnly).unwrap();
    let parent = model.open(Mode::ReadOnly).unwrap().parent.unwrap();
    assert_eq!(parent, parent_ref("golden.vhd", Some(64 << 10)));
    let reader = Reader::strict(&file).unwrap();
    assert_eq!(reader.parent_uuid, PARENT_ID);
    let codes: Vec<_> = reader.locators.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [*b"W2ru", *b"W2ku", *b"MacX"]);
    assert_eq!(reader.locators[0].1, ".\\golden.vhd".bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>());
    assert_eq!(reader.locators[2].1, b"file://localhost/srv/images/golden.vhd");
}

#[test]
fn the_uuid_decides_and_the_time_warns() {
    let recorded = Identity { id: PARENT_ID, time: Some(TIME) };
    assert_eq!(Identity { time: None, ..recorded }.compare(recorded), Likeness::Same);
    assert_eq!(Identity { time: Some(1), ..recorded }.compare(recorded), Likeness::OtherTime);
    assert_eq!(Identity { id: OWN_ID, ..recorded }.compare(recorded), Likeness::Other);
}

#[test]
fn each_kind_of_locator_can_be_written_and_read() {
    for (kind, name, expected) in [
        ("W2ru", "../up/g.vhd", ("relative", "../up/g.vhd")),
        ("W2ku", "C:/vm/g.vhd", ("absolute", "C:/vm/g.vhd")),
        ("Wi2r", "up/g.vhd", ("relative", "up/g.vhd")),
        ("Wi2k", "C:/g.vhd", ("absolute", "C:/g.vhd")),
        ("MacX", "/Volumes/a b/ö.vhd", ("absolute", "/Volumes/a b/ö.vhd")),
    ] {
        let shape = Shape::new("differencing", 32 << 10, 64 << 10);
        let mut model = shape.model();
        let mut parent = parent_ref("x", None);
        parent.hints = vec![ParentHint { kind: kind.into(), name: name.into() }];
        model.job(Job::Relink(parent)).unwrap();
        let mut again = shape.opened(model.disk().files()[0].clone(), Mode::ReadOnly).unwrap();
        let hints = again.open(Mode::ReadOnly).unwrap().parent.unwrap().hints;
        let (kind, name) = expected;
        assert!(hints.contains(&ParentHint { kind: kind.into(), name: name.into() }), "{kind}: {hints:?}");
    }
}

#[test]
fn relinking_keeps_the_disk_and_says_the_new_parent() {
    let shape = Shape::new("differencing", 32 << 10, 128 << 10);
    let mut model = shape.model();
    model.write(1024, &[7; 2048]).unwrap();
    let disk = model.read(whole(shape.size)).unwrap();
    model.flush().unwrap();
    let mut other = parent_ref("other.vhd", Some(shape.size));
    other.identity = Some(Identity { id: [9; 16], time: None });
    model.job(Job::Relink(other)).unwrap();
    let file = model.into_disk().files()[0].clone();
    let reader = Reader::strict(&file).unwrap();
    assert_eq!(reader.parent_uuid, [9; 16]);
    assert!(reader.disk(&shape.parent) == disk);
    assert_eq!(check(file).error_count, 0);
    let refused = |parent| shape.model().job(Job::Relink(parent));
    let mut raw = parent_ref("g.img", None);
    raw.format = Some("raw".into());
    assert!(matches!(refused(raw), Err(ModelError::Fail(_))));
    assert!(matches!(refused(parent_ref("g.vhd", Some(512))), Err(ModelError::Fail(_))));
    assert!(matches!(refused(parent_ref("g.v01", None)), Err(ModelError::Fail(_))));
    let dynamic = Shape::new("dynamic", 32 << 10, 128 << 10).model().job(Job::Relink(parent_ref("g", None)));
    assert!(matches!(dynamic, Err(ModelError::Fail(_))));
}

#[test]
fn our_blocks_data_is_aligned() {
    for kind in ["dynamic", "differencing"] {
        for block_size in [4096, 32 << 10, 2 << 20, 4 << 20, 16 << 20] {
            let shape = Shape::new(kind, block_size, u64::from(block_size) * 3);
            let mut model = shape.model();
            for block in [2, 0, 1] {
                model.write(block * u64::from(block_size), &[1; 512]).unwrap();
            }
            model.flush().unwrap();
            let file = &model.disk().files()[0];
            let places = Reader::strict(file).unwrap().data_places();
            assert!(
                places.len() == 3 && places.iter().all(|at| at % 4096 == 0),
                "{kind} {block_size} {places:?}"
            );
        }
    }
}

#[test]
fn a_block_of_a_dynamic_image_is_written_in_place_once_it_has_a_place() {
    let mut model = Shape::new("dynamic", 32 << 10, 64 << 10).model();
    model.write(512, &[1; 512]).unwrap();
    model.flush().unwrap();
    let barriers = model.disk().barriers();
    model.write(4096, &[2; 512]).unwrap();
    model.flush().unwrap();
    assert_eq!(model.disk().barriers(), barriers + 1, "no metadata");
}

#[test]
fn a_flush_of_many_new_blocks_takes_two_barriers() {
    for kind in ["dynamic", "differencing"] {
        let mut model = Shape::new(kind, 32 << 10, 1 << 20).model();
        for block in 0..8 {
            model.write(block * (32 << 10) + 512, &[1; 1024]).unwrap();
            model.write(block * (32 << 10) + 8192, &[2; 1024]).unwrap();
        }
        model.flush().unwrap();
        assert_eq!(model.disk().barriers(), 2, "{kind}");
    }
}

#[test]
fn zeros_of_a_differencing_image_hide_the_parent_and_an_unmap_does_nothing() {
    let shape = Shape::new("differencing", 32 << 10, 128 << 10);
    let mut model = shape.model();
    let mut expected = shape.first_disk();
    for (offset, length) in [(512, 1024), (32 << 10, 32 << 10), (65536 - 512, 1024)] {
        model.change(Range { offset, length }, Change::Zero).unwrap();
        expected[offset as usize..(offset + length) as usize].fill(0);
    }
    model.change(whole(shape.size), Change::Unmap).unwrap();
    model.flush().unwrap();
    assert!(model.read(whole(shape.size)).unwrap() == expected);
    assert!(Reader::strict(&model.disk().files()[0]).unwrap().disk(&shape.parent) == expected);
    assert_eq!(model.opened().unwrap().unmap_unit, 0);
}

#[test]
fn zeros_of_a_dynamic_image_take_no_space() {
    let shape = Shape::new("dynamic", 32 << 10, 128 << 10);
    let mut model = shape.model();
    let length = model.disk().files()[0].len();
    model.change(whole(shape.size), Change::Zero).unwrap();
    model.change(whole(shape.size), Change::Unmap).unwrap();
    model.flush().unwrap();
    assert_eq!(model.disk().files()[0].len(), length);
}

#[test]
fn a_full_block_of_a_differencing_image_is_in_place() {
    let shape = Shape::new("differencing", 32 << 10, 40 << 10);
    let mut model = shape.model();
    model.write(0, &[1; 40 << 10]).unwrap();
    let barriers = |model: &mut Model<Vhd>| {
        model.flush().unwrap();
        model.disk().barriers()
    };
    let before = barriers(&mut model);
    model.write(4096, &[3; 36 << 10]).unwrap();
    assert_eq!(barriers(&mut model), before + 1);
}

#[test]
fn the_saved_state_and_what_is_reserved_stay() {
    let shape = Shape::new("differencing", 32 << 10, 64 << 10);
    let mut file = shape.file();
    let end = file.len() - 512;
    for at in [0, end] {
        file[at + 84] = 1;
        file[at + 200] = 77;
        mend_footer(&mut file[at..at + 512]);
    }
    let mut model = shape.opened(file, Mode::ReadWrite).unwrap();
    assert!(model.opened().unwrap().warnings[0].contains("saved state"));
    model.write(0, &[1; 512]).unwrap();
    model.flush().unwrap();
    let mut parent = parent_ref("a.vhd", None);
    parent.hints.truncate(1);
    model.job(Job::Relink(parent)).unwrap();
    let file = &model.disk().files()[0];
    Reader::strict(file).unwrap();
    assert_eq!((file[84], file[200], file[file.len() - 512 + 84]), (1, 77, 1));
}

#[test]
fn a_footer_of_511_bytes_is_one() {
    let shape = Shape::new("fixed", 0, 64 << 10);
    let mut file = shape.file();
    file.pop();
    let mut model = shape.opened(file, Mode::ReadWrite).unwrap();
    model.write(0, &[5; 512]).unwrap();
    model.flush().unwrap();
    assert!(model.read(Range { offset: 0, length: 512 }).unwrap() == [5; 512]);
    let shape = Shape::new("dynamic", 32 << 10, 64 << 10);
    let mut file = shape.file();
    file.pop();
    let model = shape.opened(file, Mode::ReadWrite).unwrap();
    Reader::strict(&model.disk().files()[0]).unwrap();
}

#[test]
fn a_bad_end_is_written_again_from_the_beginning() {
    let shape = Shape::new("dynamic", 32 << 10, 96 << 10);
    let mut model = shape.model();
    model.write(0, &[1; 96 << 10]).unwrap();
    model.flush().unwrap();
    let good = model.into_disk().files()[0].clone();
    let cuts = [0, 100, 512, 1024, 8192];
    let longer = cuts.iter().map(|more| [&good[..good.len() - 512], &vec![0; 512 + more]].concat());
    let mut files: Vec<Vec<u8>> = longer.collect();
    files.push(good[..good.len() - 512].to_vec());
    files.push(good[..good.len() - 5].to_vec());
    for file in files {
        let read_only = shape.opened(file.clone(), Mode::ReadOnly).unwrap();
        assert!(!read_only.opened().unwrap().warnings.is_empty());
        assert_eq!(check(file.clone()).error_count, 1);
        let mut model = shape.opened(file.clone(), Mode::ReadWrite).unwrap();
        assert!(model.read(whole(shape.size)).unwrap() == [1; 96 << 10]);
        let mended = &model.disk().files()[0];
        assert!(Reader::strict(mended).unwrap().disk(&[]) == [1; 96 << 10]);
        let mut checked = Model::new(Vhd::default(), Disk::new(vec![file]));
        let report = checked.job(Job::Check(Repair::All)).unwrap();
        assert_eq!((report.error_count, report.repaired_errors), (1, 1));
        Reader::strict(&checked.disk().files()[0]).unwrap();
    }
}

#[test]
fn a_bad_beginning_is_written_again_from_the_end() {
    let shape = Shape::new("dynamic", 32 << 10, 96 << 10);
    let mut file = shape.file();
    file[70] ^= 1;
    assert_eq!(check(file.clone()).error_count, 1);
    let model = shape.opened(file, Mode::ReadWrite).unwrap();
    Reader::strict(&model.disk().files()[0]).unwrap();
}

/// A power cut may leave the file's end within a block: what its guest wrote there is not believed.
#[test]
fn a_footer_that_a_guest_wrote_is_not_believed() {
    let shape = Shape::new("dynamic", 32 << 10, 96 << 10);
    let mut file = shape.file();
    let mut fake = file[..512].to_vec();
    fake[48..56].copy_from_slice(&(32_u64 << 10).to_be_bytes());
    mend_footer(&mut fake);
    file.extend(&fake);
    let model = shape.opened(file, Mode::ReadWrite).unwrap();
    assert_eq!(model.opened().unwrap().virtual_size, 96 << 10);
    Reader::strict(&model.disk().files()[0]).unwrap();
}

/// A fixed image's first sectors are its guest's: what looks like a differencing image there opens no parent.
#[test]
fn a_sparse_image_in_a_fixed_one_stays_data() {
    let inner = Shape::new("differencing", 32 << 10, 96 << 10).file();
    let shape = Shape::new("fixed", 0, 256 << 10);
    let mut model = shape.model();
    model.write(0, &inner).unwrap();
    model.flush().unwrap();
    let mut again = shape.opened(model.into_disk().files()[0].clone(), Mode::ReadWrite).unwrap();
    let opened = again.opened().unwrap();
    assert!(opened.parent.is_none() && opened.virtual_size == 256 << 10);
    assert!(again.read(whole(inner.len() as u64)).unwrap() == inner);
    // With a damaged footer at the end it is refused rather than guessed at.
    let mut file = again.into_disk().files()[0].clone();
    let end = file.len() - 512;
    file[end + 100] ^= 1;
    let Err(ModelError::Fail(fail)) = shape.opened(file, Mode::ReadOnly) else { panic!("opened") };
    assert!(fail.text.contains("checksum"), "{fail}");
}

#[test]
fn a_foreign_blocks_absent_sectors_are_zeros_and_can_be_written() {
    let shape = Shape::new("dynamic", 32 << 10, 32 << 10);
    let mut model = shape.model();
    model.write(0, &pattern(32 << 10, 3)).unwrap();
    model.flush().unwrap();
    let mut file = model.into_disk().files()[0].clone();
    let bitmap = Reader::strict(&file).unwrap().data_places()[0] - 512;
    file[bitmap] = 0x0F;
    let mut expected = pattern(32 << 10, 3);
    expected[..2048].fill(0);
    let mut model = shape.opened(file, Mode::ReadWrite).unwrap();
    assert!(model.read(whole(shape.size)).unwrap() == expected);
    model.write(512, &[8; 512]).unwrap();
    model.change(Range { offset: 1024, length: 2048 }, Change::Zero).unwrap();
    model.flush().unwrap();
    expected[512..1024].fill(8);
    expected[2048..3072].fill(0);
    assert!(model.read(whole(shape.size)).unwrap() == expected);
    assert!(Reader::strict(&model.disk().files()[0]).unwrap().disk(&[]) == expected);
}

#[test]
fn the_size_is_by_geometry_for_some_creators_and_by_its_field_for_others() {
    let shape = Shape::new("dynamic", 2 << 20, 64 << 20);
    for (creator, geometry, expected) in [
        (b"vpc ", [3, 0xC2, 8, 17], (962 * 8 * 17) * 512),
        (b"vs  ", [3, 0xC2, 8, 17], (962 * 8 * 17) * 512),
        (b"qemu", [3, 0xC2, 8, 17], (962 * 8 * 17) * 512),
        (b"qemu", [255, 255, 16, 255], 64 << 20),
        (b"vpc ", [0, 0, 0, 0], 64 << 20),
        (b"win ", [3, 0xC2, 8, 17], 64 << 20),
        (b"qem2", [3, 0xC2, 8, 17], 64 << 20),
        (b"d2v\0", [3, 0xC2, 8, 17], 64 << 20),
        (b"tap\0", [3, 0xC2, 8, 17], 64 << 20),
        (b"CTXS", [3, 0xC2, 8, 17], 64 << 20),
    ] {
        let mut file = shape.file();
        let end = file.len() - 512;
        for at in [0, end] {
            file[at + 28..at + 32].copy_from_slice(creator);
            file[at + 56..at + 60].copy_from_slice(&geometry);
            mend_footer(&mut file[at..at + 512]);
        }
        let model = shape.opened(file, Mode::ReadOnly).unwrap();
        assert_eq!(model.opened().unwrap().virtual_size, expected, "{creator:?} {geometry:?}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, parent) in [
        (&[("type", "sparse")][..], false),
        (&[("type", "differencing")], false),
        (&[("type", "dynamic")], true),
        (&[("type", "fixed"), ("block_size", "2M")], false),
        (&[("block_size", "3M")], false),
        (&[("block_size", "512")], false),
        (&[("block_size", "512M")], false),
        (&[("cluster_size", "64K")], false),
    ] {
        let mut created = Shape::new("dynamic", 2 << 20, 64 << 20).created();
        created.options = options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        created.parent = parent.then(|| parent_ref("g.vhd", None));
        let refused = Model::new(Vhd::default(), Disk::new(vec![vec![]])).job(Job::Create(created));
        assert!(matches!(refused, Err(ModelError::Fail(_))), "{options:?}");
    }
    for size in [0, 511, 513, (2040 << 30) + 512] {
        let mut created = Shape::new("dynamic", 2 << 20, 512).created();
        created.virtual_size = size;
        let refused = Model::new(Vhd::default(), Disk::new(vec![vec![]])).job(Job::Create(created));
        assert!(matches!(refused, Err(ModelError::Fail(_))), "{size}");
    }
}

#[test]
fn a_run_of_blocks_without_a_place_is_one_extent() {
    use stampede_plugin::{Format, OpenRequest, View};
    let shape = Shape::new("differencing", 32 << 10, 8 << 20);
    let file = shape.file();
    let mut pages = AllPages(file);
    let mut vhd = Vhd::default();
    vhd.open(&mut pages, &OpenRequest { mode: Mode::ReadOnly, files: 1 }).unwrap();
    let extents = vhd.resolve(&mut pages, View::Active, whole(shape.size), 1).unwrap();
    assert_eq!((extents.len(), extents[0].range, extents[0].place), (1, whole(shape.size), Place::Parent));
}

/// The host writes there without a plan; a plan does just the same.
#[test]
fn a_plan_for_absent_sectors_is_data_then_bits() {
    use stampede_plugin::{Format, OpenRequest, Step};
    let shape = Shape::new("differencing", 32 << 10, 96 << 10);
    let mut model = shape.model();
    model.write(32 << 10, &[1; 512]).unwrap();
    model.flush().unwrap();
    let data_at = Reader::strict(&model.disk().files()[0]).unwrap().data_places()[0] as u64;
    let mut pages = AllPages(model.disk().files()[0].clone());
    let mut vhd = Vhd::default();
    vhd.open(&mut pages, &OpenRequest { mode: Mode::ReadWrite, files: 1 }).unwrap();
    let ranges = [(33 << 10, 1024), (40 << 10, 512)].map(|(offset, length)| Range { offset, length });
    let plan = vhd.plan_write(&mut pages, &ranges, Change::Data).unwrap();
    let puts = ranges.map(|range| {
        let (guest, length, file) = (range.offset, range.length, stampede_plugin::FileId::MAIN);
        Step::Put { guest, length, file, offset: data_at + guest - (32 << 10) }
    });
    assert_eq!(plan.now, puts);
    let patches: Vec<_> =
        plan.meta.iter().map(|patch| (patch.offset, patch.bytes.clone(), patch.after_data)).collect();
    assert_eq!(patches, [(data_at - 512, vec![0b1011_0000], true), (data_at - 510, vec![0x80], true)]);
    assert!(matches!(plan.map[..], [stampede_plugin::Extent { place: Place::Sparse { .. }, .. }]));
}

/// Pages that are all at hand.
struct AllPages(Vec<u8>);

impl stampede_plugin::Pages for AllPages {
    fn read(&mut self, span: stampede_plugin::Span) -> Option<Vec<u8>> {
        Some(self.0[span.offset as usize..][..span.length as usize].to_vec())
    }

    fn file_length(&self, _file: stampede_plugin::FileId) -> u64 {
        self.0.len() as u64
    }
}

/// Gives a footer the checksum that its bytes make.
fn mend_footer(footer: &mut [u8]) {
    footer[64..68].fill(0);
    let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
}
