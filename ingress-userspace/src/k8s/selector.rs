//! Label selectors as flags spell them: `team=edge,tier!=dev,zone in (a,b),!legacy`.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed selector: every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    /// The label is there, with one of these values.
    In(String, BTreeSet<String>),
    /// The label is not there, or has none of these values.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads a selector; the error is a reason without subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text)?;
        let requirements: Result<Vec<_>, _> = parts.into_iter().map(requirement).collect();
        Ok(Self { requirements: requirements? })
    }

    /// Whether it selects these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

/// Splits at commas that stand outside of parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '(' if is_inside => return Err("holds a ( within parentheses".to_owned()),
            '(' => is_inside = true,
            ')' if !is_inside => return Err("holds a ) without its (".to_owned()),
            ')' => is_inside = false,
            ',' if !is_inside => {
                parts.push(text.get(start..at).unwrap_or_default().trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_inside {
        return Err("holds a ( without its )".to_owned());
    }
    parts.push(text.get(start..).unwrap_or_default().trim());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(label(key)?));
    }
    let words: Vec<&str> = text.splitn(3, char::is_whitespace).collect();
    if let [key, operator @ ("in" | "notin"), rest] = words.as_slice() {
        let inner = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("wants {operator} (a,b) in {text:?}"))?;
        let values: Result<BTreeSet<_>, _> = inner.split(',').map(value).collect();
        let (key, values) = (label(key)?, values?);
        return Ok(match *operator {
            "in" => Requirement::In(key, values),
            _ => Requirement::NotIn(key, values),
        });
    }
    if let Some((key, text)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(label(key)?, BTreeSet::from([value(text)?])));
    }
    if let Some((key, text)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(label(key)?, BTreeSet::from([value(text)?])));
    }
    Ok(Requirement::Exists(label(text)?))
}

fn label(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err(format!("names the label {text:?}"));
    }
    Ok(text.to_owned())
}

fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.chars().all(is_plain) {
        return Err(format!("compares with {text:?}, which no label's value can be"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_those_of_the_api_server() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let edge = labels(&[("team", "edge"), ("zone", "a")]);
        for (text, expected) in [
            ("team=edge", true),
            ("team==edge", true),
            ("team=shop", false),
            ("team!=shop", true),
            ("team!=edge", false),
            ("other!=edge", true),
            ("zone in (a, b)", true),
            ("zone in (b)", false),
            ("zone notin (b,c),team=edge", true),
            ("zone", true),
            ("!zone", false),
            ("!legacy,team in (edge)", true),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&edge), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_says_why() {
        for (text, expected) in [
            ("", "names the label"),
            ("a=b,", "names the label"),
            ("zone in (a", "without its )"),
            ("zone in a", "wants in (a,b)"),
            ("a b", "names the label"),
            ("a=b c", "no label's value"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
