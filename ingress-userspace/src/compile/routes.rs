//! Hosts and routes → the host tables of each listener.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::StatusCode;

use crate::compile::chain::{Context, chain, labels_of};
use crate::compile::delivery::delivery;
use crate::compile::pools::Pools;
use crate::compile::{streams, tls};
use crate::filter::Chain;
use crate::filter::deny::Deny;
use crate::filter::redirect;
use crate::model::Model;
use crate::model::backend::BackendId;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerProtocol;
use crate::model::route::{self, PathMatch, RouteAction};
use crate::path_regex;
use crate::snapshot::router::{HostRoutes, PathMatcher, Router};
use crate::snapshot::streams::Passthrough;
use crate::snapshot::{Action, ListenerTable, Route, Target};
use crate::telemetry::labels::RouteLabels;
use crate::tls::resolver::{CertificateTable, Certificates};
use crate::tls::server::Sessions;
use crate::upstream::transport::RouteTransport;

/// Compiled hosts of the model before, and the labels in use.
#[derive(Debug, Default)]
pub struct Cache {
    hosts: Vec<CachedHost>,
    labels: HashSet<Arc<RouteLabels>>,
}

#[derive(Debug)]
struct CachedHost {
    host: Arc<Host>,
    routes: Arc<HostRoutes>,
    /// All that its routes use, also those of their fallbacks.
    labels: Vec<Arc<RouteLabels>>,
    refused: Vec<String>,
}

impl Cache {
    /// What could not be compiled, of all hosts.
    pub fn refused(&self) -> impl Iterator<Item = String> + '_ {
        self.hosts.iter().flat_map(|host| host.refused.iter().cloned())
    }

    fn label(&mut self, before: &Self, labels: RouteLabels) -> Arc<RouteLabels> {
        if let Some(known) = self.labels.get(&labels) {
            return Arc::clone(known);
        }
        let labels = before.labels.get(&labels).map_or_else(|| Arc::new(labels), Arc::clone);
        self.labels.insert(Arc::clone(&labels));
        labels
    }
}

/// The routes of each host, in the model's order. A host that is as it was before is taken over; its backends are the
/// same cells, because cells live as long as their backend.
pub fn hosts(hosts: &[Arc<Host>], before: &Cache, context: &Context<'_>) -> (Vec<Arc<HostRoutes>>, Cache) {
    let known: HashMap<(&HostPattern, &[_]), &CachedHost> = before
        .hosts
        .iter()
        .map(|cached| ((&cached.host.pattern, cached.host.listeners.as_slice()), cached))
        .collect();
    let mut cache = Cache::default();
    let mut compiled = Vec::with_capacity(hosts.len());
    for host in hosts {
        let same =
            known.get(&(&host.pattern, host.listeners.as_slice())).filter(|cached| cached.host == *host);
        let cached = match same {
            Some(cached) => {
                cache.labels.extend(cached.labels.iter().map(Arc::clone));
                CachedHost {
                    host: Arc::clone(host),
                    routes: Arc::clone(&cached.routes),
                    labels: cached.labels.clone(),
                    refused: cached.refused.clone(),
                }
            }
            None => compile_host(host, before, &mut cache, context),
        };
        compiled.push(Arc::clone(&cached.routes));
        cache.hosts.push(cached);
    }
    (compiled, cache)
}

/// The tables of every listener. One whose TLS cannot be set up is named in `refused` and serves nothing.
pub fn listeners(
    model: &Model,
    hosts: &[Arc<HostRoutes>],
    (certificates, sessions, pools): (&Certificates, &Sessions, &Pools),
    refused: &mut Vec<String>,
) -> Vec<ListenerTable> {
    let mut table = |listener: &crate::model::listener::Listener| {
        let mut router = Router::default();
        let (default, is_tls) = match &listener.protocol {
            ListenerProtocol::Https { default_certificate } => (default_certificate.as_ref(), true),
            ListenerProtocol::Http | ListenerProtocol::Tcp(_) | ListenerProtocol::Udp(_) => (None, false),
        };
        let mut names = CertificateTable::new(certificates.get_or_default(default));
        let attached =
            model.hosts.iter().zip(hosts).filter(|(host, _)| host.listeners.contains(&listener.name));
        for (host, routes) in attached {
            let routes = Arc::clone(routes);
            let certificate = host.certificate.as_ref().map(|id| certificates.get_or_default(Some(id)));
            match &host.pattern {
                HostPattern::Exact(name) => {
                    router.exact.insert(name.as_str().into(), routes);
                    names.insert_exact(name, certificate);
                }
                HostPattern::Wildcard(suffix) => {
                    router.wildcard.insert(suffix.as_str().into(), routes);
                    names.insert_wildcard(suffix, certificate);
                }
                HostPattern::Any => {
                    router.any = Some(routes);
                    names.set_default(certificate);
                }
            }
        }
        let attached = model.hosts.iter().map(Arc::as_ref);
        let attached = attached.filter(|host| host.listeners.contains(&listener.name));
        let tls = is_tls.then(|| tls::table(model, attached, names, sessions, refused));
        let tls = tls.and_then(|made| match made {
            Ok(table) => Some(Arc::new(table)),
            Err(error) => {
                refused.push(format!("listener {}: {error}; its connections are closed", listener.name.0));
                None
            }
        });
        ListenerTable {
            name: listener.name.0.as_str().into(),
            router: Arc::new(router),
            tls,
            passthrough: Arc::new(if is_tls {
                streams::passthrough(model, &listener.name, pools)
            } else {
                Passthrough::default()
            }),
            stream: streams::target(&listener.protocol, pools),
        }
    };
    model.listeners.iter().map(&mut table).collect()
}

