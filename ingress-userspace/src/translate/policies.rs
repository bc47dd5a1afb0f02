//! Settings of annotations and of the ConfigMap → the policies of routes, and findings → Problems.

mod limits;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use super::classes::ClassDefaults;
use super::endpoints::{PortRef, backend};
use super::external::{External, external, unowned_error_pages};
use super::{Build, auth, client_certificate, header_maps, proxy_ssl, shared_limits};
use crate::annotation::config_map::{self, Defaults};
use crate::annotation::fallback::DEFAULT_BACKEND;
use crate::annotation::headers::{CUSTOM_HEADERS, set};
use crate::annotation::registry::served;
use crate::annotation::snippet::Access;
use crate::annotation::{Effect, Finding, FindingKind, OWN_PREFIX, Settings, read};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::model::backend::BackendId;
use crate::model::policy::answer::{Answer, Condition, Content, LocationForm, Pattern, Test};
use crate::model::policy::client_certificate::ClientAuth;
use crate::model::policy::delivery::Delivery;
use crate::model::policy::headers::{HeaderChange, Headers};
use crate::model::policy::password_auth::PasswordAuth;
use crate::model::policy::upstream::{Upstream, UpstreamTls};
use crate::model::policy::{AllowList, Deny, DenyList, HttpsRedirect, Policies};
use crate::model::route::RouteAction;
use crate::model::template::{Part, Template, Variable};
use crate::problem::{Code, ObjectRef, Severity, suggest};

/// An Ingress with what its annotations ask for.
pub(super) struct Owner<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) object: ObjectRef,
    pub(super) settings: Settings,
    /// The defaults under its annotations.
    pub(super) defaults: Arc<Defaults>,
    /// TLS towards the backends, as this Ingress asks for it.
    pub(super) proxy_ssl: Option<UpstreamTls>,
    /// The Service of `default-backend`.
    pub(super) fallback: Option<BackendId>,
    pub(super) password_auth: Option<PasswordAuth>,
    /// The prefix of its annotations.
    prefix: String,
    /// The headers of `custom-headers`.
    custom: Vec<HeaderChange>,
    pub(super) client_auth: Option<ClientAuth>,
    /// What it asks of other services.
    pub(super) external: External,
}

impl Owner<'_> {
    /// The value of an annotation as it is written, and the path of its field.
    pub(super) fn written(&self, build: &Build<'_>, key: &str) -> (String, String) {
        let none = BTreeMap::new();
        let annotations = self.ingress.metadata.annotations.as_ref().unwrap_or(&none);
        let keys = [OWN_PREFIX, &build.settings.annotations_prefix].map(|prefix| format!("{prefix}/{key}"));
        let found = keys.into_iter().find_map(|key| annotations.get(&key).map(|text| (text.clone(), key)));
        let (text, key) = found.unwrap_or_default();
        (text, format!("metadata.annotations[{key}]"))
    }
}

/// The cluster-wide settings.
pub(super) fn defaults(build: &mut Build<'_>) -> Defaults {
    // Without a ConfigMap the defaults of every key hold.
    let unset = || config_map::read(&BTreeMap::new()).0;
    let Some(key) = &build.settings.config_map else { return unset() };
    let Some(object) = build.cluster.config_maps.get(key) else {
        let flag = ObjectRef::flag("--configmap");
        let message = "there is no such ConfigMap; the defaults hold; create it or correct the flag";
        build.problem(
            &flag,
            (Code::ReferenceMissing, Severity::Warning),
            ("configmap", &key.to_string()),
            message,
        );
        return unset();
    };
    let (mut defaults, findings) = config_map::read(object.data.as_ref().unwrap_or(&BTreeMap::new()));
    let object = reference(&**object);
    for finding in findings {
        report_config(build, &object, &finding);
    }
    header_maps::cluster(build, &object, &mut defaults);
    shared_limits::cluster(build, &object, &mut defaults);
    defaults
}

/// A finding in a ConfigMap.
pub(super) fn report_config(build: &mut Build<'_>, object: &ObjectRef, finding: &Finding) {
    let hint = hint(finding, &finding.key, config_map::all());
    report(build, object, format!("data[{}]", finding.key), finding, hint);
}

