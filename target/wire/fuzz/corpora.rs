//! Replays the corpora of a crate's fuzz targets, in its normal tests.

/// What must hold for any bytes.
pub(crate) type Body = fn(&[u8]);

/// Gives each target's body the seeds of its corpus: what reaches far, and what was once found.
pub(crate) fn replay(corpora: &str, bodies: &[(&str, Body)]) {
    for (name, body) in bodies {
        let seeds = seeds(&format!("{corpora}/{name}"));
        assert!(!seeds.is_empty(), "the corpus of {name} is gone");
        seeds.iter().for_each(|seed| body(seed));
    }
}

/// The seeds of one corpus, in an order that is always the same.
fn seeds(corpus: &str) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    seeds
}
