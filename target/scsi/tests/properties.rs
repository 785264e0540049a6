//! Properties over any CDB and any parameter list: nothing panics, and what comes out keeps its promises.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::*;
use proptest::prelude::*;
use stampede_scsi::cdb::{Transfer, data_direction_and_len, takes_parameter_list};
use stampede_scsi::{Alua, Blocks, Device, DeviceConfig, Identity, Media, SavedState, Status, Step};

fn inside(device: &Device, range: Blocks) -> bool {
    range.count > 0
        && range.lba.checked_add(u64::from(range.count)).is_some_and(|end| end <= device.config().blocks)
}

fn check(device: &Device, cdb: &[u8; 16], data_out_len: u32, step: &Step) {
    let block_size = u64::from(device.config().block_size);
    let transfer = data_direction_and_len(cdb, device.config().block_size);
    match step {
        Step::Done(reply) | Step::Fence(stampede_scsi::Fence { reply, .. }) => {
            assert_eq!(reply.sense.is_some(), reply.status == Status::CheckCondition);
            match transfer {
                Transfer::In(bytes) => assert!(reply.data.len() as u64 <= bytes),
                _ => assert!(reply.data.is_empty()),
            }
            if let Some(sense) = reply.sense {
                assert!(sense.encode_fixed().len() == 18 && sense.encode_descriptor().len() <= 40);
            }
        }
        Step::Sanitize { immediate } => {
            assert_eq!((cdb[0], *immediate), (0x48, cdb[1] & 0x80 != 0));
            assert!(device.sanitizing().is_some() && !device.write_protected());
        }
        Step::Copy => assert!(matches!(cdb[0], 0x83 | 0x84)),
        Step::Save(_) | Step::Wait => panic!("nothing is being saved"),
        Step::Media(Media::Unmap { ranges }) => {
            assert!(!ranges.is_empty() && ranges.iter().all(|range| inside(device, *range)));
        }
        Step::Media(media) => {
            if let Some(range) = media.range() {
                assert!(inside(device, range), "{media:?}");
                let bytes = u64::from(range.count) * block_size;
                match media {
                    Media::Read { .. } => assert_eq!(transfer, Transfer::In(bytes)),
                    Media::Write { .. } | Media::WriteVerify { .. } | Media::OrWrite { .. } => {
                        assert!(bytes <= u64::from(data_out_len));
                    }
                    Media::CompareWrite { .. } => assert_eq!(u64::from(data_out_len), 2 * bytes),
                    _ => {}
                }
            }
            assert!(!(media.writes() && device.write_protected()), "{media:?}");
        }
    }
}

/// CDBs with a known operation code more often than by chance, and addresses near the end.
fn any_cdb() -> impl Strategy<Value = [u8; 16]> {
    let known = prop::sample::select(vec![
        0x00u8, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2E, 0x2F,
        0x34, 0x35, 0x37, 0x41, 0x42, 0x48, 0x4D, 0x55, 0x56, 0x57, 0x5A, 0x5E, 0x5F, 0x83, 0x84, 0x88, 0x89,
        0x8A, 0x8B, 0x8E, 0x8F, 0x90, 0x91, 0x93, 0x9E, 0xA0, 0xA3, 0xA4, 0xA8, 0xAA, 0xAE, 0xAF, 0xB7,
    ]);
    (any::<[u8; 16]>(), prop_oneof![8 => known, 1 => any::<u8>()], any::<u16>(), any::<bool>()).prop_map(
        |(mut cdb, opcode, mask, tame)| {
            cdb[0] = opcode;
            if tame {
                // Small addresses and lengths, flags mostly zero.
                for (i, byte) in cdb.iter_mut().enumerate().skip(1) {
                    if mask & (1 << i) == 0 {
                        *byte = 0;
                    }
                }
            }
            cdb
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_command_keeps_the_promises(
        commands in prop::collection::vec(
            (any_cdb(), prop::collection::vec(any::<u8>(), 0..80), any::<u16>(), 0u64..3), 1..12),
        blocks in 1u64..200,
        big in any::<bool>(),
        thin in any::<bool>(),
        read_only in any::<bool>(),
        durable in any::<bool>(),
    ) {
        let blocks = if big { (1 << 40) + blocks } else { blocks };
        let block_size = if thin { 512 } else { 4096 };
        let base = DeviceConfig::new(Identity::default(), blocks);
        let mut device = Device::new(DeviceConfig { thin, read_only, block_size, durable, alua: Alua::Explicit, ..base });
        for n in 1..3 {
            device.attach(stampede_scsi::NexusId(n), port(n as u8));
        }
        for (cdb, param, out, nexus) in commands {
            let (param, out) = if takes_parameter_list(&cdb) { (&param[..], param.len() as u32) } else { (&[][..], u32::from(out)) };
            let before = device.write_protected();
            let mut step = device.start(stampede_scsi::NexusId(nexus), &cdb, out, param);
            if let Step::Save(state) = step {
                prop_assert!(SavedState::decode(&state).is_ok());
                step = device.saved(out % 3 > 0);
            }
            if before == device.write_protected() {
                check(&device, &cdb, out, &step);
            }
            if matches!(step, Step::Sanitize { .. }) {
                device.sanitize_progress(u16::from(cdb[15]));
                if cdb[15].is_multiple_of(2) && matches!(device.sanitize_ended(cdb[15].is_multiple_of(4)), Step::Save(_)) {
                    device.saved(cdb[15].is_multiple_of(8));
                }
            }
        }
    }

    #[test]
    fn a_read_of_blocks_that_exist_is_started(lba in 0u64..BLOCKS, count in 1u32..=256) {
        let mut device = unit();
        let mut cdb = [0u8; 16];
        cdb[0] = 0x88;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&count.to_be_bytes());
        let step = device.start(A, &cdb, 0, &[]);
        let fits = lba + u64::from(count) <= BLOCKS;
        prop_assert_eq!(step == Step::Media(Media::Read { range: Blocks { lba, count } }), fits);
    }
}
