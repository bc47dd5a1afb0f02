//! `proxy-body-size`.

use super::config_map::Defaults;
use super::registry::annotations;
use super::{Read, Reader, value};
use crate::model::policy::BodyLimit;

annotations! { "Request size";
    /// The largest request body; a larger one gets 413. `0` means without limit. Units are b, k, m and g; `20MB` is not
    /// valid.
    PROXY_BODY_SIZE: Option<u64> = "proxy-body-size", parse: value::size, values: "a size such as 8m, or 0", default: "1m",
    on_invalid: Warn, scope: "path", twins: [];
}

pub(super) fn parse(reader: &mut Reader<'_>, defaults: &Defaults) -> BodyLimit {
    match reader.get(&PROXY_BODY_SIZE) {
        Read::Value(max_bytes) => BodyLimit { max_bytes },
        Read::Absent | Read::Invalid => defaults.body_limit,
    }
}
