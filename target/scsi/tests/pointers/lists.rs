//! Parameter lists, one bit changed at a time.

use super::*;

/// A parameter list that is taken.
struct List {
    name: &'static str,
    /// Its CDB without the length.
    cdb: [u8; 16],
    /// Where the length stands in the CDB: first and last byte.
    length: (usize, usize),
    list: Vec<u8>,
    /// Fields of more than one byte: first and last.
    fields: Vec<(u16, u16)>,
    /// What has to be done first.
    before: fn(&mut Device),
}

fn nothing(_: &mut Device) {}

fn cdb(bytes: &[u8]) -> [u8; 16] {
    padded(bytes)
}

/// REGISTER by the first nexus, with key 9, and RESERVE.
fn reserve(device: &mut Device) {
    for (action, kind, key, new) in [(0x00, 0, 0, 9), (0x01, 1, 9, 0)] {
        let mut list = [0; 24];
        (list[7], list[15]) = (key, new);
        let cdb = cdb(&[0x5F, action, kind, 0, 0, 0, 0, 0, 24]);
        let mut step = device.start(A, &cdb, 24, &list);
        if let Step::Save(_) = step {
            step = device.saved(true);
        }
        assert_eq!(done(step).sense, None);
    }
}

/// A TransportID, and its fields where it stands.
fn transport_id(at: u16) -> (Vec<u8>, Vec<(u16, u16)>) {
    let mut id = vec![0x45, 0, 0, 44];
    id.extend_from_slice(b"iqn.2026-11.test:host77,i,0x800000000007");
    id.resize(48, 0);
    (id, vec![(at + 2, at + 3), (at + 4, at + 47)])
}

fn unmap() -> List {
    let mut list = vec![0; 8 + 32];
    (list[1], list[3]) = (38, 32);
    (list[15], list[19]) = (8, 8);
    (list[31], list[35]) = (32, 8);
    let fields = vec![(0, 1), (2, 3), (8, 15), (16, 19), (24, 31), (32, 35)];
    List { name: "UNMAP", cdb: cdb(&[0x42]), length: (7, 8), list, fields, before: nothing }
}

/// MODE SELECT with a block descriptor and the Caching and Control pages, and one in the sub_page format.
fn mode_select(long: bool) -> List {
    let mut device = unit_of(able());
    let mut list = if long { vec![0, 0, 0, 0, 0, 0, 0, 8] } else { vec![0, 0, 0, 8] };
    let descriptor = list.len() as u16;
    list.extend_from_slice(&(BLOCKS as u32).to_be_bytes());
    list.extend_from_slice(&512u32.to_be_bytes());
    let mut fields = vec![(descriptor, descriptor + 3), (descriptor + 5, descriptor + 7)];
    if long {
        fields.extend([(0, 1), (6, 7)]);
    }
    for (page, subpage) in [(0x08, 0), (0x0A, 0), (0x0A, 1), (0x1C, 0)] {
        let sense = send(&mut device, A, &[0x5A, 0x08, page, subpage, 0, 0, 0, 1, 0]).data;
        let at = list.len() as u16;
        if subpage != 0 {
            fields.push((at + 2, at + 3));
        }
        list.extend_from_slice(&sense[8..]);
        list[usize::from(at)] &= 0x7F;
    }
    let (code, length) = if long { (0x55, (7, 8)) } else { (0x15, (4, 4)) };
    let name = if long { "MODE SELECT(10)" } else { "MODE SELECT(6)" };
    List { name, cdb: cdb(&[code, 0x10]), length, list, fields, before: nothing }
}

fn overwrite() -> List {
    let list = vec![0x81, 0, 0, 2, 5, 6];
    let fields = vec![(2, 3)];
    List { name: "SANITIZE OVERWRITE", cdb: cdb(&[0x48, 1]), length: (7, 8), list, fields, before: nothing }
}

fn register(spec_i_pt: bool) -> List {
    let mut list = vec![0; 24];
    (list[15], list[20]) = (9, 1);
    let mut fields = vec![(0, 7), (8, 15)];
    if spec_i_pt {
        list[20] |= 8;
        let (id, of_id) = transport_id(28);
        list.extend_from_slice(&(id.len() as u32).to_be_bytes());
        list.extend_from_slice(&id);
        fields.push((24, 27));
        fields.extend(of_id);
    }
    List { name: "REGISTER", cdb: cdb(&[0x5F]), length: (5, 8), list, fields, before: nothing }
}

