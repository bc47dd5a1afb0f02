//! Checks that an API server would do: names, scalars where text is asked for, fields that a kind does not have.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;
use serde_json::Value;

use crate::problem::{Code, ObjectRef, Problem, Severity, shorten};

/// Kinds of ours that live outside of namespaces.
const CLUSTER_SCOPED: [&str; 5] = ["IngressClass", "Namespace", "Node", "EdgePolicy", "AddressPool"];

/// Names an untyped object. Namespaced kinds without a namespace live in `default`, as with kubectl.
pub(super) fn reference(api_version: &str, kind: &str, value: &Value) -> ObjectRef {
    let text = |field: &str| match value.get("metadata").and_then(|meta| meta.get(field)) {
        Some(Value::String(text)) => text.clone(),
        // A bare `off` or `1` is no text: reading the object will say so.
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    };
    let namespace = match text("namespace") {
        _ if CLUSTER_SCOPED.contains(&kind) => String::new(),
        empty if empty.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace,
        name: text("name"),
        uid: text("uid"),
    }
}

/// Names an object that leaves its name to the API server: the same name for the same object. Gives the prefix that it
/// asks for.
pub(super) fn name_generated(value: &mut Value) -> Option<String> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let metadata = value.get("metadata")?;
    let prefix = metadata.get("generateName").and_then(Value::as_str)?.to_owned();
    if prefix.is_empty() || metadata.get("name").is_some_and(|name| !name.is_null()) {
        return None;
    }
    let mut name = prefix.clone();
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    let mut rest = hasher.finish();
    for _ in 0..5 {
        let letter = usize::try_from(rest % 27).ok().and_then(|at| LETTERS.get(at));
        name.extend(letter.map(|letter| char::from(*letter)));
        rest /= 27;
    }
    value.get_mut("metadata")?.as_object_mut()?.insert("name".into(), Value::from(name));
    Some(prefix)
}

/// Tells the name that was made up.
pub(super) fn generated(reference: &ObjectRef, prefix: &str) -> Problem {
    Problem {
        object: reference.clone(),
        code: Code::ObjectInvalid,
        severity: Severity::Note,
        field: "metadata.generateName".into(),
        value: prefix.to_owned(),
        message:
            "has no name, and is given this one; kubectl apply would refuse it, kubectl create would not"
                .into(),
    }
}

/// An annotation, a label or a key of data without a value is none, as to an API server.
pub(super) fn drop_nulls(value: &mut Value) {
    let places: [&[&str]; 4] =
        [&["metadata", "annotations"], &["metadata", "labels"], &["data"], &["stringData"]];
    for place in places {
        let found = place.iter().try_fold(&mut *value, |at, part| at.get_mut(*part));
        if let Some(Value::Object(texts)) = found {
            texts.retain(|_, text| !text.is_null());
        }
    }
}

/// A name is a DNS subdomain; without one nothing can refer to the object.
pub(super) fn check_name(reference: &ObjectRef, path: &str, line: usize) -> Option<Problem> {
    let is_valid = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
                edge(label.chars().next())
                    && edge(label.chars().last())
                    && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            })
    };
    let (field, value) =
        match (is_valid(&reference.name), reference.namespace.is_empty() || is_valid(&reference.namespace)) {
            (true, true) => return None,
            (false, _) => ("metadata.name", &reference.name),
            (true, false) => ("metadata.namespace", &reference.namespace),
        };
    Some(Problem {
        object: if reference.name.is_empty() { ObjectRef::file(path) } else { reference.clone() },
        code: Code::ObjectInvalid,
        severity: Severity::Error,
        field: field.to_owned(),
        value: shorten(value),
        message: format!(
            "{} has no valid {field} ({path}, document at line {line}); it is ignored; use lower-case letters, digits, \
             '-' and '.'",
            reference.kind
        ),
    })
}

/// Annotations, labels and the data of ConfigMaps are text. YAML reads a bare `true` or `5` as something else, which
/// an API server refuses; we read what was meant and say so. `written` has the words that mean `true` or `false`.
pub(super) fn quote_scalars(
    reference: &ObjectRef,
    value: &mut Value,
    written: Option<&Value>,
    problems: &mut Vec<Problem>,
) {
    let places: [&[&str]; 4] =
        [&["metadata", "annotations"], &["metadata", "labels"], &["data"], &["stringData"]];
    for place in places {
        if place == ["data"] && reference.kind != "ConfigMap" {
            continue;
        }
        let found = place.iter().try_fold(&mut *value, |at, part| at.get_mut(*part));
        let Some(Value::Object(texts)) = found else { continue };
        let words = place.iter().try_fold(written, |at, part| Some(at?.get(*part))).flatten();
        for (key, text) in texts.iter_mut() {
            let meant = match &*text {
                Value::Bool(value) => match words.and_then(|words| words.get(key)) {
                    Some(Value::String(word)) => word.clone(),
                    _ => value.to_string(),
                },
                Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
                _ => continue,
            };
            problems.push(Problem {
                object: reference.clone(),
                code: Code::ObjectInvalid,
                severity: Severity::Warning,
                field: format!("{}[{key}]", place.join(".")),
                value: if reference.kind == "Secret" { String::new() } else { meant.clone() },
                message: format!(
                    "text is asked for; read as \"{}\"; put it in quotes",
                    redact(reference, &meant)
                ),
            });
            *text = Value::from(meant);
        }
    }
}

