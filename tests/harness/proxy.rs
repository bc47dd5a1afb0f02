//! A proxy in this process, fed with models: its sockets on loopback, its log in a file of its own.
#![expect(clippy::expect_used, reason = "a broken rig fails its test by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ingress_userspace::admin::State;
use ingress_userspace::app::proxy::{Settings, run};
use ingress_userspace::link::messages::{HandedSocket, ListenPlan, ProxyReport, ToAgent, ToProxy};
use ingress_userspace::link::{AgentEnd, FromProxy, ProxyId, channel};
use ingress_userspace::model::Model;
use ingress_userspace::model::backend::{Backend, BackendId, BackendState, Endpoint, EndpointCondition};
use ingress_userspace::model::certificate::{Certificate, CertificateId, KeyDer};
use ingress_userspace::model::host::{Host, HostPattern};
use ingress_userspace::model::listener::{Listener, ListenerName, ListenerProtocol};
use ingress_userspace::model::policy::answer_rewrite::AnswerRewrite;
use ingress_userspace::model::policy::delivery::Delivery;
use ingress_userspace::model::policy::headers::Headers;
use ingress_userspace::model::policy::upstream::Upstream;
use ingress_userspace::model::policy::{
    BodyLimit, Disclosure, LimitKey, Policies, Rate, RateLimit, ResponseBuffer, Timeouts,
};
use ingress_userspace::model::route::{
    PathMatch, Route, RouteAction, RouteMatch, RouteSource, WeightedBackend,
};
use ingress_userspace::telemetry::access_log::writer::Destination;
use ingress_userspace::telemetry::shard::Detail;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::PATIENCE;

/// A running proxy.
#[derive(Debug)]
pub struct Instance {
    /// The cleartext listener.
    pub http: SocketAddr,
    /// The TLS listener.
    pub https: SocketAddr,
    /// Listeners for TCP and UDP services, by name.
    pub services: Vec<(String, SocketAddr)>,
    /// What its admin endpoints show.
    pub state: State,
    agent: AgentEnd,
    id: ProxyId,
    version: u64,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    log: PathBuf,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = std::fs::remove_file(&self.log);
    }
}

static LOGS: AtomicUsize = AtomicUsize::new(0);

impl Instance {
    /// Two workers and a short drain.
    pub async fn start(model: impl Into<Arc<Model>>) -> anyhow::Result<Self> {
        Self::start_with(model, |_| {}).await
    }

    /// With other settings.
    pub async fn start_with(
        model: impl Into<Arc<Model>>,
        change: impl FnOnce(&mut Settings),
    ) -> anyhow::Result<Self> {
        let number = LOGS.fetch_add(1, Ordering::SeqCst);
        let log = std::env::temp_dir().join(format!("portcullis-test-{}-{number}.log", std::process::id()));
        let mut settings = Settings {
            workers: 2,
            grace: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            access_log: Destination::File(log.clone()),
            detail: Detail::default(),
            temp_dir: std::env::temp_dir(),
            temp_limit: 1 << 30,
        };
        change(&mut settings);
        let (mut agent, link, carrier) = channel::pair(settings.hello());
        tokio::spawn(carrier.run());
        let state = State::default();
        let mut listening = state.listening.subscribe();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(settings, link, state.clone(), shutdown.clone()));
        let id = match agent.next().await {
            Some(FromProxy::Joined(id)) => id,
            other => anyhow::bail!("the proxy did not join: {other:?}"),
        };
        let plan = ListenPlan::Ports { addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] };
        agent.send(id, ToProxy::Listen(plan));
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut instance = Self {
            http: unset,
            https: unset,
            services: Vec::new(),
            state,
            agent,
            id,
            version: 0,
            shutdown,
            task: Some(task),
            log,
        };
        instance.publish(model).await?;
        let bound =
            timeout(PATIENCE, listening.wait_for(|bound| !bound.is_empty())).await.context("not bound")??;
        for (listener, address) in bound.iter() {
            match listener.as_str() {
                "http" => instance.http = *address,
                "https" => instance.https = *address,
                _ => instance.services.push((listener.clone(), *address)),
            }
        }
        drop(bound);
        // Sockets are bound a moment before the process says that it is ready.
        eventually(|| instance.state.readiness.check().ok()).await?;
        Ok(instance)
    }

    /// Publishes a model and waits until it is served.
    pub async fn publish(&mut self, model: impl Into<Arc<Model>>) -> anyhow::Result<ProxyReport> {
        self.version += 1;
        self.agent.send(self.id, ToProxy::Model { version: self.version, model: model.into() });
        loop {
            match timeout(PATIENCE, self.agent.next()).await.context("no report")? {
                Some(FromProxy::Said(_, ToAgent::Report(report))) if report.version == self.version => {
                    return Ok(report);
                }
                Some(FromProxy::Left(_)) | None => anyhow::bail!("the proxy is gone"),
                Some(_) => {}
            }
        }
    }

    /// Sends a listen plan and waits for the sockets that are handed over.
    pub async fn hand_over(&mut self, plan: ListenPlan) -> anyhow::Result<Vec<HandedSocket>> {
        self.agent.send(self.id, ToProxy::Listen(plan));
        loop {
            match timeout(PATIENCE, self.agent.next()).await.context("no sockets")? {
                Some(FromProxy::Said(_, ToAgent::Sockets(sockets))) => return Ok(sockets),
                Some(FromProxy::Left(_)) | None => anyhow::bail!("the proxy is gone"),
                Some(_) => {}
            }
        }
    }

    /// Begins the drain.
    pub fn begin_drain(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the end of the drain.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        match self.task.take() {
            Some(task) => timeout(PATIENCE, task).await.context("the proxy did not end")??,
            None => Ok(()),
        }
    }

    /// Log lines that contain `text`, as soon as there are `count` of them.
    pub async fn log_lines(&self, text: &str, count: usize) -> anyhow::Result<Vec<String>> {
        eventually(|| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
        .with_context(|| format!("{count} log lines with {text:?}"))
    }

    /// The value of a metric line that begins with `series`; 0 when there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.state.registry.render().await;
        let values = page.lines().filter_map(|line| line.strip_prefix(series));
        values.filter_map(|value| value.trim().parse::<f64>().ok()).sum()
    }
}