fn register_and_move() -> List {
    let mut list = vec![0; 24];
    (list[7], list[15], list[19]) = (9, 5, 1);
    let (id, mut fields) = transport_id(24);
    list[23] = id.len() as u8;
    list.extend_from_slice(&id);
    fields.extend([(0, 7), (8, 15), (18, 19), (20, 23)]);
    List { name: "REGISTER AND MOVE", cdb: cdb(&[0x5F, 7]), length: (5, 8), list, fields, before: reserve }
}

fn preempt() -> List {
    let mut list = vec![0; 24];
    (list[7], list[15]) = (9, 9);
    let fields = vec![(0, 7), (8, 15)];
    List { name: "PREEMPT", cdb: cdb(&[0x5F, 4, 1]), length: (5, 8), list, fields, before: reserve }
}

fn set_groups() -> List {
    let list = vec![0, 0, 0, 0, 0x01, 0, 0, 1];
    List {
        name: "SET TARGET PORT GROUPS",
        cdb: cdb(&[0xA4, 0x0A]),
        length: (6, 9),
        list,
        fields: vec![(6, 7)],
        before: nothing,
    }
}

fn target() -> [u8; 32] {
    let mut bytes = [0; 32];
    (bytes[0], bytes[4], bytes[5], bytes[7]) = (0xE4, 1, 3, 16);
    bytes[8] = 0x60;
    bytes
}

fn extended_copy(lid4: bool) -> List {
    let mut list = vec![0; if lid4 { 48 } else { 16 }];
    let at = list.len() as u16;
    let mut fields = vec![(at + 2, at + 3), (at + 8, at + 27), (at + 29, at + 31)];
    if lid4 {
        (list[0], list[43], list[45]) = (1, 32, 28);
        fields.extend([(20, 23), (42, 43), (44, 45), (46, 47)]);
    } else {
        (list[0], list[3], list[11]) = (1, 32, 28);
        fields.extend([(2, 3), (8, 11), (12, 15)]);
    }
    list.extend_from_slice(&target());
    let at = list.len() as u16;
    list.extend_from_slice(&[0x02, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 8]);
    list.extend_from_slice(&0u64.to_be_bytes());
    list.extend_from_slice(&64u64.to_be_bytes());
    fields.extend([
        (at + 2, at + 3),
        (at + 4, at + 5),
        (at + 6, at + 7),
        (at + 10, at + 11),
        (at + 12, at + 19),
        (at + 20, at + 27),
    ]);
    let name = if lid4 { "EXTENDED COPY(LID4)" } else { "EXTENDED COPY(LID1)" };
    List { name, cdb: cdb(&[0x83, u8::from(lid4)]), length: (10, 13), list, fields, before: nothing }
}

/// The ranges of a list of token commands: 8 blocks at 16, and 8 at 32.
fn push_ranges(list: &mut Vec<u8>, fields: &mut Vec<(u16, u16)>) {
    fields.push((list.len() as u16, list.len() as u16 + 1));
    list.extend_from_slice(&[0, 32]);
    for lba in [16u64, 32] {
        let at = list.len() as u16;
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0]);
        fields.extend([(at, at + 7), (at + 8, at + 11)]);
    }
    let length = list.len() as u16 - 2;
    list[..2].copy_from_slice(&length.to_be_bytes());
}

fn populate() -> List {
    let mut list = vec![0; 14];
    list[7] = 30;
    let mut fields = vec![(0, 1), (4, 7), (8, 11)];
    push_ranges(&mut list, &mut fields);
    List { name: "POPULATE TOKEN", cdb: cdb(&[0x83, 0x10]), length: (10, 13), list, fields, before: nothing }
}

fn write_using() -> List {
    let mut list = vec![0; 534];
    list[16..24].copy_from_slice(&[0xFF, 0xFF, 0, 1, 0, 0, 1, 0xF8]);
    let mut fields = vec![(0, 1), (8, 15), (16, 527)];
    push_ranges(&mut list, &mut fields);
    List {
        name: "WRITE USING TOKEN",
        cdb: cdb(&[0x83, 0x11]),
        length: (10, 13),
        list,
        fields,
        before: nothing,
    }
}

