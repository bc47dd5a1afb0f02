//! `proxy-next-upstream` and its limits: when another endpoint is asked.

use std::time::Duration;

use super::Reader;
use super::registry::{annotations, config_keys};
use super::value::{self, time};
use crate::model::policy::delivery::{Retry, RetryOn};

annotations! { "The next endpoint after a failure";
    /// After which failures a request goes to the next endpoint: `error` (no connection, or it broke), `timeout`,
    /// `invalid_header` (not HTTP), answers with a status (`http_502`), or never (`off`). A request that an endpoint may have
    /// seen goes on only if it has no body that is gone, and unless `non_idempotent` is given not if its method is POST, LOCK
    /// or PATCH. The answer of the last try is passed on. As in ingress-nginx, a Service with one endpoint is asked again.
    PROXY_NEXT_UPSTREAM: RetryOn = "proxy-next-upstream", parse: retry_on,
    values: "some of error, timeout, invalid_header, http_403, http_404, http_429, http_500, http_502, http_503, http_504, non_idempotent, off",
    default: "error timeout", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Tries of one request, the first included. 0 is without limit in ingress-nginx; here it is three for each endpoint.
    PROXY_NEXT_UPSTREAM_TRIES: u32 = "proxy-next-upstream-tries", parse: value::integer, values: "a bare whole number",
    default: "3", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// Seconds after which no further try begins; 0: at any time.
    PROXY_NEXT_UPSTREAM_TIMEOUT: Duration = "proxy-next-upstream-timeout", parse: time::seconds_from_zero,
    values: "a bare number of seconds", default: "0", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Further tries that a backend sees at most, in percent of its requests, so that an outage does not multiply its own
    /// load; a hundred tries are always allowed in one go. The default never limits three tries. 0: no limit.
    RETRY_BUDGET: u32 = "retry-budget", parse: value::integer, values: "a bare whole number, percent",
    default: "200", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Own;
}

config_keys! { "The next endpoint after a failure, cluster-wide";
    /// Adds `non_idempotent` to every `proxy-next-upstream`.
    RETRY_NON_IDEMPOTENT: bool = "retry-non-idempotent", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Retry {
    let mut on = reader.value(&PROXY_NEXT_UPSTREAM);
    on.non_idempotent |= reader.value(&RETRY_NON_IDEMPOTENT);
    let timeout = reader.value(&PROXY_NEXT_UPSTREAM_TIMEOUT);
    Retry {
        on,
        tries: reader.value(&PROXY_NEXT_UPSTREAM_TRIES),
        timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        budget_percent: reader.value(&RETRY_BUDGET),
    }
}

fn retry_on(text: &str) -> Result<RetryOn, String> {
    let mut on = RetryOn::never();
    let mut is_off = false;
    for word in text.split_whitespace() {
        match word {
            "error" => on.error = true,
            "timeout" => on.timeout = true,
            "invalid_header" => on.invalid_header = true,
            "non_idempotent" => on.non_idempotent = true,
            "off" => is_off = true,
            _ => match word.strip_prefix("http_").and_then(|status| status.parse().ok()) {
                Some(status @ (403 | 404 | 429 | 500 | 502..=504)) => on.statuses.push(status),
                _ => return Err(format!("holds {word}, which is no condition")),
            },
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    Ok(if is_off { RetryOn::never() } else { on })
}
