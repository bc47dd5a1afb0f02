//! What becomes of a request, step by step: certificate, host, normal path, candidates, filters, outcome, endpoints.
//!
//! The model is compiled and the request goes through the proxy's own gate, router and filters, so the answer is the one
//! that the proxy gives. Nobody is asked: external authentication and mirroring are named and passed over, no endpoint is
//! contacted, and limits begin with full buckets.

pub mod question;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Serialize;
use tokio::sync::watch;

use crate::compile::{Compiled, Compiler, routes};
use crate::filter::headers;
use crate::model::Model;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerProtocol;
use crate::model::render;
use crate::model::route::{PathMatch, Route};
use crate::problem::Problem;
use crate::proxy::context::{ConnectionInfo, RequestCtx, Scheme};
use crate::proxy::request::{Decision, rehearse};
use crate::proxy::shares::Outlet;
use crate::proxy::temp::TempStore;
use crate::proxy::worker::{Phase, Shared, Worker};
use crate::proxy::{choose, forward, hashing};
use crate::snapshot::Snapshot;
use crate::snapshot::cell::Cell;
use crate::snapshot::nonces::Nonces;
use crate::telemetry::access_log::Record;
use crate::telemetry::access_log::writer::{Destination, Writer};
use crate::telemetry::shard::{Detail, Reporter};
use crate::tls::resolver::Certificates;
use crate::tls::self_signed;
use crate::tls::server::Sessions;

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
    /// What is wrong with the objects of the candidates, with the code of each; only where objects are read.
    pub problems: Vec<String>,
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
    let scheme = match asked.url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
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
    let listener = if scheme == Scheme::Https { "https" } else { "http" };
    let cell = Arc::new(Cell::new(Snapshot::empty()));
    cell.publish(snapshot);
    let worker = worker(cell).map_err(|error| setup(&error))?;
    let port = authority.port_u16().unwrap_or(if scheme == Scheme::Https { 443 } else { 80 });
    let connection = ConnectionInfo::new(
        SocketAddr::new(asked.from, 40_000),
        SocketAddr::new(asked.from, port),
        listener.into(),
        scheme,
    );
    let parts = parts(asked, authority.as_str());
    let snapshot = worker.snapshot.pin();
    let log = &snapshot.globals.access_log;
    let record = Record::open(&worker.reporter, &log.format, asked.from, &parts, worker.request_id());
    let mut ctx = RequestCtx::new(worker, Rc::new(connection), snapshot, record);
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    if scheme == Scheme::Https {
        let name = asked.sni.clone().unwrap_or_else(|| host.clone());
        found.certificate = Some(certificate(model, &name.to_ascii_lowercase()));
    }
    let served = host_of(model, &host);
    found.host = served.map(shown);
    let decision = rehearse(&mut ctx, parts).await;
    if let Some(host) = served
        && let Some(path) = normal_path(asked)
    {
        found.path = Some(String::from_utf8_lossy(&path).into_owned());
        let takers: Vec<&Route> =
            host.routes.iter().filter(|route| takes(&route.matches.path, &path)).collect();
        if let Some(first) = takers.first() {
            let source = source(first);
            let lines = render::policies(&first.policies).into_iter();
            found.not_asked = calls(first);
            found.settings = lines.map(|line| format!("{line}  ({source})")).collect();
        }
        found.candidates = takers.into_iter().map(candidate).collect();
    }
    match decision {
        Err(failure) => {
            found.status = Some(failure.status().as_u16());
            found.outcome.push(format!("{} ({})", failure, failure.reason()));
        }
        Ok(Decision::Answer(response) | Decision::Refuse(response)) => {
            found.status = Some(response.head.status.as_u16());
            let lines = response.head.headers.iter();
            found.outcome.extend(lines.map(|(name, value)| format!("{name}: {}", text(value))));
        }
        Ok(Decision::Forward(route, request)) => {
            match choose::choose(&ctx, &route, &request.head) {
                Ok(choice) => {
                    found.backend = Some(choice.target.labels.upstream.clone());
                    ctx.record.labels = Arc::clone(&choice.target.labels);
                    let usable = choice.endpoints.usable.iter();
                    found.endpoints = usable.map(|endpoint| endpoint.address.to_string()).collect();
                }
                Err(failure) => {
                    found.status = Some(failure.status().as_u16());
                    found.outcome.push(format!("{} ({})", failure, failure.reason()));
                }
            }
            let lines = forward::changes(&ctx, &route, &request.head);
            let mut outgoing = forward::to_upstream(&ctx, request.head, None);
            headers::put(lines, &mut outgoing.headers);
            found.upstream_request = Some(format!("{} {}", outgoing.method, outgoing.uri));
            let lines = outgoing.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
            found.upstream_headers = lines.collect();
        }
    }
    Ok(found)
}

