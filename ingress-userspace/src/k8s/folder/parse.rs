//! The text of one file → objects and Problems. Pure.
//!
//! A document that is not YAML makes the file *broken*: the caller may prefer what it held before, since the file may
//! be half-written. An object that has not the shape of its kind is dropped alone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

use super::{mirror, shape};
use crate::k8s::crd::{AddressPool, EdgePolicy};
use crate::problem::{Code, ObjectRef, Problem, Severity, suggest};

/// An object of a kind that we read.
#[derive(Clone, Debug)]
pub enum Object {
    /// An Ingress.
    Ingress(Arc<Ingress>),
    /// An IngressClass.
    IngressClass(Arc<IngressClass>),
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// The slices of an Endpoints object.
    Endpoints(Vec<Arc<EndpointSlice>>),
    /// A Secret.
    Secret(Arc<Secret>),
    /// A ConfigMap.
    ConfigMap(Arc<ConfigMap>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A Node.
    Node(Arc<Node>),
    /// An EdgePolicy.
    EdgePolicy(Arc<EdgePolicy>),
    /// An AddressPool.
    AddressPool(Arc<AddressPool>),
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Located {
    /// First line of its document, from 1.
    pub line: usize,
    /// Which object.
    pub reference: ObjectRef,
    /// The object.
    pub object: Object,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its objects, in order.
    pub objects: Vec<Located>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Some document is not YAML (or JSON) at all.
    pub is_broken: bool,
}

/// The kinds that we read: API version and kind.
const READ: [(&str, &str); 11] = [
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "IngressClass"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "Endpoints"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "Namespace"),
    ("v1", "Node"),
    ("portcullis.dev/v1alpha1", "EdgePolicy"),
    ("portcullis.dev/v1alpha1", "AddressPool"),
];

/// API groups in which a kind that nobody knows is a misspelt one. All others belong to somebody else.
const OUR_GROUPS: [&str; 5] = ["", "networking.k8s.io", "discovery.k8s.io", "extensions", "portcullis.dev"];

/// Kinds of these groups that stand beside ours in ordinary manifests.
const OTHER_KINDS: [&str; 21] = [
    "Binding",
    "DaemonSet",
    "Deployment",
    "Event",
    "IPAddress",
    "LimitRange",
    "NetworkPolicy",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodSecurityPolicy",
    "PodTemplate",
    "ReplicaSet",
    "ReplicationController",
    "ResourceQuota",
    "ServiceAccount",
    "ServiceCIDR",
    "Status",
    "Table",
    "ComponentStatus",
    "Eviction",
];

/// Reads the text of a file. `path` names it in Problems; a name that ends in `.json` is read as JSON.
pub fn parse(path: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if path.ends_with(".json") {
        if !text.trim().is_empty() {
            match serde_json::from_str::<Value>(text) {
                Ok(value) => read_value(path, 1, value, None, &mut parsed),
                Err(error) => parsed.break_at(path, error.line(), &error.to_string()),
            }
        }
        return parsed;
    }
    for (line, document) in documents(text) {
        // A directive (`%YAML 1.2`) stands before its `---`, where splitting leaves it alone.
        let is_blank = |text: &str| {
            text.trim().is_empty() || text.trim_start().starts_with('#') || text.starts_with('%')
        };
        if document.lines().all(is_blank) {
            continue;
        }
        match read_document(document) {
            Ok((Value::Null, _)) => {}
            Ok((value, twice)) => {
                parsed.problems.extend(twice.map(|at| repeated_key(path, line + at - 1)));
                read_value(path, line, value, as_written(document), &mut parsed);
            }
            Err(error) => {
                let at = line_of(&error);
                // Error texts of the parser may quote the document, and the document may be a Secret.
                let text = error.without_snippet().to_string();
                let text = text.lines().next().unwrap_or_default();
                // Lines of the document mean nothing in a file of several.
                let text = text.split(" at line ").next().unwrap_or_default();
                let text = text.split(", set ").next().unwrap_or_default();
                parsed.break_at(path, line + at - 1, &with_template(text, document));
            }
        }
    }
    parsed
}

impl Parsed {
    fn break_at(&mut self, path: &str, line: usize, error: &str) {
        self.is_broken = true;
        self.problems.push(Problem {
            object: ObjectRef::file(path),
            code: Code::ObjectInvalid,
            severity: Severity::Error,
            field: format!("line {line}"),
            value: String::new(),
            message: format!(
                "not readable: {error}; the other documents of the file are served, and what this one may have held before \
                 is kept; correct the file"
            ),
        });
    }
}

/// Charts are read by people who have only their files.
fn with_template(error: &str, document: &str) -> String {
    match document.contains("{{") {
        true => format!("{error} (is it a template? `helm template` renders it)"),
        false => error.to_owned(),
    }
}

/// Whole clusters are dumped into one List, but what aliases repeat stays small.
fn options(duplicate_keys: DuplicateKeyPolicy, strict_booleans: bool) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: strict_booleans,
        budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 8_000_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

/// Reads one document. Of a key that is written twice the last counts, as with kubectl; the line of the first such key.
fn read_document(text: &str) -> Result<(Value, Option<usize>), serde_saphyr::Error> {
    let read = |twice| serde_saphyr::from_str_with_options::<Value>(text, options(twice, false));
    match read(DuplicateKeyPolicy::Error) {
        Ok(value) => Ok((value, None)),
        // If more is wrong, that is what the second reading says.
        Err(error) => Ok((read(DuplicateKeyPolicy::LastWins)?, Some(line_of(&error)))),
    }
}

/// The same document with `on`, `off`, `yes` and `no` as text, if there may be such a word in it.
fn as_written(text: &str) -> Option<Value> {
    let is_word = |value: &str| {
        ["on", "off", "yes", "no", "y", "n"].iter().any(|word| value.eq_ignore_ascii_case(word))
    };
    let may_hold_one = text.split([' ', '\n', '\r', ',', '}', ']', '\t']).any(is_word);
    let options = options(DuplicateKeyPolicy::LastWins, true);
    may_hold_one.then(|| serde_saphyr::from_str_with_options(text, options).ok()).flatten()
}

fn line_of(error: &serde_saphyr::Error) -> usize {
    error.location().and_then(|at| usize::try_from(at.line()).ok()).unwrap_or(1).max(1)
}

fn repeated_key(path: &str, line: usize) -> Problem {
    Problem {
        object: ObjectRef::file(path),
        code: Code::ObjectInvalid,
        severity: Severity::Warning,
        field: format!("line {line}"),
        value: String::new(),
        message: "this key is written twice in one mapping; the last one counts; remove one of them".into(),
    }
}

/// Splits at lines of `---`; yields the first line number and the text of each document. Splitting before parsing lets
/// the other documents be read when one is not YAML.
pub(super) fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            documents.push((start_line, text.get(start..at).unwrap_or_default()));
            start = at + line.len();
            start_line = index + 2;
        }
        at += line.len();
    }
    documents.push((start_line, text.get(start..).unwrap_or_default()));
    documents
}

