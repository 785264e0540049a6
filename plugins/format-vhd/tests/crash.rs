//! Power cuts: all that each plan and each job may leave on the disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

mod common;

use common::{
    Shape, check,
    crash::{Faulty, Op, draw_ops, run, threes, tiny},
    parent_ref, pattern,
    reader::Reader,
    whole,
};
use stampede_format_vhd::Vhd;
use stampede_plugin::{
    Job, Mode, Plan, Repair,
    model::{Disk, Model},
};

fn three_operations(kind: &'static str) {
    let shape = tiny(kind);
    let mut states = 0;
    for ops in threes() {
        let found = run(&shape, shape.file(), Vhd::default(), &ops, true);
        states += found.unwrap_or_else(|text| panic!("{kind}, {ops:?}: {text}"));
    }
    eprintln!("{kind}: {states} states");
}

#[test]
fn three_operations_on_a_fixed_image() {
    three_operations("fixed");
}

#[test]
fn three_operations_on_a_dynamic_image() {
    three_operations("dynamic");
}

#[test]
fn three_operations_on_a_differencing_image() {
    three_operations("differencing");
}

/// An image with absent sectors in its blocks, under which lies what was never the disk's.
fn foreign(shape: &Shape) -> Vec<u8> {
    let mut model = shape.model();
    model.write(0, &vec![0xEE; shape.size as usize]).unwrap();
    model.flush().unwrap();
    let mut file = model.into_disk().files()[0].clone();
    for at in Reader::strict(&file).unwrap().data_places() {
        file[at - 512] = 0x3C;
    }
    file
}

#[test]
fn three_operations_on_foreign_images() {
    for kind in ["dynamic", "differencing"] {
        let shape = tiny(kind);
        let file = foreign(&shape);
        for ops in threes().into_iter().step_by(2) {
            let found = run(&shape, file.clone(), Vhd::default(), &ops, true);
            found.unwrap_or_else(|text| panic!("{kind}, {ops:?}: {text}"));
        }
    }
}

fn lives(seeds: std::ops::Range<u64>) {
    for kind in ["fixed", "dynamic", "differencing"] {
        for seed in seeds.clone() {
            let shape = Shape::new(kind, 4096 << (seed % 3), (40 + seed % 50) * 512);
            let ops = draw_ops(&shape, seed, 12);
            let found = run(&shape, shape.file(), Vhd::default(), &ops, true);
            found.unwrap_or_else(|text| panic!("{kind}, seed {seed}, {ops:?}: {text}"));
        }
    }
}

#[test]
fn longer_lives() {
    lives(0..10);
}

#[test]
#[ignore = "long: 200 seeds a kind"]
fn longer_lives_long() {
    lives(1000..1200);
}

/// Whether some sequence of three operations shows a fault in the plans.
fn is_found(kind: &'static str, fault: fn(&mut Plan)) -> bool {
    is_found_in(&tiny(kind), &tiny(kind).file(), fault)
}

fn is_found_in(shape: &Shape, file: &[u8], fault: fn(&mut Plan)) -> bool {
    threes().iter().any(|ops| {
        let faulty = Faulty { inner: Vhd::default(), fault };
        run(shape, file.to_vec(), faulty, ops, true).is_err()
    })
}

fn drop_orders(plan: &mut Plan) {
    for patch in &mut plan.meta {
        (patch.after, patch.after_data) = (vec![], false);
    }
}

/// An entry is published with its data and bitmap, not after them.
fn entry_with_data(plan: &mut Plan) {
    for patch in plan.meta.iter_mut().filter(|patch| patch.bytes.len() == 4) {
        (patch.after, patch.after_data) = (vec![], false);
    }
}

/// All bits of a new block are set, as QEMU does.
fn all_bits(plan: &mut Plan) {
    for patch in &mut plan.meta {
        if patch.bytes.len() == 512 && !patch.bytes.starts_with(b"conectix") {
            patch.bytes.fill(0xFF);
        }
    }
}

/// Bits are set with their data, not after it.
fn bits_with_data(plan: &mut Plan) {
    for patch in plan.meta.iter_mut().filter(|patch| patch.bytes.len() != 4) {
        patch.after_data = false;
    }
}

/// The new footer is forgotten.
fn no_footer(plan: &mut Plan) {
    let ids: Vec<_> =
        plan.meta.iter().filter(|patch| patch.bytes.starts_with(b"conectix")).map(|patch| patch.id).collect();
    plan.meta.retain(|patch| !ids.contains(&patch.id));
}

fn nothing(_plan: &mut Plan) {}

