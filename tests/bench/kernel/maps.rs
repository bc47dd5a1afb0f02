//! What changes of the maps take, through the product's own compiler and synchronisation, and what the maps cost in
//! memory. Times are of unoptimised code around the system calls: upper bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ingress_common::maps::table::MAPS;
use ingress_tests::bpffs::Bpffs;
use ingress_tests::kernel::{model, policy, pool};
use ingress_userspace::bpf::load::load;
use ingress_userspace::bpf::maps::Maps;
use ingress_userspace::bpf::pins::Pins;
use ingress_userspace::bpf::sync::apply;
use ingress_userspace::compile::maps::{MapContents, compile};
use ipnet::IpNet;

use crate::Row;

const PREFIXES: u32 = 100_000;
const CHANGED: u32 = 1_000;
/// CPUs of the machine that memory is counted for.
const CPUS: u64 = 16;
const ROUNDS: usize = 5;

/// All rows.
pub(crate) fn measure() -> Vec<Row> {
    let bpffs = Bpffs::new("bench");
    let pins = Pins::new(&bpffs.path);
    pins.create().expect("folders in the BPF file system");
    let mut maps = load(&pins, None).expect("the kernel half; needs root").maps;

    let started = Instant::now();
    let full = listed(0, &MapContents::default());
    change(&mut maps, &full);
    let loaded = started.elapsed();
    // Back and forth between two states.
    let changed = listed(CHANGED, &full);
    let mut changes: Vec<Duration> = (0..ROUNDS)
        .flat_map(|_| [&changed, &full])
        .map(|contents| {
            let started = Instant::now();
            change(&mut maps, contents);
            started.elapsed()
        })
        .collect();
    changes.sort();
    let memory: u64 = MAPS.iter().map(|map| map.memory().on(CPUS)).sum();
    vec![
        row("100,000 prefixes, from the policy to the kernel", millis(loaded), "ms", 2000.0),
        row("1,000 of them replaced, in the kernel", millis(changes[changes.len() / 2]), "ms", 50.0),
        row("memory of all maps at defaults, 16 CPUs", memory as f64 / 1_048_576.0, "MiB", 64.0),
    ]
}

fn change(maps: &mut Maps, contents: &MapContents) {
    let synced = apply(maps, contents).expect("the maps can be read");
    assert!(synced.refused.is_empty(), "{:?}", synced.refused);
}

/// A list of so many prefixes, of which the first `other` are others than those of `listed(0)`.
fn listed(other: u32, previous: &MapContents) -> MapContents {
    let mut listed = policy("listed", Some("edge"));
    let first = |n: u32| if n < other { 0x2000_0000 + n * 256 } else { 0x0a00_0000 + n * 256 };
    listed.deny =
        (0..PREFIXES).filter_map(|n| IpNet::new(IpAddr::V4(Ipv4Addr::from(first(n))), 24).ok()).collect();
    let compiled = compile(&model(vec![pool("edge", &["198.18.100.1"])], vec![listed]), &[], previous);
    assert_eq!(compiled.refused, []);
    compiled.contents
}

fn row(case: &str, value: f64, unit: &'static str, gate: f64) -> Row {
    Row { case: case.to_owned(), value, unit, gate: Some(gate) }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
