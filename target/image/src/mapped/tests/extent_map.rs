//! The extent map against an array with a place for each sector.

use proptest::prelude::*;
use stampede_plugin::{Absent, BitOrder, Bitmap, Codec, Extent, FileId, Place, Range};

use super::super::{ExtentMap, Piece};

const SECTORS: u64 = 64;
const SECTOR: u64 = 512;

/// Places whose bytes go on from extent to extent now and then.
fn place(kind: u8, first: u64) -> Place {
    let file = FileId::MAIN;
    match kind {
        0 => Place::Zero,
        1 => Place::Parent,
        2 => Place::Data { file, offset: first * SECTOR, in_place: true },
        3 => Place::Data { file, offset: (first + 1000) * SECTOR, in_place: false },
        4 => Place::Packed { codec: Codec::Zstd, file, offset: 7, length: 99, unpacked: 1 << 20, skip: 0 },
        _ => Place::Sparse {
            file,
            offset: first * SECTOR,
            bitmap: Bitmap {
                file,
                offset: first / 8,
                first_bit: (first % 8) as u8,
                order: BitOrder::MsbFirst,
                unit: 512,
            },
            absent: Absent::Parent,
        },
    }
}

fn range(first: u64, count: u64) -> Range {
    Range { offset: first * SECTOR, length: count * SECTOR }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64, u8),
    Forget(u64, u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let stretch = (0..SECTORS).prop_flat_map(|first| (Just(first), 1..=SECTORS - first));
    let op = prop_oneof![
        4 => (stretch.clone(), 0..6_u8).prop_map(|((first, count), kind)| Op::Insert(first, count, kind)),
        1 => stretch.prop_map(|(first, count)| Op::Forget(first, count)),
    ];
    prop::collection::vec(op, 1..40)
}

proptest! {
    #[test]
    fn each_sector_lies_where_it_was_last_said_to(ops in ops()) {
        let mut map = ExtentMap::new(1000);
        let mut plain: Vec<Option<Place>> = vec![None; SECTORS as usize];
        for op in ops {
            match op {
                Op::Insert(first, count, kind) => {
                    let extent = Extent { range: range(first, count), place: place(kind, first) };
                    map.insert(extent);
                    for sector in first..first + count {
                        plain[sector as usize] = Some(extent.cut(range(sector, 1)).place);
                    }
                }
                Op::Forget(first, count) => {
                    map.forget(range(first, count));
                    plain[first as usize..(first + count) as usize].fill(None);
                }
            }
            check(&map, &plain, 0, SECTORS)?;
            check(&map, &plain, 5, 17)?;
        }
    }
}

fn check(map: &ExtentMap, plain: &[Option<Place>], first: u64, count: u64) -> Result<(), TestCaseError> {
    let mut at = first * SECTOR;
    for piece in map.pieces(range(first, count)) {
        let covered = match piece {
            Piece::Known(extent) => extent.range,
            Piece::Unknown(range) => range,
        };
        prop_assert_eq!(covered.offset, at);
        for sector in covered.offset / SECTOR..covered.end() / SECTOR {
            let found = match piece {
                Piece::Known(extent) => Some(extent.cut(range(sector, 1)).place),
                Piece::Unknown(_) => None,
            };
            prop_assert_eq!(found, plain[sector as usize], "sector {}", sector);
        }
        at = covered.end();
    }
    prop_assert_eq!(at, (first + count) * SECTOR);
    Ok(())
}

#[test]
fn neighbours_that_go_on_are_one_extent() {
    let mut map = ExtentMap::new(1000);
    for first in [0, 2, 1, 3] {
        map.insert(Extent { range: range(first, 1), place: place(2, first) });
    }
    assert_eq!(map.len(), 1);
    for first in [5, 4] {
        map.insert(Extent { range: range(first, 1), place: place(5, first) });
    }
    assert_eq!(map.len(), 2);
}

#[test]
fn a_full_map_begins_anew() {
    let mut map = ExtentMap::new(4);
    for first in 0..50 {
        map.insert(Extent { range: range(2 * first, 1), place: Place::Zero });
        assert!(map.len() <= 4);
        assert!(matches!(map.pieces(range(2 * first, 1))[..], [Piece::Known(_)]));
    }
}
