//! A short run of the fuzz targets: their corpus, and mutations of it.

#[path = "../fuzz/oracle.rs"]
pub mod oracle;

use std::fs;
use std::path::Path;

use crate::differential::grammar::{mutate, pick};
use crate::harness::Random;

/// How many mutations of the corpus each target gets to see.
const MUTATIONS: usize = 5000;

fn replay(name: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let files = fs::read_dir(directory).unwrap().flatten();
    let corpus: Vec<Vec<u8>> = files.map(|file| fs::read(file.path()).unwrap()).collect();
    assert!(corpus.len() >= 10);
    corpus.iter().for_each(|input| target(input));

    let mut random = Random::seeded(Random::seed(name));
    for _ in 0..MUTATIONS {
        let mut input = pick(&mut random, &corpus.iter().collect::<Vec<_>>()).clone();
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut input, 0);
        }
        target(&input);
    }
}

#[test]
fn heads_hold_what_the_fuzz_target_asks() {
    replay("head", oracle::head);
}

#[test]
fn headers_with_signatures_hold_what_the_fuzz_target_asks() {
    replay("signature", oracle::senders::signature);
}

#[test]
fn templates_hold_what_the_fuzz_target_asks() {
    replay("template", oracle::senders::template);
}

#[test]
fn chunks_hold_what_the_fuzz_target_asks() {
    replay("chunks", oracle::chunks);
}
