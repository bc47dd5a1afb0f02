//! `custom-http-errors` and `disable-proxy-intercept-errors`.

use super::registry::annotations;
use super::value::{self, Statuses};
use super::{Effect, Found, Reader};

annotations! { "Error pages";
    /// Answers with these statuses, of the backend or of the proxy, are replaced: `default-backend` is asked at `/` instead, and
    /// its answer with its status is what the client sees. It gets `X-Code`, `X-Format`, `X-Original-URI`, `X-Namespace`,
    /// `X-Ingress-Name`, `X-Service-Name`, `X-Service-Port` and `X-Request-ID`. Without a `default-backend` that has
    /// endpoints the controller's is asked (`--default-backend-service`). The list replaces that of the cluster, for which the
    /// controller's default backend makes the pages. With `auth-signin` a 401 of the backend becomes a redirect there. Unlike in
    /// ingress-nginx statuses from 300 on may be listed, the answers of a configuration that fails closed are never replaced, without any default backend errors
    /// stay as they are, and the page is asked for without the body of the request.
    CUSTOM_HTTP_ERRORS: Statuses = "custom-http-errors", parse: value::error_statuses,
    values: "statuses from 300 to 599, separated by commas", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// Leaves the answers of the backend as they are, although `custom-http-errors` lists their statuses.
    DISABLE_PROXY_INTERCEPT_ERRORS: bool = "disable-proxy-intercept-errors", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

/// Which answers are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Ordered; empty: none.
    pub statuses: Vec<u16>,
    /// The list is the Ingress's own, so that its `default-backend` makes the pages.
    pub is_own: bool,
    /// Those of the backend, too.
    pub replaces_upstream: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> ErrorPages {
    let found = reader.find(&CUSTOM_HTTP_ERRORS.row);
    let listed = found.as_ref().and_then(|found| {
        let Statuses { statuses, unreadable } = reader.parse(&CUSTOM_HTTP_ERRORS, found).value()?;
        for entry in &unreadable {
            let message = "is no status between 300 and 599; the others count; correct or remove it";
            reader.report(&Found { text: entry, ..found.clone() }, Effect::Warn, message);
        }
        Some(statuses)
    });
    let statuses = listed.unwrap_or_else(|| reader.configured(&CUSTOM_HTTP_ERRORS).statuses);
    let is_own = found.is_some_and(|found| !found.is_config);
    ErrorPages { statuses, is_own, replaces_upstream: !reader.value(&DISABLE_PROXY_INTERCEPT_ERRORS) }
}
