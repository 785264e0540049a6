//! Images that were made wrong on purpose: our check says of them what QEMU's does, and mends what can be mended.

use stampede_format_qcow2::Qcow2;
use stampede_plugin::{
    Job, Mode, Repair, Report,
    model::{Disk, Model},
};

use super::{
    bench::{Bench, open},
    config::Config,
    judge::Judge,
};

const CLUSTER: u64 = 4096;

fn be64(file: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(file[at as usize..at as usize + 8].try_into().unwrap())
}

fn put64(file: &mut [u8], at: u64, word: u64) {
    file[at as usize..at as usize + 8].copy_from_slice(&word.to_be_bytes());
}

/// A file with some data and a snapshot; where its L1 table, first L2 table and first refcount block are.
struct Sample {
    file: Vec<u8>,
    l1: u64,
    l2: u64,
    block: u64,
    table: u64,
}

fn sample() -> Sample {
    let mut bench = Bench::new(Config::plain(CLUSTER, 1 << 20));
    bench.write(0, &[1; 64 << 10]);
    bench.job(Job::SnapshotCreate { name: "s".into(), time: 1 }).unwrap();
    bench.write(0, &[2; 16 << 10]);
    bench.write(1 << 19, &[3; 16 << 10]);
    bench.model.flush_all().unwrap();
    let file = bench.model.disk().files()[0].clone();
    let (l1, table) = (be64(&file, 40), be64(&file, 48));
    let (l2, block) = (be64(&file, l1) & 0x00ff_ffff_ffff_fe00, be64(&file, table));
    Sample { file, l1, l2, block, table }
}

fn checked(file: &[u8], repair: Repair) -> (Report, Vec<u8>) {
    let mut model = Model::new(Qcow2::default(), Disk::new(vec![file.to_vec()]));
    let report = model.job(Job::Check(repair)).unwrap();
    (report, model.into_disk().files()[0].clone())
}

/// QEMU and we see errors, or leaks, or neither, alike; repaired, neither sees any.
fn agree(name: &str, file: &[u8], mendable: bool) {
    let judge = Judge::new();
    judge.put(&[file.to_vec()], None);
    let theirs = judge.check();
    let (ours, untouched) = checked(file, Repair::No);
    assert!(untouched == file, "{name}: a check without repair writes");
    assert_eq!(ours.error_count > 0, theirs.errors > 0, "{name}: {theirs:?}, {ours:?}");
    // QEMU counts what an entry that is not aligned may mean; here it means nothing.
    assert!(!mendable || (ours.leaked_bytes > 0) == (theirs.leaks > 0), "{name}: {theirs:?}, {ours:?}");
    let (report, mended) = checked(file, Repair::All);
    if !mendable {
        assert!(report.repaired_errors < report.error_count, "{name}: {report:?}");
        return;
    }
    assert_eq!(report.repaired_errors, report.error_count, "{name}: {report:?}");
    let (again, _) = checked(&mended, Repair::No);
    assert_eq!((again.error_count, again.leaked_bytes), (0, 0), "{name}: {again:?}");
    judge.put(&[mended], None);
    let theirs = judge.check();
    assert_eq!((theirs.errors, theirs.leaks), (0, 0), "{name}: {theirs:?}");
}

