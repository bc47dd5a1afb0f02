//! Which endpoint takes a request: `load-balance`, `upstream-hash-by`, slow start.

use std::time::Duration;

use super::registry::annotations;
use super::value::{self, time};
use super::{Read, Reader};
use crate::model::policy::delivery::{Algorithm, Balance};
use crate::model::template::Template;

annotations! { "Load balancing";
    /// How an endpoint is chosen: in turn (`round_robin`), or the better of two by recent latency and requests in flight
    /// (`ewma`). Turns and measurements are shared by the workers of a node.
    LOAD_BALANCE: Algorithm = "load-balance", parse: algorithm, values: "round_robin or ewma", default: "round_robin",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Requests with the same text go to the same endpoint, by consistent hashing; text with variables, such as
    /// `$request_uri` or `$remote_addr`. Goes before `load-balance`. Unlike in ingress-nginx a retry goes to the endpoint
    /// that is next for this text, and the endpoint of a text is another one than there.
    UPSTREAM_HASH_BY: Template = "upstream-hash-by", parse: template, values: "text with variables", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// The text of `upstream-hash-by` chooses a group of endpoints instead of one, and each request goes to any of them.
    /// Unlike in ingress-nginx the groups of two texts may overlap.
    UPSTREAM_HASH_BY_SUBSET: bool = "upstream-hash-by-subset", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Endpoints of such a group.
    UPSTREAM_HASH_BY_SUBSET_SIZE: u32 = "upstream-hash-by-subset-size", parse: value::positive,
    values: "a bare whole number from 1", default: "3", on_invalid: Warn, scope: "path", twins: [], in: Annotation,
    support: Same;
    /// Seconds in which an endpoint that has come, or come back, grows to its whole share, from a tenth of it. 0: it takes
    /// its whole share at once. Not for `upstream-hash-by` and sessions.
    SLOW_START: Duration = "slow-start", parse: time::seconds_from_zero, values: "a bare number of seconds",
    default: "0", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Own;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Balance {
    let algorithm = reader.value(&LOAD_BALANCE);
    let is_grouped = reader.value(&UPSTREAM_HASH_BY_SUBSET);
    let size = reader.value(&UPSTREAM_HASH_BY_SUBSET_SIZE);
    let algorithm = match reader.get(&UPSTREAM_HASH_BY) {
        Read::Value(key) => Algorithm::Hash { key, group: if is_grouped { size.max(1) } else { 1 } },
        Read::Absent | Read::Invalid => algorithm,
    };
    let slow_start = Some(reader.value(&SLOW_START)).filter(|window| !window.is_zero());
    Balance { algorithm, slow_start }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "round_robin" => Ok(Algorithm::RoundRobin),
        "ewma" => Ok(Algorithm::PeakEwma),
        "least_conn" | "ip_hash" => {
            Err("is no longer an algorithm of ingress-nginx (ip_hash: set upstream-hash-by to $remote_addr)"
                .to_owned())
        }
        _ => Err("is neither round_robin nor ewma".to_owned()),
    }
}

fn template(text: &str) -> Result<Template, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~/:$%@!&'()*+,;=?|#{} ".contains(c);
    if let Some(bad) = text.chars().find(|c| !is_allowed(*c)) {
        return Err(format!("holds {bad:?}, which it may not"));
    }
    Template::parse(text).map_err(|unknown| unknown.to_string())
}
