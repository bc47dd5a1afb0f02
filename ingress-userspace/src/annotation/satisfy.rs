//! `satisfy`: whether every rule of access must hold, or one.

use super::registry::annotations;
use super::{Reader, value};

annotations! { "Rules of access together";
    /// With `any` a request is let in by its source (`whitelist-source-range`) or by authentication (`auth-type`, `auth-url`);
    /// with `all` it needs both. A source of `denylist-source-range` can still authenticate, as in ingress-nginx.
    SATISFY: bool = "satisfy", parse: value::is_any, values: "all or any", default: "all",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
}

/// Whether one rule is enough.
pub(super) fn parse(reader: &mut Reader<'_>) -> bool {
    reader.value(&SATISFY)
}
