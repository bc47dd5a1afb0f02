//! `portcullis bans`: the sources that this node bans, and an early end of bans. Reads and writes the pins; needs no agent.

use std::io;

use super::text_table;
use crate::args::tools::{BansArgs, OutputFormat};
use crate::bpf::bans::{self, Banned};
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum BansError {
    /// The pins.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Nothing to lift.
    #[error("nobody in {network} is banned on this node; `portcullis bans` lists who is")]
    NotBanned {
        /// As given.
        network: String,
    },
    /// JSON.
    #[error("cannot encode the bans")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command.
pub fn run(args: &BansArgs, out: &mut dyn io::Write) -> Result<(), BansError> {
    let mut maps = Maps::open(&Pins::new(&args.bpffs))?;
    if args.lift.is_empty() {
        return print(args.output, &bans::list(&maps)?, out);
    }
    let mut lifted = Vec::new();
    for network in &args.lift {
        let of_network = bans::lift(&mut maps, network)?;
        if of_network.is_empty() {
            return Err(BansError::NotBanned { network: network.to_string() });
        }
        lifted.extend(of_network);
    }
    if args.output == OutputFormat::Table {
        writeln!(out, "no longer banned:")?;
    }
    print(args.output, &lifted, out)
}

fn print(output: OutputFormat, bans: &[Banned], out: &mut dyn io::Write) -> Result<(), BansError> {
    match output {
        OutputFormat::Json => Ok(writeln!(out, "{:#}", serde_json::to_value(bans)?)?),
        OutputFormat::Table if bans.is_empty() => Ok(writeln!(out, "nobody is banned on this node")?),
        OutputFormat::Table => {
            let row = |banned: &Banned| {
                vec![
                    banned.source.to_string(),
                    banned.policy.clone(),
                    banned.too_many.to_owned(),
                    format!("{} s", banned.since_seconds),
                    format!("{} s", banned.left_seconds),
                ]
            };
            let rows: Vec<Vec<String>> = bans.iter().map(row).collect();
            Ok(text_table::print(out, &["source", "policy", "too many", "banned for", "left"], &rows)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_who_why_and_for_how_long() {
        let banned = Banned {
            source: "198.18.0.66/32".parse().unwrap(),
            policy: "edge".to_owned(),
            too_many: "connections",
            since_seconds: 20,
            left_seconds: 580,
        };
        let mut out = Vec::new();
        print(OutputFormat::Table, &[banned], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SOURCE          POLICY  TOO MANY     BANNED FOR  LEFT\n\
             198.18.0.66/32  edge    connections  20 s        580 s\n"
        );
        let mut out = Vec::new();
        print(OutputFormat::Table, &[], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "nobody is banned on this node\n");
    }
}
