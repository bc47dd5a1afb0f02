//! The proxy role: model in, traffic out. Starts the workers, binds what the agent says, publishes each model to the
//! workers, and drains at the end.

mod limit_sync;
mod listeners;
mod loads;
mod thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::admin::State;
use crate::args::WorkerArgs;
use crate::compile::pools::Health;
use crate::compile::{Compiled, Compiler};
use crate::link::ProxyEnd;
use crate::link::messages::{Hello, ModelVersion, ProxyReport, ToAgent, ToProxy};
use crate::model::Model;
use crate::model::host::HostPattern;
use crate::model::log::LogDestination;
use crate::proxy::hashing;
use crate::proxy::loads::Loads;
use crate::proxy::temp::TempStore;
use crate::proxy::worker::{Phase, Shared};
use crate::snapshot::Snapshot;
use crate::snapshot::cell::Cell;
use crate::snapshot::nonces::Nonces;
use crate::telemetry::access_log::writer::{Destination, Log, Writer};
use crate::telemetry::metrics::{self, Samples};
use crate::telemetry::shard::Detail;
use crate::tls::resolver::Certificates;
use crate::tls::self_signed;
use crate::tls::server::Sessions;
use crate::upstream::health::{Counts, Monitor, Verdict};
use crate::upstream::resolve::Resolver;
use limit_sync::LimitSync;
use listeners::Listeners;
use thread::Workers;

/// Clients that hold an idle connection get this long to hear `Connection: close` before it is closed on them.
const LEAST_DRAIN: Duration = Duration::from_millis(500);
/// An agent that does not answer within this time has ended.
const AGENT_PATIENCE: Duration = Duration::from_secs(1);
/// For connections that were being made when the agent sent the last one.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// Process settings of the role.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker threads.
    pub workers: u32,
    /// Between SIGTERM and the end of accepting.
    pub grace: Duration,
    /// For open requests after that.
    pub drain_timeout: Duration,
    /// Where access log lines go.
    pub access_log: Destination,
    /// How finely metrics tell requests apart.
    pub detail: Detail,
    /// Folder of temporary files.
    pub temp_dir: PathBuf,
    /// Bytes that all temporary files together may have.
    pub temp_limit: u64,
}

impl Settings {
    /// From the flags.
    pub fn from_args(args: &WorkerArgs) -> Self {
        let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = args.workers.unwrap_or_else(cpus).clamp(1, 1024);
        Self {
            workers: u32::try_from(workers).unwrap_or(1),
            grace: Duration::from_secs(args.shutdown_grace_period),
            drain_timeout: Duration::from_secs(args.drain_timeout),
            access_log: Destination::from_flag(&args.access_log),
            detail: Detail {
                has_hosts: args.metrics_per_host,
                has_status_classes: args.report_status_classes,
            },
            temp_dir: args.temp_dir.clone().unwrap_or_else(std::env::temp_dir),
            temp_limit: args.temp_limit.saturating_mul(1 << 20),
        }
    }

