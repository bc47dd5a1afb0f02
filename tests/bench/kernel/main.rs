//! What the kernel half costs: `cargo xtask bench kernel [--json FILE]`. Packets as a multiple of an empty program
//! (`packets`), changes of lists in milliseconds and memory in MiB (`maps`).
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark talks to its user and fails by panicking"
)]

mod maps;
mod packets;

use std::process::ExitCode;

use serde_json::json;

/// A line of the report.
struct Row {
    case: String,
    value: f64,
    unit: &'static str,
    /// More than this is a failure.
    gate: Option<f64>,
}

impl Row {
    fn is_ok(&self) -> bool {
        self.gate.is_none_or(|gate| self.value <= gate)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let json =
        arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
    let mut rows = packets::measure();
    rows.extend(maps::measure());
    for row in &rows {
        let gate =
            row.gate.map(|gate| format!("gate {gate:>6}  {}", if row.is_ok() { "ok" } else { "MISSED" }));
        println!("{:<62} {:>8.2} {:<4} {}", row.case, row.value, row.unit, gate.unwrap_or_default());
    }
    if let Some(path) = json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let Row { case, value, unit, gate } = row;
                json!({"case": case, "value": value, "unit": unit, "gate": gate, "ok": row.is_ok()})
            })
            .collect();
        std::fs::write(path, json!({"rows": rows}).to_string()).unwrap();
    }
    if rows.iter().all(Row::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
