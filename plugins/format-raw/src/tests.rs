//! Raw images on the model host.
#![allow(clippy::unwrap_used, reason = "tests")]
extern crate std;

use alloc::{vec, vec::Vec};

use stampede_plugin::{
    Change, Created, Identity, Job, Mode, Range,
    model::{Disk, Model, ModelError},
};

use super::Raw;

fn created(virtual_size: u64) -> Model<Raw> {
    let mut model = Model::new(Raw::default(), Disk::new(vec![vec![]]));
    let identity = Identity { id: [7; 16], time: None };
    model.job(Job::Create(Created { virtual_size, options: vec![], parent: None, identity })).unwrap();
    let mut model = Model::new(Raw::default(), model.into_disk());
    model.open(Mode::ReadWrite).unwrap();
    model
}

#[test]
fn what_is_written_is_read_and_a_hole_is_zeros() {
    let mut model = created(64 << 10);
    model.write(512, &[1; 1024]).unwrap();
    model.write(8192, &[2; 8192]).unwrap();
    model.change(Range { offset: 8192, length: 4096 }, Change::Unmap).unwrap();
    model.change(Range { offset: 512, length: 512 }, Change::Zero).unwrap();
    model.flush().unwrap();
    let read = model.read(Range { offset: 0, length: 20480 }).unwrap();
    let mut expected = vec![0; 20480];
    expected[1024..1536].fill(1);
    expected[12288..16384].fill(2);
    assert!(read == expected);
}

#[test]
fn what_is_written_after_an_unmap_stays() {
    let mut model = created(16 << 10);
    model.write(4096, &[1; 4096]).unwrap();
    model.change(Range { offset: 4096, length: 4096 }, Change::Unmap).unwrap();
    model.write(4096, &[2; 4096]).unwrap();
    model.flush_all().unwrap();
    assert!(model.read(Range { offset: 4096, length: 4096 }).unwrap() == [2; 4096]);
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    for bad in [0, 513] {
        let mut model = Model::new(Raw::default(), Disk::new(vec![vec![0; bad]]));
        assert!(matches!(model.open(Mode::ReadOnly), Err(ModelError::Fail(_))), "{bad} bytes");
    }
}

#[test]
fn what_was_flushed_is_there_in_every_crash_state() {
    let mut model = created(4096);
    for number in 1..=3_u8 {
        model.write(u64::from(number) * 512, &[number; 512]).unwrap();
        model.mark(number.into());
        model.flush().unwrap();
    }
    let disk = model.into_disk();
    let states = disk.crash_states(1, |state| {
        for number in 1..=state.durable.unwrap_or(0) {
            let at = usize::try_from(number).unwrap() * 512;
            let found: Vec<u8> = state.files[0][at..at + 512].to_vec();
            if found.iter().any(|&byte| u64::from(byte) != number) {
                return Err(state.name);
            }
        }
        Ok(())
    });
    assert!(states.unwrap() > 3);
}
