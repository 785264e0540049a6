//! Send lists against a model: whatever is pinned, joined and sent short, the bytes come out in order, once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

use proptest::prelude::*;
use stampede_ring::{Pool, PoolConfig, SendList};

#[test]
fn cleared_buffers_go_back_each_to_its_pool() {
    let pool = |slots| Pool::new(PoolConfig { slot_len: 4096, slots }).unwrap();
    let (one, other) = (pool(5), pool(3));
    let mut list = SendList::new();
    let kept = one.take().unwrap();
    for round in 0..3 {
        for (from, count) in [(&one, 2), (&other, 2), (&one, 2), (&other, 1)] {
            (0..count).for_each(|_| {
                list.pin(from.take().unwrap());
            });
        }
        list.pin(kept.clone());
        assert!(one.take().is_none() && other.take().is_none(), "round {round}: all slots are in use");
        list.clear();
        assert_eq!((one.in_use(), other.in_use()), (1, 0), "round {round}");
    }
    assert!(!kept.is_shared());
    drop((kept, one));
    // Every slot is there once: the free list has neither lost one nor has one twice.
    let all: Vec<_> = (0..3).map(|_| other.take().unwrap()).collect();
    let mut addresses: Vec<_> = all.iter().map(|buffer| buffer.bytes().as_ptr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
    // A list may be the last that holds a pool.
    all.into_iter().for_each(|buffer| {
        list.pin(buffer);
    });
    drop(other);
    list.clear();
    assert_eq!(list.buffers_len(), 0);
}

#[test]
fn bytes_are_copied_into_what_is_not_shared() {
    let pool = Pool::new(PoolConfig { slot_len: 4096, slots: 2 }).unwrap();
    let mut list = SendList::new();
    let shared = pool.take().unwrap();
    let (first, second) = (list.pin(pool.take().unwrap()), list.pin(shared.clone()));
    assert!(list.copy(first, 4000, &[1; 48]) && list.copy(first, 4048, &[2; 48]));
    assert!(!list.copy(first, 4096 - 47, &[3; 48]), "it does not fit");
    assert!(!list.copy(second, 0, &[4; 48]), "it is shared");
    assert!(!list.copy(2, 0, &[5; 48]), "there is none");
    let slices: Vec<&[u8]> = list.slices().collect();
    assert_eq!(slices, [&[[1; 48], [2; 48]].concat()[..]], "what is adjacent is one piece");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_leave_in_order_and_once(
        pieces in prop::collection::vec((0u8..4, 0u32..4096, 0u32..600), 0..40),
        sends in prop::collection::vec(0u64..3000, 1..40),
        late in (0u8..4, 0u32..3000, 1u32..600),
    ) {
        let pool = Pool::new(PoolConfig { slot_len: 4096, slots: 4 }).unwrap();
        let mut list = SendList::new();
        let mut contents = Vec::new();
        for number in 0..4u32 {
            let mut buffer = pool.take().unwrap();
            let bytes: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(97)) as u8).collect();
            buffer.bytes_mut().unwrap().copy_from_slice(&bytes);
            list.pin(buffer);
            contents.push(bytes);
        }
        let mut expected = Vec::new();
        let add = |list: &mut SendList, expected: &mut Vec<u8>, (buffer, start, len): (u8, u32, u32)| {
            let len = len.min(4096 - start);
            list.segment(u16::from(buffer), start, len);
            expected.extend_from_slice(&contents[usize::from(buffer)][start as usize..(start + len) as usize]);
        };
        for piece in pieces {
            add(&mut list, &mut expected, piece);
        }
        let mut sent = 0;
        for (round, count) in sends.into_iter().enumerate() {
            let taken = count.min(list.bytes());
            list.advance(count);
            sent += taken as usize;
            prop_assert_eq!(list.bytes() as usize, expected.len() - sent);
            prop_assert_eq!(list.slices().flatten().copied().collect::<Vec<_>>(), &expected[sent..]);
            prop_assert!(list.slices().all(|slice| !slice.is_empty()));
            if round == 3 {
                // More may be added after a short send, also right behind what was just sent.
                add(&mut list, &mut expected, late);
            }
        }
        list.clear();
        prop_assert!(list.is_empty() && list.buffers_len() == 0);
        prop_assert_eq!(pool.in_use(), 0);
    }
}
