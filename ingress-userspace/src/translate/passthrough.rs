//! `ssl-passthrough`: the hosts whose TLS goes to a backend as it is.

use super::Build;
use super::hosts::{Draft, Shared};
use super::paths::{PathKind, identity};
use super::policies::Owner;
use crate::annotation::stream::SSL_PASSTHROUGH;
use crate::model::backend::BackendId;
use crate::model::host::HostPattern;
use crate::model::policy::upstream::UpstreamProtocol;
use crate::model::route::{Route, RouteAction};
use crate::problem::{Code, Severity};

/// The backend of a host that is passed through: that of the path `/` of the oldest Ingress that asks for it.
pub(super) fn backend(
    build: &mut Build<'_>,
    shared: &Shared<'_>,
    pattern: &HostPattern,
    draft: &Draft,
) -> Option<BackendId> {
    let asks = |owner: &&Owner<'_>| owner.settings.ssl_passthrough;
    let mut of_root = None;
    for path in &draft.paths {
        let Some(owner) = shared.owners.get(path.owner).filter(asks) else { continue };
        if !build.settings.enable_ssl_passthrough {
            let message = "passing TLS through needs the flag --enable-ssl-passthrough; the host gets our own TLS; give the flag \
                           or remove the annotation";
            report(build, owner, (Code::FieldUnsupported, Severity::Warning), "true", message);
            continue;
        }
        if *pattern == HostPattern::Any {
            let message =
                "only TLS of a named host can be passed through; this rule gets our own TLS; give it a host";
            report(build, owner, (Code::FieldInvalid, Severity::Warning), "true", message);
            continue;
        }
        if identity(path.kind, &path.path) != (PathKind::Prefix, "") {
            let message = "TLS is passed through by the path / alone; this path takes no part in that";
            let at = (path.field.as_str(), path.path.as_str());
            build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), at, message);
            continue;
        }
        if let RouteAction::Forward { backends, .. } = &path.action
            && of_root.is_none()
        {
            of_root = backends.first().map(|share| share.backend.clone());
        }
    }
    of_root
}

/// Such a backend speaks TLS with requests that came in cleartext, too.
pub(super) fn speak_tls(backend: Option<&BackendId>, routes: &mut [Route]) {
    for route in routes {
        let protocol = &mut route.policies.upstream.protocol;
        let is_plain = matches!(protocol, UpstreamProtocol::Http | UpstreamProtocol::AutoHttp);
        if is_plain && backend.is_some_and(|backend| is_first_of(&route.action, backend)) {
            *protocol = UpstreamProtocol::Https;
        }
    }
}

fn is_first_of(action: &RouteAction, backend: &BackendId) -> bool {
    matches!(action, RouteAction::Forward { backends, .. } if backends.first().is_some_and(|share| share.backend == *backend))
}

fn report(build: &mut Build<'_>, owner: &Owner<'_>, kind: (Code, Severity), value: &str, message: &str) {
    let prefix = &build.settings.annotations_prefix;
    let field = format!("metadata.annotations[{prefix}/{}]", SSL_PASSTHROUGH.row.key);
    build.problem(&owner.object, kind, (field, value), message);
}
