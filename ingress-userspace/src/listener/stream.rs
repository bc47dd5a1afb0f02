//! A client's byte stream: cleartext or TLS, with bytes that were read ahead, a deadline for a client that does not read,
//! and a lingering close, so that an answer to a request that was not read to its end still arrives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::proxy::body::Gap;

/// The longest time that a client may take none of what we write, as nginx's `send_timeout`.
const WRITE_GAP: Duration = Duration::from_secs(60);
/// How long and how much is waited for after the answer, as nginx's `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(5);
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
}

/// A client's byte stream.
#[derive(Debug)]
pub struct ClientStream {
    transport: Transport,
    /// Bytes that were read before, from `read_from` to `read_to`.
    ahead: [u8; PREFACE.len()],
    read_from: usize,
    read_to: usize,
    write_gap: Gap,
    lingers: Arc<AtomicBool>,
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
    /// Wraps a transport; `lingers` is looked at when the stream is shut down.
    pub fn new(transport: Transport, lingers: Arc<AtomicBool>) -> Self {
        Self {
            transport,
            ahead: [0; PREFACE.len()],
            read_from: 0,
            read_to: 0,
            write_gap: Gap::new(WRITE_GAP),
            lingers,
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
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
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
        };
        self.guard(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        };
        self.guard(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let polled = match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            };
            ready!(self.guard(cx, polled))?;
            if !self.lingers.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        // Closing a socket with unread bytes resets the connection, and the answer with it.
        let (mut gap, mut left) = self.linger.take().unwrap_or_else(|| (Gap::new(LINGER), LINGER_BYTES));
        let mut room = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match self.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && left > buffer.filled().len() => {
                    left -= buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if gap.poll_exceeded(cx).is_ready() => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.linger = Some((gap, left));
                    return Poll::Pending;
                }
            }
        }
    }
}