    /// How the proxy introduces itself to the agent.
    pub fn hello(&self) -> Hello {
        Hello { pid: std::process::id(), workers: self.workers, build: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Runs the role until `shutdown`, then drains. Returns early only when traffic cannot be served at all.
pub async fn run(
    settings: Settings,
    mut link: ProxyEnd,
    state: State,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    state.readiness.fails("proxy", "no configuration yet");
    let writer = Writer::start(settings.access_log.clone())
        .context("the access log cannot be opened (--access-log)")?;
    let cell = Arc::new(Cell::new(Snapshot::empty()));
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let hashing =
        hashing::Pool::start(hashing_threads()).context("threads for passwords cannot be started")?;
    let nonces = Nonces::new().map_err(|_unspecified| anyhow!("no random numbers"))?;
    let compiler = Compiler::new(Certificates::new(self_signed::generate()?), Sessions::new()?, nonces);
    let limit_sync = LimitSync::start(compiler.buckets());
    let temp = Arc::new(TempStore::new(settings.temp_dir.clone(), settings.temp_limit));
    if let Err(error) = temp.check() {
        warn!(
            %error, folder = %settings.temp_dir.display(),
            "temporary files cannot be made: requests whose body does not fit into memory will be answered 500, answers not \
             buffered; create the folder, make it writable, or name another by --temp-dir"
        );
    }
    let (outlet, per_client) = (limit_sync.outlet.clone(), Arc::default());
    let loads = Arc::new(Loads::new(settings.workers));
    let _loads = AbortOnDropHandle::new(tokio::spawn(loads::report(Arc::clone(&loads), link.sender())));
    let shared = Shared { snapshot: Arc::clone(&cell), temp, outlet, per_client, loads };
    let mut workers =
        Workers::start(settings.workers, &shared, (&writer, settings.detail), &phase_seen, &hashing)?;
    let (refused, refused_seen) = watch::channel(0_usize);
    register_metrics(&state, &workers, &cell, &writer, refused_seen);
    let monitor = Monitor::default();
    let (health, health_seen) = watch::channel(Vec::new());
    register_health(&state, monitor.counts(), health_seen);
    register_body_metrics(&state, &shared, &limit_sync);
    let mut publisher = Publisher {
        compiler,
        resolver: Resolver::default(),
        limit_sync,
        cell: Arc::clone(&cell),
        refused,
        state: state.clone(),
        writer: writer.clone(),
        log: LogDestination::AsStarted,
        stream_log: LogDestination::AsStarted,
        drain: None,
        monitor,
        health,
    };
    let mut listeners = Listeners::new(settings.workers);

    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            failed = workers.failed() => return Err(failed),
            verdict = publisher.monitor.changed() => {
                publisher.judge(&verdict);
                continue;
            }
            message = link.recv() => message,
        };
        match message {
            Some(ToProxy::Listen(plan)) => {
                listeners.plan(plan);
            }
            Some(ToProxy::Model { version, model }) => {
                let report = publisher.publish(version, Arc::clone(&model));
                listeners.model(&model);
                link.send(ToAgent::Report(report)).await;
            }
            // Only a proxy that ends asks whether it may close.
            Some(ToProxy::Close) => {}
            None => {
                // The agent is part of this process and has ended: so does the proxy.
                break;
            }
        }
        if let Some(sockets) = listeners.settle(&workers)? {
            link.send(ToAgent::Sockets(sockets)).await;
        }
        if listeners.is_bound() {
            state.listening.set(listeners.addresses());
            state.readiness.holds("proxy");
        }
    }
    let settings = Settings { drain_timeout: publisher.drain.unwrap_or(settings.drain_timeout), ..settings };
    drain(&settings, &state, &mut link, &phase, &mut workers, listeners).await;
    Ok(())
}

/// Passwords may take half of the processors, and at least one.
fn hashing_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

struct Publisher {
    compiler: Compiler,
    resolver: Resolver,
    limit_sync: LimitSync,
    cell: Arc<Cell<Snapshot>>,
    refused: watch::Sender<usize>,
    state: State,
    writer: Writer,
    /// Where the log of requests goes now.
    log: LogDestination,
    /// Where that of other sessions goes now.
    stream_log: LogDestination,
    /// What the configuration says of the time that open connections get at the end.
    drain: Option<Duration>,
    monitor: Monitor,
    health: watch::Sender<Vec<Health>>,
}

impl Publisher {
    fn judge(&mut self, verdict: &Verdict) {
        let Verdict { backend, endpoint, is_healthy } = verdict;
        if *is_healthy {
            info!(%backend, %endpoint, "endpoint healthy again");
        } else {
            warn!(%backend, %endpoint, "endpoint unhealthy, it takes no requests unless all are");
        }
        self.compiler.judge(verdict);
        self.health.send_replace(self.compiler.health());
    }