/// Reads the annotations of an Ingress. `None`: it takes no part in routing.
pub(super) fn owner<'a>(
    build: &mut Build<'_>,
    ingress: &'a Ingress,
    class: ClassDefaults,
) -> Option<Owner<'a>> {
    let object = reference(ingress);
    let none = BTreeMap::new();
    let annotations = ingress.metadata.annotations.as_ref().unwrap_or(&none);
    let ClassDefaults { defaults, deny } = class;
    let (mut settings, findings) = read(&build.settings.annotations_prefix, annotations, &defaults);
    settings.deny = settings.deny.or(deny);
    for finding in findings {
        let bare = finding.key.rsplit('/').next().unwrap_or_default();
        let hint = hint(&finding, bare, served());
        report(build, &object, format!("metadata.annotations[{}]", finding.key), &finding, hint);
    }
    if settings.is_skipped {
        return None;
    }
    let fallback = settings.fallback.as_ref().filter(|_| settings.canary.is_none()).and_then(|service| {
        let prefixes = [OWN_PREFIX, &build.settings.annotations_prefix];
        let written = prefixes.map(|prefix| format!("{prefix}/{}", DEFAULT_BACKEND.row.key));
        let [own, configured] = &written;
        let field =
            format!("metadata.annotations[{}]", if annotations.contains_key(own) { own } else { configured });
        let key = ObjectKey::new(object.namespace.clone(), service.clone());
        if !build.cluster.services.contains_key(&key) {
            let message =
                format!("there is no Service {key}, so there is no fallback; create it or correct the name");
            build.problem(&object, (Code::BackendMissing, Severity::Warning), (field, service), message);
            return None;
        }

        let port = PortRef { namespace: &key.namespace, service, port: None, owner: &object, field: &field };
        Some(backend(build, &port))
    });
    let client_auth = client_certificate::client_auth(build, &object, &settings, &defaults);
    let password_auth = auth::password(build, &object, &mut settings, &defaults);
    let mut proxy_ssl = None;
    if let Some(asked) = &settings.proxy_ssl {
        match proxy_ssl::resolve(build, &object, asked, defaults.is_cross_namespace_allowed) {
            Ok(tls) => proxy_ssl = Some(tls),
            Err(reason) => {
                settings.deny.get_or_insert(reason);
            }
        }
    }
    let external = external(build, (&object, annotations), &settings, fallback.as_ref());
    settings.deny = settings.deny.or_else(|| external.deny.clone());
    let mut owner = Owner {
        ingress,
        object,
        settings,
        defaults,
        proxy_ssl,
        fallback,
        password_auth,
        client_auth,
        external,
        prefix: build.settings.annotations_prefix.clone(),
        custom: Vec::new(),
    };
    let field = owner.field(CUSTOM_HEADERS.row.key);
    match header_maps::custom(build, &owner.object, &field, &owner.settings.headers, &owner.defaults) {
        Ok(custom) => owner.custom = custom,
        Err(reason) => drop(owner.settings.deny.get_or_insert(reason)),
    }
    Some(owner)
}

impl Owner<'_> {
    /// The field of an annotation, as it is written.
    pub(super) fn field(&self, key: &str) -> String {
        let own = format!("{OWN_PREFIX}/{key}");
        let annotations = self.ingress.metadata.annotations.as_ref();
        let is_own = annotations.is_some_and(|annotations| annotations.contains_key(&own));
        let written = if is_own { own } else { format!("{}/{key}", self.prefix) };
        format!("metadata.annotations[{written}]")
    }
}

fn hint(finding: &Finding, key: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if finding.kind == FindingKind::Unknown { suggest(key, known) } else { None }
}

fn report(build: &mut Build<'_>, object: &ObjectRef, field: String, finding: &Finding, hint: Option<&str>) {
    let code = match finding.kind {
        FindingKind::Invalid => Code::AnnotationInvalid,
        FindingKind::Unknown | FindingKind::Unsupported => Code::AnnotationUnknown,
    };
    let severity = match finding.effect {
        Effect::Note => Severity::Note,
        Effect::Warn => Severity::Warning,
        Effect::Deny | Effect::Refuse | Effect::Skip => Severity::Error,
    };
    let message = match (finding.kind, hint) {
        (FindingKind::Unknown, Some(near)) => format!("{}; did you mean {near}?", finding.message),
        (FindingKind::Unknown, None) => format!("{}; remove it or correct the name", finding.message),
        _ => finding.message.clone(),
    };
    build.problem(object, (code, severity), (field, &finding.value), message);
    if finding.effect == Effect::Refuse {
        build.refused.extend(build.problems.last().cloned());
    }
}