fn compile_host(host: &Arc<Host>, before: &Cache, cache: &mut Cache, context: &Context<'_>) -> CachedHost {
    let mut refused = Vec::new();
    let mut routes = HostRoutes::default();
    for route in &host.routes {
        let (mut filters, problems) = chain(&route.policies, &route.source, context);
        let mut report = |problem: String| {
            refused.push(format!(
                "Ingress {}/{} host {:?} path {:?}: {problem}; the path answers 503",
                route.source.namespace, route.source.name, route.source.host, route.source.path
            ));
        };
        problems.into_iter().for_each(&mut report);
        let matcher = path_matcher(&route.matches.path).unwrap_or_else(|problem| {
            report(problem);
            filters = Chain { deny: Some(Deny::new()), ..Chain::default() };
            // What the expression would have taken is unknown; its literal start is the closest that can be refused.
            PathMatcher::StartsWith(literal_start(&route.matches.path))
        });
        let action = action(route, before, cache, context).unwrap_or_else(|problem| {
            report(problem);
            Action::Respond(StatusCode::SERVICE_UNAVAILABLE)
        });
        let transport = context.transports.of(&route.policies.upstream).unwrap_or_else(|problem| {
            report(problem);
            filters = Chain { deny: Some(Deny::new()), ..Chain::default() };
            RouteTransport::plain()
        });
        let labels = match &action {
            Action::Forward { targets, .. } => targets.first().map(|target| Arc::clone(&target.labels)),
            Action::Redirect { .. } | Action::Respond(_) => None,
        };
        let labels = labels.unwrap_or_else(|| cache.label(before, labels_of(&route.source, None)));
        let main = labels_of(&route.source, forward_to(route));
        let delivery = delivery(&route.policies.delivery, |id| Target {
            backend: context.pools.cell(id),
            weight: 1,
            labels: cache.label(before, RouteLabels { canary: id.upstream_name(), ..main }),
        });
        let (timeouts, is_logged) = (route.policies.timeouts, route.policies.is_logged);
        let made = Route { chain: filters, action, timeouts, transport, delivery, is_logged, labels };
        routes.push(matcher, Arc::new(made));
    }
    let labels =
        host.routes.iter().flat_map(route_labels).map(|labels| cache.label(before, labels)).collect();
    CachedHost { host: Arc::clone(host), routes: Arc::new(routes), labels, refused }
}

/// The compiled form of a path match.
pub fn path_matcher(path: &PathMatch) -> Result<PathMatcher, String> {
    Ok(match path {
        PathMatch::Exact(path) => PathMatcher::Exact(path.clone()),
        PathMatch::Prefix(path) => PathMatcher::Prefix(path.clone()),
        PathMatch::Regex(text) => PathMatcher::Regex(
            path_regex::compile(text)
                .map_err(|error| format!("the expression {text:?} cannot be used: {error}"))?,
        ),
    })
}

fn literal_start(path: &PathMatch) -> String {
    let (PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text)) = path;
    let text = text.strip_prefix('^').unwrap_or(text);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_".contains(c))).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

fn action(
    route: &route::Route,
    before: &Cache,
    cache: &mut Cache,
    context: &Context<'_>,
) -> Result<Action, String> {
    let mut target = |id: &BackendId, weight| Target {
        backend: context.pools.cell(id),
        weight,
        labels: cache.label(before, labels_of(&route.source, Some(id))),
    };
    match &route.action {
        RouteAction::Forward { backends, fallback } => {
            let targets: Vec<_> = backends.iter().map(|share| target(&share.backend, share.weight)).collect();
            let fallback = fallback.as_ref().map(|id| target(id, 1));
            let total_weight = targets.iter().fold(0_u32, |sum, target| sum.saturating_add(target.weight));
            Ok(Action::Forward { targets, total_weight, fallback })
        }
        RouteAction::Redirect { status, path, form } => {
            let status = StatusCode::from_u16(*status)
                .ok()
                .filter(|status| status.is_redirection())
                .ok_or_else(|| format!("{status} is not the status of a redirect"))?;
            Ok(Action::Redirect { status, path: redirect::location_path(path), form: *form })
        }
        RouteAction::Respond { status } => StatusCode::from_u16(*status)
            .ok()
            .filter(|status| !status.is_informational())
            .map(Action::Respond)
            .ok_or_else(|| format!("{status} is not a status that can be answered")),
    }
}

/// The main backend of a route.
fn forward_to(route: &route::Route) -> Option<&BackendId> {
    match &route.action {
        RouteAction::Forward { backends, .. } => backends.first().map(|share| &share.backend),
        RouteAction::Redirect { .. } | RouteAction::Respond { .. } => None,
    }
}

fn route_labels(route: &route::Route) -> Vec<RouteLabels> {
    let canary = route.policies.delivery.canary.iter().map(|canary| RouteLabels {
        canary: canary.backend.upstream_name(),
        ..labels_of(&route.source, forward_to(route))
    });
    let mut labels = main_labels(route);
    labels.extend(canary);
    labels
}

fn main_labels(route: &route::Route) -> Vec<RouteLabels> {
    match &route.action {
        RouteAction::Forward { backends, fallback } => backends
            .iter()
            .map(|share| &share.backend)
            .chain(fallback)
            .map(|id| labels_of(&route.source, Some(id)))
            .collect(),
        RouteAction::Redirect { .. } | RouteAction::Respond { .. } => vec![labels_of(&route.source, None)],
    }
}