    fn publish(&mut self, version: ModelVersion, model: Arc<Model>) -> ProxyReport {
        let started = std::time::Instant::now();
        let Compiled { snapshot, refused, checked, named } = self.compiler.compile(version, &model);
        self.resolver.update(named, &model.global.subrequests);
        self.limit_sync.configure(model.global.shared_limits.as_ref());
        self.cell.publish(snapshot);
        self.drain = model.global.drain;
        let log = &model.global.access_log;
        for (log, known, wanted) in [
            (Log::Requests, &mut self.log, &log.destination),
            (Log::Streams, &mut self.stream_log, &log.streams.destination),
        ] {
            if known != wanted {
                known.clone_from(wanted);
                self.writer.redirect(log, wanted);
            }
        }
        self.monitor.update(&checked);
        self.health.send_replace(self.compiler.health());
        for part in &refused {
            warn!(version, part, "part of the configuration refused");
        }
        info!(
            version,
            hosts = model.hosts.len(),
            backends = model.backends.len(),
            certificates = model.certificates.len(),
            refused = refused.len(),
            micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "configuration published"
        );
        self.refused.send_replace(refused.len());
        self.state.model.set(version, model);
        ProxyReport { version, refused }
    }
}

fn register_metrics(
    state: &State,
    workers: &Workers,
    cell: &Arc<Cell<Snapshot>>,
    writer: &Writer,
    refused: watch::Receiver<usize>,
) {
    let ask = workers.asker();
    let registry = &state.registry;
    registry.register_gatherer(move || {
        let ask = ask.clone();
        async move { ask.collect().await }
    });
    let shown = state.model.clone();
    registry.register_collector(move |samples| {
        if let Some(model) = shown.current() {
            certificate_metrics(&model, samples);
        }
    });
    let (cell, writer) = (Arc::clone(cell), writer.clone());
    registry.register_collector(move |samples| {
        samples.add(&metrics::ACCESS_LOG_DROPPED, &[], writer.dropped() as f64);
        samples.add(&metrics::MODEL_VERSION, &[], cell.with(|snapshot| snapshot.version) as f64);
        let refused = *refused.borrow();
        samples.add(&metrics::REFUSED_PARTS, &[], refused as f64);
        samples.add(&metrics::LAST_RELOAD_SUCCESSFUL, &[], if refused == 0 { 1.0 } else { 0.0 });
        samples.add(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        process_metrics(samples);
    });
}

/// Temporary files, and limits that are shared with other nodes.
fn register_body_metrics(state: &State, shared: &Shared, limit_sync: &LimitSync) {
    let (temp, outlet, is_up) = (Arc::clone(&shared.temp), shared.outlet.clone(), limit_sync.status());
    state.registry.register_collector(move |samples| {
        samples.add(&metrics::TEMPORARY_BYTES, &[], temp.used() as f64);
        let is_up = is_up.load(Ordering::Relaxed);
        samples.add(&metrics::SHARED_LIMITS_UP, &[], if is_up { 1.0 } else { 0.0 });
        samples.add(&metrics::SHARED_LIMITS_DROPPED, &[], outlet.dropped() as f64);
    });
}

/// What checks of endpoints found.
fn register_health(state: &State, counts: Arc<Counts>, health: watch::Receiver<Vec<Health>>) {
    state.registry.register_collector(move |samples| {
        counts.collect(samples);
        for Health { backend, healthy, unhealthy } in health.borrow().iter() {
            samples.add(&metrics::CHECKED_ENDPOINTS, &[backend, "healthy"], *healthy as f64);
            samples.add(&metrics::CHECKED_ENDPOINTS, &[backend, "unhealthy"], *unhealthy as f64);
        }
    });
}

/// One series per host and certificate.
fn certificate_metrics(model: &Model, samples: &mut Samples) {
    for host in &model.hosts {
        let name = match &host.pattern {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
            HostPattern::Any => "_".to_owned(),
        };
        let certificate = host.certificate.as_ref().and_then(|id| Some((id, model.certificates.get(id)?)));
        if let Some((id, certificate)) = certificate {
            let labels = [&*id.namespace, &id.name, &name, &certificate.fingerprint];
            samples.add(&metrics::CERTIFICATE_EXPIRY, &labels, certificate.not_after as f64);
        }
    }
}

/// Memory and processor time, from `/proc`.
fn process_metrics(samples: &mut Samples) {
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()));
    if let Some(pages) = resident {
        samples.add(&metrics::RESIDENT_MEMORY, &[], pages * rustix::param::page_size() as f64);
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted behind the command's closing parenthesis.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
    let ticks: f64 = fields.into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum();
    samples.add(&metrics::CPU_SECONDS, &[], ticks / rustix::param::clock_ticks_per_second() as f64);
}

async fn drain(
    settings: &Settings,
    state: &State,
    link: &mut ProxyEnd,
    phase: &watch::Sender<Phase>,
    workers: &mut Workers,
    listeners: Listeners,
) {
    info!(grace = ?settings.grace, deadline = ?settings.drain_timeout, "draining");
    state.readiness.fails("proxy", "draining");
    phase.send_replace(Phase::Draining);
    link.send(ToAgent::Draining).await;
    sleep(settings.grace.max(LEAST_DRAIN)).await;
    // A connection that met a closed socket would be reset: the agent sends none from here on.
    link.send(ToAgent::Closing).await;
    let may_close = async { while !matches!(link.recv().await, Some(ToProxy::Close) | None) {} };
    if timeout(AGENT_PATIENCE, may_close).await.is_ok() {
        sleep(LAST_HANDSHAKES).await;
    }
    // Our copies would keep the sockets open.
    drop(listeners);
    phase.send_replace(Phase::Stopped);
    let deadline = Instant::now() + settings.drain_timeout;
    if timeout_at(deadline, workers.finished()).await.is_err() {
        warn!("drain deadline reached, closing what is still open");
    }
    phase.send_replace(Phase::Closing);
    if timeout_at(Instant::now() + Duration::from_secs(5), workers.finished()).await.is_err() {
        error!("a worker did not end");
    }
    info!("drained");
}
