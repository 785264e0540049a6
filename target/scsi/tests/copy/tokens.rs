//! POPULATE TOKEN, WRITE USING TOKEN and what they leave behind.

use crate::common::*;
use crate::desk::*;
use proptest::prelude::*;
use stampede_scsi::{Blocks, NexusId, Reply, Status};

type Range = (u64, u32);

fn ranges(list: &mut Vec<u8>, ranges: &[Range]) {
    list.extend_from_slice(&(ranges.len() as u16 * 16).to_be_bytes());
    for (lba, count) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    let length = (list.len() as u16 - 2).to_be_bytes();
    list[..2].copy_from_slice(&length);
}

fn populate(desk: &mut Desk, unit: usize, nexus: NexusId, list: &[u8]) -> Reply {
    desk.send(unit, nexus, &cdb(0x83, 0x10, (6, 77), list.len()), list)
}

fn populating(of: &[Range]) -> Vec<u8> {
    let mut list = vec![0; 14];
    ranges(&mut list, of);
    list
}

/// A token for these ranges of a unit.
fn token(desk: &mut Desk, unit: usize, of: &[Range]) -> Vec<u8> {
    assert_eq!(populate(desk, unit, A, &populating(of)).status, Status::Good);
    let told = desk.send(unit, A, &cdb(0x84, 0x07, (2, 77), 4096), &[]).data;
    assert_eq!((told.len(), told[5], told[15]), (32 + 4 + 2 + 512, 0x01, 0xF1));
    let blocks: u64 = of.iter().map(|(_, count)| u64::from(*count)).sum();
    assert_eq!(told[16..24], blocks.to_be_bytes());
    told[38..].to_vec()
}

fn using(token: &[u8], offset: u64, to: &[Range]) -> Vec<u8> {
    let mut list = vec![0; 8];
    list.extend_from_slice(&offset.to_be_bytes());
    list.extend_from_slice(token);
    list.extend_from_slice(&[0; 6]);
    ranges(&mut list, to);
    list
}

fn write(desk: &mut Desk, unit: usize, nexus: NexusId, list: &[u8]) -> Reply {
    desk.send(unit, nexus, &cdb(0x83, 0x11, (6, 78), list.len()), list)
}

fn zero_token() -> Vec<u8> {
    let mut token = vec![0; 512];
    token[..4].copy_from_slice(&0xFFFF_0001u32.to_be_bytes());
    token[6..8].copy_from_slice(&0x01F8u16.to_be_bytes());
    token
}

#[test]
fn a_token_moves_data_within_a_unit_and_to_another() {
    let mut desk = Desk::new(&[8192, 8192]);
    let before = [desk.bytes(0, 100, 10), desk.bytes(0, 3000, 3000)].concat();
    let token = token(&mut desk, 0, &[(100, 10), (3000, 3000)]);
    assert_eq!(write(&mut desk, 1, A, &using(&token, 0, &[(7, 3010)])).status, Status::Good);
    assert_eq!(desk.bytes(1, 7, 3010), before);
    // Anybody who has it may use it; OFFSET INTO ROD counts blocks.
    assert_eq!(write(&mut desk, 0, B, &using(&token, 9, &[(0, 2), (7000, 1)])).status, Status::Good);
    assert_eq!([desk.bytes(0, 0, 2), desk.bytes(0, 7000, 1)].concat(), before[9 * 512..12 * 512]);
    let told = desk.send(0, B, &cdb(0x84, 0x07, (2, 78), 4096), &[]).data;
    assert_eq!((told[4], told[5], told[15]), (0x11, 0x01, 0xF1));
    assert_eq!(told[16..24], 3u64.to_be_bytes());
    assert_eq!(told[32..], [0; 4]);
}

#[test]
fn a_write_to_its_blocks_revokes_a_token_and_no_other_write_does() {
    let mut desk = Desk::new(&[4096]);
    let (one, two) = (token(&mut desk, 0, &[(10, 10)]), token(&mut desk, 0, &[(30, 10)]));
    desk.write(0, 20, 10);
    assert_eq!(write(&mut desk, 0, A, &using(&one, 0, &[(1000, 10)])).status, Status::Good);
    desk.write(0, 19, 1);
    assert_eq!(codes(&write(&mut desk, 0, A, &using(&one, 0, &[(1000, 10)]))), (0x05, 0x23, 0x06));
    assert_eq!(write(&mut desk, 0, A, &using(&two, 0, &[(1000, 10)])).status, Status::Good);
    // A copy onto its own blocks is a write to them, too.
    assert_eq!(write(&mut desk, 0, A, &using(&two, 0, &[(35, 10)])).status, Status::Good);
    assert_eq!(codes(&write(&mut desk, 0, A, &using(&two, 0, &[(1000, 10)]))), (0x05, 0x23, 0x06));
}

