//! No setting is called supported without a test: each one that is declared as the same, with a difference, or our own
//! occurs in a golden case, in a proxy test or in one of the webhook.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the reference may say of a setting only if a test shows it.
const SUPPORTED: [&str; 3] = ["Same", "Differs", "Own"];

/// A message per setting without a test.
pub(crate) fn breaches(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut words = BTreeSet::new();
    for folder in ["tests/translate/cases", "tests/proxy", "ingress-userspace/src/admission/review"] {
        for file in files(&root.join(folder))? {
            let name = file.to_string_lossy();
            if name.ends_with(".in.yaml") || name.ends_with(".rs") {
                let text = fs::read_to_string(&file)?;
                words.extend(
                    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).map(str::to_owned),
                );
            }
        }
    }
    let mut breaches = Vec::new();
    for file in files(&root.join("ingress-userspace/src/annotation"))? {
        let text = fs::read_to_string(&file)?;
        for key in supported(&text).filter(|key| !words.contains(*key)) {
            breaches.push(format!(
                "{key} ({}): called supported, and no test names it: add a case with a good and a wrong value to \
                 tests/translate/cases, or a test to tests/proxy",
                file.file_name().unwrap_or_default().to_string_lossy()
            ));
        }
    }
    Ok(breaches)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// The keys that a file declares as supported.
fn supported(text: &str) -> impl Iterator<Item = &str> {
    text.split("= \"").skip(1).filter_map(|rest| {
        let (key, declaration) = rest.split_once("\", parse:")?;
        let (_, support) = declaration.split_once("support: ")?;
        let (support, _) = support.split_once(';')?;
        SUPPORTED.contains(&support.trim()).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::supported;

    #[test]
    fn declarations_are_found() {
        let text = "A: bool = \"a-b\", parse: f, values: \"x\", default: \"\", on_invalid: Warn,\n support: Same;\n\
                    B: u8 = \"c\", parse: g, in: Both, support: Ignored;";
        assert_eq!(supported(text).collect::<Vec<_>>(), ["a-b"]);
    }
}
