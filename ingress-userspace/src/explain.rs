//! What becomes of a request, step by step: certificate, host, normal path, candidates, filters, outcome, endpoints.
//!
//! The model is compiled and the request goes through the proxy's own gate, router and filters, so the answer is the one
//! that the proxy gives. Nobody is asked: external authentication and mirroring are named and passed over, no endpoint is
//! contacted, and limits begin with full buckets.

mod handshake;
pub mod question;
mod text;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Serialize;
use tokio::sync::watch;

use crate::compile::{Compiled, Compiler, routes};
use crate::filter::headers;
use crate::model::Model;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerName;
use crate::model::render;
use crate::model::route::{PathMatch, Route};
use crate::proxy::context::{ConnectionInfo, RequestCtx, Scheme};
use crate::proxy::error::ProxyError;
use crate::proxy::loads::Loads;
use crate::proxy::request::{Decision, rehearse};
use crate::proxy::shares::Outlet;
use crate::proxy::temp::TempStore;
use crate::proxy::worker::{Phase, Shared, Worker};
use crate::proxy::{choose, forward, gate, hashing};
use crate::snapshot::Snapshot;
use crate::snapshot::cell::Cell;
use crate::snapshot::edge::Enforce;
use crate::snapshot::nonces::Nonces;
use crate::telemetry::access_log::Record;
use crate::telemetry::access_log::writer::{Destination, Writer};
use crate::telemetry::shard::{Detail, Reporter};
use crate::tls::resolver::Certificates;
use crate::tls::self_signed;
use crate::tls::server::Sessions;
use handshake::{HTTPS, Handshake, handshake};

/// A request that is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Absolute: scheme, host and target.
    pub url: Uri,
    /// Its method.
    pub method: Method,
    /// Its headers, in order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where it comes from.
    pub from: IpAddr,
    /// Server name of the handshake; `None`: the host of the URL.
    pub sni: Option<String>,
}

/// Why a request cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The URL names no host, or has another scheme.
    #[error("{0} is not an absolute URL; write http:// or https://, a host and a path")]
    Url(Uri),
    /// No URL at all.
    #[error("{0:?} is not a URL")]
    NoUrl(String),
    /// The method.
    #[error("{0:?} is not a method")]
    Method(String),
    /// A header.
    #[error("{0:?} is not a header; write Name: value")]
    Header(String),
    /// The proxy's parts cannot be set up.
    #[error("the request cannot be rehearsed: {0}")]
    Setup(String),
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Method and URL, and where it comes from.
    pub request: String,
    /// The certificate of the handshake and why it is that one.
    pub certificate: Option<String>,
    /// The host that serves it.
    pub host: Option<String>,
    /// The path that everything is decided by.
    pub path: Option<String>,
    /// Every route of the host that takes the path, the first one serves.
    pub candidates: Vec<Candidate>,
    /// Settings of the route that serves it, a line each, with the object that they come from.
    pub settings: Vec<String>,
    /// What a request would ask and this did not.
    pub not_asked: Vec<String>,
    /// What is wrong with the objects of the candidates, with the code of each; `None` where objects are not known.
    pub problems: Option<Vec<String>>,
    /// The status, when the proxy answers by itself.
    pub status: Option<u16>,
    /// Why, or headers of the answer that say where to go.
    pub outcome: Vec<String>,
    /// Request line that goes upstream.
    pub upstream_request: Option<String>,
    /// Headers that go upstream.
    pub upstream_headers: Vec<String>,
    /// The backend that was chosen.
    pub backend: Option<String>,
    /// Its usable endpoints.
    pub endpoints: Vec<String>,
}

/// A route that takes the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// How its path is compared.
    pub matches: String,
    /// The object that asked for it.
    pub source: String,
    /// Where its requests go.
    pub action: String,
}

/// Explains a request against a model. Blocks; call it from a thread that may.
pub fn explain(model: &Arc<Model>, asked: &Asked) -> Result<Explanation, ExplainError> {
    let setup = |error: String| ExplainError::Setup(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| setup(error.to_string()))?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(rehearsed(model, asked)))
}

