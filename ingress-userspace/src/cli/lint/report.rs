//! What lint knows: a verdict per Ingress, per annotation and per ConfigMap key, with the Problems of translation.
//!
//! The verdict of an Ingress is about what is offered and not about what is missing: a Service or Secret that does not
//! exist answers 503 behind ingress-nginx too. It is a Problem, and keeps no Ingress from being supported.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use super::places::{Location, Places};
use super::quirks::{Quirk, quirks};
use crate::annotation::registry::{self, Row, Support};
use crate::annotation::{Effect, OWN_PREFIX, cloud, inert, known};
use crate::cli::objects::Objects;
use crate::k8s::cluster::{ObjectKey, reference};
use crate::problem::{Code, ObjectRef, Problem, Severity};

/// How a setting is served, from best to worst.
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

/// How an Ingress is served, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IngressVerdict {
    /// As by ingress-nginx.
    Supported,
    /// Served; a setting differs, or is one that nothing has to be done for.
    Different,
    /// Served, but something that it asks for has no effect.
    PartlyIgnored,
    /// A path of it is not served or answers an error, for something that it asks for is not offered or cannot be read.
    Refused,
}

impl IngressVerdict {
    /// From best to worst.
    pub(super) const ALL: [Self; 4] = [Self::Supported, Self::Different, Self::PartlyIgnored, Self::Refused];

    /// As it is printed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Different => "supported with a difference",
            Self::PartlyIgnored => "partly ignored",
            Self::Refused => "refused",
        }
    }

    fn of_setting(setting: &Setting) -> Self {
        match setting.verdict {
            Verdict::Supported => Self::Supported,
            Verdict::Ignored if !setting.is_harmless => Self::PartlyIgnored,
            Verdict::Different | Verdict::Ignored => Self::Different,
            Verdict::Refused => Self::Refused,
        }
    }

    /// Of a Problem that is not about an annotation.
    fn of_problem(problem: &Problem) -> Self {
        match (problem.code, problem.severity) {
            (Code::BackendMissing | Code::SecretInvalid | Code::ReferenceMissing, _)
            | (_, Severity::Note) => Self::Supported,
            (Code::Conflict | Code::FieldUnsupported, Severity::Warning) | (Code::Conflict, _) => {
                Self::PartlyIgnored
            }
            (_, Severity::Warning) => Self::Different,
            (_, Severity::Error) => Self::Refused,
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
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<Location>,
    /// That it is ignored changes no answer.
    #[serde(skip)]
    is_harmless: bool,
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct IngressReport {
    pub(super) object: ObjectRef,
    /// Whether it is ours.
    pub(super) is_served: bool,
    /// Of one that is ours.
    pub(super) verdict: Option<IngressVerdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<Location>,
    pub(super) settings: Vec<Setting>,
    pub(super) quirks: Vec<QuirkReport>,
}

/// A surprise and where its path is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct QuirkReport {
    #[serde(flatten)]
    pub(super) quirk: Quirk,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<Location>,
}

/// A Problem and where its field is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    #[serde(flatten)]
    pub(super) problem: Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<Location>,
}

/// How many of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Summary {
    pub(super) supported: usize,
    pub(super) different: usize,
    pub(super) partly_ignored: usize,
    pub(super) refused: usize,
    /// Ingresses of other classes.
    pub(super) not_served: usize,
    pub(super) errors: usize,
    pub(super) warnings: usize,
    pub(super) notes: usize,
}

/// Everything that lint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) ingresses: Vec<IngressReport>,
    pub(super) config: Vec<Setting>,
    /// The worst first.
    pub(super) problems: Vec<Finding>,
    pub(super) summary: Summary,
}

