//! How many instructions each verifier looked at, compared with what was recorded: a jump is a program that grew without
//! anybody noticing, or a verifier that lost its way in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};

/// A program may grow so much before somebody has to look.
const MOST_GROWTH: u32 = 2;

/// The record is one file for all machines.
static WRITING: Mutex<()> = Mutex::new(());

type Counts = BTreeMap<(String, String), u32>;

/// Lines `program kernel instructions`.
fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernels/instructions.txt")
}

/// Compares what a machine printed with the record, or writes it there.
pub(crate) fn compare(kernel: &str, lines: &[String]) -> anyhow::Result<()> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut recorded = read(&std::fs::read_to_string(path()).unwrap_or_default());
    let seen: Vec<(&str, u32)> = lines
        .iter()
        .filter_map(|line| line.split_once("verified: ")?.1.split_once(' '))
        .filter_map(|(program, count)| Some((program, count.parse().ok()?)))
        .collect();
    if seen.is_empty() {
        bail!("the tier packet told no instructions");
    }
    let writes = std::env::var_os("UPDATE_EXPECT").is_some();
    for (program, count) in seen {
        let key = (program.to_owned(), kernel.to_owned());
        if writes {
            recorded.insert(key, count);
            continue;
        }
        let before = recorded.get(&key).with_context(|| {
            format!("{program} is not in instructions.txt: run again with UPDATE_EXPECT=1")
        })?;
        if count > before * MOST_GROWTH {
            bail!(
                "{program}: {count} verified instructions, recorded {before}; if meant, run with UPDATE_EXPECT=1"
            );
        }
    }
    if writes {
        let mut text = String::new();
        for ((program, kernel), count) in &recorded {
            writeln!(text, "{program} {kernel} {count}")?;
        }
        std::fs::write(path(), text)?;
    }
    Ok(())
}

fn read(text: &str) -> Counts {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        let (program, kernel) = (words.next()?, words.next()?);
        Some(((program, kernel), words.next()?.parse().ok()?))
    });
    lines.collect()
}
