//! `default-backend`.

use super::registry::annotations;
use super::{Read, Reader, value};

annotations! { "Fallback";
    /// A Service of the same namespace that answers when the rule's Service has no ready endpoint; its first port is used, and
    /// it must have ready endpoints itself. It also makes the pages of `custom-http-errors`, if the Ingress has that annotation.
    DEFAULT_BACKEND: String = "default-backend", parse: value::service_name,
    values: "the name of a Service in the Ingress's namespace", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<String> {
    match reader.get(&DEFAULT_BACKEND) {
        Read::Value(name) => Some(name),
        Read::Absent | Read::Invalid => None,
    }
}
