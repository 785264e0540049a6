//! The fuzz bodies as property tests, with bytes that are nearly stamps.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use proptest::prelude::*;
use stampede_verify::{ConfigError, Plan, SECTOR, Stamp, StampKind, VerifyConfig};

prop_compose! {
    fn near_stamp()(
        numbers: [u64; 4],
        small: [u32; 2],
        same: bool,
        sector: u16,
        tail in prop::collection::vec(any::<u8>(), 0..4),
        damage in prop::option::of((0..SECTOR, any::<u8>())),
    ) -> Vec<u8> {
        let [run, seed, lba, generation] = numbers;
        let kind = if same { StampKind::Same } else { StampKind::Own };
        let mut bytes = [0; SECTOR];
        Stamp { run, seed, lba, generation, client: small[0], blocks: small[1], kind, sector }.write(&mut bytes);
        if let Some((at, value)) = damage {
            bytes[at] = value;
        }
        [&bytes[..], &tail].concat()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sector_is_read(bytes in prop_oneof![near_stamp(), prop::collection::vec(any::<u8>(), 0..600)]) {
        bodies::stamp(&bytes);
    }

    #[test]
    fn any_answer_is_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bodies::plan(&bytes);
    }
}

#[test]
fn what_cannot_be_driven_is_refused_with_the_reason() {
    let good = VerifyConfig {
        seed: 1,
        run: 1,
        client: 0,
        first_lba: 0,
        blocks: 8,
        block_size: 512,
        depth: 1,
        transfer_max: 1,
        unmap_max: 0,
        write_same_max: 0,
        unmapped_is_zero: false,
        syncs: false,
    };
    assert!(Plan::new(good.clone()).is_ok());
    let refused = |config: VerifyConfig| Plan::new(config).expect_err("refused");
    assert_eq!(refused(VerifyConfig { block_size: 520, ..good.clone() }), ConfigError::BlockSize(520));
    assert_eq!(
        refused(VerifyConfig { blocks: 0, ..good.clone() }),
        ConfigError::Region { first: 0, blocks: 0 }
    );
    let beyond = VerifyConfig { first_lba: u64::MAX, ..good.clone() };
    assert!(refused(beyond).to_string().contains("ends beyond every address"));
    assert_eq!(refused(VerifyConfig { blocks: 1 << 25, ..good.clone() }), ConfigError::TooLarge(1 << 25));
    assert_eq!(refused(VerifyConfig { depth: 0, ..good.clone() }), ConfigError::Depth(0));
    assert_eq!(refused(VerifyConfig { transfer_max: 0, ..good }), ConfigError::Transfer);
}