#[test]
fn a_write_between_reading_and_writing_ends_the_copy() {
    let mut desk = Desk::new(&[8192, 8192]);
    let token = token(&mut desk, 0, &[(0, 6000)]);
    // Right before the second chunk would be written.
    desk.meanwhile = Some(|desk, ask| {
        let reads = desk.asked.iter().filter(|(_, cdb)| cdb[0] == 0x88).count();
        if reads == 2 && ask.cdb[0] == 0xC0 {
            desk.write(0, 1, 1);
        }
    });
    assert_eq!(codes(&write(&mut desk, 1, A, &using(&token, 0, &[(0, 6000)]))), (0x05, 0x23, 0x06));
    assert_eq!(desk.asked.iter().filter(|(_, cdb)| cdb[0] == 0x8A).count(), 1);
}

#[test]
fn a_change_under_way_makes_populating_wait() {
    let mut desk = Desk::new(&[4096]);
    desk.changing = Some(Blocks { lba: 30, count: 4 });
    let list = populating(&[(10, 1), (30, 4)]);
    assert_eq!(populate(&mut desk, 0, A, &list).status, Status::Busy);
    desk.changing = None;
    assert_eq!(populate(&mut desk, 0, A, &list).status, Status::Good);
}

#[test]
fn tokens_that_are_not_ours_are_refused() {
    let mut desk = Desk::new(&[4096, 4096]);
    let good = token(&mut desk, 0, &[(0, 10)]);
    let refused = |desk: &mut Desk, at: usize, value: u8| {
        let mut token = good.clone();
        token[at] = value;
        codes(&write(desk, 0, A, &using(&token, 0, &[(100, 10)])))
    };
    assert_eq!(refused(&mut desk, 1, 0x01), (0x05, 0x23, 0x01));
    assert_eq!(refused(&mut desk, 7, 0), (0x05, 0x23, 0x0A));
    assert_eq!(refused(&mut desk, 500, 0), (0x05, 0x23, 0x04));
    assert_eq!(refused(&mut desk, 60, 0xFF), (0x05, 0x23, 0x05));
    // It names a unit that the nexus does not see, or that did not make it.
    assert_eq!(refused(&mut desk, 16 + 8 + 15, 9), (0x05, 0x23, 0x04));
    assert_eq!(refused(&mut desk, 16 + 8 + 15, 1), (0x05, 0x23, 0x04));
    assert_eq!(write(&mut desk, 0, A, &using(&good, 0, &[(100, 10)])).status, Status::Good);
    let beyond = using(&good, 5, &[(100, 6)]);
    assert_eq!(parameter_field(&write(&mut desk, 0, A, &beyond)), (8, None));
}

#[test]
fn tokens_of_two_units_have_nothing_secret_in_common() {
    let mut desk = Desk::new(&[4096, 4096]);
    let (one, two) = (token(&mut desk, 0, &[(0, 1)]), token(&mut desk, 1, &[(0, 1)]));
    let three = token(&mut desk, 0, &[(0, 1)]);
    let secret = |token: &[u8]| token[496..511].to_vec();
    assert!(secret(&one) != secret(&two) && secret(&one) != secret(&three));
    // REPORT ALL ROD TOKENS tells which there are, and no secret.
    let all = desk.send(0, A, &cdb(0x84, 0x08, (2, 0), 4096), &[]).data;
    assert_eq!(all.len(), 8 + 2 * 96);
    assert_eq!(all[8..104], one[..96]);
}

#[test]
fn an_unused_token_ends_and_a_deleted_one_too() {
    const SECOND: u64 = 1_000_000_000;
    let mut desk = Desk::new(&[4096]);
    let token_ = token(&mut desk, 0, &[(0, 10)]);
    let list = using(&token_, 0, &[(100, 10)]);
    for _ in 0..3 {
        desk.now_ns += 59 * SECOND;
        assert_eq!(write(&mut desk, 0, A, &list).status, Status::Good);
    }
    desk.now_ns += 61 * SECOND;
    assert_eq!(codes(&write(&mut desk, 0, A, &list)), (0x05, 0x23, 0x04));
    let token_ = token(&mut desk, 0, &[(0, 10)]);
    let mut list = using(&token_, 0, &[(100, 10)]);
    list[2] = 0x02;
    assert_eq!(write(&mut desk, 0, A, &list).status, Status::Good);
    assert_eq!(codes(&write(&mut desk, 0, A, &list)), (0x05, 0x23, 0x04));
}

