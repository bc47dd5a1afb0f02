//! The report as SARIF 2.1.0 (OASIS), for code scanning. Physical locations are those of the files of a folder; logical
//! locations name object and field, which is all there is of a cluster.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::places::Location;
use super::report::{Report, Verdict};
use crate::problem::{Code, Severity};

/// A kind of finding.
struct Rule {
    name: String,
    short: String,
    help: String,
    page: String,
    level: &'static str,
}

/// The whole log.
pub(super) fn log(report: &Report) -> Value {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let mut found: Vec<(String, Value)> = Vec::new();
    for finding in &report.problems {
        let problem = &finding.problem;
        let level = level(problem.severity);
        let text = if problem.value.is_empty() {
            problem.message.clone()
        } else {
            format!("{:?}: {}", problem.value, problem.message)
        };
        let id = problem.code.name().to_owned();
        rules.entry(id.clone()).or_insert_with(|| of_code(problem.code));
        let object = problem.object.to_string();
        let at = (object.as_str(), problem.field.as_str(), finding.location.as_ref());
        found.push((id.clone(), result(&id, level, &text, at)));
    }
    for ingress in &report.ingresses {
        let object = ingress.object.to_string();
        for quirk in &ingress.quirks {
            let (name, path) = (quirk.quirk.name, &quirk.quirk.path);
            let id = format!("quirk/{name}");
            let text = format!("path {path}: {}", quirk.quirk.message);
            rules.entry(id.clone()).or_insert_with(|| of_quirk(name));
            found.push((id.clone(), result(&id, "note", &text, (&object, path, quirk.location.as_ref()))));
        }
        for setting in ingress.settings.iter().filter(|setting| setting.verdict == Verdict::Different) {
            let field = format!("metadata.annotations[{}]", setting.key);
            let id = "supported-with-difference".to_owned();
            rules.entry(id.clone()).or_insert_with(of_difference);
            let at = (object.as_str(), field.as_str(), setting.location.as_ref());
            found.push((id.clone(), result(&id, "note", &setting.message, at)));
        }
    }
    let numbers: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let results: Vec<Value> = found
        .into_iter()
        .map(|(id, result)| with(result, "ruleIndex", numbers.get(id.as_str()).map(|number| json!(number))))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "portcullis lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|(id, rule)| rule.json(id)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn of_code(code: Code) -> Rule {
    let (says, consequence, fix) = code.explanation();
    let level = match code {
        Code::KindUnknown => "note",
        Code::ObjectInvalid | Code::FieldInvalid | Code::BackendMissing | Code::SecretInvalid => "error",
        _ => "warning",
    };
    Rule {
        name: code.name().to_owned(),
        short: says.to_owned(),
        help: format!("{consequence} {fix}"),
        page: format!("reference/problems.md#{}", code.name().to_ascii_lowercase()),
        level,
    }
}

fn of_quirk(name: &str) -> Rule {
    Rule {
        name: camel(name),
        short: format!("Depends on a surprise of ingress-nginx: {}.", name.replace('-', " ")),
        help: "It is kept by default; portcullis.dev/strict: \"true\" turns it off, and the message says which requests would \
               change."
            .to_owned(),
        page: "migration.md".to_owned(),
        level: "note",
    }
}

fn of_difference() -> Rule {
    Rule {
        name: "SupportedWithDifference".to_owned(),
        short: "An annotation is supported with a difference from ingress-nginx.".to_owned(),
        help: "The message says what differs and what to do where it matters.".to_owned(),
        page: "reference/annotations.md".to_owned(),
        level: "note",
    }
}

fn camel(name: &str) -> String {
    let upper = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(upper).collect()
}

impl Rule {
    fn json(&self, id: &str) -> Value {
        json!({
            "id": id,
            "name": self.name,
            "shortDescription": {"text": self.short},
            "fullDescription": {"text": format!("{} {}", self.short, self.help)},
            "help": {"text": format!("{} See docs/{}.", self.help, self.page)},
            "defaultConfiguration": {"level": self.level},
        })
    }
}

fn result(
    rule: &str,
    level: &str,
    text: &str,
    (object, field, location): (&str, &str, Option<&Location>),
) -> Value {
    let name = format!("{object} {field}");
    let place = json!({"logicalLocations": [{"fullyQualifiedName": name.trim_end(), "kind": "object"}]});
    let place = with(place, "physicalLocation", location.map(physical));
    json!({
        "ruleId": rule,
        "level": level,
        "message": {"text": format!("{object}: {text}")},
        "locations": [place],
        // The same finding in the next run, wherever its file or its line went.
        "partialFingerprints": {"ruleObjectField/v1": fingerprint(&[rule, object, field])},
    })
}

/// The object with a further member, if there is one.
fn with(mut object: Value, name: &str, member: Option<Value>) -> Value {
    if let (Some(members), Some(member)) = (object.as_object_mut(), member) {
        members.insert(name.to_owned(), member);
    }
    object
}

fn physical(at: &Location) -> Value {
    let has_end = (at.end_line, at.end_column) > (at.line, at.column);
    let region = json!({"startLine": at.line, "startColumn": at.column});
    let region = with(region, "endLine", has_end.then(|| json!(at.end_line)));
    let region = with(region, "endColumn", has_end.then(|| json!(at.end_column)));
    let is_below = !Path::new(&at.file).is_absolute() || below_here(&at.file).is_some();
    let artifact = with(json!({"uri": uri(&at.file)}), "uriBaseId", is_below.then(|| json!("%SRCROOT%")));
    json!({"artifactLocation": artifact, "region": region})
}

/// A path below the working folder, as a relative one: a checkout is usually linted from its root.
fn below_here(file: &str) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    Some(Path::new(file).strip_prefix(here).ok()?.display().to_string())
}

fn uri(file: &str) -> String {
    let relative = below_here(file);
    let file = relative.as_deref().unwrap_or(file);
    let mut uri = if file.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
