//! Bodies of the fuzz targets: what must hold for any input. The targets in `tests/fuzz` and the plain tests over their
//! corpora both call these.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ingress_userspace::annotation::registry;
use ingress_userspace::k8s::cluster::{Cluster, ObjectKey};
use ingress_userspace::k8s::folder::insert;
use ingress_userspace::k8s::folder::parse::parse;
use ingress_userspace::model::Model;
use ingress_userspace::model::render::render;
use ingress_userspace::problem::Severity;
use ingress_userspace::translate::{Settings, translate};

use crate::manifests::{ingress, service, settings};

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
