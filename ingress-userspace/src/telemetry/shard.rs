//! Request metrics and log lines of one worker. One writer, no lock: a scrape asks the worker for a copy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::access_log::format::Format;
use super::access_log::writer::{Log, Writer};
use super::labels::RouteLabels;
use super::metrics::histogram::{DURATION_BUCKETS, Histogram, SIZE_BUCKETS};
use super::metrics::{self, Samples};

/// Series of one worker; what exceeds it is counted under empty labels. Scanners must not fill the memory.
const MOST_SERIES: usize = 10_000;
/// Log bytes that are handed over at once.
const FULL_BUFFER: usize = 16 * 1024;

/// What was observed of one request.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the histogram that each fills says what it is")]
pub struct Observation {
    pub duration: Duration,
    pub response: Option<Duration>,
    pub header: Option<Duration>,
    pub connect: Option<Duration>,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

#[derive(Debug)]
struct Series {
    count: u64,
    duration: Histogram,
    response: Histogram,
    header: Histogram,
    connect: Histogram,
    request_size: Histogram,
    response_size: Histogram,
}

/// How finely requests are told apart by metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// By host.
    pub has_hosts: bool,
    /// By `2xx` instead of `200`.
    pub has_status_classes: bool,
}

impl Default for Detail {
    fn default() -> Self {
        Self { has_hosts: true, has_status_classes: false }
    }
}

/// A format counted on its worker: one count that all workers write to with every request would be fought over.
pub type LocalFormat = Rc<Arc<Format>>;

type Key = (Arc<RouteLabels>, &'static str, u16);

/// One worker's shard and log buffer.
#[derive(Debug)]
pub struct Reporter {
    series: RefCell<HashMap<Key, Series>>,
    overflow: Arc<RouteLabels>,
    lines: RefCell<Vec<u8>>,
    /// Of sessions that are not HTTP.
    stream_lines: RefCell<Vec<u8>>,
    format: RefCell<LocalFormat>,
    writer: Writer,
    detail: Detail,
}

impl Reporter {
    /// An empty shard.
    pub fn new(writer: Writer, detail: Detail) -> Self {
        Self {
            detail,
            series: RefCell::default(),
            overflow: Arc::new(RouteLabels::default()),
            lines: RefCell::default(),
            stream_lines: RefCell::default(),
            format: RefCell::default(),
            writer,
        }
    }

    /// The labels of a request that no route took.
    pub fn no_labels(&self) -> Arc<RouteLabels> {
        Arc::clone(&self.overflow)
    }

    /// The format of a snapshot, to be kept by records: their count is this worker's alone.
    pub fn format(&self, of_snapshot: &Arc<Format>) -> LocalFormat {
        let mut known = self.format.borrow_mut();
        if !Arc::ptr_eq(&known, of_snapshot) {
            *known = Rc::new(Arc::clone(of_snapshot));
        }
        Rc::clone(&known)
    }

    /// Counts a request that was answered.
    pub fn observe(&self, labels: &Arc<RouteLabels>, method: &str, status: u16, seen: &Observation) {
        let mut series = self.series.borrow_mut();
        let labels = if series.len() < MOST_SERIES { labels } else { &self.overflow };
        let entry =
            series.entry((Arc::clone(labels), method_label(method), status)).or_insert_with(|| Series {
                count: 0,
                duration: Histogram::new(&DURATION_BUCKETS),
                response: Histogram::new(&DURATION_BUCKETS),
                header: Histogram::new(&DURATION_BUCKETS),
                connect: Histogram::new(&DURATION_BUCKETS),
                request_size: Histogram::new(&SIZE_BUCKETS),
                response_size: Histogram::new(&SIZE_BUCKETS),
            });
        entry.count += 1;
        entry.duration.observe(seen.duration.as_secs_f64());
        for (histogram, value) in [
            (&mut entry.response, seen.response),
            (&mut entry.header, seen.header),
            (&mut entry.connect, seen.connect),
        ] {
            if let Some(value) = value {
                histogram.observe(value.as_secs_f64());
            }
        }
        entry.request_size.observe(seen.request_bytes as f64);
        entry.response_size.observe(seen.response_bytes as f64);
    }

    /// Appends a log line.
    pub fn log(&self, log: Log, write: impl FnOnce(&mut Vec<u8>)) {
        if self.writer.is_off() {
            return;
        }
        let mut lines = self.lines_of(log).borrow_mut();
        write(&mut lines);
        if lines.len() >= FULL_BUFFER {
            self.writer.submit(log, std::mem::take(&mut *lines));
        }
    }

    /// Hands the buffered lines to the writer. Called several times a second.
    pub fn flush(&self) {
        for log in [Log::Requests, Log::Streams] {
            let mut lines = self.lines_of(log).borrow_mut();
            if !lines.is_empty() {
                self.writer.submit(log, std::mem::take(&mut *lines));
            }
        }
    }

    fn lines_of(&self, log: Log) -> &RefCell<Vec<u8>> {
        match log {
            Log::Requests => &self.lines,
            Log::Streams => &self.stream_lines,
        }
    }

    /// Copies the shard out. Routes that no snapshot has any more are forgotten afterwards.
    pub fn collect(&self, samples: &mut Samples) {
        for ((labels, method, status), series) in self.series.borrow().iter() {
            let status = match self.detail.has_status_classes {
                true => format!("{}xx", status / 100),
                false => status.to_string(),
            };
            let RouteLabels { namespace, ingress, service, path, host, upstream: _, canary } = &**labels;
            let host = if self.detail.has_hosts { host.as_str() } else { "" };
            let values = [&*status, method, path, namespace, ingress, service, canary, host];
            samples.add(&metrics::REQUESTS, &values, series.count as f64);
            samples.add_histogram(&metrics::REQUEST_DURATION, &values, &series.duration);
            samples.add_histogram(&metrics::RESPONSE_DURATION, &values, &series.response);
            samples.add_histogram(&metrics::HEADER_DURATION, &values, &series.header);
            samples.add_histogram(&metrics::CONNECT_DURATION, &values, &series.connect);
            samples.add_histogram(&metrics::REQUEST_SIZE, &values, &series.request_size);
            samples.add_histogram(&metrics::RESPONSE_SIZE, &values, &series.response_size);
        }
        self.series.borrow_mut().retain(|(labels, _, _), _| Arc::strong_count(labels) > 1);
    }
}

/// A closed set: clients choose methods freely.
fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}
