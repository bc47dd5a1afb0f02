//! Label selectors, as flags spell them (`team=edge,tier!=dev,zone in (a,b),!legacy`) and as objects hold them.

use std::collections::{BTreeMap, BTreeSet};

use super::crd;

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

    /// Reads a selector of an object; the error is a reason without subject.
    pub fn of(selector: &crd::Selector) -> Result<Self, String> {
        let crd::Selector { match_labels, match_expressions } = selector;
        let labels = match_labels.iter();
        let labels = labels.map(|(key, value)| Requirement::In(key.clone(), [value.clone()].into()));
        let expressions = match_expressions.iter().map(|requirement| {
            let crd::Requirement { key, operator, values } = requirement;
            let (key, values) = (key.clone(), || values.iter().cloned().collect::<BTreeSet<_>>());
            match (operator.as_str(), values().is_empty()) {
                ("In", false) => Ok(Requirement::In(key, values())),
                ("NotIn", false) => Ok(Requirement::NotIn(key, values())),
                ("Exists", true) => Ok(Requirement::Exists(key)),
                ("DoesNotExist", true) => Ok(Requirement::Absent(key)),
                ("In" | "NotIn", true) => Err(format!("compares the label {key} with no value")),
                ("Exists" | "DoesNotExist", false) => {
                    Err(format!("asks by {operator} whether there is a label {key}, and names values"))
                }
                (other, _) => {
                    Err(format!("has the operator {other:?}, none of In, NotIn, Exists, DoesNotExist"))
                }
            }
        });
        Ok(Self { requirements: labels.map(Ok).chain(expressions).collect::<Result<_, _>>()? })
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
    fn selectors_of_objects_match_as_those_of_the_api_server() {
        let read = |text: &str| Selector::of(&serde_json::from_str(text).unwrap());
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        for (text, expected) in [
            ("{}", true),
            (r#"{"matchLabels": {"zone": "a"}}"#, true),
            (r#"{"matchLabels": {"zone": "b"}}"#, false),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}"#, false),
        ] {
            assert_eq!(read(text).map(|selector| selector.matches(&labels)), Ok(expected), "{text}");
        }
        for bad in [r#"{"key": "a", "operator": "In"}"#, r#"{"key": "a", "operator": "Gt", "values": ["1"]}"#]
        {
            assert!(read(&format!(r#"{{"matchExpressions": [{bad}]}}"#)).is_err(), "{bad}");
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
