//! What is written into a journal comes out of it, as far as it is whole.

use stampede_plugin::{FileId, Patch};

use super::super::journal::{HEAD, Owner, Unusable, head, read, record};

const OWNER: Owner = Owner { boot: [3; 16], device: 8, inode: 15 };

fn patch(id: u64) -> Patch {
    let bytes = vec![id as u8; 5 + id as usize];
    Patch {
        id,
        file: FileId(1),
        offset: 100 * id,
        bytes,
        after: (0..id).collect(),
        after_data: id.is_multiple_of(2),
        lazy: id.is_multiple_of(3),
    }
}

/// A journal with records of one and two patches, and where each record ends.
fn journal() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = head(&OWNER).to_vec();
    let mut ends = vec![bytes.len()];
    for number in 0..4_u64 {
        let (one, two) = (patch(2 * number), patch(2 * number + 1));
        let patches = [(Some(one.id), &one), (None, &two)];
        bytes.extend(record(number, patches[..1 + (number % 2) as usize].iter().copied()));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

#[test]
fn whole_records_come_back_wherever_it_is_cut_off() {
    let (bytes, ends) = journal();
    for cut in HEAD..=bytes.len() {
        let replay = read(&bytes[..cut], &OWNER).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
        assert_eq!(replay.records, whole, "cut at {cut}");
        for (waiting, number) in replay.patches.iter().zip([0, 2, 3, 4, 6, 7]) {
            assert_eq!(
                waiting.patch,
                Patch { id: if number % 2 == 1 { 0 } else { number }, ..patch(number) }
            );
            assert_eq!(waiting.id, (number % 2 == 0).then_some(number));
        }
    }
}

#[test]
fn a_changed_byte_ends_it_before_its_record() {
    let (bytes, ends) = journal();
    for at in HEAD..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let hit = ends.iter().filter(|end| **end <= at).count() as u64 - 1;
        assert_eq!(read(&changed, &OWNER).unwrap().records, hit, "byte {at}");
    }
}

#[test]
fn another_boots_or_files_journal_is_refused() {
    let (bytes, _) = journal();
    assert_eq!(read(&bytes, &Owner { boot: [4; 16], ..OWNER }), Err(Unusable::OtherBoot));
    assert_eq!(read(&bytes, &Owner { inode: 16, ..OWNER }), Err(Unusable::OtherFile));
    for at in 0..HEAD {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(read(&changed, &OWNER), Err(Unusable::NotAJournal), "byte {at}");
    }
    assert_eq!(read(&bytes[..HEAD - 1], &OWNER), Err(Unusable::NotAJournal));
}