/// What a path of an Ingress is, for its policies.
pub(super) struct PathOf<'a> {
    /// As written.
    pub(super) path: &'a str,
    /// Its host has TLS.
    pub(super) has_tls: bool,
    /// Port of HTTPS.
    pub(super) https_port: u16,
    /// The path is rewritten.
    pub(super) is_rewritten: bool,
}

/// The policies of a path, without a rewrite.
pub(super) fn route_policies(owner: &Owner<'_>, of: &PathOf<'_>) -> Policies {
    let settings = &owner.settings;
    let is_unauthenticated = settings.no_auth_locations.iter().any(|prefix| of.path.starts_with(prefix));
    let redirect = &settings.redirect;
    let is_redirected = redirect.always || (redirect.with_certificate && of.has_tls);
    let is_excepted = redirect.except.iter().any(|prefix| of.path.starts_with(prefix));
    let snippet = &settings.snippet;
    let mut answer_rewrite = settings.answer_rewrite.clone();
    // The annotation stands in front of the snippet.
    answer_rewrite.cookie_path = answer_rewrite.cookie_path.or_else(|| snippet.cookie_path.clone());
    answer_rewrite.cookie_domain = answer_rewrite.cookie_domain.or_else(|| snippet.cookie_domain.clone());
    let (deny_list, allow_list) = sources(settings, &snippet.access);
    Policies {
        deny: settings.deny.clone().map(|reason| Deny { reason }),
        cors: settings.cors.clone(),
        answers: answers(owner),
        https_redirect: (is_redirected && !is_excepted).then(|| HttpsRedirect {
            status: redirect.status,
            except: redirect.except.clone(),
            keeps_slash: redirect.keeps_slash,
            port: redirect.names_port.then_some(of.https_port),
        }),
        allow_list,
        rate_limit: limits::rate(owner),
        quota: limits::quota(owner),
        connection_limit: limits::connections(owner),
        bandwidth: settings.bandwidth,
        deny_list,
        password_auth: owner.password_auth.clone().filter(|_| !is_unauthenticated),
        client_auth: None,
        is_one_enough: settings.is_one_enough,
        body_limit: settings.body_limit,
        request_buffer: settings.request_buffer,
        response_buffer: settings.response_buffer,
        rewrite: None,
        headers: headers(owner, of.is_rewritten),
        answer_rewrite,
        timeouts: settings.timeouts,
        upstream: Upstream {
            protocol: settings.backend_protocol.protocol,
            is_http10: settings.backend_protocol.is_http10,
            tls: UpstreamTls::default(),
        },
        delivery: delivery(settings),
        auth_external: owner.external.auth.clone().filter(|_| !is_unauthenticated),
        error_pages: owner.external.error_pages.clone(),
        mirror: owner.external.mirror.clone(),
        is_logged: settings.is_logged && !snippet.is_unlogged,
        trace: settings.trace,
    }
}

/// Who may come: the lists of annotations, then those of the snippet. An allow list ends the search.
fn sources(settings: &Settings, access: &Access) -> (Option<DenyList>, Option<AllowList>) {
    let mut access = access.clone();
    let mut denied = settings.deny_list.clone().unwrap_or_default();
    let allowed = match settings.allow_list.clone() {
        Some(list) => Some(list),
        None => {
            denied.append(&mut access.denied);
            access.allowed.map(|sources| AllowList { sources })
        }
    };
    let denied = (settings.deny_list.is_some() || !denied.is_empty()).then_some(DenyList { sources: denied });
    (denied, allowed)
}

