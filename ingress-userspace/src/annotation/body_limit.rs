//! `proxy-body-size`.

use super::registry::annotations;
use super::{Reader, value};
use crate::model::policy::BodyLimit;

annotations! { "Request size";
    /// The largest request body; a larger one gets 413. `0` means without limit. Units are b, k, m and g; `20MB` is not
    /// valid.
    PROXY_BODY_SIZE: Option<u64> = "proxy-body-size", parse: value::size, values: "a size such as 8m, or 0", default: "1m",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> BodyLimit {
    BodyLimit { max_bytes: reader.value(&PROXY_BODY_SIZE) }
}
