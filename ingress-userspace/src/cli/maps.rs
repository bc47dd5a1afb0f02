//! `portcullis maps [NAME]`: the kernel maps, their layout (`--schema`), or what one of them holds. Reads the pins; needs no
//! agent.

pub(in crate::cli) mod schema;

use std::io;

use ingress_common::maps::LAYOUT_VERSION;
use ingress_common::maps::table::{MAPS, MapSpec};
use serde_json::{Map, Value};

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
    /// A ring buffer is read by taking out what it holds.
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
        "events" => "`portcullis drops` reads it",
        _ => "`bpftool map dump` may",
    }
}

/// Runs the command.
pub fn run(args: &MapsArgs, out: &mut dyn io::Write) -> Result<(), MapsCommandError> {
    let named = |spec: &&MapSpec| args.name.as_ref().is_none_or(|name| spec.name == name);
    let specs: Vec<&MapSpec> = MAPS.iter().filter(named).collect();
    match &args.name {
        Some(name) if specs.is_empty() => Err(MapsCommandError::Unknown { name: name.clone() }),
        Some(name) if !args.schema => contents(args, name, out),
        _ => describe(args, &specs, out),
    }
}

/// What a map holds.
fn contents(args: &MapsArgs, name: &str, out: &mut dyn io::Write) -> Result<(), MapsCommandError> {
    let pins = Pins::new(&args.bpffs);
    let maps = Maps::open(&pins)?;
    let table = dump::dump(&maps, &pins, name)?
        .ok_or_else(|| MapsCommandError::Unreadable { name: name.to_owned() })?;
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

/// What the maps are: in short, or with every field.
fn describe(args: &MapsArgs, specs: &[&MapSpec], out: &mut dyn io::Write) -> Result<(), MapsCommandError> {
    if args.output == OutputFormat::Json {
        return print_json(out, &Value::Array(specs.iter().map(|spec| schema::json(spec)).collect()));
    }
    if !args.schema {
        let row = |spec: &&MapSpec| {
            let entries = spec.entries.to_string();
            let cells = [
                spec.name,
                schema::kind(spec.kind),
                &entries,
                spec.key.name,
                spec.value.name,
                &schema::about(spec),
            ];
            cells.map(str::to_owned).to_vec()
        };
        let rows: Vec<_> = specs.iter().map(row).collect();
        return Ok(text_table::print(out, &["name", "type", "entries", "key", "value", "about"], &rows)?);
    }
    writeln!(
        out,
        "layout {LAYOUT_VERSION}; numbers are in the byte order of the machine, addresses as on the wire"
    )?;
    for spec in specs {
        writeln!(out)?;
        schema::print(spec, out)?;
    }
    Ok(())
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
        printed_with(false, name, output)
    }

    fn printed_with(
        schema: bool,
        name: Option<&str>,
        output: OutputFormat,
    ) -> Result<String, MapsCommandError> {
        let args =
            MapsArgs { name: name.map(str::to_owned), schema, output, bpffs: "/does/not/exist".into() };
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
    fn the_layout_says_where_every_field_stands() {
        let text = printed_with(true, Some("acl_hits"), OutputFormat::Table).unwrap();
        assert!(
            text.contains("acl_hits: LRU hash per CPU, 8192 entries, 768.0 KiB and 128.0 KiB for each CPU"),
            "{text}"
        );
        let words = |line: &str| line.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        for expected in ["key 16 4 scope u32 0:", "key 20 4 len u32 bits", "value 8 8 bytes u64 bytes"] {
            assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:?}");
        }
        let all = printed_with(true, None, OutputFormat::Table).unwrap();
        for map in MAPS {
            assert!(all.contains(&format!("\n{}: ", map.name)), "{}", map.name);
        }
        let json: Value =
            serde_json::from_str(&printed_with(true, Some("vips"), OutputFormat::Json).unwrap()).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 1);
        let field = &json[0]["value"]["fields"][1];
        assert_eq!((field["name"].as_str(), field["offset"].as_u64()), (Some("flags"), Some(4)));
        assert!(json[0]["memory"]["bytes"].as_u64().unwrap() > 0);
        let error = printed_with(true, Some("vip"), OutputFormat::Table).unwrap_err().to_string();
        assert!(error.contains("no map is called vip"), "{error}");
    }

    #[test]
    fn a_wrong_name_and_missing_pins_are_told_apart() {
        let error = printed(Some("vip"), OutputFormat::Table).unwrap_err().to_string();
        assert!(error.contains("vips"), "{error}");
        let error = printed(Some("vips"), OutputFormat::Table).unwrap_err().to_string();
        assert!(error.contains("no agent has run here"), "{error}");
    }
}