fn read_value(path: &str, line: usize, mut value: Value, mut written: Option<Value>, parsed: &mut Parsed) {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_list = kind.ends_with("List");
    let items = value.get_mut("items").filter(|items| is_list && items.is_array()).map(Value::take);
    if let Some(Value::Array(items)) = items {
        let item_kind = kind.trim_end_matches("List");
        for (index, mut item) in items.into_iter().enumerate() {
            let written =
                written.as_mut().and_then(|list| list.get_mut("items")?.get_mut(index)).map(Value::take);
            // Items of a typed list may leave out what the list says already.
            if let (Value::Object(item), false) = (&mut item, item_kind.is_empty()) {
                item.entry("kind").or_insert_with(|| Value::from(item_kind));
                item.entry("apiVersion").or_insert_with(|| Value::from(api_version.clone()));
            }
            read_value(path, line, item, written, parsed);
        }
        return;
    }
    read_object((path, line), &api_version, &kind, value, written.as_ref(), parsed);
}

fn read_object(
    (path, line): (&str, usize),
    api_version: &str,
    kind: &str,
    mut value: Value,
    written: Option<&Value>,
    parsed: &mut Parsed,
) {
    let made_up = shape::name_generated(&mut value);
    let reference = shape::reference(api_version, kind, &value);
    if !READ.contains(&(api_version, kind)) {
        parsed.problems.push(unknown_kind(path, line, &value, &reference));
        return;
    }
    let mut problems = Vec::new();
    if let Some(problem) = shape::check_name(&reference, path, line) {
        parsed.problems.push(problem);
        return;
    }
    problems.extend(made_up.map(|prefix| shape::generated(&reference, &prefix)));
    shape::drop_nulls(&mut value);
    shape::quote_scalars(&reference, &mut value, written, &mut problems);
    let found = &mut problems;
    let object = match kind {
        "Ingress" => typed(&reference, value, found).map(|o| Object::Ingress(Arc::new(o))),
        "IngressClass" => typed(&reference, value, found).map(|o| Object::IngressClass(Arc::new(o))),
        "Service" => typed(&reference, value, found).map(|o| Object::Service(Arc::new(o))),
        "EndpointSlice" => typed(&reference, value, found).map(|o| Object::EndpointSlice(Arc::new(o))),
        "Endpoints" => {
            typed(&reference, value, found).map(|o: Endpoints| Object::Endpoints(mirror::slices(&o)))
        }
        "Secret" => typed(&reference, value, found).map(|o| Object::Secret(Arc::new(merge_string_data(o)))),
        "ConfigMap" => typed(&reference, value, found).map(|o| Object::ConfigMap(Arc::new(o))),
        "Namespace" => typed(&reference, value, found).map(|o| Object::Namespace(Arc::new(o))),
        "Node" => typed(&reference, value, found).map(|o| Object::Node(Arc::new(o))),
        "EdgePolicy" => typed(&reference, value, found).map(|o| Object::EdgePolicy(Arc::new(o))),
        _ => typed(&reference, value, found).map(|o| Object::AddressPool(Arc::new(o))),
    };
    for problem in &mut problems {
        problem.message = format!("{} ({path}, document at line {line})", problem.message);
    }
    parsed.problems.append(&mut problems);
    parsed.objects.extend(object.map(|object| Located { line, reference, object }));
}

