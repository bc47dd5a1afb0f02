//! Bodies of the fuzz targets: what must hold for any input. The targets in `tests/fuzz` and the plain tests over their
//! corpora both call these.

pub mod packets;
pub mod plain;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::uri::PathAndQuery;
use ingress_userspace::annotation::registry;
use ingress_userspace::k8s::cluster::{Cluster, ObjectKey};
use ingress_userspace::k8s::folder::insert;
use ingress_userspace::k8s::folder::parse::parse;
use ingress_userspace::listener::client_hello::{Hello, server_name};
use ingress_userspace::listener::proxy_protocol;
use ingress_userspace::model::Model;
use ingress_userspace::model::render::render;
use ingress_userspace::problem::Severity;
use ingress_userspace::proxy::path;
use ingress_userspace::translate::{Settings, translate};

use crate::manifests::{ingress, service, settings};

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("annotation_values", annotation_values),
    ("client_hello", client_hello),
    ("manifests", manifests),
    ("paths", paths),
    ("proxy_header", proxy_header),
];

const HOSTILE: &str = "hostile";
const NEIGHBOUR: &str = "neighbour.example";
/// Ends one annotation and begins the next; no UTF-8 text holds it.
const SEPARATOR: u8 = 0xFF;

/// A neighbour that must not notice anything, and what serves it alone.
static WORLD: LazyLock<(Cluster, String)> = LazyLock::new(|| {
    let yaml = [
        service("web", &[([127, 0, 0, 1], 9000).into()]),
        settings(&[("global-allowed-response-headers", "X-One")]),
        ingress(HOSTILE, "hostile.example", "/", "web", &[]),
        ingress("neighbour", NEIGHBOUR, "/", "web", &[("limit-rps", "5"), ("enable-cors", "true")]),
    ]
    .concat();
    let mut cluster = Cluster::default();
    for located in parse("world.yaml", &yaml).objects {
        let key = ObjectKey::new(located.reference.namespace, located.reference.name);
        insert(&mut cluster, key, &located.object);
    }
    let alone = neighbour(&translate(&cluster, &Settings::default()).model);
    (cluster, alone)
});

/// What the model says of the neighbour.
fn neighbour(model: &Model) -> String {
    let mut only = Model::default();
    only.hosts
        .extend(model.hosts.iter().filter(|host| format!("{:?}", host.pattern).contains(NEIGHBOUR)).cloned());
    render(&only)
}

/// Annotations of one Ingress, each a byte that chooses the key and text that is its value, separated by `0xFF`: they are
/// read or reported, and the neighbour is served as without them.
///
/// # Panics
/// When something of that does not hold.
pub fn annotation_values(data: &[u8]) {
    let (cluster, alone) = &*WORLD;
    let keys: Vec<&str> = registry::served().collect();
    let mut annotations = BTreeMap::new();
    for pair in data.split(|byte| *byte == SEPARATOR).take(8) {
        if let [number, value @ ..] = pair
            && let Some(key) = keys.get(usize::from(*number) % keys.len().max(1))
        {
            let value = String::from_utf8_lossy(value).into_owned();
            annotations.insert(format!("nginx.ingress.kubernetes.io/{key}"), value);
        }
    }
    let key = ObjectKey::new("default", HOSTILE);
    let mut cluster = cluster.clone();
    if let Some(ingress) = cluster.ingresses.get_mut(&key) {
        Arc::make_mut(ingress).metadata.annotations = Some(annotations);
    }
    let translation = translate(&cluster, &Settings::default());
    assert_eq!(neighbour(&translation.model), *alone, "the neighbour changed");
    for problem in &translation.problems {
        let is_hostile = problem.object.name == HOSTILE || problem.severity == Severity::Note;
        assert!(is_hostile, "somebody else is blamed: {problem:?}");
        assert!(!problem.message.is_empty() && problem.value.chars().count() <= 101, "{problem:?}");
    }
}

/// What may follow anything.
const TAIL: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
/// Inputs up to this length are tried in all their beginnings.
const SHORT: usize = 512;

/// A PROXY header is understood when its last byte is there, and nothing before or behind it changes what it says.
///
/// # Panics
/// When something of that does not hold.
pub fn proxy_header(data: &[u8]) {
    let read = proxy_protocol::parse(data);
    let with_tail = proxy_protocol::parse(&[data, TAIL].concat());
    match read {
        Ok(Some(header)) => {
            assert_eq!(with_tail, read);
            let (whole, _) = data.split_at(header.length);
            assert_eq!(proxy_protocol::parse(whole), read);
            for length in 0..header.length.min(SHORT) {
                assert_eq!(proxy_protocol::parse(whole.split_at(length).0), Ok(None), "{length} bytes");
            }
        }
        Ok(None) => {}
        Err(_) => assert_eq!(with_tail, read),
    }
}

/// The server name of a ClientHello is found as soon as it can be, and stays the same whatever follows.
///
/// # Panics
/// When something of that does not hold.
pub fn client_hello(data: &[u8]) {
    let read = server_name(data);
    if read == Hello::Incomplete {
        return;
    }
    if let Hello::Named(name) = &read {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(!name.is_empty() && name.bytes().all(is_plain), "{name:?}");
    }
    assert_eq!(server_name(&[data, TAIL].concat()), read);
    for length in 0..data.len().min(SHORT) {
        let beginning = server_name(data.split_at(length).0);
        assert!(beginning == Hello::Incomplete || beginning == read, "{length} bytes: {beginning:?}");
    }
}

/// A target is refused, or has a normal form that says nothing of dots and empty elements, and what goes upstream has the
/// same one.
///
/// # Panics
/// When something of that does not hold.
pub fn paths(data: &[u8]) {
    let Ok(raw) = PathAndQuery::try_from(data) else { return };
    let Ok(target) = path::Target::parse(raw) else { return };
    let normal = target.path();
    assert!(normal.starts_with(b"/"), "{normal:?}");
    let mut elements = normal.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(element) = elements.next() {
        let is_inner_and_empty = element.is_empty() && elements.peek().is_some();
        assert!(!is_inner_and_empty && element != b"." && element != b"..", "{normal:?}");
    }
    let again = path::Target::parse(target.upstream().clone());
    let again = again.as_ref().map(|again| (again.path(), again.query()));
    assert_eq!(again, Ok((normal, target.query())), "what goes upstream");
}

/// Any text as a file of manifests: it is read or reported, and printed.
///
/// # Panics
/// When something of that does not hold.
pub fn manifests(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut cluster = Cluster::default();
    for located in parse("fuzz.yaml", &text).objects {
        let key = ObjectKey::new(located.reference.namespace, located.reference.name);
        insert(&mut cluster, key, &located.object);
    }
    let key = |name| Some(ObjectKey::new("default", name));
    let settings = Settings {
        config_map: key("settings"),
        tcp_services: key("tcp"),
        udp_services: key("udp"),
        enable_ssl_passthrough: true,
        ..Settings::default()
    };
    let translation = translate(&cluster, &settings);
    assert!(!render(&translation.model).is_empty());
    for problem in &translation.problems {
        assert!(!problem.message.is_empty() && problem.value.chars().count() <= 101, "{problem:?}");
    }
}