#[test]
fn tokens_are_bounded_the_oldest_goes_first() {
    let mut desk = Desk::new(&[4096]);
    let tokens: Vec<Vec<u8>> = (0..65).map(|at| token(&mut desk, 0, &[(at, 1)])).collect();
    let status = |desk: &mut Desk, token: &[u8]| write(desk, 0, A, &using(token, 0, &[(2000, 1)])).status;
    assert_eq!(status(&mut desk, &tokens[0]), Status::CheckCondition);
    assert_eq!(status(&mut desk, &tokens[1]), Status::Good);
    desk.units[0].0.reset();
    assert_eq!(codes(&send(&mut desk.units[0].0, A, &[0])).0, 0x06);
    assert_eq!(status(&mut desk, &tokens[64]), Status::CheckCondition);
}

#[test]
fn the_zero_token_writes_zeros() {
    let mut desk = Desk::new(&[0x1_0000]);
    let list = using(&zero_token(), 0, &[(5, 40_000), (50_000, 1)]);
    let between = desk.bytes(0, 40_005, 100);
    assert_eq!(write(&mut desk, 0, A, &list).status, Status::Good);
    assert!(desk.bytes(0, 5, 40_000).iter().all(|byte| *byte == 0));
    assert!(desk.bytes(0, 50_000, 1).iter().all(|byte| *byte == 0));
    assert_eq!(desk.bytes(0, 40_005, 100), between);
    // Within MAXIMUM WRITE SAME LENGTH, and deallocating, as the unit is thin.
    assert!(desk.asked.iter().all(|(_, cdb)| cdb[..2] == [0x93, 0x09]) && desk.asked.len() == 3);
}

#[test]
fn ranges_are_checked() {
    let mut desk = Desk::new(&[4096]);
    assert_eq!(codes(&populate(&mut desk, 0, A, &populating(&[(4000, 97)]))), (0x05, 0x21, 0x00));
    let overlapping = populating(&[(0, 10), (9, 1)]);
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, &overlapping)), (32, None));
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, &populating(&[]))), (14, None));
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, &populating(&[(1, 0)]))), (14, None));
    let mut list = populating(&[(0, 1)]);
    list[4] = 1;
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, &list)), (4, None));
    let mut list = populating(&[(0, 1)]);
    (list[2], list[9]) = (0x02, 0x01);
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, &list)), (8, None));
    let cut = &populating(&[(0, 1)])[..31];
    assert_eq!(parameter_field(&populate(&mut desk, 0, A, cut)), (14, None));
}

proptest! {
    // Media of megabytes: fewer cases than usual.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the ranges of token and destination are cut, the bytes go where they belong.
    #[test]
    fn ranges_of_any_cut_carry_the_same_bytes(
        from in proptest::collection::vec(1u32..900, 1..8),
        to in proptest::collection::vec(1u32..900, 1..8),
        offset in 0u64..500,
    ) {
        let mut desk = Desk::new(&[8000, 8000]);
        let spread = |counts: &[u32]| {
            let mut at = 0;
            counts.iter().map(|count| { at += u64::from(*count) + 3; (at - u64::from(*count), *count) }).collect::<Vec<_>>()
        };
        let (from, to) = (spread(&from), spread(&to));
        let data: Vec<u8> = from.iter().flat_map(|(lba, count)| desk.bytes(0, *lba, u64::from(*count))).collect();
        let wanted: usize = to.iter().map(|(_, count)| *count as usize * BLOCK).sum();
        let token = token(&mut desk, 0, &from);
        let reply = write(&mut desk, 1, A, &using(&token, offset, &to));
        let skip = offset as usize * BLOCK;
        if skip + wanted > data.len() {
            prop_assert_eq!(reply.status, Status::CheckCondition);
        } else {
            prop_assert_eq!(reply.status, Status::Good);
            let written: Vec<u8> =
                to.iter().flat_map(|(lba, count)| desk.bytes(1, *lba, u64::from(*count))).collect();
            prop_assert!(written == data[skip..skip + wanted]);
        }
    }
}
