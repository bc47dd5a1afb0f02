//! Where requests of the proxy's own may go: those of `auth-url` and `mirror-target`.

use super::registry::config_keys;
use super::{Reader, value};

config_keys! { "Requests of the proxy's own";
    /// Let URLs in settings (`auth-url`, `mirror-target`) point to loopback, link-local, node and API server addresses. Without
    /// it such a URL answers 500, or is not mirrored to: who may write an Ingress could otherwise reach what only the node
    /// may. A folder of manifests is not restricted.
    ALLOW_LOCAL_URLS: bool = "allow-local-urls", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Own;
}

/// Whether URLs may point to local addresses.
pub(super) fn parse(reader: &mut Reader<'_>) -> bool {
    reader.value(&ALLOW_LOCAL_URLS)
}
