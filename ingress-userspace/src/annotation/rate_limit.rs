//! `limit-rps` with `limit-burst-multiplier`.

use super::registry::{annotations, config_keys};
use super::{Read, Reader, value};

annotations! { "Request rate";
    /// Requests per second and client address, counted over all paths of the Ingress, on each node. What comes above rate
    /// and burst gets 503 (ConfigMap `limit-req-status-code`). 0 means no limit.
    LIMIT_RPS: u32 = "limit-rps", parse: value::integer, values: "a bare whole number", default: "",
    on_invalid: Deny, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// How many times the rate may come at once.
    LIMIT_BURST_MULTIPLIER: u32 = "limit-burst-multiplier", parse: value::positive,
    values: "a bare whole number from 1", default: "5",
    on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
}

config_keys! { "Request rate, cluster-wide";
    /// Status of requests over `limit-rps`.
    LIMIT_REQ_STATUS_CODE: u16 = "limit-req-status-code", parse: value::status::<400, 599>,
    values: "a status from 400 to 599", default: "503", on_invalid: Warn, support: Same;
}

/// A rate as annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub requests_per_second: u32,
    /// Rate × multiplier.
    pub burst: u32,
    /// Status of requests over it.
    pub status: u16,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Rate> {
    let multiplier = reader.value(&LIMIT_BURST_MULTIPLIER);
    match reader.get(&LIMIT_RPS) {
        Read::Value(rate) if rate > 0 => Some(Rate {
            requests_per_second: rate,
            burst: rate.saturating_mul(multiplier),
            status: reader.value(&LIMIT_REQ_STATUS_CODE),
        }),
        Read::Value(_) | Read::Absent | Read::Invalid => None,
    }
}