/// A worker that serves nobody else.
fn worker(cell: Arc<Cell<Snapshot>>) -> std::io::Result<Rc<Worker>> {
    let (_, phase) = watch::channel(Phase::Serving);
    let reporter = Rc::new(Reporter::new(Writer::start(Destination::Off)?, Detail::default()));
    // No body is read.
    let temp = Arc::new(TempStore::new(std::env::temp_dir(), 0));
    let (outlet, _) = Outlet::new();
    let shared = Shared { snapshot: cell, temp, outlet, per_client: Arc::default() };
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
    ];
    asks.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, text)| text.to_owned()).collect()
}

fn parts(asked: &Asked, authority: &str) -> http::request::Parts {
    let target = asked.url.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = target.parse().unwrap_or_default();
    let headers = request.headers_mut();
    for (name, value) in &asked.headers {
        headers.append(name, value.clone());
    }
    if !headers.contains_key(http::header::HOST)
        && let Ok(host) = authority.parse()
    {
        headers.insert(http::header::HOST, host);
    }
    request.into_parts().0
}

fn normal_path(asked: &Asked) -> Option<Vec<u8>> {
    let target = asked.url.path_and_query()?.clone();
    Some(crate::proxy::path::Target::parse(target).ok()?.path().to_vec())
}

fn takes(matches: &PathMatch, path: &[u8]) -> bool {
    routes::path_matcher(matches).is_ok_and(|matcher| matcher.takes(path))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The host that serves a name: exact, then wildcard of one label, then all others.
fn host_of<'a>(model: &'a Model, name: &str) -> Option<&'a Host> {
    let suffix = name.split_once('.').map(|(_, suffix)| suffix);
    let is = |wanted: HostPattern| move |host: &&Arc<Host>| host.pattern == wanted;
    let hosts = || model.hosts.iter();
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

fn certificate(model: &Model, name: &str) -> String {
    let default = model.listeners.iter().find_map(|listener| match &listener.protocol {
        ListenerProtocol::Https { default_certificate } => Some(default_certificate.as_ref()),
        _ => None,
    });
    let host = host_of(model, name);
    let own = host.and_then(|host| host.certificate.as_ref());
    let (id, why) = match (own, default.flatten()) {
        (Some(id), _) => (Some(id), format!("the host has it, for the server name {name}")),
        (None, Some(id)) => (Some(id), format!("the default, since no host gives {name} a certificate")),
        (None, None) => (None, format!("no host gives {name} a certificate, and there is no default")),
    };
    match id {
        None => format!("self-signed: {why}"),
        Some(id) => {
            let names = model.certificates.get(id).map(|found| found.names.join(", ")).unwrap_or_default();
            format!("{}/{} ({names}): {why}", id.namespace, id.name)
        }
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

impl Explanation {
    /// Adds what is wrong with the Ingresses of the candidates.
    pub fn add_problems(&mut self, problems: &[Problem]) {
        let mut sources: Vec<&str> =
            self.candidates.iter().map(|candidate| candidate.source.as_str()).collect();
        sources.dedup();
        for problem in problems {
            let object = problem.object.to_string();
            if sources.contains(&object.as_str()) {
                let Problem { field, message, code, .. } = problem;
                self.problems.push(format!("{object} {field}: {message} [{}]", code.name()));
            }
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![("request", self.request.clone())];
        let mut add = |name, text: Option<&String>| lines.extend(text.map(|text| (name, text.clone())));
        add("certificate", self.certificate.as_ref());
        add("host", self.host.as_ref().or(Some(&"none: no Ingress serves this name".to_owned())));
        add("path", self.path.as_ref());
        for (number, candidate) in self.candidates.iter().enumerate() {
            let Candidate { matches, source, action } = candidate;
            let serves = if number == 0 { ", takes it" } else { "" };
            add("candidate", Some(&format!("{}. {matches} -> {action}  ({source}{serves})", number + 1)));
        }
        self.settings.iter().for_each(|line| add("setting", Some(line)));
        self.not_asked.iter().for_each(|line| add("not asked", Some(line)));
        self.problems.iter().for_each(|line| add("problem", Some(line)));
        add("answer", self.status.map(|status| status.to_string()).as_ref());
        self.outcome.iter().for_each(|line| add("", Some(line)));
        add("upstream", self.upstream_request.as_ref());
        self.upstream_headers.iter().for_each(|line| add("", Some(line)));
        add("backend", self.backend.as_ref());
        self.endpoints.iter().for_each(|line| add("endpoint", Some(line)));
        lines.iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect()
    }
}
