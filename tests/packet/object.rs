//! The object as a whole: this kernel accepts every program, and the maps cost what the documentation says.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;
use aya::maps::Map;
use ingress_common::maps::table::MAPS;
use ingress_tests::kernel::load_every_program;
use ingress_tests::release::release;
use ingress_userspace::bpf::object::OBJECT;

/// What the verifier may have to look at in one program: a fifth of what it would put up with.
const MOST_INSTRUCTIONS: u32 = 200_000;

fn object() -> Ebpf {
    Ebpf::load(OBJECT.expect("run `cargo xtask build-ebpf` first")).expect("the maps; needs root")
}

#[test]
fn the_verifier_accepts_every_program() {
    let mut object = object();
    load_every_program(&mut object);
    for (name, program) in object.programs() {
        let seen = program.info().unwrap().verified_instruction_count().expect("Linux 5.16 or newer");
        // Read by the tier `kernels`.
        println!("verified: {name} {seen}");
        assert!((1..MOST_INSTRUCTIONS).contains(&seen), "{name}: {seen} instructions");
    }
}

/// Holds the sockets of another layout while an upgrade moves them, and is never pinned.
const PASSING: &str = "old_socks";

#[test]
fn every_map_of_the_table_is_in_the_object_and_no_other() {
    let object = object();
    let is_pinned = |name: &&str| !name.starts_with('.') && *name != PASSING;
    let mut ours: Vec<&str> = object.maps().map(|(name, _)| name).filter(is_pinned).collect();
    let mut table: Vec<&str> = MAPS.iter().map(|map| map.name).collect();
    ours.sort_unstable();
    table.sort_unstable();
    assert_eq!(ours, table);
}

/// Before 6.4 the kernel counted keys and values alone.
#[test]
fn maps_cost_what_the_documentation_says() {
    if release().unwrap() < (6, 4) {
        return;
    }
    let cpus = possible_cpus();
    let object = object();
    for spec in MAPS {
        let map = object.map(spec.name).unwrap_or_else(|| panic!("no map {}", spec.name));
        let counted = memlock(map);
        let computed = spec.memory().on(cpus);
        let header = counted.checked_sub(computed);
        // The header of the map, and per-CPU locks or lists of a hash.
        assert!(header.is_some_and(|header| header < 4096), "{}: {counted}, computed {computed}", spec.name);
    }
}

fn memlock(map: &Map) -> u64 {
    let fd = match map {
        Map::Array(map)
        | Map::PerCpuArray(map)
        | Map::HashMap(map)
        | Map::LruHashMap(map)
        | Map::PerCpuLruHashMap(map)
        | Map::LpmTrie(map)
        | Map::SockMap(map)
        | Map::ArrayOfMaps(map)
        | Map::RingBuf(map)
        | Map::Queue(map) => map.fd(),
        other => panic!("say where the fd of {other:?} is"),
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("memlock");
    line.trim().parse().unwrap()
}

fn possible_cpus() -> u64 {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = text.trim().rsplit(['-', ',']).next().unwrap();
    last.parse::<u64>().unwrap() + 1
}