fn redact<'a>(reference: &ObjectRef, text: &'a str) -> &'a str {
    if reference.kind == "Secret" { "…" } else { text }
}

/// The Problem of an object that has not the shape of its kind.
pub(super) fn misshapen(
    reference: &ObjectRef,
    value: &Value,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Problem {
    let path = error.path().to_string();
    let found = error.path().iter().try_fold(value, |at, segment| match segment {
        serde_path_to_error::Segment::Seq { index } => at.get(index),
        serde_path_to_error::Segment::Map { key } => at.get(key),
        _ => None,
    });
    let shown = match found {
        _ if reference.kind == "Secret" => String::new(),
        Some(found) => shorten(&found.to_string()),
        None => String::new(),
    };
    let path_ends_in_port = path.ends_with("service.port");
    // The parser's text quotes the value; a Secret's must not be shown.
    let inner = error.inner().to_string();
    let reason = if reference.kind == "Secret" { "wrong type or not base64" } else { inner.as_str() };
    Problem {
        object: reference.clone(),
        code: Code::ObjectInvalid,
        severity: Severity::Error,
        field: path,
        value: shown,
        message: format!(
            "not a valid {}: {reason}; the object is ignored; {}",
            reference.kind,
            if path_ends_in_port { "write number: or name: in front of it" } else { "correct the field" }
        ),
    }
}

/// Fields that are in the manifest and not in the kind: what was read is written back and compared.
pub(super) fn unknown_fields<T: Serialize>(reference: &ObjectRef, value: &Value, object: &T) -> Vec<Problem> {
    let Ok(known) = serde_json::to_value(object) else { return Vec::new() };
    let mut fields = Vec::new();
    differ(value, &known, "", &mut fields);
    let problem = |field: String| Problem {
        object: reference.clone(),
        code: Code::ObjectInvalid,
        severity: Severity::Warning,
        message: format!("{} has no such field; it is ignored; {}", reference.kind, advice(&field)),
        field,
        value: String::new(),
    };
    fields.into_iter().map(problem).collect()
}

/// What to do about a field that there is not.
fn advice(field: &str) -> &'static str {
    // Of the versions before networking.k8s.io/v1, as old guides have them.
    match field.rsplit('.').next() {
        Some("serviceName") => "write service: {name: …, port: {number: …}}",
        Some("servicePort") => "write port: {number: …} or port: {name: …} in service",
        _ => "check spelling and indentation",
    }
}

fn differ(written: &Value, known: &Value, at: &str, fields: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match known.get(key) {
                    Some(known) => differ(value, known, &path, fields),
                    // Absent and empty are the same to a reader, and `stringData` is folded into `data` by us.
                    None if is_empty(value) => {}
                    None => fields.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (written, known)) in written.iter().zip(known).enumerate() {
                differ(written, known, &format!("{at}[{index}]"), fields);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use crate::problem::Severity;

    fn check(text: &str, field: &str, value: &str, severity: Severity, message: &str) {
        let parsed = parse("a.yaml", text);
        let found = parsed
            .problems
            .iter()
            .find(|p| p.field == field)
            .unwrap_or_else(|| panic!("{:?}", parsed.problems));
        assert_eq!((found.value.as_str(), found.severity), (value, severity), "{found:?}");
        assert!(found.message.contains(message), "{found:?}");
    }

    #[test]
    fn a_wrong_type_names_field_and_value() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec:\n  rules:\n  - http:\n      paths:\n      - path: /\n        pathType: Prefix\n        backend: {service: {name: s, port: {number: http}}}\n";
        let field = "spec.rules[0].http.paths[0].backend.service.port.number";
        check(text, field, "\"http\"", Severity::Error, "not a valid Ingress");
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {ingresClassName: x}\n";
        check(text, "spec.ingresClassName", "", Severity::Warning, "no such field");
    }

    #[test]
    fn a_backend_of_an_old_guide_is_told_how_it_is_written_today() {
        let backend = |text| {
            format!(
                "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: a}}\nspec:\n  rules:\n  - http:\n      \
                 paths:\n      - path: /\n        pathType: Prefix\n        backend: {text}\n"
            )
        };
        let field = |name| format!("spec.rules[0].http.paths[0].backend.{name}");
        let old = backend("{serviceName: s, servicePort: 80}");
        check(&old, &field("serviceName"), "", Severity::Warning, "write service: {name");
        check(&old, &field("servicePort"), "", Severity::Warning, "write port: {number");
        let bare = backend("{service: {name: s, port: 80}}");
        check(&bare, &field("service.port"), "80", Severity::Error, "write number: or name:");
    }

    #[test]
    fn bare_scalars_in_annotations_are_read_as_text() {
        let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a, annotations: {x/y: true}}\n";
        check(text, "metadata.annotations[x/y]", "true", Severity::Warning, "quotes");
        assert_eq!(parse("a.yaml", text).objects.len(), 1);
    }

    #[test]
    fn names_are_checked() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\n";
        check(text, "metadata.name", "A_b", Severity::Error, "lower-case");
        check(
            "apiVersion: v1\nkind: Service\nmetadata: {}\n",
            "metadata.name",
            "",
            Severity::Error,
            "metadata.name",
        );
    }

    #[test]
    fn a_secret_is_never_quoted() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {k: 'hunter2!'}\n";
        let parsed = parse("a.yaml", text);
        assert_eq!(parsed.objects.len(), 0);
        assert!(!format!("{:?}", parsed.problems).contains("hunter2"), "{:?}", parsed.problems);
    }
}