/// Redirects of annotations, then what the snippet answers.
fn answers(owner: &Owner<'_>) -> Vec<Answer> {
    let settings = &owner.settings;
    let redirect = settings.redirect.url.iter().map(|(status, url)| {
        let content = Content::Location { to: url.clone(), keeps_query: false, form: LocationForm::Host };
        Answer::always(*status, content)
    });
    redirect.map(|answer| formed(owner, answer)).chain(snippet_answers(owner)).collect()
}

/// What the snippet answers.
pub(super) fn snippet_answers(owner: &Owner<'_>) -> Vec<Answer> {
    owner.settings.snippet.answers.iter().map(|answer| formed(owner, answer.clone())).collect()
}

/// `$1` of an answer is a group of the path, where that is an expression and no condition of the answer has one.
pub(super) fn fill_groups(answers: &mut [Answer], pattern: &str) {
    let has_own = |answer: &Answer| {
        answer.conditions.iter().any(|condition| matches!(condition.test, Test::Matches(_)))
    };
    for answer in answers.iter_mut().filter(|answer| answer.content.has_groups() && !has_own(answer)) {
        answer.conditions.push(path_matches(pattern));
    }
}

/// The path matches this expression, at its beginning.
pub(super) fn path_matches(pattern: &str) -> Condition {
    let text = format!("^(?:{})", pattern.strip_prefix('^').unwrap_or(pattern));
    let test = Test::Matches(Pattern { text, is_case_sensitive: false });
    Condition { subject: Template(vec![Part::Variable(Variable::Uri)]), test }
}

fn formed(owner: &Owner<'_>, mut answer: Answer) -> Answer {
    if let Content::Location { form, .. } = &mut answer.content {
        *form = owner.settings.redirect.form;
    }
    answer
}

fn headers(owner: &Owner<'_>, is_rewritten: bool) -> Headers {
    let settings = &owner.settings;
    let mut changes = settings.headers.changes.clone();
    if let Some(prefix) = settings.rewriting.prefix.as_ref().filter(|_| is_rewritten) {
        changes.request.push(set("x-forwarded-prefix", prefix.clone()));
    }
    changes.request.extend(settings.snippet.headers.request.iter().cloned());
    changes.response.extend(owner.custom.iter().chain(&settings.snippet.headers.response).cloned());
    changes
}

/// The policies of what no path of a host takes, for the Ingress that brought the host. The controller's default backend
/// speaks HTTP and makes its own pages.
pub(super) fn unserved(owner: &Owner<'_>, of: &PathOf<'_>, action: Option<&RouteAction>) -> Policies {
    Policies {
        upstream: Upstream::default(),
        error_pages: unowned_error_pages(&owner.settings, action),
        ..route_policies(owner, of)
    }
}

/// The policies of a route that belongs to no Ingress: the cluster's defaults, without the redirect to HTTPS.
pub(super) fn unconfigured(defaults: &Defaults, controller_default: Option<&RouteAction>) -> Policies {
    let (settings, _) = read(OWN_PREFIX, &BTreeMap::new(), defaults);
    let delivery = delivery(&settings);
    let (deny_list, allow_list) = sources(&settings, &settings.snippet.access);
    let error_pages = unowned_error_pages(&settings, controller_default);
    Policies {
        deny: settings.deny.map(|reason| Deny { reason }),
        cors: None,
        answers: settings.snippet.answers,
        https_redirect: None,
        allow_list,
        deny_list,
        password_auth: None,
        client_auth: None,
        is_one_enough: false,
        rate_limit: None,
        quota: None,
        connection_limit: None,
        bandwidth: settings.bandwidth,
        body_limit: settings.body_limit,
        request_buffer: settings.request_buffer,
        response_buffer: settings.response_buffer,
        rewrite: None,
        headers: settings.snippet.headers,
        answer_rewrite: settings.answer_rewrite,
        timeouts: settings.timeouts,
        upstream: Upstream::default(),
        delivery,
        auth_external: None,
        error_pages,
        mirror: None,
        is_logged: settings.is_logged && !settings.snippet.is_unlogged,
        trace: settings.trace,
    }
}

/// How requests are given to endpoints, without sessions and canary.
pub(super) fn delivery(settings: &Settings) -> Delivery {
    Delivery {
        balance: settings.balance.clone(),
        affinity: None,
        canary: None,
        retry: settings.retry.clone(),
        keepalive: settings.keepalive,
    }
}
