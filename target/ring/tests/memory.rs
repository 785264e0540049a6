//! Pools and buffers: sharing, exhaustion, other threads, and a comparison with a model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

use proptest::prelude::*;
use stampede_ring::{Buffer, IoMemory, Pool, PoolConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

fn pool(slots: u32) -> Arc<Pool> {
    Pool::new(PoolConfig { slot_len: 4096, slots }).unwrap()
}

#[test]
fn impossible_shapes_are_refused() {
    for (slot_len, slots) in [(0, 1), (4097, 1), (512, 8), (4096, u32::MAX)] {
        assert!(Pool::new(PoolConfig { slot_len, slots }).is_err(), "{slot_len} x {slots}");
    }
}

#[test]
fn an_exhausted_pool_gives_none_until_a_slot_returns() {
    let pool = pool(2);
    let first = pool.take().unwrap();
    let second = pool.take().unwrap();
    assert!(pool.take().is_none());
    assert_eq!(pool.in_use(), 2);
    drop(first);
    assert_eq!(pool.in_use(), 1);
    assert!(pool.take().is_some());
    drop(second);
}

#[test]
fn a_shared_slot_is_read_only_and_returns_with_its_last_handle() {
    let pool = pool(1);
    let mut first = pool.take().unwrap();
    first.bytes_mut().unwrap().fill(7);
    let second = first.clone();
    assert!(first.is_shared() && second.is_shared());
    assert!(first.bytes_mut().is_none());
    assert_eq!(second.bytes(), [7; 4096]);
    drop(second);
    assert!(!first.is_shared());
    assert!(first.bytes_mut().is_some());
    assert!(pool.take().is_none());
    drop(first);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_buffer_outlives_its_pools_last_name() {
    let pool = pool(4);
    let weak = Arc::downgrade(&pool);
    let mut buffer = pool.take().unwrap();
    drop(pool);
    buffer.bytes_mut().unwrap()[4095] = 1;
    let clone = buffer.clone();
    drop(buffer);
    assert_eq!(clone.bytes()[4095], 1);
    assert!(weak.upgrade().is_some());
    drop(clone);
    assert!(weak.upgrade().is_none(), "the pool went with its last buffer");
}

#[test]
fn a_warm_slot_is_used_again_first() {
    let pool = pool(8);
    let mut buffer = pool.take().unwrap();
    buffer.bytes_mut().unwrap()[0] = 42;
    let address = buffer.bytes().as_ptr();
    drop(buffer);
    assert_eq!(pool.take().unwrap().bytes().as_ptr(), address);
}

#[test]
fn buffers_cross_threads() {
    const ROUNDS: usize = 20_000;
    let pool = pool(16);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Buffer>(8);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for buffer in receiver {
                let copy = buffer.clone();
                let value = copy.bytes()[0];
                assert!(copy.bytes()[..64].iter().all(|&byte| byte == value), "torn by another holder");
                drop(buffer);
            }
        });
        let mut sent = 0;
        while sent < ROUNDS {
            let Some(mut buffer) = pool.take() else {
                std::thread::yield_now();
                continue;
            };
            buffer.bytes_mut().unwrap()[..64].fill(sent as u8);
            sender.send(buffer).unwrap();
            sent += 1;
        }
        drop(sender);
    });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn threads_that_take_and_drop_never_share_a_slot() {
    let pool = pool(6);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if let Some(mut buffer) = pool.take() {
                        buffer.bytes_mut().unwrap()[..32].fill(thread);
                        std::hint::spin_loop();
                        assert!(buffer.bytes()[..32].iter().all(|&byte| byte == thread));
                    }
                }
            });
        }
    });
    assert_eq!(pool.in_use(), 0);
    let all: Vec<_> = (0..6).map(|_| pool.take().unwrap()).collect();
    assert!(pool.take().is_none());
    drop(all);
}

#[test]
fn io_memory_gives_the_smallest_that_fits() {
    let memory = IoMemory::new(16 << 20).unwrap();
    for (len, expected) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 16 << 10), (100_000, 256 << 10)] {
        assert_eq!(memory.take(len).unwrap().len(), expected, "{len}");
    }
    assert!(memory.take(IoMemory::BUFFER_MAX + 1).is_none());
    // With the small ones gone, larger ones serve.
    let small: Vec<_> = std::iter::from_fn(|| memory.pools()[0].take()).collect();
    assert_eq!(memory.take(512).unwrap().len(), 16 << 10);
    drop(small);
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    Share(usize),
    Write(usize, u8),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Take),
        any::<usize>().prop_map(Step::Share),
        (any::<usize>(), any::<u8>()).prop_map(|(which, byte)| Step::Write(which, byte)),
        any::<usize>().prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: which slot (by address) holds which byte, and how many handles it has.
    #[test]
    fn behaves_like_its_model(steps in prop::collection::vec(step(), 1..200), slots in 1u32..6) {
        let pool = pool(slots);
        let mut handles: Vec<Buffer> = Vec::new();
        let mut model: BTreeMap<usize, (u8, usize)> = BTreeMap::new();
        let key = |buffer: &Buffer| buffer.bytes().as_ptr() as usize;
        for step in steps {
            match step {
                Step::Take => match pool.take() {
                    Some(buffer) => {
                        let fresh = model.insert(key(&buffer), (buffer.bytes()[9], 1)).is_none();
                        prop_assert!(fresh, "a slot in use was handed out");
                        handles.push(buffer);
                    }
                    None => prop_assert_eq!(model.len(), slots as usize),
                },
                Step::Share(which) if !handles.is_empty() => {
                    let clone = handles[which % handles.len()].clone();
                    model.get_mut(&key(&clone)).unwrap().1 += 1;
                    handles.push(clone);
                }
                Step::Write(which, byte) if !handles.is_empty() => {
                    let index = which % handles.len();
                    let entry = model.get_mut(&key(&handles[index])).unwrap();
                    match handles[index].bytes_mut() {
                        Some(bytes) => {
                            prop_assert_eq!(entry.1, 1);
                            bytes[9] = byte;
                            entry.0 = byte;
                        }
                        None => prop_assert!(entry.1 > 1),
                    }
                }
                Step::Drop(which) if !handles.is_empty() => {
                    let buffer = handles.swap_remove(which % handles.len());
                    let entry = model.get_mut(&key(&buffer)).unwrap();
                    entry.1 -= 1;
                    if entry.1 == 0 {
                        model.remove(&key(&buffer));
                    }
                }
                _ => {}
            }
            prop_assert_eq!(pool.in_use() as usize, model.len());
            for buffer in &handles {
                prop_assert_eq!(buffer.bytes()[9], model[&key(buffer)].0);
            }
        }
    }
}
