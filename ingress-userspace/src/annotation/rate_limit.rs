//! `limit-rps`, `limit-rpm` with `limit-burst-multiplier`, `limit-whitelist`, and who is counted.

use std::time::Duration;

use ipnet::IpNet;

use super::allow_list;
use super::registry::{annotations, config_keys};
use super::value::{self, Networks};
use super::{Read, Reader};
use crate::model::policy::{LimitKey, Rate};
use crate::model::template::Template;

annotations! { "Request rate";
    /// Requests per second and client address, counted over all paths of the Ingress, on each node. What comes above rate
    /// and burst gets 503 (ConfigMap `limit-req-status-code`). 0 means no limit.
    LIMIT_RPS: u32 = "limit-rps", parse: value::at_most, values: "a bare whole number", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// The same per minute. If both are given a request must be within both, and one that is refused counts for neither.
    LIMIT_RPM: u32 = "limit-rpm", parse: value::at_most, values: "a bare whole number", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// How many times the rate may come at once above the rate. Unlike in ingress-nginx 0 is no value; nginx would load no
    /// configuration with it.
    LIMIT_BURST_MULTIPLIER: u32 = "limit-burst-multiplier", parse: value::positive,
    values: "a bare whole number from 1", default: "5",
    on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Differs;
    /// Sources that none of the limits per client count: `limit-rps`, `limit-rpm`, `limit-connections`, `rate-limit`. An
    /// entry that cannot be read exempts nobody. `limit-whitelist` is the same setting; if both are given,
    /// `limit-allowlist` counts. Unlike in ingress-nginx one unreadable entry beside readable ones does not take the
    /// whole Ingress away.
    LIMIT_ALLOWLIST: Networks = "limit-allowlist", parse: value::networks,
    values: "networks or addresses, separated by commas, such as 198.18.0.0/15,2001:db8::1", default: "",
    on_invalid: Refuse, scope: "Ingress", twins: ["limit-whitelist"], in: Annotation, support: Differs;
}

config_keys! { "Request rate, cluster-wide";
    /// Status of requests over `limit-rps` or `limit-rpm`.
    LIMIT_REQ_STATUS_CODE: u16 = "limit-req-status-code", parse: value::status::<400, 599>,
    values: "a status from 400 to 599", default: "503", on_invalid: Warn, support: Same;
    /// What tells one client from another in `limit-rps`, `limit-rpm` and `limit-connections`: text with variables of the
    /// request. Requests for which it is empty are not counted.
    LIMIT_CONN_ZONE_VARIABLE: Template = "limit-conn-zone-variable", parse: value::limit_key,
    values: "text with variables of the request, such as $binary_remote_addr or $http_x_api_key",
    default: "$binary_remote_addr", on_invalid: Warn, support: Same;
}

/// Rates as annotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// All must pass.
    pub rates: Vec<Rate>,
    /// Status of requests over them.
    pub status: u16,
}

/// Who is counted, and who is not, by the limits per client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who.
    pub key: LimitKey,
    /// Who is not.
    pub exempt: Vec<IpNet>,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Rates> {
    let multiplier = reader.value(&LIMIT_BURST_MULTIPLIER);
    let status = reader.value(&LIMIT_REQ_STATUS_CODE);
    let limits = [(&LIMIT_RPS, Duration::from_secs(1)), (&LIMIT_RPM, Duration::from_secs(60))];
    let rates = limits.map(|(limit, period)| match reader.get(limit) {
        Read::Value(requests) if requests > 0 => {
            Some(Rate { requests, period, burst: requests.saturating_mul(multiplier) })
        }
        // A finding denies the paths.
        Read::Value(_) | Read::Absent | Read::Invalid => None,
    });
    let rates: Vec<Rate> = rates.into_iter().flatten().collect();
    (!rates.is_empty()).then_some(Rates { rates, status })
}

pub(super) fn parse_counted(reader: &mut Reader<'_>) -> Counted {
    let exempt = match reader.find(&LIMIT_ALLOWLIST.row) {
        Some(found) => match reader.parse(&LIMIT_ALLOWLIST, &found) {
            Read::Value(list) => allow_list::entries_with(reader, &found, list, "it exempts nobody"),
            Read::Absent | Read::Invalid => Vec::new(),
        },
        None => Vec::new(),
    };
    let template = reader.value(&LIMIT_CONN_ZONE_VARIABLE);
    Counted { key: LimitKey { template, falls_back: false }, exempt }
}