/// Looks until there is something to see.
pub async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "it did not happen in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A model to build on: two listeners on any free port, no host.
pub fn model() -> Model {
    let listener = |name: &str, protocol| Listener { name: ListenerName(name.into()), port: 0, protocol };
    Model {
        listeners: vec![
            listener("http", ListenerProtocol::Http),
            listener("https", ListenerProtocol::Https { default_certificate: None }),
        ],
        ..Model::default()
    }
}

/// Policies that do nothing, with short deadlines.
pub fn policies() -> Policies {
    Policies {
        deny: None,
        cors: None,
        answers: Vec::new(),
        https_redirect: None,
        allow_list: None,
        deny_list: None,
        password_auth: None,
        client_auth: None,
        is_one_enough: false,
        rate_limit: None,
        quota: None,
        connection_limit: None,
        bandwidth: None,
        request_buffer: None,
        response_buffer: ResponseBuffer::default(),
        body_limit: BodyLimit { max_bytes: None },
        rewrite: None,
        delivery: Delivery::default(),
        headers: Headers::default(),
        answer_rewrite: AnswerRewrite::default(),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            send: Duration::from_secs(2),
            read: Duration::from_secs(2),
        },
        upstream: Upstream::default(),
        auth_external: None,
        error_pages: None,
        mirror: None,
        is_logged: true,
        trace: None,
    }
}

/// So many requests per second and address, answered 503 above that.
pub fn rate_limit(requests: u32, burst: u32) -> RateLimit {
    RateLimit {
        bucket: "default/web".into(),
        rates: vec![Rate { requests, period: Duration::from_secs(1), burst }],
        key: LimitKey::address(),
        exempt: Vec::new(),
        status: 503,
        disclosure: Disclosure::Nothing,
    }
}

/// Adds a backend `default/<service>:80` with these endpoints.
pub fn backend(model: &mut Model, service: &str, endpoints: &[SocketAddr]) -> BackendId {
    let id = BackendId { namespace: "default".into(), service: service.into(), port: "80".into() };
    let endpoints =
        endpoints.iter().map(|address| Endpoint { address: *address, condition: EndpointCondition::Ready });
    let backend =
        Backend { state: BackendState::Resolved, external_name: None, endpoints: endpoints.collect() };
    model.backends.insert(id.clone(), backend);
    id
}

/// Adds a route to a host (made on first use; empty: all names, `*.x`: a wildcard).
pub fn route(model: &mut Model, host: &str, path: PathMatch, policies: Policies, action: RouteAction) {
    let pattern = match host.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.into()),
        None if host.is_empty() => HostPattern::Any,
        None => HostPattern::Exact(host.into()),
    };
    let written = match &path {
        PathMatch::Prefix(text) if text.is_empty() => "/".to_owned(),
        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text) => text.clone(),
    };
    let source =
        RouteSource { namespace: "default".into(), name: "web".into(), host: host.into(), path: written };
    let route = Route { source, matches: RouteMatch { path }, policies, action };
    match model.hosts.iter_mut().find(|known| known.pattern == pattern) {
        Some(known) => Arc::make_mut(known).routes.push(route),
        None => model.hosts.push(Arc::new(Host {
            pattern,
            listeners: vec![ListenerName("http".into()), ListenerName("https".into())],
            certificate: None,
            ciphers: None,
            client_auth: None,
            passthrough: None,
            routes: vec![route],
        })),
    }
}

/// To one backend.
pub fn to(backend: &BackendId) -> RouteAction {
    RouteAction::Forward {
        backends: vec![WeightedBackend { backend: backend.clone(), weight: 1 }],
        fallback: None,
    }
}

/// Everything of `host` goes to these endpoints.
pub fn simple(host: &str, policies: Policies, endpoints: &[SocketAddr]) -> Model {
    let mut model = model();
    let id = backend(&mut model, "web", endpoints);
    route(&mut model, host, PathMatch::Prefix(String::new()), policies, to(&id));
    model
}

/// A self-signed certificate for a name, in the model under `default/<secret>`.
pub fn certificate(model: &mut Model, secret: &str, name: &str) -> CertificateId {
    let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let id = CertificateId { namespace: "default".into(), name: secret.into() };
    let certificate = Certificate {
        chain: vec![pair.cert.der().to_vec()],
        key: KeyDer(pair.signing_key.serialize_der()),
        names: vec![name.to_owned()],
        not_after: i64::MAX,
        fingerprint: "test".into(),
        ocsp: None,
    };
    model.certificates.insert(id.clone(), Arc::new(certificate));
    id
}
