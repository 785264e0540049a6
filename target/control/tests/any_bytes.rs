//! The fuzz body as a test of its seeds and of texts near them: it runs in every test run, also where there is no fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../wire/fuzz/corpora.rs"]
mod corpora;

#[test]
fn seeds_and_what_is_near_them() {
    corpora::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"), &[("config", near)]);
}

/// A text, and others that a few typing mistakes make of it.
fn near(seed: &[u8]) {
    bodies::config(seed);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let mut text = seed.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..text.len());
            match random.u8(0..4) {
                0 => drop(text.remove(at)),
                1 => text[at] = random.u8(b' '..0x7F),
                2 => text.insert(at, random.choice(b"0123456789,='\"[]\n- ").copied().unwrap()),
                _ => text.truncate(at.max(1)),
            }
            if text.is_empty() {
                break;
            }
        }
        bodies::config(&text);
    }
}
