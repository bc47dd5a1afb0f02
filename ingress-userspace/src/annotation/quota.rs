//! `rate-limit`: averages over any time, with a key, a status and headers of its own.

use std::time::Duration;

use super::registry::annotations;
use super::{Read, Reader, value};
use crate::model::policy::{Disclosure, LimitKey, Rate};
use crate::model::template::{Template, Variable};
use value::limit::Window;

annotations! { "Request rate by any key";
    /// Requests per time and client, on each node, such as `100/1m`; several separated by commas must all be within their
    /// limit, such as `10/1s, 1000/1h`. Refused requests get 429 with `Retry-After` and count for nothing. ingress-nginx
    /// has no such setting; `limit-rps` and `limit-rpm` hold beside it. This and what follows stand under `portcullis.dev/`
    /// alone: manifests carry `nginx.ingress.kubernetes.io/rate-limit`, which ingress-nginx ignores.
    RATE_LIMIT: Vec<Window> = "rate-limit", parse: value::limit::windows,
    values: "requests/time with the units s, m, h and d, such as 100/1m or 10/1s,1000/1h", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Own;
    /// How many requests may come at once when a client was quiet before. By default all of a time's average.
    RATE_LIMIT_BURST: u32 = "rate-limit-burst", parse: value::positive, values: "a bare whole number from 1", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Own;
    /// What tells one client from another: `address`, `header:NAME`, `cookie:NAME`, `path`, `host`, or several joined by `+`
    /// (`header:X-Api-Key+path`). A header or cookie that a request lacks counts as its address.
    RATE_LIMIT_KEY: Template = "rate-limit-key", parse: value::limit::key,
    values: "address, header:NAME, cookie:NAME, path or host, joined by +", default: "address",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Own;
    /// Status of refused requests.
    RATE_LIMIT_STATUS: u16 = "rate-limit-status", parse: value::status::<400, 599>, values: "a status from 400 to 599",
    default: "429", on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Own;
    /// Tell clients on every answer how they stand: `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, of the
    /// time that is nearest to its limit.
    RATE_LIMIT_HEADERS: bool = "rate-limit-headers", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Own;
}

/// A limit as annotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// All must pass.
    pub rates: Vec<Rate>,
    /// Who is counted.
    pub key: LimitKey,
    /// Status of requests over it.
    pub status: u16,
    /// What clients are told.
    pub disclosure: Disclosure,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Quota> {
    let burst = reader.get(&RATE_LIMIT_BURST).value();
    let template = reader.value(&RATE_LIMIT_KEY);
    let status = reader.value(&RATE_LIMIT_STATUS);
    let is_told = reader.value(&RATE_LIMIT_HEADERS);
    // A finding denies the paths.
    let Read::Value(windows) = reader.get(&RATE_LIMIT) else { return None };
    let rates = windows.into_iter().map(|Window { requests, seconds }| Rate {
        requests,
        period: Duration::from_secs(seconds),
        // nginx's burst is what comes on top of the first request.
        burst: burst.unwrap_or(requests).saturating_sub(1),
    });
    let may_lack = |variable: &Variable| matches!(variable, Variable::RequestHeader(_) | Variable::Cookie(_));
    let falls_back = template.variables().any(may_lack);
    Some(Quota {
        rates: rates.collect(),
        key: LimitKey { template, falls_back },
        status,
        disclosure: if is_told { Disclosure::All } else { Disclosure::RetryAfter },
    })
}
