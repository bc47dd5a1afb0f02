//! One AdmissionReview → its answer. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rules;
use crate::k8s::class::{Ownership, ownership};
use crate::k8s::cluster::{Cluster, ObjectKey, key};
use crate::problem::{Code, Problem};
use crate::translate::{Settings, is_watched, references, translate};

/// The API server shows no more of one warning.
const LONGEST_WARNING: usize = 256;
/// And no more than 4,096 bytes of all.
const MOST_WARNINGS: usize = 14;

/// A body that is no review which this webhook was registered for.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not the JSON of an AdmissionReview.
    #[error("not an AdmissionReview of admission.k8s.io/v1")]
    Shape(#[source] Option<serde_json::Error>),
    /// A review of something else.
    #[error("a review of {0}, and only Ingresses of networking.k8s.io/v1 are judged")]
    Kind(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    kind: Kind,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

/// What the webhook thinks of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why it is denied.
    pub denial: Option<String>,
    /// What would not be as written.
    pub warnings: Vec<String>,
}

/// Answers the JSON of a review with that of its answer.
pub fn review(cluster: &Cluster, settings: &Settings, body: &[u8]) -> Result<Value, ReviewError> {
    let Review { api_version, kind, request } =
        serde_json::from_slice(body).map_err(|error| ReviewError::Shape(Some(error)))?;
    if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        return Err(ReviewError::Shape(None));
    }
    let Kind { group, version, kind } = request.kind;
    if (group.as_str(), version.as_str(), kind.as_str()) != ("networking.k8s.io", "v1", "Ingress") {
        return Err(ReviewError::Kind(format!("{group}/{version} {kind}")));
    }
    let judgement = match request.operation.as_str() {
        "CREATE" | "UPDATE" => {
            let ingress: Ingress =
                serde_json::from_value(request.object).map_err(|error| ReviewError::Shape(Some(error)))?;
            judge(cluster, settings, ingress)
        }
        _ => Judgement::default(),
    };
    let mut response = json!({ "uid": request.uid, "allowed": judgement.denial.is_none() });
    if let Some(fields) = response.as_object_mut() {
        if let Some(denial) = judgement.denial {
            fields.insert(
                "status".to_owned(),
                json!({ "code": 400, "reason": "BadRequest", "message": denial }),
            );
        }
        if !judgement.warnings.is_empty() {
            fields.insert("warnings".to_owned(), json!(judgement.warnings));
        }
    }
    Ok(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// Judges an Ingress that is to become part of the cluster.
pub fn judge(cluster: &Cluster, settings: &Settings, ingress: Ingress) -> Judgement {
    let id = key(&ingress);
    let is_ours = ownership(cluster, &settings.classes, &ingress) != Ownership::Foreign;
    if !is_ours
        || !is_watched(cluster, settings, &id.namespace)
        || ingress.metadata.deletion_timestamp.is_some()
    {
        return Judgement::default();
    }
    let ingress = Arc::new(ingress);
    let mut near = neighbours(cluster, settings, &ingress);
    let config = settings.config_map.as_ref().and_then(|key| cluster.config_maps.get(key));
    let config = config.and_then(|config| config.data.clone()).unwrap_or_default();
    if let Err(denial) = rules::check(&ingress, near.ingresses.values(), settings, &config) {
        return Judgement { denial: Some(denial), warnings: Vec::new() };
    }
    near.ingresses.insert(id.clone(), Arc::clone(&ingress));
    let translation = translate(&near, settings);
    let is_own = |problem: &&Problem| {
        problem.object.kind == "Ingress"
            && problem.object.namespace == id.namespace
            && problem.object.name == id.name
    };
    let refused = translation.refused.iter().find(is_own).map(show);
    let known = translation.problems.iter().filter(is_own).filter(|problem| !is_unseen(problem));
    let mut warnings: Vec<String> = known.map(show).collect();
    let more = warnings.len().saturating_sub(MOST_WARNINGS);
    warnings.truncate(MOST_WARNINGS);
    if more > 0 {
        warnings.push(format!("and {more} more: see the Events of the Ingress"));
    }
    Judgement { denial: refused, warnings: warnings.into_iter().map(|text| shorten(&text)).collect() }
}

/// Whether a Problem comes of what this process may not see: Secrets, and ConfigMaps that no Ingress named before.
fn is_unseen(problem: &Problem) -> bool {
    let is_about_reference =
        || references::annotations().any(|annotation| problem.field.ends_with(&format!("/{annotation}]")));
    match problem.code {
        Code::SecretInvalid => true,
        Code::ReferenceMissing | Code::AnnotationInvalid => is_about_reference(),
        _ => false,
    }
}

/// The cluster with no other Ingresses than those of ours that share a host with this one.
fn neighbours(cluster: &Cluster, settings: &Settings, ingress: &Ingress) -> Cluster {
    let hosts = rules::hosts(ingress);
    let is_near = |id: &ObjectKey, other: &Ingress| {
        let shared: BTreeSet<String> = rules::hosts(other).intersection(&hosts).cloned().collect();
        !shared.is_empty()
            && is_watched(cluster, settings, &id.namespace)
            && ownership(cluster, &settings.classes, other) == Ownership::Ours
    };
    let own = key(ingress);
    let near = cluster.ingresses.iter().filter(|(id, other)| **id != own && is_near(id, other));
    let ingresses = near.map(|(id, other)| (id.clone(), Arc::clone(other))).collect();
    Cluster { ingresses, ..cluster.clone() }
}

fn show(problem: &Problem) -> String {
    match problem.value.as_str() {
        "" => format!("{}: {}", problem.field, problem.message),
        value => format!("{} = {value:?}: {}", problem.field, problem.message),
    }
}

fn shorten(text: &str) -> String {
    let end =
        text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST_WARNING - 3);
    match end.last() {
        Some(end) if end < text.len() => format!("{}…", text.get(..end).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