#[test]
fn faults_that_are_planted_are_found() {
    for kind in ["dynamic", "differencing"] {
        assert!(!is_found(kind, nothing), "{kind}");
        assert!(is_found(kind, drop_orders), "{kind}: no order");
        assert!(is_found(kind, entry_with_data), "{kind}: the entry beside what it publishes");
    }
    assert!(is_found("differencing", all_bits), "all bits");
    let shape = tiny("differencing");
    assert!(is_found_in(&shape, &foreign(&shape), bits_with_data), "bits with data");
    for kind in ["fixed", "dynamic", "differencing"] {
        let shape = tiny(kind);
        let ops = [Op::Write(1, 1), Op::Flush, Op::Write(6, 4), Op::Flush];
        assert!(
            run(&shape, shape.file(), Vhd::default(), &ops, false).is_err(),
            "{kind}: flushes do nothing"
        );
    }
}

/// Without its new footer a file ends in zeros: opening it puts that right, which is all that is lost.
#[test]
fn a_forgotten_footer_is_put_right() {
    assert!(!is_found("dynamic", no_footer));
}

/// Every state that a job may leave is the image before or after it: gives each state's disk to `look`.
fn job_states(
    shape: &Shape,
    file: Vec<u8>,
    job: Job,
    fault: fn(&mut Plan),
    look: &dyn Fn(&[u8]) -> bool,
) -> Result<usize, String> {
    let faulty = Faulty { inner: Vhd::default(), fault };
    let mut model = Model::new(faulty, Disk::new(vec![file])).with_parent(shape.parent.clone());
    model.open(Mode::ReadWrite).unwrap();
    model.job(job).unwrap();
    model.into_disk().crash_states(7, |state| {
        let text = |error| format!("{}: {error}", state.name);
        let read_only = shape.opened(state.files[0].clone(), Mode::ReadOnly).map_err(text)?;
        let mut model = shape.opened(state.files[0].clone(), Mode::ReadWrite).map_err(text)?;
        let size = model.opened().unwrap().virtual_size;
        if read_only.opened().unwrap().virtual_size != size {
            return Err(format!("{}: another size when read-only", state.name));
        }
        let disk = model.read(whole(size)).map_err(text)?;
        let file = &model.disk().files()[0];
        let report = check(file.clone());
        if Reader::strict(file)?.disk(&shape.parent) != disk || report.error_count > 0 || !look(&disk) {
            return Err(format!("{}: not the disk before or after, of {size} bytes; {report:?}", state.name));
        }
        Ok(())
    })
}

/// A disk of a size that is one of two, full of a pattern up to the smaller; what is new is zeros.
fn resized(shape: &Shape, new_size: u64, file: Vec<u8>) -> Result<usize, String> {
    let full = pattern(shape.size, 4);
    let kept = shape.size.min(new_size) as usize;
    let job = Job::Resize { virtual_size: new_size, shrink: true };
    job_states(shape, file, job, nothing, &|disk: &[u8]| {
        let old = disk == full;
        let new = disk.len() as u64 == new_size
            && disk[..kept] == full[..kept]
            && disk[kept..].iter().all(|&byte| byte == 0);
        // A fixed image's last sector may be the footer to come when a cut ends its getting smaller.
        let given_up = disk.len() == full.len() && disk[..kept] == full[..kept] && new_size < shape.size;
        old || new || given_up
    })
}

/// An image full of a pattern.
fn full(shape: &Shape) -> Vec<u8> {
    let mut model = shape.model();
    model.write(0, &pattern(shape.size, 4)).unwrap();
    model.close().unwrap();
    model.into_disk().files()[0].clone()
}

#[test]
fn a_cut_resize_leaves_the_old_or_the_new_disk() {
    for kind in ["fixed", "dynamic"] {
        for (old, new) in [(20, 21), (20, 24), (20, 83), (20, 1500), (20, 5000), (83, 20), (21, 20), (24, 8)]
        {
            let shape = Shape::new(kind, 4096, old * 512);
            let found = resized(&shape, new * 512, full(&shape));
            found.unwrap_or_else(|text| panic!("{kind}, from {old} to {new} sectors: {text}"));
        }
    }
}

