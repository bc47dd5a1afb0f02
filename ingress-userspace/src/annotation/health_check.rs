//! `upstream-health-check-*`: active checks of endpoints.

use std::time::Duration;

use super::registry::annotations;
use super::value::{self, time};
use super::{Effect, Read, Reader};
use crate::model::health::Question;

annotations! { "Health checks";
    /// Checks every endpoint of the Services of this Ingress by GET to this path, one check per node; on a canary Ingress those
    /// of the canary's Service. ingress-nginx ignores the annotation. An answer below 400 is a success. An endpoint that failed `upstream-health-check-unhealthy-threshold`
    /// times in a row takes no further requests until it succeeded `upstream-health-check-healthy-threshold` times; while
    /// all endpoints of a Service fail, all take requests. Of several Ingresses with the same Service the oldest says how.
    UPSTREAM_HEALTH_CHECK_PATH: String = "upstream-health-check-path", parse: path, values: "a path such as /healthz",
    default: "", on_invalid: Warn, scope: "the Services of the Ingress", twins: [], in: Annotation, support: Own;
    /// What is asked: `http`, `upstream-health-check-path`; `grpc`, the health service of gRPC (`grpc.health.v1.Health/Check`),
    /// where `SERVING` is a success and everything else a failure. `grpc` needs no path, and `backend-protocol` GRPC or GRPCS.
    UPSTREAM_HEALTH_CHECK_TYPE: Kind = "upstream-health-check-type", parse: kind, values: "http or grpc", default: "http",
    on_invalid: Warn, scope: "the Services of the Ingress", twins: [], in: Annotation, support: Own;
    /// With `upstream-health-check-type: grpc`, the service that is asked about; without it the server as a whole.
    UPSTREAM_HEALTH_CHECK_SERVICE: String = "upstream-health-check-service", parse: service,
    values: "the name of a gRPC service, such as shop.Cart", default: "", on_invalid: Warn,
    scope: "the Services of the Ingress", twins: [], in: Annotation, support: Own;
    /// Time between two checks of an endpoint.
    UPSTREAM_HEALTH_CHECK_INTERVAL: Duration = "upstream-health-check-interval", parse: time::span,
    values: "a time such as 10s, or bare seconds", default: "10s", on_invalid: Warn, scope: "the Services of the Ingress",
    twins: [], in: Annotation, support: Own;
    /// Time for one check.
    UPSTREAM_HEALTH_CHECK_TIMEOUT: Duration = "upstream-health-check-timeout", parse: time::span,
    values: "a time such as 2s, or bare seconds", default: "2s", on_invalid: Warn, scope: "the Services of the Ingress",
    twins: [], in: Annotation, support: Own;
    /// Failures in a row after which an endpoint takes no further requests.
    UPSTREAM_HEALTH_CHECK_UNHEALTHY_THRESHOLD: u32 = "upstream-health-check-unhealthy-threshold", parse: value::positive,
    values: "a bare whole number from 1", default: "3", on_invalid: Warn, scope: "the Services of the Ingress",
    twins: [], in: Annotation, support: Own;
    /// Successes in a row after which it takes requests again.
    UPSTREAM_HEALTH_CHECK_HEALTHY_THRESHOLD: u32 = "upstream-health-check-healthy-threshold", parse: value::positive,
    values: "a bare whole number from 1", default: "2", on_invalid: Warn, scope: "the Services of the Ingress",
    twins: [], in: Annotation, support: Own;
}

/// What `upstream-health-check-type` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A path, by GET.
    #[default]
    Http,
    /// The health service of gRPC.
    Grpc,
}

/// A check as annotated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the annotation of its name")]
pub struct Check {
    pub question: Question,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Check> {
    let interval = reader.value(&UPSTREAM_HEALTH_CHECK_INTERVAL);
    let timeout = reader.value(&UPSTREAM_HEALTH_CHECK_TIMEOUT);
    let unhealthy_threshold = reader.value(&UPSTREAM_HEALTH_CHECK_UNHEALTHY_THRESHOLD);
    let healthy_threshold = reader.value(&UPSTREAM_HEALTH_CHECK_HEALTHY_THRESHOLD);
    let check = |question| Check { question, interval, timeout, unhealthy_threshold, healthy_threshold };
    if reader.value(&UPSTREAM_HEALTH_CHECK_TYPE) == Kind::Grpc {
        let message = "of no account with upstream-health-check-type: grpc; remove one of them";
        reader.note_given(&UPSTREAM_HEALTH_CHECK_PATH.row, Effect::Warn, message);
        return match reader.get(&UPSTREAM_HEALTH_CHECK_SERVICE) {
            Read::Value(service) => Some(check(Question::Grpc(service))),
            Read::Absent => Some(check(Question::Grpc(String::new()))),
            Read::Invalid => None,
        };
    }
    match reader.get(&UPSTREAM_HEALTH_CHECK_PATH) {
        Read::Value(path) => {
            let message =
                "only gRPC is asked about a service; set upstream-health-check-type to grpc, or remove it";
            reader.note_given(&UPSTREAM_HEALTH_CHECK_SERVICE.row, Effect::Warn, message);
            Some(check(Question::Get(path)))
        }
        Read::Absent => {
            for row in GROUP.rows {
                let message = "nothing is checked without upstream-health-check-path or upstream-health-check-type: grpc; set one";
                reader.note_given(row, Effect::Warn, message);
            }
            None
        }
        Read::Invalid => None,
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    match text.to_ascii_lowercase().as_str() {
        "http" => Ok(Kind::Http),
        "grpc" => Ok(Kind::Grpc),
        _ => Err("is neither http nor grpc".to_owned()),
    }
}

fn service(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if text.len() > 127 || !text.chars().all(is_allowed) {
        return Err("is not the name of a gRPC service, of at most 127 letters, digits and ._-/".to_owned());
    }
    Ok(text.to_owned())
}

fn path(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}#".contains(c);
    if !text.starts_with('/') || !text.chars().all(is_allowed) {
        return Err("is not a path (it begins with / and holds no space)".to_owned());
    }
    Ok(text.to_owned())
}
