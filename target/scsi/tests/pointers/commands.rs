//! CDBs, one bit changed at a time.

use super::*;

/// Fields of more than one byte: first and last byte, by the CDB's length. Those of commands that have others come first.
const FIELDS: &[(&[u8], u16, u16)] = &[
    (&[0x12], 3, 4),
    (&[0x08, 0x0A], 1, 3),
    (&[0x4D], 5, 6),
    (&[0x5F], 5, 8),
    (&[0x9C], 10, 11),
    (&[0x9C], 12, 13),
    (&[0x83], 6, 9),
    (&[0x84], 2, 5),
    (&[0xA3], 4, 5),
];

/// First and last byte of the field that a byte is in.
fn field(cdb: &[u8], byte: u16) -> (u16, u16) {
    let inside = |first: u16, last: u16| (first..=last).contains(&byte).then_some((first, last));
    let own = FIELDS
        .iter()
        .filter(|(opcodes, ..)| opcodes.contains(&cdb[0]))
        .find_map(|(_, first, last)| inside(*first, *last));
    // COMPARE AND WRITE has its length in one byte.
    let usual: &[(u16, u16)] = match cdb.len() {
        10 => &[(2, 5), (7, 8)],
        12 => &[(2, 5), (6, 9)],
        16 if cdb[0] == 0x89 => &[(2, 9)],
        16 if matches!(cdb[0], 0x83 | 0x84) => &[(10, 13)],
        16 => &[(2, 9), (10, 13)],
        _ => &[],
    };
    // MODE SENSE, LOG SENSE, the reservations and the reports have fields of one byte where others have an address.
    let bytes = matches!(cdb[0], 0x48 | 0x4D | 0x5A | 0x5E | 0x5F | 0x37 | 0xA0 | 0xA3 | 0xA4 | 0xB7);
    let usual = usual.iter().filter(|(first, _)| !(bytes && *first == 2));
    own.or_else(|| usual.clone().find_map(|(first, last)| inside(*first, *last))).unwrap_or((byte, byte))
}

/// Every command that a unit reports: operation code, service action where there are any, usage data.
fn reported(device: &mut Device) -> Vec<Vec<u8>> {
    let all = send(device, A, &[0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]).data;
    let mut usages = Vec::new();
    for descriptor in all[4..].chunks_exact(8) {
        let options = if descriptor[5] & 1 == 0 { 0x01 } else { 0x02 };
        let one = [0xA3, 0x0C, options, descriptor[0], descriptor[2], descriptor[3], 0, 0, 0xFF, 0xFF];
        usages.push(send(device, A, &one).data[4..].to_vec());
    }
    usages
}

/// A CDB of a command that is done, and its parameter list.
fn right(usage: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cdb = vec![0; usage.len()];
    cdb[0] = usage[0];
    let mut list = Vec::new();
    match usage[0] {
        0x03 | 0x1A => cdb[4] = 252,
        0x12 => cdb[4] = 255,
        0x08 | 0x0A => cdb[4] = 1,
        0x15 | 0x55 => cdb[1] = 0x10,
        0x5F => {
            (cdb[1], cdb[8]) = (usage[1] & 0x1F, 24);
            if usage[2] != 0 {
                cdb[2] = 1;
            }
            list = vec![0; 24];
            list[15] = u8::from(matches!(cdb[1], 0 | 6));
        }
        0x48 | 0x5E | 0x83 | 0x84 | 0x9E | 0xA3 | 0xA4 => cdb[1] = usage[1] & 0x1F,
        _ => {}
    }
    if matches!(usage[0], 0x1A | 0x5A) {
        cdb[2] = 0x3F;
    }
    if cdb[..2] == [0x48, 0x01] {
        cdb[8] = 5;
        list = vec![1, 0, 0, 1, 7];
    }
    match usage[0] {
        0x4D | 0x5A | 0x5E | 0x37 => cdb[7] = 1,
        0x84 => cdb[12] = 4,
        0xA0 | 0xA3 | 0xB7 => cdb[8] = 4,
        0x9E => cdb[12] = 1,
        // A block; for the comparing ones as much data as there are blocks.
        0x28 | 0x2A | 0x2E | 0x2F | 0x34 | 0x35 | 0x41 => cdb[8] = 1,
        0xA8 | 0xAA | 0xAE | 0xAF => cdb[9] = 1,
        0x88..=0x93 => cdb[13] = 1,
        0x9C => cdb[13] = 8,
        _ => {}
    }
    (cdb, list)
}

/// What a bit may do that a table of fields does not say.
fn excused(cdb: &[u8], (byte, bit): (u16, u8), sense: &Sense) -> bool {
    let at = sense.field.map(|field| (field.in_cdb, field.byte));
    // Without EVPD there is no page code.
    cdb[0] == 0x12 && byte == 1 && bit == 0 && at == Some((true, 2))
}

fn is_service_action(cdb: &[u8], (byte, bit): (u16, u8)) -> bool {
    matches!(cdb[0], 0x48 | 0x5E | 0x5F | 0x83 | 0x84 | 0x9E | 0xA3 | 0xA4) && byte == 1 && bit < 5
}

#[test]
fn service_actions_that_are_none() {
    let (opcodes, mut found) = ([0x48, 0x5E, 0x5F, 0x83, 0x84, 0x9E, 0xA3, 0xA4], 0);
    for (opcode, action) in opcodes.into_iter().flat_map(|opcode| (0..32).map(move |action| (opcode, action)))
    {
        let mut device = unit_of(able());
        let known =
            reported(&mut device).iter().any(|usage| usage[..2] == [opcode, action | usage[1] & 0xE0]);
        if !known {
            let sense = outcome(&mut device, &[opcode, action, 0, 0, 0, 0, 0, 0, 24], &[]).unwrap_err();
            assert_eq!(sense, Sense::invalid_cdb(1, Some(4)), "{opcode:02x} {action:02x}");
            found += 1;
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn every_bit_of_every_cdb() {
    let mut problems = Vec::new();
    let mut tried = 0;
    for (name, config) in [("able", able()), ("plain", plain())] {
        for usage in reported(&mut unit_of(config.clone())) {
            let (cdb, list) = right(&usage);
            let base = outcome(&mut unit_of(config.clone()), &cdb, &list);
            for byte in 1..usage.len() as u16 {
                for bit in 0..8 {
                    let mut changed = cdb.clone();
                    changed[usize::from(byte)] ^= 1 << bit;
                    let found = outcome(&mut unit_of(config.clone()), &changed, &list);
                    tried += 1;
                    let mut problem = |what: String| problems.push(format!("{name} {changed:02x?}: {what}"));
                    if is_service_action(&changed, (byte, bit)) {
                        // Another command, or none: then its service action is wrong.
                        continue;
                    }
                    if usage[usize::from(byte)] & 1 << bit == 0 && found != base {
                        problem(format!(
                            "byte {byte} bit {bit} is not looked at, and {found:?} is not {base:?}"
                        ));
                    }
                    let Err(sense) = found else { continue };
                    if found == base || excused(&changed, (byte, bit), &sense) {
                        continue;
                    }
                    if (sense.key as u8, sense.asc, sense.ascq) == (5, 0x24, 0)
                        && let Some(what) = misses(&sense, true, (byte, bit), |byte| field(&changed, byte))
                    {
                        problem(what);
                    }
                    if sense.asc == 0x26 && sense.field.is_none() {
                        problem(format!("{sense:?} points nowhere"));
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "of {tried}:\n{}", problems.join("\n"));
    assert!(tried > 10_000, "{tried}");
}