/// Whether a changed bit may be told as wrong elsewhere: it changed what is expected there.
fn excused(list: &List, (byte, bit): (u16, u8), sense: &Sense) -> bool {
    let at = sense.field.map_or(u16::MAX, |field| field.byte);
    match list.name {
        // LONGLBA changes which descriptor is right; the length of the descriptor, where pages begin.
        "MODE SELECT(10)" if byte == 4 && bit == 0 => at == 6,
        "MODE SELECT(6)" if byte == 3 => at >= 3,
        "MODE SELECT(10)" if byte == 6 || byte == 7 => at >= 6,
        // A page's format and code decide on its length.
        "MODE SELECT(6)" | "MODE SELECT(10)" => bit < 7 && (byte + 1..byte + 3).contains(&at),
        // How long a TransportID is decides what its name is, and where the next one begins.
        "REGISTER" if matches!(byte, 30 | 31) => at >= 32,
        "REGISTER AND MOVE" if matches!(byte, 26 | 27) => at == 28,
        // A count that reaches beyond the capacity: where it is counted from. One that reaches into the next range: that range.
        "UNMAP" if sense.asc == 0x21 => [8, 24].contains(&at) && (at..at + 12).contains(&byte),
        "POPULATE TOKEN" | "WRITE USING TOKEN" if sense.asc == 0x21 => (at..at + 12).contains(&byte),
        "POPULATE TOKEN" if (24..28).contains(&byte) => at == 32,
        "WRITE USING TOKEN" if (544..548).contains(&byte) => at == 552,
        // RTV: the ROD type is looked at.
        "POPULATE TOKEN" if byte == 2 => at == 8,
        // Without SPEC_I_PT what follows is too long; with a key of zero nothing can be registered.
        "REGISTER" if byte == 20 => at == 20,
        // LIST ID USAGE 11b wants a list identifier of zero; NUL means that there is no designator.
        "EXTENDED COPY(LID1)" | "EXTENDED COPY(LID4)" if byte == 1 => matches!(at, 0 | 1 | 20),
        // Where the targets end the segments begin.
        "EXTENDED COPY(LID1)" if byte == 3 => at >= 16,
        "EXTENDED COPY(LID4)" if byte == 43 => at >= 48,
        _ => false,
    }
}

#[test]
fn every_bit_of_every_parameter_list() {
    let (mut problems, mut tried, mut refused) = (Vec::new(), 0, 0);
    let lists = [
        unmap(),
        overwrite(),
        mode_select(false),
        mode_select(true),
        register(false),
        register(true),
        register_and_move(),
        preempt(),
        set_groups(),
        extended_copy(false),
        extended_copy(true),
        populate(),
        write_using(),
    ];
    for list in lists {
        let send = |bytes: &[u8]| {
            let mut device = unit_of(able());
            (list.before)(&mut device);
            let mut cdb = list.cdb;
            let length = (bytes.len() as u64).to_be_bytes();
            let (first, last) = list.length;
            cdb[first..=last].copy_from_slice(&length[8 - (last - first + 1)..]);
            outcome(&mut device, &cdb, bytes)
        };
        assert_eq!(send(&list.list), Ok(()), "{} is taken", list.name);
        for at in 0..list.list.len() * 8 {
            let (byte, bit) = ((at / 8) as u16, (at % 8) as u8);
            let mut changed = list.list.clone();
            changed[at / 8] ^= 1 << bit;
            tried += 1;
            let Err(sense) = send(&changed) else { continue };
            refused += 1;
            // INVALID FIELD IN PARAMETER LIST and its like, and LBA OUT OF RANGE.
            if !matches!((sense.key as u8, sense.asc), (5, 0x21 | 0x26))
                || excused(&list, (byte, bit), &sense)
            {
                continue;
            }
            let field = |byte: u16| {
                let found = list.fields.iter().find(|(first, last)| (*first..=*last).contains(&byte));
                found.copied().unwrap_or((byte, byte))
            };
            if let Some(what) = misses(&sense, false, (byte, bit), field) {
                problems.push(format!("{}: {what}: {sense:?}", list.name));
            }
        }
    }
    assert!(problems.is_empty(), "of {refused} refused of {tried}:\n{}", problems.join("\n"));
    assert!(refused > 500, "{refused} of {tried}");
}
