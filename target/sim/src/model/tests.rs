//! The model, judged by hand-made histories.

use super::*;

fn value(generation: u64) -> Value {
    Value::Written { writer: 1, generation }
}

fn data(generation: u64) -> Vec<u8> {
    Stamp::write(5, 1, 1, generation)
}

fn model() -> ModelDisk {
    ModelDisk::new(16, Value::Zero)
}

fn write(model: &mut ModelDisk, generation: u64) {
    let id = model.begin_write(5, 1, value(generation));
    model.finish_write(id, false);
}

fn read(model: &mut ModelDisk, bytes: &[u8]) -> bool {
    let id = model.begin_read(5, 1);
    model.finish_read(id, bytes).is_ok()
}

fn flush(model: &mut ModelDisk) {
    let id = model.begin_flush();
    model.finish_flush(id);
}

#[test]
fn reads_see_the_last_write() {
    let mut model = model();
    assert!(read(&mut model, &[0; 512]));
    write(&mut model, 1);
    assert!(!read(&mut model, &[0; 512]));
    assert!(read(&mut model, &data(1)));
    write(&mut model, 2);
    assert!(!read(&mut model, &data(1)));
    assert!(read(&mut model, &data(2)));
    assert!(!read(&mut model, &data(3)));
}

#[test]
fn foreign_and_torn_sectors_are_named() {
    let mut model = model();
    write(&mut model, 1);
    let id = model.begin_read(5, 1);
    let foreign = Stamp::write(6, 1, 1, 1);
    let Err(CheckError::Divergence(divergence)) = model.finish_read(id, &foreign) else { panic!("not seen") };
    assert_eq!(divergence.found, Found::Foreign(Stamp { lba: 6, writer: 1, generation: 1 }));
    assert!(divergence.to_string().contains("sector 5"));
    let mut torn = data(1);
    torn[256..].fill(0);
    assert!(!read(&mut model, &torn));
    let id = model.begin_read(5, 1);
    assert_eq!(model.finish_read(id, &[]), Err(CheckError::Length { found: 0, asked: 512 }));
}

#[test]
fn a_write_in_flight_may_be_seen_but_not_unseen() {
    let mut model = model();
    write(&mut model, 1);
    let id = model.begin_write(5, 1, value(2));
    assert!(read(&mut model, &data(1)));
    assert!(read(&mut model, &data(2)));
    assert!(!read(&mut model, &data(1)), "what was seen new stays new");
    model.finish_write(id, false);
    assert!(read(&mut model, &data(2)));
}

#[test]
fn concurrent_writes_end_in_any_order_but_stay() {
    let mut model = model();
    let (one, two) = (model.begin_write(5, 1, value(1)), model.begin_write(5, 1, value(2)));
    model.finish_write(two, false);
    model.finish_write(one, false);
    assert!(!read(&mut model, &[0; 512]));
    assert_eq!(model.allowed(5).len(), 2);
    assert!(read(&mut model, &data(2)));
    assert!(!read(&mut model, &data(1)));
}

#[test]
fn a_read_that_began_earlier_may_see_more() {
    let mut model = model();
    let slow = model.begin_read(5, 1);
    write(&mut model, 1);
    write(&mut model, 2);
    flush(&mut model);
    assert_eq!(model.finish_read(slow, &data(1)), Ok(()));
    assert!(!read(&mut model, &data(1)));
}

#[test]
fn a_zombie_is_seen() {
    let mut model = model();
    let zombie = model.begin_write(5, 1, value(1));
    model.abandon_write(zombie);
    write(&mut model, 2);
    assert!(!read(&mut model, &data(1)));
    let lost = model.begin_write(5, 1, value(3));
    model.abandon_write(lost);
    assert!(read(&mut model, &data(2)));
    assert!(!read(&mut model, &data(3)), "it was not done when it was read, so it must not be done later");
}

#[test]
fn a_refused_write_does_nothing() {
    let mut model = model();
    let refused = model.begin_write(5, 1, value(1));
    model.refuse_write(refused);
    assert!(!read(&mut model, &data(1)));
}

#[test]
fn a_crash_leaves_what_was_flushed_or_later() {
    let crashed = |bytes: &[u8]| {
        let mut model = model();
        write(&mut model, 1);
        write(&mut model, 2);
        flush(&mut model);
        write(&mut model, 3);
        write(&mut model, 4);
        let _in_flight = model.begin_write(5, 1, value(5));
        model.crash();
        read(&mut model, bytes)
    };
    assert!(!crashed(&[0; 512]));
    assert!(!crashed(&data(1)));
    for generation in 2..=5 {
        assert!(crashed(&data(generation)), "{generation}");
    }
}

#[test]
fn what_a_crash_left_stays() {
    let mut model = model();
    write(&mut model, 1);
    write(&mut model, 2);
    model.crash();
    assert_eq!(model.allowed(5).len(), 3);
    assert!(read(&mut model, &data(1)));
    assert!(!read(&mut model, &data(2)));
    model.crash();
    assert!(!read(&mut model, &data(2)), "not even another crash brings it back");
    assert!(read(&mut model, &data(1)));
    write(&mut model, 3);
    assert!(read(&mut model, &data(3)));
}

#[test]
fn fua_and_kill_keep_what_was_answered() {
    let mut model = model();
    let id = model.begin_write(5, 1, value(1));
    model.finish_write(id, true);
    model.crash();
    assert_eq!(model.allowed(5), [value(1)]);
    write(&mut model, 2);
    model.kill();
    assert_eq!(model.allowed(5), [value(2)]);
}

#[test]
fn a_flush_covers_only_what_was_answered_before_it_began() {
    let mut model = model();
    let flush = model.begin_flush();
    write(&mut model, 1);
    model.finish_flush(flush);
    model.crash();
    assert_eq!(model.allowed(5), [Value::Zero, value(1)]);
}

#[test]
fn an_unmap_may_be_done_or_not() {
    let mut model = model();
    write(&mut model, 1);
    let id = model.begin_unmap(5, 1);
    model.finish_write(id, false);
    assert!(read(&mut model, &[0; 512]));
    assert!(!read(&mut model, &data(1)));
    let id = model.begin_write(5, 1, Value::Zero);
    model.finish_write(id, false);
    flush(&mut model);
    assert_eq!(model.allowed(5), [Value::Zero]);
}

#[test]
fn history_does_not_grow() {
    let mut model = model();
    for generation in 0..1_000 {
        write(&mut model, generation);
        if generation % 8 == 0 {
            flush(&mut model);
        }
    }
    assert!(model.touched[&5].versions.len() < 16);
    assert_eq!(model.in_flight(), 0);
}
