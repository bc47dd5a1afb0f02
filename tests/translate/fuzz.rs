//! The corpora of the fuzz targets, and inputs made of their pieces, as plain tests.

use ingress_tests::cluster::root;
use ingress_tests::fuzz::{TARGETS, annotation_values, plain};
use ingress_userspace::annotation::registry;

#[expect(clippy::unwrap_used, reason = "a broken corpus fails its test by panicking")]
fn corpus() -> Vec<Vec<u8>> {
    let folder = root().join("tests/fuzz/corpus/annotation_values");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_of_annotation_values_holds() {
    let corpus = corpus();
    assert!(corpus.len() >= 20);
    corpus.iter().for_each(|data| annotation_values(data));
}

/// The corpora of all targets, and some of what can be made of them.
#[test]
fn every_corpus_holds_and_so_do_mutations_of_it() {
    for (name, body) in TARGETS {
        let corpus = plain::corpus(name).unwrap();
        assert!(corpus.len() >= 2, "{name}");
        // Cases of translation have a test of their own.
        corpus.iter().filter(|_| *name != "manifests").for_each(|input| body(input));
        let (mut dice, count) = (plain::Dice::new(1), if *name == "manifests" { 100 } else { 2000 });
        for _ in 0..count {
            body(&plain::mutated(&mut dice, &corpus));
        }
    }
}

/// Every value of the corpus under every annotation.
#[test]
fn every_annotation_takes_every_hostile_value() {
    let keys = registry::served().count();
    for data in corpus() {
        let value = data.split(|byte| *byte == 0xFF).next().unwrap_or_default();
        for key in 0..keys.min(256) {
            let mut one = value.to_vec();
            one[0] = u8::try_from(key).unwrap();
            annotation_values(&one);
        }
    }
}
