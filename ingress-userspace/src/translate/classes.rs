//! `IngressClass.spec.parameters`: a ConfigMap whose keys are the defaults of the class's Ingresses, over the cluster-wide
//! ones and under the annotations.
//!
//! Only what holds for an Ingress can differ by class; a key that holds for the whole proxy is a Problem. Parameters
//! that cannot be read may hold what protects, so the paths of the class answer 503 until they can.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressClassParametersReference};

use super::{Build, policies};
use crate::annotation::config_map::{self, Defaults};
use crate::k8s::class::{LEGACY_ANNOTATION, is_our_class};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::problem::{Code, Severity};

/// The defaults under the annotations of each class.
pub(super) struct Classes {
    /// Those of the ConfigMap that `--configmap` names.
    pub(super) cluster: Arc<Defaults>,
    by_class: BTreeMap<String, ClassDefaults>,
}

/// What holds for the Ingresses of one class.
#[derive(Clone)]
pub(super) struct ClassDefaults {
    pub(super) defaults: Arc<Defaults>,
    /// Why the paths of the class answer 503.
    pub(super) deny: Option<String>,
}

impl Classes {
    /// Reads the parameters of our classes.
    pub(super) fn read(build: &mut Build<'_>) -> Self {
        let cluster = Arc::new(policies::defaults(build));
        let mut by_class = BTreeMap::new();
        for (key, class) in build.cluster.ingress_classes {
            if !is_our_class(build.cluster.origin, &build.settings.classes, class) {
                continue;
            }
            let parameters = class.spec.as_ref().and_then(|spec| spec.parameters.as_ref());
            if let Some(defaults) = parameters.and_then(|found| of_class(build, class, found, &cluster)) {
                by_class.insert(key.name.clone(), defaults);
            }
        }
        Self { cluster, by_class }
    }

    /// What holds for an Ingress.
    pub(super) fn of(&self, ingress: &Ingress) -> ClassDefaults {
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let annotations = ingress.metadata.annotations.as_ref();
        let legacy = || annotations.and_then(|all| all.get(LEGACY_ANNOTATION)).map(String::as_str);
        let found = named.or_else(legacy).and_then(|class| self.by_class.get(class));
        found.cloned().unwrap_or_else(|| ClassDefaults { defaults: Arc::clone(&self.cluster), deny: None })
    }
}

/// The ConfigMap that parameters name: `None` when they name something else.
pub(super) fn config_map(
    parameters: &IngressClassParametersReference,
) -> Option<Result<ObjectKey, &'static str>> {
    let is_core = parameters.api_group.as_deref().is_none_or(str::is_empty);
    if !is_core || parameters.kind != "ConfigMap" {
        return None;
    }
    let namespace = parameters.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    Some(match (parameters.scope.as_deref(), namespace) {
        (Some("Namespace"), Some(namespace)) => Ok(ObjectKey::new(namespace, parameters.name.clone())),
        _ => Err("name its namespace, with scope: Namespace"),
    })
}

fn of_class(
    build: &mut Build<'_>,
    class: &IngressClass,
    parameters: &IngressClassParametersReference,
    cluster: &Arc<Defaults>,
) -> Option<ClassDefaults> {
    let object = reference(class);
    let shown = format!("{} {}", parameters.kind, parameters.name);
    let denied = || ClassDefaults {
        defaults: Arc::clone(cluster),
        deny: Some(format!("parameters of IngressClass {}", object.name)),
    };
    let key = match config_map(parameters) {
        None => {
            let message = "only a ConfigMap is read as parameters (no apiGroup, kind: ConfigMap, scope: Namespace); \
                           they are ignored; remove them";
            let at = ("spec.parameters", shown.as_str());
            build.problem(&object, (Code::FieldUnsupported, Severity::Warning), at, message);
            return None;
        }
        Some(Err(fix)) => {
            let message =
                format!("a ConfigMap belongs to a namespace; the paths of this class answer 503; {fix}");
            let at = ("spec.parameters", shown.as_str());
            build.problem(&object, (Code::FieldInvalid, Severity::Error), at, message);
            return Some(denied());
        }
        Some(Ok(key)) => key,
    };
    let Some(settings) = build.cluster.config_maps.get(&key) else {
        let message = format!(
            "there is no ConfigMap {key}, so what protects the Ingresses of this class may be missing: their paths answer \
             503; create it or correct the name"
        );
        let at = ("spec.parameters.name", parameters.name.as_str());
        build.problem(&object, (Code::ReferenceMissing, Severity::Error), at, message);
        return Some(denied());
    };
    Some(ClassDefaults { defaults: Arc::new(merged(build, settings, cluster)), deny: None })
}

/// The cluster's settings with those of the class over them.
fn merged(build: &mut Build<'_>, settings: &ConfigMap, cluster: &Defaults) -> Defaults {
    let object = reference(settings);
    let mut data = cluster.data.clone();
    let unset = config_map::read(&BTreeMap::new()).0;
    for (key, text) in settings.data.iter().flatten() {
        let alone = BTreeMap::from([(key.clone(), text.clone())]);
        let alone = config_map::read(&alone).0;
        if alone.global != unset.global || alone.headers != unset.headers {
            let message = "holds for the whole proxy, so it has no effect in the parameters of a class; write it into the \
                           ConfigMap of --configmap";
            let at = (format!("data[{key}]"), text.as_str());
            build.problem(&object, (Code::FieldUnsupported, Severity::Warning), at, message);
            continue;
        }
        data.insert(key.clone(), text.clone());
    }
    let (defaults, findings) = config_map::read(&data);
    let own = settings.data.as_ref();
    for finding in findings {
        if own.is_some_and(|own| own.contains_key(&finding.key)) {
            policies::report_config(build, &object, &finding);
        }
    }
    defaults
}
