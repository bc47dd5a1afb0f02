//! What an Ingress asks of other services: a verdict about requests, pages for errors, a copy of requests.

use std::collections::BTreeMap;

use super::Build;
use super::endpoints::{PortRef, backend};
use super::subrequests::{UrlRef, url};
use crate::annotation::auth_external::{AUTH_PROXY_SET_HEADERS, AUTH_URL, ExternalAuth, GLOBAL_AUTH_URL};
use crate::annotation::error_page::{self, CUSTOM_HTTP_ERRORS};
use crate::annotation::mirror::MIRROR_TARGET;
use crate::annotation::value::header_name;
use crate::annotation::{OWN_PREFIX, Settings};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::model::backend::BackendId;
use crate::model::policy::auth_external::{AuthCache, AuthExternal};
use crate::model::policy::error_page::ErrorPages;
use crate::model::policy::mirror::Mirror;
use crate::model::route::RouteAction;
use crate::model::template::Template;
use crate::problem::{Code, ObjectRef, Severity};

/// What came of the settings of one Ingress.
#[derive(Default)]
pub(super) struct External {
    pub(super) auth: Option<AuthExternal>,
    pub(super) error_pages: Option<ErrorPages>,
    pub(super) mirror: Option<Mirror>,
    /// Why the paths answer 503: they ask for authentication that cannot be had.
    pub(super) deny: Option<String>,
}

/// Resolves what the settings of an Ingress name.
pub(super) fn external(
    build: &mut Build<'_>,
    ingress: (&ObjectRef, &BTreeMap<String, String>),
    settings: &Settings,
    fallback: Option<&BackendId>,
) -> External {
    let at = At { object: ingress.0, annotations: ingress.1 };
    let mut external = External::default();
    if let Some(auth) = &settings.auth_external {
        match auth_external(build, &at, auth) {
            Ok(mut policy) => {
                policy.quoted_headers.extend(settings.snippet.auth_headers.iter().cloned());
                policy.quoted_headers.sort();
                policy.quoted_headers.dedup();
                external.auth = Some(policy);
            }
            Err(reason) => external.deny = Some(reason),
        }
    }
    external.error_pages = error_pages(build, &settings.error_pages, fallback);
    if external.error_pages.as_ref().is_some_and(|pages| pages.backends.is_empty()) {
        let message = "nobody makes the pages, so errors stay as they are; name a Service in default-backend, or a \
                       controller-wide one in --default-backend-service";
        let (object, field) = if settings.error_pages.is_own {
            (at.object.clone(), at.field(build, CUSTOM_HTTP_ERRORS.row.key))
        } else {
            (config_object(build, &at), format!("data[{}]", CUSTOM_HTTP_ERRORS.row.key))
        };
        let statuses: Vec<String> = settings.error_pages.statuses.iter().map(ToString::to_string).collect();
        let place = (field, &*statuses.join(","));
        build.problem(&object, (Code::ReferenceMissing, Severity::Warning), place, message);
    }
    if let Some(mirror) = &settings.mirror {
        let field = at.field(build, MIRROR_TARGET.row.key);
        let written = &mirror.url.written;
        let (consequence, refusal) = ("nothing is mirrored", "nothing is mirrored");
        let place = UrlRef { object: at.object, field: &field, written, consequence, refusal };
        let (host, with_body) = (mirror.host.clone(), mirror.with_body);
        external.mirror = url(build, &mirror.url, &place).map(|url| Mirror { url, host, with_body });
    }
    external
}

/// The ConfigMap with the cluster-wide settings.
fn config_object(build: &Build<'_>, at: &At<'_>) -> ObjectRef {
    let key = build.settings.config_map.as_ref();
    let object = key.and_then(|key| build.cluster.config_maps.get(key));
    object.map_or_else(|| at.object.clone(), |object| reference(&**object))
}

/// An Ingress and its annotations.
struct At<'a> {
    object: &'a ObjectRef,
    annotations: &'a BTreeMap<String, String>,
}

impl At<'_> {
    /// The field of an annotation, under the prefix that it is written with.
    fn field(&self, build: &Build<'_>, key: &str) -> String {
        let own = format!("{OWN_PREFIX}/{key}");
        let written = if self.annotations.contains_key(&own) {
            own
        } else {
            format!("{}/{key}", build.settings.annotations_prefix)
        };
        format!("metadata.annotations[{written}]")
    }
}

