//! Golden files: an input, and what came of it the last time somebody looked.

use std::path::Path;

use anyhow::{Context as _, bail};

/// Compares with a golden file. With `UPDATE_EXPECT=1` the file is written instead.
pub fn compare(path: &Path, found: &str) -> anyhow::Result<()> {
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        return std::fs::write(path, found).with_context(|| format!("cannot write {}", path.display()));
    }
    let expected = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; UPDATE_EXPECT=1 writes it", path.display()))?;
    if expected == found {
        return Ok(());
    }
    bail!(
        "{} differs (UPDATE_EXPECT=1 takes the new text over)\n{}",
        path.display(),
        difference(&expected, found)
    )
}

/// The lines that are only on one side, with their numbers.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let start = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(found.len()) - start;
    let end = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str], sign: char| -> String {
        let only = lines.get(start..lines.len() - end).unwrap_or_default();
        only.iter().map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("from line {}:\n{}{}", start + 1, part(&expected, '-'), part(&found, '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_only_what_differs() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), "from line 2:\n- b\n+ x\n");
        assert_eq!(difference("a\n", "a\nb\n"), "from line 2:\n+ b\n");
    }
}