async fn rehearsed(model: &Arc<Model>, asked: &Asked) -> Result<Explanation, ExplainError> {
    let setup = |error: &dyn std::error::Error| ExplainError::Setup(error.to_string());
    let (scheme, listener, usual) = match asked.url.scheme_str() {
        Some("http") => (Scheme::Http, "http", 80),
        Some("https") => (Scheme::Https, HTTPS, 443),
        _ => return Err(ExplainError::Url(asked.url.clone())),
    };
    let Some(authority) = asked.url.authority() else { return Err(ExplainError::Url(asked.url.clone())) };
    let mut found = Explanation {
        request: format!("{} {} from {}", asked.method, asked.url, asked.from),
        ..Explanation::default()
    };
    let fallback = self_signed::generate().map_err(|error| ExplainError::Setup(error.to_string()))?;
    let sessions = Sessions::new().map_err(|error| setup(&error))?;
    let nonces = Nonces::new().map_err(|_unspecified| ExplainError::Setup("no random numbers".to_owned()))?;
    let mut compiler = Compiler::new(Certificates::new(fallback), sessions, nonces);
    let Compiled { snapshot, refused: _, checked: _, named: _ } =
        compiler.compile(1, &Arc::new(without_calls(model)));
    let cell = Arc::new(Cell::new(Snapshot::empty()));
    cell.publish(snapshot);
    let worker = worker(cell).map_err(|error| setup(&error))?;
    let snapshot = worker.snapshot.pin();
    let port = authority.port_u16().unwrap_or(usual);
    let peer = SocketAddr::new(asked.from, 40_000);
    let local = if asked.from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let local = SocketAddr::new(local, port);
    let is_spoken_for = snapshot.globals.proxy_protocol.is_required;
    if is_spoken_for {
        found.not_asked.push(
            "the load balancer: use-proxy-protocol is on, so --from is the client that its PROXY header names, and a \
             connection without that header is closed"
                .to_owned(),
        );
    } else if let Some(refusal) = snapshot.edge.refuses(peer, local, Enforce::Lists) {
        found.outcome.push(format!("the connection is refused by an EdgePolicy ({})", refusal.reason.name()));
        return Ok(found);
    }
    let mut connection = ConnectionInfo::new(peer, local, listener.into(), scheme);
    if is_spoken_for {
        connection.speaks_for(peer, local, scheme);
    }
    if scheme == Scheme::Https {
        match handshake(model, &snapshot, server_name(asked, authority.host()).as_deref()) {
            Handshake::Made { certificate, tls } => {
                found.certificate = Some(certificate);
                connection.tls = Some(tls);
            }
            Handshake::Passed { backend } => {
                passed(model, backend, &mut found);
                return Ok(found);
            }
            Handshake::Refused(why) => {
                found.outcome.push(format!("the TLS handshake is refused: {why}"));
                return Ok(found);
            }
        }
    }
    let parts = parts(asked, authority.host(), authority.port_u16().filter(|port| *port != usual));
    let globals = Arc::clone(&snapshot.globals);
    if let Ok(head) = gate::admit(parts.clone(), globals.fields.names, globals.connections.head) {
        let listener = ListenerName(listener.to_owned());
        routed(model, &listener, (head.host.name(), head.target.path()), &mut found);
    }
    let log = &snapshot.globals.access_log;
    let record = Record::open(&worker.reporter, &log.format, asked.from, &parts, worker.request_id());
    let mut ctx = RequestCtx::new(worker, Rc::new(connection), snapshot, record);
    let decision = rehearse(&mut ctx, parts).await;
    decided(&mut ctx, decision, &mut found);
    Ok(found)
}

/// What a client says in the handshake: a name without a dot at its end, and no address.
fn server_name(asked: &Asked, host: &str) -> Option<String> {
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let name = asked.sni.as_deref().or_else(|| (!is_address).then_some(host))?;
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

/// TLS that is not ours.
fn passed(model: &Model, backend: String, found: &mut Explanation) {
    found.certificate =
        Some("that of the backend: ssl-passthrough carries this server name as it is".to_owned());
    found.outcome.push("the connection goes to the backend as it is; no request is read".to_owned());
    let known = model.backends.iter().find(|(id, _)| id.upstream_name() == backend);
    let usable = known.into_iter().flat_map(|(_, backend)| &backend.endpoints);
    found.endpoints = usable.map(|endpoint| endpoint.address.to_string()).collect();
    found.backend = Some(backend);
}

/// Host, path and the routes that take them.
fn routed(model: &Model, listener: &ListenerName, (name, path): (&str, &[u8]), found: &mut Explanation) {
    found.path = Some(String::from_utf8_lossy(path).into_owned());
    let Some(host) = host_of(model, listener, name) else {
        found.host = Some("none: no Ingress serves this name".to_owned());
        return;
    };
    found.host = Some(shown(host));
    let takers: Vec<&Route> = host.routes.iter().filter(|route| takes(&route.matches.path, path)).collect();
    if let Some(first) = takers.first() {
        let source = source(first);
        let lines = render::policies(&first.policies).into_iter();
        found.not_asked.extend(calls(first));
        found.settings = lines.map(|line| format!("{line}  ({source})")).collect();
    }
    found.candidates = takers.into_iter().map(candidate).collect();
}

fn decided(ctx: &mut RequestCtx, decision: Result<Decision, ProxyError>, found: &mut Explanation) {
    let failed = |failure: &ProxyError, found: &mut Explanation| {
        found.status = Some(failure.status().as_u16());
        found.outcome.push(format!("{failure} ({})", failure.reason()));
    };
    match decision {
        Err(failure) => failed(&failure, found),
        Ok(Decision::Answer(response) | Decision::Refuse(response)) => {
            found.status = Some(response.head.status.as_u16());
            let lines = response.head.headers.iter();
            found.outcome.extend(lines.map(|(name, value)| format!("{name}: {}", text(value))));
        }
        Ok(Decision::Forward(route, request)) => {
            match choose::choose(ctx, &route, &request.head) {
                Ok(choice) => {
                    // The labels of a canary begin with its main backend.
                    let labels = &choice.target.labels;
                    let name = if labels.canary.is_empty() { &labels.upstream } else { &labels.canary };
                    found.backend = Some(name.clone());
                    ctx.record.labels = Arc::clone(&choice.target.labels);
                    let usable = choice.endpoints.usable.iter();
                    found.endpoints = usable.map(|endpoint| endpoint.address.to_string()).collect();
                }
                Err(failure) => failed(&failure, found),
            }
            let lines = forward::changes(ctx, &route, &request.head);
            let mut outgoing = forward::to_upstream(ctx, request.head, None);
            headers::put(lines, &mut outgoing.headers);
            found.upstream_request = Some(format!("{} {}", outgoing.method, outgoing.uri));
            let lines = outgoing.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
            found.upstream_headers = lines.collect();
        }
    }
}

/// A worker that serves nobody else.
fn worker(cell: Arc<Cell<Snapshot>>) -> std::io::Result<Rc<Worker>> {
    let (_, phase) = watch::channel(Phase::Serving);
    let reporter = Rc::new(Reporter::new(Writer::start(Destination::Off)?, Detail::default()));
    // No body is read.
    let temp = Arc::new(TempStore::new(std::env::temp_dir(), 0));
    let (outlet, _) = Outlet::new();
    let shared =
        Shared { snapshot: cell, temp, outlet, per_client: Arc::default(), loads: Arc::new(Loads::new(1)) };
    Ok(Rc::new(Worker::new(0, shared, reporter, phase, hashing::Pool::start(1)?)))
}

/// The model without what would ask a service.
fn without_calls(model: &Model) -> Model {
    let mut quiet = model.clone();
    for host in &mut quiet.hosts {
        for route in &mut Arc::make_mut(host).routes {
            route.policies.auth_external = None;
            route.policies.mirror = None;
        }
    }
    quiet
}

/// What of a route would ask a service.
fn calls(route: &Route) -> Vec<String> {
    let asks = [
        (
            route.policies.auth_external.is_some(),
            "the service of auth-url; it may refuse, or redirect to sign in",
        ),
        (route.policies.mirror.is_some(), "the target of the mirror"),
        (
            route.policies.error_pages.is_some(),
            "the backend of error pages; it writes the answer for the statuses of custom-http-errors",
        ),
    ];
    asks.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, text)| text.to_owned()).collect()
}