#[test]
fn checks_agree_with_qemu_on_damaged_images() {
    let Sample { file, l1, l2, block, table } = sample();
    let with = |name: &str, mendable: bool, damage: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        damage(&mut file);
        agree(name, &file, mendable);
    };
    let last = file.len() as u64 / CLUSTER - 1;
    with("nothing", true, &|_| {});
    with("a leak", true, &|file| file[(block + last * 2 + 1) as usize] = 1);
    with("a count that is too low", true, &|file| file[(block + l2 / CLUSTER * 2 + 1) as usize] = 0);
    with("a count that is too high", true, &|file| file[(block + 7) as usize] += 3);
    with("all counts lost", true, &|file| file[block as usize..(block + CLUSTER) as usize].fill(0));
    with("COPIED missing", true, &|file| {
        let word = be64(file, l2);
        put64(file, l2, word & !(1 << 63));
    });
    with("COPIED of an L2 table missing", true, &|file| {
        let word = be64(file, l1);
        put64(file, l1, word & !(1 << 63));
    });
    with("two guest clusters in one place", true, &|file| {
        let word = be64(file, l2);
        put64(file, l2 + 8, word);
    });
    with("a cluster behind the file", false, &|file| put64(file, l2, 1 << 63 | 1 << 55));
    with("a cluster that is not aligned", false, &|file| {
        let word = be64(file, l2);
        put64(file, l2, word + 512);
    });
    with("an L2 table that is not aligned", false, &|file| {
        let word = be64(file, l1);
        put64(file, l1, word + 512);
    });
    with("no refcount block", true, &|file| put64(file, table, 0));
    with("a refcount block that is not aligned", true, &|file| put64(file, table, block + 512));
}

#[test]
fn leaks_are_mended_alone_and_errors_stay() {
    let Sample { mut file, l2, block, .. } = sample();
    let last = file.len() as u64 / CLUSTER - 1;
    file[(block + last * 2 + 1) as usize] = 1;
    let word = be64(&file, l2);
    put64(&mut file, l2, word & !(1 << 63));
    let (report, mended) = checked(&file, Repair::Leaks);
    assert_eq!((report.error_count, report.repaired_errors, report.repaired_bytes), (1, 0, CLUSTER));
    let (again, _) = checked(&mended, Repair::No);
    assert_eq!((again.error_count, again.leaked_bytes), (1, 0));
}

#[test]
fn a_corrupt_image_is_read_and_not_written_until_it_is_mended() {
    let Sample { mut file, .. } = sample();
    file[79] |= 2;
    assert!(open(Disk::new(vec![file.clone()]), None, Mode::ReadOnly).is_ok());
    assert!(open(Disk::new(vec![file.clone()]), None, Mode::ReadWrite).is_err());
    let (report, mended) = checked(&file, Repair::All);
    assert_eq!(report.error_count, 0);
    assert!(open(Disk::new(vec![mended]), None, Mode::ReadWrite).is_ok());
}

#[test]
fn unknown_autoclear_bits_are_cleared_before_a_write_and_extensions_stay() {
    let Sample { mut file, .. } = sample();
    file[88] = 0x80;
    let read = open(Disk::new(vec![file.clone()]), None, Mode::ReadOnly).unwrap();
    assert_eq!(read.disk().files()[0][88], 0x80);
    let written = open(Disk::new(vec![file]), None, Mode::ReadWrite).unwrap();
    assert_eq!(written.disk().files()[0][88], 0);
}

#[test]
fn relinked_images_name_the_new_parent_and_keep_what_is_not_known() {
    use stampede_plugin::{ParentHint, ParentRef};
    let parent = Some(vec![9; 1 << 20]);
    let mut bench = Bench::new(Config { parent, ..Config::plain(CLUSTER, 1 << 20) });
    bench.write(0, &[1; 512]);
    for name in ["elsewhere/other-parent-with-a-longer-name.raw", "p.raw"] {
        let hint = ParentHint { kind: "relative".into(), name: name.into() };
        let format = Some("raw".to_string());
        let link = ParentRef { hints: vec![hint], format, identity: None, virtual_size: None };
        bench.job(Job::Relink(link)).unwrap();
        let opened = bench.model.opened().unwrap().parent.clone().unwrap();
        assert_eq!((opened.hints[0].name.as_str(), opened.format.as_deref()), (name, Some("raw")));
        bench.verify();
    }
    bench.judge.put(bench.model.disk().files(), None);
    let text = bench.judge.run("qemu-img", &["info", "-U", "image.qcow2"]);
    assert!(text.contains("backing file: p.raw") && text.contains("backing file format: raw"), "{text}");
    bench.judge.run("cp", &["image.qcow2", "copy.qcow2"]);
}
