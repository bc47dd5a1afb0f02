//! ConfigMaps that hold headers: `custom-headers` of an Ingress, `proxy-set-headers` and `add-headers` of the cluster.

use super::Build;
use crate::annotation::config_map::Defaults;
use crate::annotation::headers::{
    ADD_HEADERS, ConfigMapName, IngressHeaders, PROXY_SET_HEADERS, is_framing, set,
};
use crate::annotation::value::{header_name, text::template};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::model::policy::headers::HeaderChange;
use crate::problem::{Code, ObjectRef, Severity};

/// Reads what the cluster-wide keys name. A header that cannot be sent is left out; the others are sent.
pub(super) fn cluster(build: &mut Build<'_>, object: &ObjectRef, defaults: &mut Defaults) {
    let request = defaults.headers.request.clone();
    let changes = named(build, object, PROXY_SET_HEADERS.row.key, request);
    defaults.global.fields.changes.request.extend(changes);
    let response = defaults.headers.response.clone();
    let changes = named(build, object, ADD_HEADERS.row.key, response);
    defaults.global.fields.changes.response.extend(changes);
}

fn named(
    build: &mut Build<'_>,
    object: &ObjectRef,
    key: &str,
    name: Option<ConfigMapName>,
) -> Vec<HeaderChange> {
    let Some(name) = name else { return Vec::new() };
    let target = target(object, name);
    let Some(map) = build.cluster.config_maps.get(&target) else {
        let message = "there is no such ConfigMap, so no header is set; create it or correct the name";
        let at = (format!("data[{key}]"), target.to_string());
        build.problem(object, (Code::ReferenceMissing, Severity::Warning), (at.0, &at.1), message);
        return Vec::new();
    };
    let map_object = reference(&**map);
    let mut changes = Vec::new();
    for (name, value) in map.data.iter().flatten() {
        match change(name, value) {
            Ok(change) => changes.push(change),
            Err(reason) => {
                let message = format!("{reason}; it is left out; correct it");
                let at = (format!("data[{name}]"), value.as_str());
                build.problem(&map_object, (Code::FieldInvalid, Severity::Warning), at, message);
            }
        }
    }
    changes
}

/// The headers of `custom-headers`; the error is why the paths answer 503.
pub(super) fn custom(
    build: &mut Build<'_>,
    object: &ObjectRef,
    field: &str,
    headers: &IngressHeaders,
    defaults: &Defaults,
) -> Result<Vec<HeaderChange>, String> {
    let Some(name) = headers.custom.clone() else { return Ok(Vec::new()) };
    let target = target(object, name);
    let shown = target.to_string();
    let read = match build.cluster.config_maps.get(&target) {
        None => Err((
            Code::ReferenceMissing,
            "there is no such ConfigMap; the paths of this Ingress answer 503; create it or correct the name"
                .to_owned(),
        )),
        Some(map) => {
            let allowed = &defaults.headers.allowed;
            let lines = map.data.iter().flatten();
            let changes = lines.map(|(name, value)| {
                if !allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
                    return Err(format!(
                        "its header {name} is not in the ConfigMap key global-allowed-response-headers"
                    ));
                }
                change(name, value).map_err(|reason| format!("its header {name} {reason}"))
            });
            changes.collect::<Result<Vec<_>, _>>().map_err(|reason| {
                let message = format!("{reason}; the paths of this Ingress answer 503; correct one of them");
                (Code::AnnotationInvalid, message)
            })
        }
    };
    read.map_err(|(code, message)| {
        build.problem(object, (code, Severity::Error), (field, &shown), message);
        let written = field.trim_start_matches("metadata.annotations[").trim_end_matches(']');
        format!("annotation {written}")
    })
}

fn target(object: &ObjectRef, (namespace, name): ConfigMapName) -> ObjectKey {
    ObjectKey::new(namespace.unwrap_or_else(|| object.namespace.clone()), name)
}

fn change(name: &str, value: &str) -> Result<HeaderChange, String> {
    header_name(name)?;
    if is_framing(name) {
        return Err("says where a message ends or whom it passes".to_owned());
    }
    let value = template(value.trim())?;
    Ok(set(name, value))
}
