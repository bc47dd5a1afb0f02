//! A part of what `cargo xtask fuzz packets` does, with a seed of its own.

use ingress_tests::fuzz::packets::Fuzz;

#[test]
fn random_packets_meet_what_they_should() {
    let tally = Fuzz::new(5).run(100_000).unwrap();
    assert!(tally.judged > 70_000 && tally.dropped > 5_000, "{tally:?}");
}
