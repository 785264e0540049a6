//! MODE SELECT with lists that are mostly right, and whatever a store may give back.

use stampede_scsi::{Device, NexusId, Reply, SavedState, Status, Step};

use super::{Unit, attach_all, check, config};

/// MODE SENSE(10) of all pages and subpages without block descriptors: current, changeable, default or saved values.
/// Nothing, where the unit's access state (ALUA) does not let it be asked.
fn sense(unit: &mut Unit, control: u8) -> Vec<u8> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[3], cdb[7], cdb[8]) = (0x5A, 0x08, control << 6 | 0x3F, 0xFF, 0xFF, 0xFF);
    loop {
        let reply = unit.run(0, &cdb, &[], true).expect("no medium");
        match reply.sense {
            // A unit attention, which is told once.
            Some(sense) if sense.key as u8 == 6 => {}
            Some(sense) if (sense.key as u8, sense.asc) == (2, 4) => return Vec::new(),
            _ => {
                assert_eq!(reply.status, Status::Good, "{reply:?}");
                return reply.data[8..].to_vec();
            }
        }
    }
}

/// The pages of what [`sense`] gave.
fn pages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pages = Vec::new();
    while let [code, first, rest @ ..] = bytes {
        let length = match (code & 0x40, rest) {
            (0, _) => 2 + usize::from(*first),
            (_, [high, low, ..]) => 4 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => panic!("a page that is cut off"),
        };
        let (page, behind) = bytes.split_at(length);
        pages.push(page);
        bytes = behind;
    }
    pages
}

/// MODE SELECTs of 8 bytes each: `nexus, form, flags | store, which page | which other | offset, value | spoilt at, by`.
/// What fails changes nothing, what is taken is there, and what is saved outlives the process.
pub(crate) fn modes(bytes: &[u8]) {
    let mut unit = Unit::new();
    for chunk in bytes.chunks_exact(8) {
        let &[who, kind, which, other, at, value, place, spoil] = chunk else { return };
        let (before, saved) = (sense(&mut unit, 0), sense(&mut unit, 3));
        let changeable = sense(&mut unit, 1);
        let all = pages(&before);
        let (long, sp, stores) = (who & 4 != 0, who & 8 != 0, kind & 0x80 == 0);
        let mut list = vec![0; if long { 8 } else { 4 }];
        if kind & 3 == 1 {
            let blocks = config().blocks as u32;
            list.extend_from_slice(&blocks.to_be_bytes());
            list.extend_from_slice(&config().block_size.to_be_bytes());
            list[if long { 7 } else { 3 }] = 8;
        }
        let first = list.len();
        for which in [Some(which), (kind & 4 != 0).then_some(other)].into_iter().flatten() {
            let index = usize::from(which) % all.len();
            let (mut page, mask) = (all[index].to_vec(), pages(&changeable)[index]);
            let at = usize::from(at) % page.len();
            page[at] ^= value & if kind & 8 == 0 { mask[at] } else { 0xFF };
            // PS is reserved in MODE SELECT.
            page[0] &= 0x7F;
            list.extend_from_slice(&page);
        }
        let wanted = list[first..].to_vec();
        if kind & 0x70 == 0x70 {
            let at = usize::from(place) % list.len();
            list[at] ^= spoil;
        }
        let mut cdb = [0; 16];
        let length = list.len() as u8 - if kind & 0x30 == 0x20 { spoil % 4 } else { 0 };
        (cdb[0], cdb[1]) = (if long { 0x55 } else { 0x15 }, 0x10 | u8::from(sp));
        cdb[if long { 8 } else { 4 }] = length;
        let reply = unit.run(u64::from(who & 3), &cdb, &list, stores);
        // None: the cache is flushed first, which is the engine's to do.
        let good = reply.as_ref().is_none_or(|reply| reply.status == Status::Good);
        reply.iter().for_each(check);
        let after = sense(&mut unit, 0);
        if !good {
            assert_eq!((&after, &sense(&mut unit, 3)), (&before, &saved), "{reply:?}");
        } else if kind & 0x70 != 0x70 && kind & 0x30 != 0x20 {
            let there = pages(&after);
            // Two of one page in a list: the last one holds.
            let last = pages(&wanted).pop().map(<[u8]>::to_vec).expect("a page");
            assert!(
                there.iter().any(|page| page[0] & 0x7F == last[0] && page[1..] == last[1..]),
                "{last:02x?}"
            );
        }
        if good && sp {
            assert_eq!(sense(&mut unit, 3), after, "all pages are saved");
        }
        let kept = sense(&mut unit, 3);
        let mut again = Unit { device: unit.restarted(), stored: Vec::new() };
        assert_eq!(sense(&mut again, 0), kept, "saved values hold after a start");
    }
}

/// Any bytes as a unit's state: refused, or a unit that works and whose next state can be read.
pub(crate) fn saved(bytes: &[u8]) {
    let Ok(state) = SavedState::decode(bytes) else { return };
    let mut device = Device::restored(config(), state);
    attach_all(&mut device);
    let mut unit = Unit { device, stored: bytes.to_vec() };
    let (current, kept) = (sense(&mut unit, 0), sense(&mut unit, 3));
    assert_eq!(current, kept);
    let _ = Unit::full_status(&mut unit.device);
    // REGISTER AND IGNORE EXISTING KEY with APTPL: everything is saved anew.
    let mut list = [0; 24];
    (list[15], list[20]) = (9, 1);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x5F, 0x06, 24);
    let step = unit.device.start(NexusId(1), &cdb, 24, &list);
    let Step::Save(anew) = step else {
        let Step::Done(Reply { status, .. }) = step else { panic!("{step:?}") };
        assert_ne!(status, Status::Good, "a registration is saved");
        return;
    };
    assert!(SavedState::decode(&anew).is_ok(), "{anew:02x?}");
    check(&match unit.device.saved(true) {
        Step::Done(reply) => reply,
        step => panic!("{step:?}"),
    });
}
