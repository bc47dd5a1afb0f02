//! A client's byte stream: cleartext or TLS, with bytes that were read ahead, a deadline for a client that does not read,
//! and a lingering close, so that an answer to a request that was not read to its end still arrives.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::body::Gap;

/// The longest time that a client may take none of what we write, as nginx's `send_timeout`.
const WRITE_GAP: Duration = Duration::from_secs(60);
/// How long is waited for the rest of a request that was answered before it was read, as nginx's `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(5);
/// The same when nothing is known to be missing: the engine may have refused a head that it did not read to its end.
const SHORT_LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// The first bytes of HTTP/2 without TLS.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What carries the bytes.
#[derive(Debug)]
pub enum Transport {
    /// Cleartext.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Nothing any more.
    Gone,
}

/// What a connection and its byte stream tell each other. The engine wants streams that may change threads, so this is
/// atomic; it never does.
#[derive(Debug, Default)]
pub struct Reading {
    /// Unread request bytes are waited for when the stream is closed, so that the answer arrives.
    pub lingers: AtomicBool,
    /// Whether a request is served now, whose body is read.
    is_served: AtomicBool,
    /// When the head that comes now began; in milliseconds since the first look at the clock, 0 for none.
    head_began: AtomicU64,
}

/// Milliseconds are counted from here.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Reading {
    /// When the first byte of the head came that is not complete yet.
    pub fn head_began(&self) -> Option<Instant> {
        let millis = self.head_began.load(Ordering::Relaxed);
        (millis > 0).then(|| *EPOCH + Duration::from_millis(millis))
    }

    /// The head is complete: its request is served.
    pub fn head_ended(&self) {
        self.is_served.store(true, Ordering::Relaxed);
        self.head_began.store(0, Ordering::Relaxed);
    }

    /// The request was served; what comes now is the next head.
    pub fn request_ended(&self) {
        self.is_served.store(false, Ordering::Relaxed);
    }

    fn read(&self) {
        if !self.is_served.load(Ordering::Relaxed) && self.head_began.load(Ordering::Relaxed) == 0 {
            let millis = u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.head_began.store(millis.max(1), Ordering::Relaxed);
        }
    }
}

/// A client's byte stream.
#[derive(Debug)]
pub struct ClientStream {
    transport: Transport,
    /// The write side was closed and the rest was waited for.
    is_closed: bool,
    /// Bytes that were read before, from `read_from` to `read_to`.
    ahead: [u8; PREFACE.len()],
    read_from: usize,
    read_to: usize,
    write_gap: Gap,
    reading: Arc<Reading>,
    linger: Option<(Gap, usize)>,
}

/// Which version of HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl ClientStream {
    /// Wraps a transport.
    pub fn new(transport: Transport, reading: Arc<Reading>) -> Self {
        Self {
            transport,
            is_closed: false,
            ahead: [0; PREFACE.len()],
            read_from: 0,
            read_to: 0,
            write_gap: Gap::new(WRITE_GAP),
            reading,
            linger: None,
        }
    }

    /// Finds out which version a cleartext client speaks, from its first bytes; they are read again by the engine.
    /// `None`: it closed the connection without a byte.
    pub async fn detect(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            let Some(room) = self.ahead.get_mut(self.read_to..) else { return Ok(Some(Protocol::Http1)) };
            let count = match &mut self.transport {
                Transport::Plain(stream) => stream.read(room).await?,
                Transport::Tls(stream) => stream.read(room).await?,
                Transport::Gone => 0,
            };
            self.read_to += count;
            let seen = self.ahead.get(..self.read_to).unwrap_or_default();
            if seen == PREFACE {
                return Ok(Some(Protocol::Http2));
            }
            if count == 0 {
                return Ok((!seen.is_empty()).then_some(Protocol::Http1));
            }
            if !PREFACE.starts_with(seen) {
                return Ok(Some(Protocol::Http1));
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.ahead.get(this.read_from..this.read_to).filter(|rest| !rest.is_empty()) {
            let part = rest.get(..buffer.remaining()).unwrap_or(rest);
            buffer.put_slice(part);
            this.read_from += part.len();
            this.reading.read();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Transport::Gone => Poll::Ready(Ok(())),
        };
        if buffer.filled().len() > before {
            this.reading.read();
        }
        polled
    }
}

impl ClientStream {
    fn guard<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => {
                self.write_gap.touch();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.write_gap.poll_exceeded(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")))
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Transport::Gone => Poll::Ready(Ok(0)),
        };
        self.guard(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
            Transport::Gone => Poll::Ready(Ok(0)),
        };
        self.guard(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Gone => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Transport::Gone => Poll::Ready(Ok(())),
        };
        self.guard(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let polled = match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
                Transport::Gone => Poll::Ready(Ok(())),
            };
            ready!(self.guard(cx, polled))?;
        }
        // Closing a socket with unread bytes resets the connection, and the answer with it.
        let (mut gap, mut left) = self.linger.take().unwrap_or_else(|| {
            let most = if self.reading.lingers.load(Ordering::Relaxed) { LINGER } else { SHORT_LINGER };
            (Gap::new(most), LINGER_BYTES)
        });
        let mut room = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match self.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && left > buffer.filled().len() => {
                    left -= buffer.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending if gap.poll_exceeded(cx).is_ready() => break,
                Poll::Pending => {
                    self.linger = Some((gap, left));
                    return Poll::Pending;
                }
            }
        }
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

/// An engine that refuses a message answers and drops the stream, without closing it in order. What the client still
/// sends is read for a moment then, too.
impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let Transport::Plain(stream) = std::mem::replace(&mut self.transport, Transport::Gone) else {
            return;
        };
        // At the end of the process nobody lingers.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(linger(stream));
        }
    }
}

async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut room = [0; 4096];
    let mut left = LINGER_BYTES;
    while let Ok(Ok(count @ 1..)) = timeout(SHORT_LINGER, stream.read(&mut room)).await {
        match left.checked_sub(count) {
            Some(rest) => left = rest,
            None => break,
        }
    }
}
