//! Active health checks: one task per endpoint that is checked, on the control runtime, so that a node asks each endpoint
//! once and not once per worker.
//!
//! A task reports only when its endpoint changes sides; who owns the endpoint sets takes it out of them or back in. An
//! endpoint counts as healthy until checks say otherwise.

mod grpc;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::balance::hash;
use super::transport::{Transport, UpstreamVersion};
use crate::model::backend::BackendId;
use crate::model::health::Question;
use crate::telemetry::metrics::{self, Samples};

/// Checks under way at the same time.
const MOST_AT_ONCE: usize = 128;
/// `User-Agent` of checks.
const AGENT: &str = "portcullis-health-check";
/// Changes that may wait to be taken over.
const WAITING: usize = 1024;

/// How the endpoints of a backend are checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is asked.
    pub question: Question,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again.
    pub healthy_threshold: u32,
    /// How endpoints are spoken to.
    pub transport: Arc<Transport>,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        let Self { question, interval, timeout, unhealthy_threshold, healthy_threshold, transport } = self;
        *question == other.question
            && *interval == other.interval
            && *timeout == other.timeout
            && *unhealthy_threshold == other.unhealthy_threshold
            && *healthy_threshold == other.healthy_threshold
            && Arc::ptr_eq(transport, &other.transport)
    }
}

/// The endpoints of a backend that are to be checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The backend.
    pub backend: BackendId,
    /// How.
    pub plan: Plan,
    /// Which.
    pub endpoints: Vec<SocketAddr>,
}

/// An endpoint has changed sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its backend.
    pub backend: BackendId,
    /// Which.
    pub endpoint: SocketAddr,
    /// Whether it is healthy now.
    pub is_healthy: bool,
}

/// Counts of checks, read by whoever scrapes.
#[derive(Debug, Default)]
pub struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Copies the counts out.
    pub fn collect(&self, samples: &mut Samples) {
        for (result, count) in [("ok", &self.succeeded), ("failed", &self.failed)] {
            samples.add(&metrics::HEALTH_CHECKS, &[result], count.load(Ordering::Relaxed) as f64);
        }
    }
}

