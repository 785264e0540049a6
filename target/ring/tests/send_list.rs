//! Send lists against a model: whatever is pinned, joined and sent short, the bytes come out in order, once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the whole file is tests")]

use proptest::prelude::*;
use stampede_ring::{Pool, PoolConfig, SendList};

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
