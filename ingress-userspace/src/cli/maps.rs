//! `portcullis maps [NAME]`: the schema of the kernel maps, or what one of them holds. Reads the pins; needs no agent.

use std::io;

use ingress_common::maps::table::{MAPS, MapKind, MapSpec};
use serde_json::{Map, Value, json};

use super::text_table;
use crate::args::tools::{MapsArgs, OutputFormat};
use crate::bpf::dump;
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum MapsCommandError {
    /// A name that no map has.
    #[error("no map is called {name}; the maps are: {}", MAPS.iter().map(|map| map.name).collect::<Vec<_>>().join(", "))]
    Unknown {
        /// As given.
        name: String,
    },
    /// Sockets have no readable form.
    #[error("the kernel does not show what {name} holds; {}", instead(name))]
    Unreadable {
        /// The map.
        name: String,
    },
    /// The pins.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// What shows it in another way.
fn instead(name: &str) -> &'static str {
    match name {
        "socks" => "`portcullis maps slots` is its readable shadow",
        "events" => "`portcullis drops` reads it",
        "ban_asks" => "the agent empties it, and `portcullis bans` lists who was banned",
        _ => "`bpftool map dump` may",
    }
}

/// Runs the command.
pub fn run(args: &MapsArgs, out: &mut dyn io::Write) -> Result<(), MapsCommandError> {
    let Some(name) = &args.name else { return schema(args.output, out) };
    if MAPS.iter().all(|map| map.name != name) {
        return Err(MapsCommandError::Unknown { name: name.clone() });
    }
    let maps = Maps::open(&Pins::new(&args.bpffs))?;
    let table =
        dump::dump(&maps, name)?.ok_or_else(|| MapsCommandError::Unreadable { name: name.clone() })?;
    match args.output {
        OutputFormat::Json => {
            let object = |row: Vec<Value>| {
                Value::Object(
                    table.columns.iter().map(|name| (*name).to_owned()).zip(row).collect::<Map<_, _>>(),
                )
            };
            print_json(out, &Value::Array(table.rows.into_iter().map(object).collect()))
        }
        OutputFormat::Table => {
            let rows: Vec<Vec<String>> =
                table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
            Ok(text_table::print(out, table.columns, &rows)?)
        }
    }
}

fn schema(output: OutputFormat, out: &mut dyn io::Write) -> Result<(), MapsCommandError> {
    match output {
        OutputFormat::Json => {
            let fields = |spec: &MapSpec, of_key: bool| -> Vec<Value> {
                let fields = if of_key { spec.key.fields } else { spec.value.fields };
                fields
                    .iter()
                    .map(|(name, kind, about)| json!({"name": name, "type": kind, "about": about}))
                    .collect()
            };
            let map = |spec: &MapSpec| {
                json!({
                    "name": spec.name, "type": kind(spec.kind), "entries": spec.entries,
                    "key": {"type": spec.key.name, "bytes": spec.key.size, "fields": fields(spec, true)},
                    "value": {"type": spec.value.name, "bytes": spec.value.size, "fields": fields(spec, false)},
                    "writer": spec.writer, "reader": spec.reader, "about": spec.about,
                })
            };
            print_json(out, &Value::Array(MAPS.iter().map(map).collect()))
        }
        OutputFormat::Table => {
            let row = |spec: &MapSpec| {
                vec![
                    spec.name.to_owned(),
                    kind(spec.kind).to_owned(),
                    spec.entries.to_string(),
                    spec.key.name.to_owned(),
                    spec.value.name.to_owned(),
                    spec.about.split_whitespace().collect::<Vec<_>>().join(" "),
                ]
            };
            let rows: Vec<_> = MAPS.iter().map(row).collect();
            Ok(text_table::print(out, &["name", "type", "entries", "key", "value", "about"], &rows)?)
        }
    }
}

fn kind(kind: MapKind) -> &'static str {
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

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn print_json(out: &mut dyn io::Write, value: &Value) -> Result<(), MapsCommandError> {
    Ok(writeln!(out, "{value:#}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(name: Option<&str>, output: OutputFormat) -> Result<String, MapsCommandError> {
        let args = MapsArgs { name: name.map(str::to_owned), output, bpffs: "/does/not/exist".into() };
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_schema_is_printed_without_a_kernel_half() {
        let table = printed(None, OutputFormat::Table).unwrap();
        assert!(table.lines().count() > MAPS.len(), "{table}");
        let json: Value = serde_json::from_str(&printed(None, OutputFormat::Json).unwrap()).unwrap();
        assert_eq!(json[1]["key"]["fields"][0]["name"], "addr");
    }

    #[test]
    fn a_wrong_name_and_missing_pins_are_told_apart() {
        let error = printed(Some("vip"), OutputFormat::Table).unwrap_err().to_string();
        assert!(error.contains("vips"), "{error}");
        let error = printed(Some("vips"), OutputFormat::Table).unwrap_err().to_string();
        assert!(error.contains("no agent has run here"), "{error}");
    }
}