/// A dynamic image that got smaller and is made larger again shows nothing of what was given up.
#[test]
fn what_was_given_up_does_not_come_back() {
    for kind in ["fixed", "dynamic"] {
        let shape = Shape::new(kind, 4096, 83 * 512);
        let mut model = shape.opened(full(&shape), Mode::ReadWrite).unwrap();
        model.job(Job::Resize { virtual_size: 10 * 512, shrink: true }).unwrap();
        let mut model = shape.opened(model.into_disk().files()[0].clone(), Mode::ReadWrite).unwrap();
        model.job(Job::Resize { virtual_size: 80 * 512, shrink: false }).unwrap();
        let mut model = shape.opened(model.into_disk().files()[0].clone(), Mode::ReadWrite).unwrap();
        let disk = model.read(whole(80 * 512)).unwrap();
        assert!(
            disk[..10 * 512] == pattern(10 * 512, 4) && disk[10 * 512..].iter().all(|&byte| byte == 0),
            "{kind}"
        );
    }
}

#[test]
fn a_cut_relink_leaves_the_old_or_the_new_parent() {
    let shape = Shape::new("differencing", 4096, 40 * 512);
    let mut model = shape.model();
    model.write(512, &[5; 9000 / 512 * 512]).unwrap();
    model.close().unwrap();
    let disk = model.read(whole(shape.size)).unwrap();
    let file = model.into_disk().files()[0].clone();
    let job = || Job::Relink(parent_ref("a-name-that-is-longer-than-before.vhd", None));
    job_states(&shape, file.clone(), job(), nothing, &|found: &[u8]| found == disk).unwrap();
    // The header written where it is, with nothing turned to its copy: torn, it contradicts its checksum.
    let in_place = |plan: &mut Plan| plan.meta.retain(|patch| patch.offset != 0);
    let torn = job_states(&shape, file, job(), in_place, &|found: &[u8]| found == disk);
    assert!(torn.unwrap_err().contains("checksum"));
}

#[test]
fn a_cut_repair_leaves_an_image_that_can_be_repaired() {
    let shape = Shape::new("dynamic", 4096, 40 * 512);
    let mut broken = full(&shape);
    // Two blocks at one place, one on the header, one beyond the end; and a bad end.
    for (block, entry) in [(1, None), (2, Some(1_u32)), (3, Some(1 << 20))] {
        let entry = entry.map_or_else(|| broken[1536..1540].to_vec(), |entry| entry.to_be_bytes().to_vec());
        broken[1536 + 4 * block..][..4].copy_from_slice(&entry);
    }
    let end = broken.len() - 512;
    broken[end..].fill(0);
    let mut model = Model::new(Vhd::default(), Disk::new(vec![broken]));
    let report = model.job(Job::Check(Repair::All)).unwrap();
    assert_eq!((report.error_count, report.repaired_errors), (4, 4), "{report:?}");
    let disk = model.into_disk();
    let file = disk.files()[0].clone();
    assert_eq!(check(file.clone()).error_count, 0);
    let mut model = shape.opened(file.clone(), Mode::ReadWrite).unwrap();
    let found = model.read(whole(shape.size)).unwrap();
    let expected = pattern(shape.size, 4);
    assert!(found[..4096] == expected[..4096] && found[16384..] == expected[16384..]);
    assert!(Reader::strict(&file).unwrap().disk(&[]) == found);
    disk.crash_states(3, |state| {
        let mut again = Model::new(Vhd::default(), Disk::new(state.files));
        again.job(Job::Check(Repair::All)).map_err(|error| format!("{}: {error}", state.name))?;
        let file = again.into_disk().files()[0].clone();
        Reader::strict(&file).map_err(|text| format!("{}: {text}", state.name))?;
        if check(file).error_count == 0 { Ok(()) } else { Err(state.name) }
    })
    .unwrap();
}

#[test]
fn space_behind_the_last_block_is_given_back() {
    let shape = Shape::new("dynamic", 4096, 40 * 512);
    let good = full(&shape);
    let mut leaking = good[..good.len() - 512].to_vec();
    leaking.extend([0xCC; 20480]);
    leaking.extend(&good[..512]);
    let found = check(leaking.clone());
    assert_eq!((found.error_count, found.leaked_bytes), (0, 20480));
    let mut model = Model::new(Vhd::default(), Disk::new(vec![leaking]));
    let report = model.job(Job::Check(Repair::Leaks)).unwrap();
    assert_eq!(report.repaired_bytes, 20480);
    let disk = model.into_disk();
    assert!(disk.files()[0] == good);
    disk.crash_states(1, |state| {
        let mut model =
            shape.opened(state.files[0].clone(), Mode::ReadWrite).map_err(|error| format!("{error}"))?;
        let found = model.read(whole(shape.size)).map_err(|error| format!("{error}"))?;
        if found == pattern(shape.size, 4) { Ok(()) } else { Err(state.name) }
    })
    .unwrap();
}