/// Looks at everything.
pub(super) fn report(objects: &Objects) -> Report {
    let shows =
        |problem: &Problem| problem.object.namespace.is_empty() || objects.shows(&problem.object.namespace);
    let mut places = Places::of(objects.folder.as_ref());
    let problems = objects.translation.problems.iter().filter(|problem| shows(problem)).cloned();
    let mut problems: Vec<Finding> = problems
        .map(|problem| Finding { location: places.field(&problem.object, &problem.field), problem })
        .collect();
    problems
        .sort_by(|a, b| b.problem.severity.cmp(&a.problem.severity).then_with(|| a.problem.cmp(&b.problem)));
    let mut summary = Summary::default();
    for Finding { problem, .. } in &problems {
        match problem.severity {
            Severity::Error => summary.errors += 1,
            Severity::Warning => summary.warnings += 1,
            Severity::Note => summary.notes += 1,
        }
    }
    let mut ingresses = Vec::new();
    let known = Known {
        served: objects.translation.ingresses.iter().map(|ours| &ours.object).collect(),
        problems: by_object(&objects.translation.problems),
        quirks: quirks(objects),
    };
    for (key, ingress) in &objects.cluster.ingresses {
        if !objects.shows(&key.namespace) {
            continue;
        }
        let found = ingress_report(objects, (key, ingress), &known, &mut places);
        match found.verdict {
            None => summary.not_served += 1,
            Some(IngressVerdict::Supported) => summary.supported += 1,
            Some(IngressVerdict::Different) => summary.different += 1,
            Some(IngressVerdict::PartlyIgnored) => summary.partly_ignored += 1,
            Some(IngressVerdict::Refused) => summary.refused += 1,
        }
        // Of somebody else's Ingress only what would have to change is of interest.
        if found.is_served || !found.settings.is_empty() {
            ingresses.push(found);
        }
    }
    Report { ingresses, config: config(objects, &mut places), problems, summary }
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

fn ingress_report(
    objects: &Objects,
    (key, ingress): (&ObjectKey, &Ingress),
    known: &Known<'_>,
    places: &mut Places,
) -> IngressReport {
    let object = reference(ingress);
    let is_served = known.served.contains(&object);
    let of_object = known.problems.get(&object).map(Vec::as_slice).unwrap_or_default();
    let mut settings = Vec::new();
    for (written, value) in ingress.metadata.annotations.iter().flatten() {
        let setting = match cloud::advise(written, value) {
            Some(advice) => Some(Setting {
                verdict: Verdict::Ignored,
                message: advice.text(),
                docs: "docs/migration.md#clouds".to_owned(),
                is_harmless: advice.effect == Effect::Note,
                ..Setting::new(written, value)
            }),
            None if is_served => annotation(objects, written, value),
            None => None,
        };
        let Some(mut setting) = setting else { continue };
        let field = format!("metadata.annotations[{written}]");
        setting.hear(of_object.iter().copied().filter(|problem| problem.field == field));
        setting.location = places.field(&object, &field);
        settings.push(setting);
    }
    let of_settings = settings.iter().map(IngressVerdict::of_setting);
    let others = of_object.iter().filter(|problem| !problem.field.starts_with("metadata.annotations["));
    let worst = of_settings.chain(others.map(|problem| IngressVerdict::of_problem(problem))).max();
    let quirks = known.quirks.get(key).into_iter().flatten().cloned();
    let quirks =
        quirks.map(|quirk| QuirkReport { location: places.path(&object, &quirk.path), quirk }).collect();
    IngressReport {
        verdict: is_served.then(|| worst.unwrap_or(IngressVerdict::Supported)),
        location: places.field(&object, ""),
        object,
        is_served,
        settings,
        quirks,
    }
}

impl Setting {
    /// One about which there is nothing to say.
    fn new(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_owned(),
            verdict: Verdict::Supported,
            message: String::new(),
            docs: String::new(),
            location: None,
            is_harmless: false,
        }
    }

    /// What translation says of it counts more than what is declared.
    fn hear<'a>(&mut self, problems: impl Iterator<Item = &'a Problem>) {
        let Some(problem) = problems.max_by_key(|problem| problem.severity) else { return };
        let is_missing =
            matches!(problem.code, Code::BackendMissing | Code::SecretInvalid | Code::ReferenceMissing);
        match problem.severity {
            _ if is_missing => {}
            Severity::Error => self.verdict = Verdict::Refused,
            // The default holds instead.
            Severity::Warning if problem.code == Code::AnnotationInvalid => {
                self.verdict = self.verdict.max(Verdict::Ignored);
            }
            Severity::Warning => self.verdict = self.verdict.max(Verdict::Different),
            Severity::Note => {}
        }
        self.message.clone_from(&problem.message);
    }
}

fn annotation(objects: &Objects, written: &str, value: &str) -> Option<Setting> {
    let (prefix, key) = written.rsplit_once('/')?;
    if prefix != OWN_PREFIX && prefix != objects.settings.annotations_prefix {
        return None;
    }
    let row = registry::annotation_row(key).filter(|_| known::counts(prefix, key));
    let docs = format!("docs/reference/annotations.md#{key}");
    let Some(row) = row else { return Some(Setting { docs, ..unknown(written, value) }) };
    let (verdict, message) = of_row(row, value);
    // What ingress-nginx itself has removed keeps no path from being served.
    let is_mild = matches!(row.on_invalid, Effect::Note | Effect::Warn);
    let (verdict, is_harmless) = match verdict {
        Verdict::Refused if is_mild => (Verdict::Ignored, false),
        verdict => (verdict, row.support == Support::Ignored),
    };
    Some(Setting { verdict, message, docs, is_harmless, ..Setting::new(written, value) })
}

fn unknown(key: &str, value: &str) -> Setting {
    Setting { verdict: Verdict::Ignored, message: "unknown".to_owned(), ..Setting::new(key, value) }
}

fn of_row(row: &Row, value: &str) -> (Verdict, String) {
    let is_inert = matches!(row.support, Support::Ignored | Support::Refused);
    if value.trim().is_empty() || (is_inert && inert::asks_for_nothing(row, value)) {
        return (Verdict::Supported, String::new());
    }
    let docs = || row.docs.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    match row.support {
        Support::Same | Support::Own => (Verdict::Supported, String::new()),
        Support::Differs => (Verdict::Different, difference(&docs())),
        Support::Ignored => (Verdict::Ignored, docs()),
        Support::Refused => (Verdict::Refused, docs()),
    }
}

/// The sentences of a setting's documentation that compare; all of them if none does.
fn difference(docs: &str) -> String {
    let compares = |sentence: &&str| sentence.contains("ingress-nginx");
    let found: Vec<&str> = docs.split_inclusive(". ").filter(compares).collect();
    if found.is_empty() { docs.to_owned() } else { found.concat().trim_end().to_owned() }
}

fn config(objects: &Objects, places: &mut Places) -> Vec<Setting> {
    let Some(key) = &objects.settings.config_map else { return Vec::new() };
    let Some(object) = objects.cluster.config_maps.get(key) else { return Vec::new() };
    let own = reference(&**object);
    let of_object: Vec<&Problem> =
        objects.translation.problems.iter().filter(|problem| problem.object == own).collect();
    let mut settings = Vec::new();
    for (key, value) in object.data.iter().flatten() {
        let mut setting = match registry::config_row(key) {
            Some(row) => {
                let (verdict, message) = of_row(row, value);
                Setting { verdict, message, ..Setting::new(key, value) }
            }
            None => unknown(key, value),
        };
        let field = format!("data[{key}]");
        setting.hear(of_object.iter().copied().filter(|problem| problem.field == field));
        setting.docs = format!("docs/reference/configmap.md#{key}");
        setting.location = places.field(&own, &field);
        settings.push(setting);
    }
    settings
}