/// The request as curl sends it: the usual port is not named, and `user:password@` is basic authentication.
fn parts(asked: &Asked, host: &str, port: Option<u16>) -> http::request::Parts {
    let target = asked.url.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    for (name, value) in &asked.headers {
        headers.append(name, value.clone());
    }
    let host = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    if !headers.contains_key(http::header::HOST)
        && let Ok(host) = host.parse()
    {
        headers.insert(http::header::HOST, host);
    }
    let user = asked.url.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
    if let Some((user, _)) = user
        && !headers.contains_key(http::header::AUTHORIZATION)
        && let Ok(value) = format!("Basic {}", STANDARD.encode(user)).parse()
    {
        headers.insert(http::header::AUTHORIZATION, value);
    }
    request.into_parts().0
}

fn takes(matches: &PathMatch, path: &[u8]) -> bool {
    routes::path_matcher(matches).is_ok_and(|matcher| matcher.takes(path))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The host of a listener that serves a name: exact, then wildcard of one label, then all others.
fn host_of<'a>(model: &'a Model, listener: &ListenerName, name: &str) -> Option<&'a Host> {
    let suffix = name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, suffix)| suffix);
    let is = |wanted: HostPattern| move |host: &&Arc<Host>| host.pattern == wanted;
    let hosts = || model.hosts.iter().filter(|host| host.listeners.contains(listener));
    hosts()
        .find(is(HostPattern::Exact(name.to_owned())))
        .or_else(|| suffix.and_then(|suffix| hosts().find(is(HostPattern::Wildcard(suffix.to_owned())))))
        .or_else(|| hosts().find(is(HostPattern::Any)))
        .map(|host| &**host)
}

fn shown(host: &Host) -> String {
    match &host.pattern {
        HostPattern::Exact(name) => format!("{name} (exactly)"),
        HostPattern::Wildcard(suffix) => format!("*.{suffix} (one label)"),
        HostPattern::Any => "every name that no other host serves".to_owned(),
    }
}

fn source(route: &Route) -> String {
    match (route.source.namespace.as_str(), route.source.name.as_str()) {
        ("", "") => "cluster-wide default backend".to_owned(),
        (namespace, name) => format!("Ingress {namespace}/{name}"),
    }
}

fn candidate(route: &Route) -> Candidate {
    let matches = match &route.matches.path {
        PathMatch::Exact(path) => format!("exactly {path}"),
        PathMatch::Prefix(path) => format!("prefix {}", if path.is_empty() { "/" } else { path }),
        PathMatch::Regex(path) => format!("expression ^{}", path.trim_start_matches('^')),
    };
    let backends: Vec<String> = route.action.backends().map(ToString::to_string).collect();
    let action = if backends.is_empty() { "answered by the proxy".to_owned() } else { backends.join(", ") };
    Candidate { matches, source: source(route), action }
}
