//! Settings of annotations and of the ConfigMap → the policies of routes.

use std::time::Duration;

use crate::model::policy::{BodyLimit, Policies, Timeouts};

/// The policies of a route that nobody configured.
pub(super) fn defaults() -> Policies {
    Policies {
        deny: None,
        https_redirect: None,
        allow_list: None,
        rate_limit: None,
        body_limit: BodyLimit { max_bytes: Some(1 << 20) },
        rewrite: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            send: Duration::from_secs(60),
            read: Duration::from_secs(60),
        },
    }
}
