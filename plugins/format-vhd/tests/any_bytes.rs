//! The body of the fuzz target on its corpus, and on images of ours with bytes changed by seeds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod common;

use common::{Draw, Shape};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image");

/// The images whose bytes are changed: small ones of each kind, with blocks.
fn seeds() -> Vec<Vec<u8>> {
    let kinds = [("fixed", 8), ("dynamic", 20), ("differencing", 20)];
    let made = kinds.map(|(kind, sectors)| {
        let shape = Shape::new(kind, 4096, sectors * 512);
        let mut model = shape.model();
        model.write(512, &[7; 1024]).unwrap();
        model.close().unwrap();
        [&[0x61, 3, 9, 5][..], &model.into_disk().files()[0]].concat()
    });
    made.to_vec()
}

#[test]
fn the_corpus_still_holds() {
    let mut found = 0;
    for entry in std::fs::read_dir(CORPUS).unwrap() {
        bodies::image(&std::fs::read(entry.unwrap().path()).unwrap());
        found += 1;
    }
    assert!(found >= 3, "the corpus is gone");
}

/// Where fields are: footers, header, table, locators; and anywhere.
fn place(draw: &mut Draw, length: usize) -> usize {
    let at = match draw.below(6) {
        0 => 4 + draw.below(90),
        1 => 4 + 512 + draw.below(64),
        2 => 4 + 512 + 576 + draw.below(72),
        3 => 4 + 1536 + draw.below(16),
        4 => length as u64 - 512 + draw.below(90),
        _ => draw.below(length as u64),
    };
    (at as usize).min(length - 1)
}

#[test]
fn changed_images_are_refused_or_sound() {
    let seeds = seeds();
    for seed in 0..3000 {
        let mut draw = Draw(seed);
        let mut bytes = seeds[draw.below(3) as usize].clone();
        for _ in 0..1 + draw.below(4) {
            let at = place(&mut draw, bytes.len());
            bytes[at] = [0, 1, 0xFF, 0x80, draw.next() as u8][draw.below(5) as usize];
        }
        if draw.below(8) == 0 {
            bytes.truncate(draw.below(bytes.len() as u64) as usize);
        }
        let run = std::panic::catch_unwind(|| bodies::image(&bytes));
        assert!(run.is_ok(), "seed {seed}");
    }
}
