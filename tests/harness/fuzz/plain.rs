//! Fuzzing without a fuzzer: inputs made of pieces of the corpus, for as long as is asked for, by any compiler. It is not
//! guided by coverage, so that it finds less than `cargo fuzz`; it finds it everywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Target;
use crate::cluster::root;

/// Inputs are not longer.
const LONGEST: usize = 64 * 1024;
/// Bytes that parsers look at.
const SPECIAL: &[u8] = b"\0\x01\x7f\x80\xff\r\n \t/\\.%:;,-'\"{}[]()$^*+?|&#@=0129azAZ";

/// A source of numbers that can be repeated. (SplitMix64.)
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end.max(1) as u64)).unwrap_or_default()
    }

    fn special(&mut self) -> u8 {
        SPECIAL.get(self.below(SPECIAL.len())).copied().unwrap_or_default()
    }
}

/// The corpus of a target. Cases of translation are manifests, too.
pub fn corpus(name: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut inputs = files(&root().join("tests/fuzz/corpus").join(name), "")?;
    if name == "manifests" {
        inputs.extend(files(&root().join("tests/translate/cases"), ".in.yaml")?);
    }
    Ok(inputs)
}

fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

/// A further input.
pub fn mutated(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice| corpus.get(dice.below(corpus.len())).cloned().unwrap_or_default();
    let mut input = pick(dice);
    for _ in 0..=dice.below(6) {
        let (from, to) = (dice.below(input.len() + 1), dice.below(input.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        match dice.below(6) {
            0 => drop(input.drain(from..to.min(from + 16))),
            1 => input.insert(from, dice.special()),
            2 => {
                let special = dice.special();
                input.iter_mut().skip(from).take(1).for_each(|byte| *byte = special);
            }
            3 => {
                let bit = 1_u8 << dice.below(8);
                input.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= bit);
            }
            4 => {
                let copy: Vec<u8> = input.iter().skip(from).take(to - from).copied().collect();
                input.splice(to..to, copy);
            }
            _ => {
                let other = pick(dice);
                let start = dice.below(other.len() + 1);
                input.truncate(from);
                input.extend(other.into_iter().skip(start));
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// Runs a target over its corpus and what can be made of it; the number of inputs. One that fails is kept in
/// `tests/fuzz/artifacts`.
pub fn run((name, body): Target, time: Duration, seed: u64) -> anyhow::Result<u64> {
    let corpus = corpus(name)?;
    let (started, mut dice, mut count) = (Instant::now(), Dice::new(seed), 0_u64);
    let whole = corpus.iter().cloned().map(Some).chain(std::iter::repeat(None));
    for input in whole {
        if started.elapsed() >= time {
            break;
        }
        let input = input.unwrap_or_else(|| mutated(&mut dice, &corpus));
        if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
            let folder = root().join("tests/fuzz/artifacts").join(name);
            std::fs::create_dir_all(&folder)?;
            let path = folder.join(format!("plain-{seed}-{count}"));
            std::fs::write(&path, &input)?;
            anyhow::bail!("{name}: an input fails, it is kept as {}", path.display());
        }
        count += 1;
    }
    Ok(count)
}
