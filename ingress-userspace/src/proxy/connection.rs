//! A connection's engine (hyper) and its limits: header time, idle time, streams, drain.

use std::cell::Cell;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use super::context::ConnectionInfo;
use super::error::{GateReason, ProxyError};
use super::request;
use super::stream::{ClientStream, Protocol};
use super::worker::{Phase, Worker};
use crate::model::connections::Connections;

/// Read buffer of an HTTP/1 connection beside the largest head, and at least.
const HTTP1_BUFFER: usize = 64 * 1024;
/// The largest window that HTTP/2 knows for a list of headers.
const LARGEST_LIST: usize = 1 << 24;

/// hyper's tasks stay on the worker's thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves a connection to its end.
pub async fn serve(
    worker: &Rc<Worker>,
    connection: Rc<ConnectionInfo>,
    stream: ClientStream,
    protocol: Protocol,
) {
    let limits = worker.snapshot.with(|snapshot| snapshot.globals.connections.clone());
    let io = TokioIo::new(stream);
    let service = {
        let (worker, connection) = (Rc::clone(worker), Rc::clone(&connection));
        service_fn(move |engine: http::Request<Incoming>| {
            let (worker, connection) = (Rc::clone(&worker), Rc::clone(&connection));
            request::serve(worker, connection, engine)
        })
    };
    let result = match protocol {
        Protocol::Http1 => {
            let engine = http1::Builder::new()
                .timer(TokioTimer::new())
                // The clock below tells idleness from a head that comes slowly.
                .header_read_timeout(None)
                .max_buf_size(HTTP1_BUFFER.max(limits.head.all.saturating_add(limits.head.line)))
                .serve_connection(io, service)
                .with_upgrades();
            let clock = Clock::new(&connection, &limits, protocol);
            drive(worker, clock, engine, protocol, |engine| engine.graceful_shutdown()).await
        }
        Protocol::Http2 => {
            let engine = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                .initial_stream_window_size(64 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_header_list_size(u32::try_from(limits.head.all.min(LARGEST_LIST)).unwrap_or(u32::MAX))
                .max_pending_accept_reset_streams(20)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(io, service);
            let clock = Clock::new(&connection, &limits, protocol);
            drive(worker, clock, engine, protocol, |engine| engine.graceful_shutdown()).await
        }
    };
    if let Err(error) = result {
        if error.is_parse() {
            // Refused by the engine, which answers by itself and says nothing to the access log.
            worker.counters.failed(&ProxyError::Gate(GateReason::Unreadable));
        }
        debug!(client = %connection.peer.client, %error, "connection ended");
    }
}

/// Polls the engine; tells it to end when it idles or the process drains, and drops it when its time is over.
async fn drive<E: Future<Output = hyper::Result<()>>>(
    worker: &Rc<Worker>,
    mut clock: Clock,
    engine: E,
    protocol: Protocol,
    end: impl Fn(Pin<&mut E>),
) -> hyper::Result<()> {
    tokio::pin!(engine);
    let mut phase = worker.phase.clone();
    let is_ending = Cell::new(false);
    let begin_end = |engine: Pin<&mut E>| {
        if !is_ending.replace(true) {
            end(engine);
        }
    };
    loop {
        let now = *phase.borrow_and_update();
        // An idle HTTP/1 connection is closed when it ends, and a request on its way would be lost: while clients are
        // only told to go, its next response says so instead. HTTP/2 has GOAWAY for that.
        let ends_at = if protocol == Protocol::Http2 { Phase::Draining } else { Phase::Stopped };
        if now == Phase::Closing {
            return Ok(());
        }
        if now >= ends_at {
            begin_end(engine.as_mut());
        }
        tokio::select! {
            biased;
            result = &mut engine => return result,
            changed = phase.changed() => if changed.is_err() {
                // The process ends without a drain.
                return Ok(());
            },
            late = clock.late() => match late {
                Late::Head => return Ok(()),
                // It is closed as soon as the other side has heard of it, or does not listen any more.
                Late::Idle if is_ending.get() => return Ok(()),
                Late::Idle => {
                    clock.restart();
                    begin_end(engine.as_mut());
                }
            }
        }
    }
}

/// What came too late.
enum Late {
    /// The rest of a request's head.
    Head,
    /// A request at all.
    Idle,
}

/// The two deadlines of a client between its requests. They are read again each time the engine was polled, so the timer
/// is moved only when one comes nearer.
struct Clock {
    connection: Rc<ConnectionInfo>,
    idle: Duration,
    head_time: Duration,
    /// HTTP/2 sends more than heads between its requests.
    watches_heads: bool,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Clock {
    fn new(connection: &Rc<ConnectionInfo>, limits: &Connections, protocol: Protocol) -> Self {
        let since = Instant::now();
        let sleep = Box::pin(sleep_until(since + limits.head_time));
        let (idle, head_time) = (limits.idle, limits.head_time);
        let watches_heads = protocol == Protocol::Http1;
        Self { connection: Rc::clone(connection), idle, head_time, watches_heads, since, sleep }
    }

    /// Counts idleness from now.
    fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// The next deadline; none while a request is served.
    fn deadline(&self) -> Option<(Instant, Late)> {
        if self.connection.active.get() > 0 {
            return None;
        }
        if let Some(began) = self.connection.reading.head_began().filter(|_| self.watches_heads) {
            return Some((began + self.head_time, Late::Head));
        }
        // A client that only says hello is waited for as long as for a head.
        let idle = if self.connection.requests.get() == 0 { self.head_time } else { self.idle };
        Some((self.since.max(self.connection.last.get()) + idle, Late::Idle))
    }

    async fn late(&mut self) -> Late {
        poll_fn(|cx| self.poll_late(cx)).await
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        loop {
            let Some((deadline, late)) = self.deadline() else { return Poll::Pending };
            if deadline <= Instant::now() {
                return Poll::Ready(late);
            }
            if deadline < self.sleep.deadline() || self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(deadline);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
