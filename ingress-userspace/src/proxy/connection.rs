//! A connection's engine (hyper) and its limits: header time, idle time, streams, drain.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::context::ConnectionInfo;
use super::error::{GateReason, ProxyError};
use super::request;
use super::stream::{ClientStream, Protocol};
use super::worker::{Phase, Worker};

/// Until a request head is complete, and between two requests of an HTTP/1 connection.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// Without a stream, an HTTP/2 connection is told to go.
const HTTP2_IDLE: Duration = Duration::from_secs(180);
/// Before its first stream, sooner: a client that only says hello holds nothing for long.
const HTTP2_FIRST: Duration = Duration::from_secs(60);
/// Read buffer of an HTTP/1 connection, and so the largest head.
const HTTP1_BUFFER: usize = 64 * 1024;

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
    let io = TokioIo::new(stream);
    let service = {
        let (worker, connection) = (Rc::clone(worker), Rc::clone(&connection));
        service_fn(move |engine: http::Request<Incoming>| {
            let (worker, connection) = (Rc::clone(&worker), Rc::clone(&connection));
            async move { Ok::<_, Infallible>(request::serve(worker, connection, engine).await) }
        })
    };
    let result = match protocol {
        Protocol::Http1 => {
            let engine = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(HTTP1_BUFFER)
                .serve_connection(io, service)
                .with_upgrades();
            drive(worker, &connection, engine, protocol, |engine| engine.graceful_shutdown()).await
        }
        Protocol::Http2 => {
            let engine = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(128)
                .initial_stream_window_size(64 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_header_list_size(32 * 1024)
                .max_pending_accept_reset_streams(20)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(io, service);
            drive(worker, &connection, engine, protocol, |engine| engine.graceful_shutdown()).await
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

/// Polls the engine; tells it to end when it idles or the process drains, and drops it at the deadline.
async fn drive<E: Future<Output = hyper::Result<()>>>(
    worker: &Rc<Worker>,
    connection: &ConnectionInfo,
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
        let idle = if connection.requests.get() == 0 { HTTP2_FIRST } else { HTTP2_IDLE };
        let deadline = connection.last.get() + idle;
        let watches_idle = protocol == Protocol::Http2 && !is_ending.get();
        tokio::select! {
            biased;
            result = &mut engine => return result,
            changed = phase.changed() => if changed.is_err() {
                // The process ends without a drain.
                return Ok(());
            },
            () = sleep_until(deadline.max(Instant::now() + Duration::from_secs(1))), if watches_idle => {
                let last = connection.last.get();
                if connection.active.get() == 0 && last.elapsed() >= idle {
                    begin_end(engine.as_mut());
                }
            }
        }
    }
}