/// Reads a value as its kind. Fields that the kind does not have are Problems, as with `kubectl apply`.
fn typed<T: DeserializeOwned + Serialize>(
    reference: &ObjectRef,
    mut value: Value,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    // A folder has no admission that puts the namespace in.
    if !reference.namespace.is_empty()
        && let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.insert("namespace".into(), Value::from(reference.namespace.clone()));
    }
    match serde_path_to_error::deserialize::<_, T>(&value) {
        Ok(object) => {
            problems.extend(shape::unknown_fields(reference, &value, &object));
            Some(object)
        }
        Err(error) => {
            problems.push(shape::misshapen(reference, &value, &error));
            None
        }
    }
}

/// `stringData` is a convenience for writers that the API server folds into `data`.
fn merge_string_data(mut secret: Secret) -> Secret {
    if let Some(texts) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        data.extend(texts.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes()))));
    }
    secret
}

fn unknown_kind(path: &str, line: usize, value: &Value, reference: &ObjectRef) -> Problem {
    let place = format!("{path}, document at line {line}");
    let (api_version, kind) = (reference.api_version.clone(), reference.kind.clone());
    let problem = |field: &str, shown: String, severity, message: String| Problem {
        object: if reference.name.is_empty() { ObjectRef::file(path) } else { reference.clone() },
        code: Code::KindUnknown,
        severity,
        field: field.to_owned(),
        value: shown,
        message,
    };
    if !value.is_object() {
        let message =
            format!("not a Kubernetes object ({place}); a document is a mapping with apiVersion and kind");
        return Problem {
            object: ObjectRef::file(path),
            ..problem(&format!("line {line}"), String::new(), Severity::Error, message)
        };
    }
    if kind.is_empty() && api_version.is_empty() && value.get("metadata").is_none() {
        let message = format!("not a Kubernetes object ({place}); it is ignored");
        return problem(&format!("line {line}"), String::new(), Severity::Note, message);
    }
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() { "kind" } else { "apiVersion" };
        let message = format!("{missing} is missing ({place}); the object is ignored; add it");
        return problem(missing, String::new(), Severity::Error, message);
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let is_ours = OUR_GROUPS.contains(&group);
    let read = READ.iter().find(|(_, known)| *known == kind).map(|(expected, _)| *expected);
    if let Some(expected) = read.filter(|_| is_ours || suggest(group, OUR_GROUPS).is_some()) {
        let shape = match kind.as_str() {
            "Ingress" if api_version.ends_with("beta1") => {
                ", where each path has a pathType, and a backend has service.name and service.port"
            }
            _ => "",
        };
        let message =
            format!("this API version is not read ({place}); the object is ignored; write {expected}{shape}");
        return problem("apiVersion", api_version, Severity::Error, message);
    }
    if !is_ours || OTHER_KINDS.contains(&kind.as_str()) {
        let message = format!("not a kind that an ingress reads ({place}); the object is ignored");
        return problem("kind", kind, Severity::Note, message);
    }
    let hint = suggest(&kind, READ.iter().map(|(_, known)| *known))
        .map_or_else(|| "remove it or correct the kind".to_owned(), |near| format!("did you mean {near}?"));
    problem("kind", kind, Severity::Warning, format!("unknown kind ({place}); the object is ignored; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(Code, Severity, String, String)> {
        let parsed = parse("a.yaml", text);
        parsed.problems.into_iter().map(|p| (p.code, p.severity, p.field, p.message)).collect()
    }

    #[test]
    fn a_broken_document_leaves_the_others() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\nkind: [\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n";
        let parsed = parse("dir/a.yaml", text);
        assert!(parsed.is_broken);
        let names: Vec<_> = parsed.objects.iter().map(|o| (o.reference.name.as_str(), o.line)).collect();
        assert_eq!(names, [("a", 1), ("b", 7)]);
        assert_eq!(parsed.problems.len(), 1);
        assert!(parsed.problems[0].field.starts_with("line "), "{:?}", parsed.problems);
        assert_eq!(parsed.problems[0].object.name, "dir/a.yaml");
    }

    #[test]
    fn a_template_is_taken_for_one() {
        for (name, is_template) in [("{{ .Release.Name }}", true), ("[", false)] {
            let parsed =
                parse("a.yaml", &format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n"));
            assert!(parsed.is_broken);
            let text = &parsed.problems[0].message;
            assert_eq!(text.contains("helm template"), is_template, "{text}");
        }
    }

    #[test]
    fn files_that_would_exhaust_the_process_are_refused() {
        let laughs: String = (1..9u8)
            .map(|n| {
                let (name, before) = (char::from(b'a' + n), char::from(b'a' + n - 1));
                format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","))
            })
            .collect();
        let rows = [
            ("aliases of aliases", "a.yaml", format!("a: &a [x,x,x,x,x,x,x,x,x]\n{laughs}")),
            ("deep YAML", "a.yaml", "[".repeat(100_000)),
            ("deep JSON", "a.json", "[".repeat(100_000)),
        ];
        for (name, path, text) in rows {
            let parsed = parse(path, &text);
            assert!(parsed.is_broken && parsed.objects.is_empty(), "{name}: {:?}", parsed.problems);
        }
        let many = "x,".repeat(300_000);
        let parsed = parse("a.yaml", &format!("kind: List\napiVersion: v1\nitems: []\nmore: [{many}]\n"));
        assert!(!parsed.is_broken, "a dump of a whole cluster is read: {:?}", parsed.problems);
    }

    #[test]
    fn lists_and_json_are_read() {
        let list = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"x"}}]}"#;
        assert_eq!(parse("a.json", list).objects.len(), 1);
        let typed = "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: a}\n";
        let parsed = parse("a.yaml", typed);
        assert_eq!(parsed.objects[0].reference.to_string(), "Ingress default/a");
    }

    #[test]
    fn unknown_kinds_say_what_to_do() {
        let found = problems("apiVersion: networking.k8s.io/v1\nkind: Ingres\nmetadata: {name: a}\n");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1), (Code::KindUnknown, Severity::Warning));
        assert!(found[0].3.contains("did you mean Ingress?"), "{found:?}");
        let found = problems("apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}\n");
        assert_eq!(found[0].2, "apiVersion");
        assert!(found[0].3.contains("write networking.k8s.io/v1"), "{found:?}");
        let found = problems("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n");
        assert_eq!(found[0].1, Severity::Note);
        for (version, kind) in [
            ("v1", "ReplicationController"),
            ("cert-manager.io/v1", "ClusterIssuer"),
            ("argoproj.io/v1alpha1", "Rollout"),
            ("networking.istio.io/v1", "Gateway"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("serving.knative.dev/v1", "Service"),
        ] {
            let found = problems(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"));
            assert_eq!(found[0].1, Severity::Note, "{version} {kind}: {found:?}");
        }
        let found = problems("apiVersion: networking.k8s.oi/v1\nkind: Ingress\nmetadata: {name: a}\n");
        assert!(found[0].3.contains("write networking.k8s.io/v1"), "{found:?}");
        assert_eq!(problems("- a\n- b\n")[0].0, Code::KindUnknown);
        assert_eq!(problems("# only a comment\n---\n"), []);
    }

    #[test]
    fn string_data_is_folded_into_data() {
        let parsed =
            parse("a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {k: v}\n");
        let Object::Secret(secret) = &parsed.objects[0].object else { panic!("{parsed:?}") };
        assert_eq!(secret.data.as_ref().unwrap()["k"].0, b"v");
    }
}