fn auth_external(build: &mut Build<'_>, at: &At<'_>, auth: &ExternalAuth) -> Result<AuthExternal, String> {
    let (object, field, key) = if auth.is_global {
        let key = GLOBAL_AUTH_URL.row.key;
        (config_object(build, at), format!("data[{key}]"), key)
    } else {
        (at.object.clone(), at.field(build, AUTH_URL.row.key), AUTH_URL.row.key)
    };
    let written = &auth.url.written;
    let (consequence, refusal) = ("requests get 500", "the paths answer 503");
    let place = UrlRef { object: &object, field: &field, written, consequence, refusal };
    let url = url(build, &auth.url, &place).ok_or_else(|| format!("{key} points to the node itself"))?;
    let mut request_headers = match &auth.headers_from {
        Some(name) => headers_of(build, at, name)?,
        None => Vec::new(),
    };
    request_headers.extend(auth.request_headers.iter().cloned());
    Ok(AuthExternal {
        url,
        method: auth.method.clone(),
        signin: auth.signin.clone(),
        request_redirect: auth.request_redirect.clone(),
        response_headers: auth.response_headers.clone(),
        quoted_headers: auth.quoted_headers.clone(),
        request_headers,
        cache: auth.cache.clone().map(|(key, durations)| AuthCache { key, durations }),
        sets_cookies_always: auth.sets_cookies_always,
        stated: auth.stated.clone(),
    })
}

/// The entries of the ConfigMap of `auth-proxy-set-headers`.
fn headers_of(build: &mut Build<'_>, at: &At<'_>, written: &str) -> Result<Vec<(String, Template)>, String> {
    let field = at.field(build, AUTH_PROXY_SET_HEADERS.row.key);
    let denied = |build: &mut Build<'_>, code, message: String| {
        let message = format!("{message}; the paths of this Ingress answer 503");
        build.problem(at.object, (code, Severity::Error), (field.as_str(), written), message);
        Err(format!("annotation {}", AUTH_PROXY_SET_HEADERS.row.key))
    };
    let namespace = &at.object.namespace;
    let key = ObjectKey::parse(written).unwrap_or_else(|| ObjectKey::new(namespace.clone(), written));
    if key.namespace != *namespace {
        let message =
            format!("names another namespace, which is not allowed; copy the ConfigMap to {namespace}");
        return denied(build, Code::AnnotationInvalid, message);
    }
    let Some(object) = build.cluster.config_maps.get(&key) else {
        let message = format!("there is no ConfigMap {key}; create it or correct the name");
        return denied(build, Code::ReferenceMissing, message);
    };
    let mut headers = Vec::new();
    for (name, text) in object.data.iter().flatten() {
        let is_framing = ["connection", "content-length", "host", "transfer-encoding"]
            .contains(&name.to_ascii_lowercase().as_str());
        let value = Template::parse(text.trim()).ok();
        let value = value.filter(|_| !text.trim().contains(|c: char| c.is_control() || !c.is_ascii()));
        let name = header_name(name).ok().filter(|_| !is_framing);
        match (name, value) {
            (Some(name), Some(value)) => headers.push((name.to_ascii_lowercase(), value)),
            _ => {
                let message = format!(
                    "ConfigMap {key} holds an entry that is no header, or frames the message; correct it"
                );
                return denied(build, Code::AnnotationInvalid, message);
            }
        }
    }
    Ok(headers)
}

/// Who makes pages for which errors. The list of an Ingress goes with its `default-backend`; the last resort is the
/// controller's default backend, which serves the cluster's list alone.
fn error_pages(
    build: &mut Build<'_>,
    settings: &error_page::ErrorPages,
    fallback: Option<&BackendId>,
) -> Option<ErrorPages> {
    if settings.statuses.is_empty() {
        return None;
    }
    let own = fallback.filter(|_| settings.is_own).cloned();
    Some(pages(settings, own.into_iter().chain(controller_default(build)).collect()))
}

fn pages(settings: &error_page::ErrorPages, backends: Vec<BackendId>) -> ErrorPages {
    ErrorPages {
        statuses: settings.statuses.clone(),
        backends,
        replaces_upstream: settings.replaces_upstream,
    }
}

/// The pages of a route that belongs to no Ingress.
pub(super) fn unowned_error_pages(
    settings: &Settings,
    controller_default: Option<&RouteAction>,
) -> Option<ErrorPages> {
    let Some(RouteAction::Forward { backends, .. }) = controller_default else { return None };
    let backends = backends.iter().map(|share| share.backend.clone()).collect();
    (!settings.error_pages.statuses.is_empty()).then(|| pages(&settings.error_pages, backends))
}

fn controller_default(build: &mut Build<'_>) -> Option<BackendId> {
    let key = build.settings.default_backend.clone()?;
    let owner = ObjectRef::flag("--default-backend-service");
    let port = PortRef {
        namespace: &key.namespace,
        service: &key.name,
        port: None,
        owner: &owner,
        field: "service",
    };
    Some(backend(build, &port))
}