/// All checks of a process.
#[derive(Debug)]
pub struct Monitor {
    running: HashMap<(BackendId, SocketAddr), Running>,
    verdicts: mpsc::Sender<Verdict>,
    changes: mpsc::Receiver<Verdict>,
    turns: Arc<Semaphore>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Running {
    plan: Plan,
    is_healthy: bool,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Monitor {
    fn default() -> Self {
        let (verdicts, changes) = mpsc::channel(WAITING);
        Self {
            running: HashMap::new(),
            verdicts,
            changes,
            turns: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            counts: Arc::default(),
        }
    }
}

impl Monitor {
    /// The counts.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Checks these from now on, and no others. A check that goes on as it was is not disturbed; one that changes goes on
    /// from what is known of its endpoint.
    pub fn update(&mut self, checked: &[Checked]) {
        let mut before = std::mem::take(&mut self.running);
        for Checked { backend, plan, endpoints } in checked {
            for endpoint in endpoints {
                let key = (backend.clone(), *endpoint);
                let running = match before.remove(&key) {
                    Some(running) if running.plan == *plan => running,
                    other => self.start(&key, plan, other.is_none_or(|running| running.is_healthy)),
                };
                self.running.insert(key, running);
            }
        }
    }

    /// Waits for the next change. One of a check that is no longer wanted is of no account.
    pub async fn changed(&mut self) -> Verdict {
        loop {
            let Some(verdict) = self.changes.recv().await else {
                // Never: a sender is held above.
                return std::future::pending().await;
            };
            if let Some(running) = self.running.get_mut(&(verdict.backend.clone(), verdict.endpoint)) {
                running.is_healthy = verdict.is_healthy;
                return verdict;
            }
        }
    }

    fn start(&self, (backend, endpoint): &(BackendId, SocketAddr), plan: &Plan, is_healthy: bool) -> Running {
        let watch = Watch {
            backend: backend.clone(),
            endpoint: *endpoint,
            plan: plan.clone(),
            verdicts: self.verdicts.clone(),
            turns: Arc::clone(&self.turns),
            counts: Arc::clone(&self.counts),
        };
        Running { plan: plan.clone(), is_healthy, task: tokio::spawn(watch.run(is_healthy)) }
    }
}

/// The checks of one endpoint.
struct Watch {
    backend: BackendId,
    endpoint: SocketAddr,
    plan: Plan,
    verdicts: mpsc::Sender<Verdict>,
    turns: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Watch {
    async fn run(self, mut is_healthy: bool) {
        // Endpoints that come together are not all asked in the same moment.
        let spread = self
            .plan
            .interval
            .mul_f64((hash::of(self.endpoint.to_string().as_bytes()) % 100) as f64 / 1000.0);
        sleep(spread.min(Duration::from_secs(1))).await;
        let mut streak = 0_u32;
        loop {
            let succeeded = {
                let _turn = self.turns.acquire().await;
                timeout(self.plan.timeout, ask(self.endpoint, &self.plan)).await.unwrap_or(false)
            };
            let count = if succeeded { &self.counts.succeeded } else { &self.counts.failed };
            count.fetch_add(1, Ordering::Relaxed);
            streak = if succeeded == is_healthy { 0 } else { streak.saturating_add(1) };
            let threshold =
                if is_healthy { self.plan.unhealthy_threshold } else { self.plan.healthy_threshold };
            if streak >= threshold.max(1) {
                (is_healthy, streak) = (succeeded, 0);
                let verdict = Verdict { backend: self.backend.clone(), endpoint: self.endpoint, is_healthy };
                if self.verdicts.send(verdict).await.is_err() {
                    return;
                }
            }
            sleep(self.plan.interval).await;
        }
    }
}

/// One check. Whatever goes wrong is a failure of the endpoint.
async fn ask(endpoint: SocketAddr, plan: &Plan) -> bool {
    let Ok(stream) = TcpStream::connect(endpoint).await else { return false };
    match &plan.transport.tls {
        None => exchange(stream, endpoint, plan).await,
        Some(tls) => match tls.handshake(stream, endpoint).await {
            Ok(stream) => exchange(stream, endpoint, plan).await,
            Err(_) => None,
        },
    }
    .unwrap_or(false)
}

async fn exchange<T>(stream: T, endpoint: SocketAddr, plan: &Plan) -> Option<bool>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let scheme = if plan.transport.tls.is_some() { "https" } else { "http" };
    match &plan.question {
        Question::Get(path) => get(stream, (endpoint, scheme), path, plan.transport.version).await,
        Question::Grpc(service) => grpc::ask(stream, (endpoint, scheme), service).await,
    }
}

async fn get<T>(
    stream: T,
    (endpoint, scheme): (SocketAddr, &str),
    path: &str,
    version: UpstreamVersion,
) -> Option<bool>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let host = HeaderValue::try_from(endpoint.to_string()).ok()?;
    let mut request = Request::new(Empty::<Bytes>::new());
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    let status = if version == UpstreamVersion::Http2 {
        *request.uri_mut() = format!("{scheme}://{endpoint}{path}").parse().ok()?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        answer(connection, sender.send_request(request)).await?.status()
    } else {
        *request.uri_mut() = path.parse().ok()?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        answer(connection, sender.send_request(request)).await?.status()
    };
    Some(status.is_success() || status.is_redirection())
}

/// What an exchange comes to, while its connection is driven.
async fn answer<C, A, T>(connection: C, answer: A) -> Option<T>
where
    C: Future<Output = hyper::Result<()>>,
    A: Future<Output = hyper::Result<T>>,
{
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered.ok(),
        _ = &mut connection => answer.await.ok(),
    }
}

#[cfg(test)]
mod tests;
