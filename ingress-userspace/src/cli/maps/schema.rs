//! The layout of the maps, from the table that the reference page is made of.

use std::io;

use ingress_common::maps::LAYOUT_VERSION;
use ingress_common::maps::memory::Memory;
use ingress_common::maps::table::layout::Field;
use ingress_common::maps::table::{MapKind, MapSpec, TypeSpec};
use serde_json::{Value, json};

use crate::cli::text_table;

/// With more rows than this a dump of a map takes long, and shows little: one row is looked up instead.
const MOST_DUMPED: u32 = 100_000;

/// Everything about a map.
pub(super) fn json(spec: &MapSpec) -> Value {
    let Memory { fixed, per_cpu, per_entry } = spec.memory();
    json!({
        "name": spec.name, "type": kind(spec.kind), "entries": spec.entries, "layout": LAYOUT_VERSION,
        "key": type_json(&spec.key), "value": type_json(&spec.value),
        "memory": {"bytes": fixed, "bytes_per_cpu": per_cpu, "bytes_per_entry": per_entry},
        "writer": spec.writer, "reader": spec.reader, "about": about(spec), "bpftool": bpftool(spec),
    })
}

fn type_json(spec: &TypeSpec) -> Value {
    let field = |field: Field| {
        json!({
            "name": field.name, "type": field.kind, "offset": field.offset, "bytes": field.bytes,
            "unit": field.unit, "about": field.about,
        })
    };
    json!({"type": spec.name, "bytes": spec.size, "fields": spec.layout().map(field).collect::<Vec<_>>()})
}

/// The same for people.
pub(super) fn print(spec: &MapSpec, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{}: {}, {} entries, {}", spec.name, in_words(spec.kind), spec.entries, memory(spec))?;
    writeln!(out, "{}", about(spec))?;
    writeln!(out, "written by {}; read by {}", spec.writer, spec.reader)?;
    writeln!(out, "{}\n", bpftool(spec))?;
    let row = |part: &str, field: Field| {
        let (offset, bytes) = (field.offset.to_string(), field.bytes.to_string());
        [part, &offset, &bytes, field.name, field.kind, field.unit, field.about].map(str::to_owned).to_vec()
    };
    let key = spec.key.layout().map(|field| row("key", field));
    let rows: Vec<_> = key.chain(spec.value.layout().map(|field| row("value", field))).collect();
    text_table::print(out, &["part", "offset", "bytes", "field", "type", "unit", "meaning"], &rows)
}

/// What the map is for, in one line.
pub(super) fn about(spec: &MapSpec) -> String {
    spec.about.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What it costs in kernel memory.
fn memory(spec: &MapSpec) -> String {
    let Memory { fixed, per_cpu, per_entry } = spec.memory();
    let part = |bytes: u64, of: &str| (bytes > 0).then(|| format!("{}{of}", size(bytes)));
    let parts = [part(fixed, ""), part(per_cpu, " for each CPU"), part(per_entry, " for each entry")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Bytes in the unit in which a person reads them.
pub(in crate::cli) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        0.0 => "0".to_owned(),
        1_048_576.0.. => format!("{:.1} MiB", bytes / 1_048_576.0),
        1024.0.. => format!("{:.1} KiB", bytes / 1024.0),
        _ => format!("{bytes} B"),
    }
}

/// How to look at the map with bpftool, which ends with success whatever the map holds.
pub(in crate::cli) fn bpftool(spec: &MapSpec) -> String {
    let pin = format!("pinned /sys/fs/bpf/portcullis/v{LAYOUT_VERSION}/{}", spec.name);
    match spec.kind {
        // Their elements are not shown, or only by taking them out.
        MapKind::SockMap | MapKind::RingBuf | MapKind::Queue => format!("bpftool map show {pin}"),
        MapKind::Array if spec.entries > MOST_DUMPED => format!("bpftool map lookup {pin} key 0 0 0 0"),
        _ => format!("bpftool map dump {pin}"),
    }
}

/// As bpftool calls it.
pub(super) fn kind(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Array => "array",
        MapKind::PerCpuArray => "percpu_array",
        MapKind::Hash => "hash",
        MapKind::LruHash => "lru_hash",
        MapKind::LruPerCpuHash => "lru_percpu_hash",
        MapKind::LpmTrie => "lpm_trie",
        MapKind::SockMap => "sockmap",
        MapKind::ArrayOfMaps => "array_of_maps",
        MapKind::RingBuf => "ringbuf",
        MapKind::Queue => "queue",
    }
}

/// As a person calls it.
pub(in crate::cli) fn in_words(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Array => "array",
        MapKind::PerCpuArray => "array per CPU",
        MapKind::Hash => "hash",
        MapKind::LruHash => "LRU hash",
        MapKind::LruPerCpuHash => "LRU hash per CPU",
        MapKind::LpmTrie => "LPM trie",
        MapKind::SockMap => "sockmap",
        MapKind::ArrayOfMaps => "array of maps",
        MapKind::RingBuf => "ring buffer",
        MapKind::Queue => "queue",
    }
}
