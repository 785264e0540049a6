//! What must hold for any bytes. The fuzz targets run these, and so do the property tests of the normal suite.

use stampede_verify::{OpKind, Outcome, Plan, SECTOR, Stamp, VerifyConfig};

/// Any sector is read without a panic; what is read as a stamp is written as one that reads the same; and a stamp with a
/// byte changed is none.
pub(crate) fn stamp(bytes: &[u8]) {
    let Some((sector, rest)) = bytes.split_first_chunk::<SECTOR>() else { return };
    let Ok(stamp) = Stamp::parse(sector) else { return };
    let mut again = [0; SECTOR];
    stamp.write(&mut again);
    assert_eq!(Stamp::parse(&again), Ok(stamp));
    let _ = (stamp.belongs_to(stamp.lba, usize::from(stamp.sector)), stamp.belongs_to(u64::MAX, 0));
    if let [at, flip, ..] = rest
        && *flip != 0
    {
        let at = usize::from(*at) * 2;
        again[at] ^= flip;
        assert_ne!(Stamp::parse(&again), Ok(stamp), "byte {at}");
    }
}

/// Whatever a target gives for a read, the plan says right or wrong and goes on; the truth is never wrong afterwards.
pub(crate) fn plan(bytes: &[u8]) {
    let Some(([seed, shape, depth], mut answers)) = bytes.split_first_chunk() else { return };
    let config = VerifyConfig {
        seed: u64::from(*seed),
        run: 7,
        client: 1,
        first_lba: 5,
        blocks: 64,
        block_size: if shape & 1 == 0 { 512 } else { 4096 },
        depth: 1 + u32::from(*depth % 8),
        transfer_max: 16,
        unmap_max: 64,
        write_same_max: 64,
        unmapped_is_zero: shape & 2 == 0,
        syncs: true,
    };
    let mut plan = Plan::new(config).expect("a plan");
    let mut flight = Vec::new();
    while let Some((choice, rest)) = answers.split_first() {
        answers = rest;
        match plan.next() {
            Some(op) if choice & 1 == 0 => flight.push(op),
            found => {
                flight.extend(found);
                let op = flight.swap_remove(usize::from(*choice) % flight.len());
                let mut data = vec![0; op.blocks as usize * plan.config().block_size as usize];
                plan.fill(&op, &mut data);
                let answer = answers.len().min(data.len());
                data[..answer].copy_from_slice(&answers[..answer]);
                let outcome = match choice >> 1 & 7 {
                    0 => Outcome::Unknown,
                    1 => Outcome::Failed,
                    2 => Outcome::Refused,
                    3 => Outcome::Good(&data[..data.len() / 2]),
                    _ => Outcome::Good(&data),
                };
                let judged = plan.complete(op.id, outcome);
                assert!(judged.is_ok() || op.kind == OpKind::Read, "only reads are judged");
                assert!(plan.find(op.id).is_err(), "it is not in flight any more");
                if let Err(mismatch) = judged {
                    assert!(!mismatch.to_string().is_empty() && mismatch.blocks_wrong >= 1);
                }
            }
        }
    }
}
