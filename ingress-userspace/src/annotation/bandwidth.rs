//! `limit-rate` and `limit-rate-after`.

use super::registry::annotations;
use super::{Reader, value};
use crate::model::policy::Bandwidth;

annotations! { "Bandwidth";
    /// KiB per second that a response may go out with; 0 means as fast as it can. Each response has its own measure, so a
    /// client with two requests at once gets twice as much. Unlike in ingress-nginx it needs no `proxy-buffering`.
    LIMIT_RATE: u32 = "limit-rate", parse: value::at_most, values: "a bare whole number of KiB", default: "0",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// KiB of a response that go out before `limit-rate` holds.
    LIMIT_RATE_AFTER: u32 = "limit-rate-after", parse: value::at_most, values: "a bare whole number of KiB",
    default: "0", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Bandwidth> {
    let rate = reader.value(&LIMIT_RATE);
    let after = reader.value(&LIMIT_RATE_AFTER);
    let bytes = |kib: u32| u64::from(kib) << 10;
    (rate > 0).then(|| Bandwidth { bytes_per_second: bytes(rate), after: bytes(after) })
}
