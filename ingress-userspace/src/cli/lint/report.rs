//! What lint knows: a verdict per Ingress, per annotation and per ConfigMap key, with the Problems of translation.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use super::quirks::{Quirk, quirks};
use crate::annotation::registry::{self, Row, Support};
use crate::annotation::{Effect, OWN_PREFIX, cloud, inert, known};
use crate::cli::objects::Objects;
use crate::k8s::cluster::{ObjectKey, reference};
use crate::problem::{ObjectRef, Problem, Severity};

/// How something is served, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As in ingress-nginx.
    Supported,
    /// Served; the text says what differs.
    Different,
    /// Has no effect.
    Ignored,
    /// Refused: paths answer 503, or the key is not honoured.
    Refused,
}

impl Verdict {
    /// As it is printed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Different => "different",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// An annotation or a ConfigMap key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) verdict: Verdict,
    /// What differs, or what to do.
    pub(super) message: String,
    /// Where it is explained.
    pub(super) docs: String,
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct IngressReport {
    pub(super) object: ObjectRef,
    /// Whether it is ours.
    pub(super) is_served: bool,
    pub(super) verdict: Verdict,
    pub(super) settings: Vec<Setting>,
    pub(super) quirks: Vec<Quirk>,
}

/// Everything that lint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) ingresses: Vec<IngressReport>,
    pub(super) config: Vec<Setting>,
    /// The worst first.
    pub(super) problems: Vec<Problem>,
}

/// Looks at everything.
pub(super) fn report(objects: &Objects) -> Report {
    let shows =
        |problem: &Problem| problem.object.namespace.is_empty() || objects.shows(&problem.object.namespace);
    let mut problems: Vec<Problem> =
        objects.translation.problems.iter().filter(|problem| shows(problem)).cloned().collect();
    let mut ingresses = Vec::new();
    let known = Known {
        served: objects.translation.ingresses.iter().map(|ours| &ours.object).collect(),
        problems: by_object(&objects.translation.problems),
        quirks: quirks(objects),
    };
    for (key, ingress) in &objects.cluster.ingresses {
        if objects.shows(&key.namespace) {
            let found = ingress_report(objects, key, ingress, &known);
            // Of somebody else's Ingress only what would have to change is of interest.
            if found.is_served || !found.settings.is_empty() {
                ingresses.push(found);
            }
        }
    }
    problems.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    Report { ingresses, config: config(objects), problems }
}

/// What is known of each Ingress, to be found without looking at all.
struct Known<'a> {
    served: BTreeSet<&'a ObjectRef>,
    problems: BTreeMap<&'a ObjectRef, Vec<&'a Problem>>,
    quirks: BTreeMap<ObjectKey, BTreeSet<Quirk>>,
}

fn by_object(problems: &[Problem]) -> BTreeMap<&ObjectRef, Vec<&Problem>> {
    let mut found: BTreeMap<&ObjectRef, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        found.entry(&problem.object).or_default().push(problem);
    }
    found
}

fn ingress_report(objects: &Objects, key: &ObjectKey, ingress: &Ingress, known: &Known<'_>) -> IngressReport {
    let object = reference(ingress);
    let is_served = known.served.contains(&object);
    let of_object = known.problems.get(&object).map(Vec::as_slice).unwrap_or_default();
    let mut settings = Vec::new();
    for (written, value) in ingress.metadata.annotations.iter().flatten() {
        let setting = match cloud::advise(written, value) {
            Some(advice) => Some((Verdict::Ignored, advice.text(), "docs/migration.md#clouds".to_owned())),
            None if is_served => annotation(objects, written, value),
            None => None,
        };
        let Some((mut verdict, mut message, docs)) = setting else { continue };
        let field = format!("metadata.annotations[{written}]");
        if let Some(problem) =
            of_object.iter().filter(|problem| problem.field == field).max_by_key(|p| p.severity)
        {
            verdict = match problem.severity {
                Severity::Error => Verdict::Refused,
                Severity::Warning => verdict.max(Verdict::Different),
                Severity::Note => verdict,
            };
            message.clone_from(&problem.message);
        }
        settings.push(Setting { key: written.clone(), value: value.clone(), verdict, message, docs });
    }
    let worst = settings.iter().map(|setting| setting.verdict).max().unwrap_or(Verdict::Supported);
    let of_fields = match of_object.iter().map(|problem| problem.severity).max() {
        Some(Severity::Error) => Verdict::Refused,
        Some(Severity::Warning) => Verdict::Different,
        Some(Severity::Note) | None => Verdict::Supported,
    };
    let quirks = known.quirks.get(key).into_iter().flatten().cloned().collect();
    IngressReport { object, is_served, verdict: worst.max(of_fields), settings, quirks }
}

fn annotation(objects: &Objects, written: &str, value: &str) -> Option<(Verdict, String, String)> {
    let (prefix, key) = written.rsplit_once('/')?;
    if prefix != OWN_PREFIX && prefix != objects.settings.annotations_prefix {
        return None;
    }
    let row = registry::annotation_row(key).filter(|_| known::counts(prefix, key));
    let docs = format!("docs/reference/annotations.md#{key}");
    if let Some(row) = row {
        let (verdict, message) = of_row(row, value);
        // What ingress-nginx itself has removed keeps no path from being served.
        let is_harmless = matches!(row.on_invalid, Effect::Note | Effect::Warn);
        let verdict = if verdict == Verdict::Refused && is_harmless { Verdict::Ignored } else { verdict };
        return Some((verdict, message, docs));
    }
    Some((Verdict::Ignored, "unknown".to_owned(), docs))
}

fn of_row(row: &Row, value: &str) -> (Verdict, String) {
    let is_inert = matches!(row.support, Support::Ignored | Support::Refused);
    if value.trim().is_empty() || (is_inert && inert::asks_for_nothing(row, value)) {
        return (Verdict::Supported, String::new());
    }
    let docs = || row.docs.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    match row.support {
        Support::Same | Support::Own => (Verdict::Supported, String::new()),
        Support::Differs => (Verdict::Different, docs()),
        Support::Ignored => (Verdict::Ignored, docs()),
        Support::Refused => (Verdict::Refused, docs()),
    }
}

fn config(objects: &Objects) -> Vec<Setting> {
    let Some(key) = &objects.settings.config_map else { return Vec::new() };
    let Some(object) = objects.cluster.config_maps.get(key) else { return Vec::new() };
    let mut settings = Vec::new();
    for (key, value) in object.data.iter().flatten() {
        let row = registry::config_row(key);
        let (mut verdict, mut message) = match row {
            Some(row) => of_row(row, value),
            None => (Verdict::Ignored, "unknown".to_owned()),
        };
        let field = format!("data[{key}]");
        let own = reference(&**object);
        let problems = objects.translation.problems.iter();
        let worst = problems
            .filter(|problem| problem.object == own && problem.field == field)
            .max_by_key(|p| p.severity);
        if let Some(problem) = worst {
            if problem.severity == Severity::Error {
                verdict = Verdict::Refused;
            }
            message.clone_from(&problem.message);
        }
        let docs = format!("docs/reference/configmap.md#{key}");
        settings.push(Setting { key: key.clone(), value: value.clone(), verdict, message, docs });
    }
    settings
}
