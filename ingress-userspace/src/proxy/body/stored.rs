//! A client's body that was read whole before anything of it goes upstream: in memory as far as it fits, the rest in a
//! temporary file. It can be sent as often as needed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::ClientBody;
use super::{BodyError, ClientFailure, Progress};
use crate::proxy::temp::{TempFile, TempStore};

/// What goes to and comes from the file at once.
const PART: usize = 32 * 1024;

/// What a body consists of.
#[derive(Debug, Default)]
struct Content {
    memory: Bytes,
    file: Option<TempFile>,
    in_file: u64,
    trailers: Option<HeaderMap>,
}

/// One sending of a stored body.
#[derive(Debug)]
pub(super) struct StoredBody {
    content: Rc<Content>,
    progress: Rc<Progress>,
    /// Bytes that were handed over.
    sent: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    has_sent_trailers: Cell<bool>,
}

impl StoredBody {
    /// Reads a client's body to its end.
    pub(super) async fn read(
        mut body: Box<ClientBody>,
        most_memory: u64,
        store: &Arc<TempStore>,
    ) -> Result<Self, BodyError> {
        let mut content = Content::default();
        let mut memory = BytesMut::new();
        let mut waiting = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| body.poll(cx)).await {
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    content.trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            let is_first = memory.is_empty() && waiting.is_empty() && content.file.is_none();
            if is_first && body.is_end() {
                // All of it came at once and is in memory already.
                content.memory = data;
                break;
            }
            let fits = (memory.len() + data.len()) as u64 <= most_memory;
            if fits && content.file.is_none() && waiting.is_empty() {
                // Copied: a part would keep the engine's whole buffer alive.
                memory.extend_from_slice(&data);
                continue;
            }
            waiting.extend_from_slice(&data);
            if waiting.len() >= PART {
                content.append(waiting.split().freeze(), store).await?;
            }
        }
        if !waiting.is_empty() {
            content.append(waiting.freeze(), store).await?;
        }
        if !memory.is_empty() {
            content.memory = memory.freeze();
        }
        Ok(Self::new(Rc::new(content), Rc::clone(body.progress())))
    }

    fn new(content: Rc<Content>, progress: Rc<Progress>) -> Self {
        progress.is_finished.set(content.length() == 0 && content.trailers.is_none());
        Self { content, progress, sent: 0, reading: None, has_sent_trailers: Cell::new(false) }
    }

    /// The same from its start.
    pub(super) fn again(&self) -> Self {
        Self::new(Rc::clone(&self.content), Rc::clone(&self.progress))
    }

    pub(super) fn is_end(&self) -> bool {
        let is_sent = self.sent >= self.content.length();
        is_sent && (self.content.trailers.is_none() || self.has_sent_trailers.get())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        // HTTP/1 has trailers only behind a body of unannounced length.
        match self.content.trailers {
            Some(_) => SizeHint::new(),
            None => SizeHint::with_exact(self.content.length().saturating_sub(self.sent)),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let progress = &self.progress;
        progress.is_started.set(true);
        if progress.is_abandoned() {
            return Poll::Ready(Some(Err(BodyError::Abandoned)));
        }
        let in_memory = self.content.memory.len() as u64;
        let data = if self.sent < in_memory {
            self.content.memory.clone()
        } else if self.sent < self.content.length() {
            match ready!(self.poll_file(cx, self.sent - in_memory)) {
                Ok(data) => data,
                Err(error) => {
                    self.progress.failure.set(Some(ClientFailure::Unreadable));
                    return Poll::Ready(Some(Err(BodyError::Temporary(error))));
                }
            }
        } else {
            let trailers = self.content.trailers.clone().filter(|_| !self.has_sent_trailers.replace(true));
            self.progress.is_finished.set(true);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        self.sent += data.len() as u64;
        self.progress.last.set(Instant::now());
        // Engines do not ask again once a body of known length is complete.
        self.progress.is_finished.set(self.is_end());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn poll_file(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<io::Result<Bytes>> {
        let Some(file) = &self.content.file else {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotFound)));
        };
        let left = usize::try_from(self.content.in_file.saturating_sub(at)).unwrap_or(usize::MAX);
        let reading = self.reading.get_or_insert_with(|| file.read(at, left.min(PART)));
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(read.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

impl Content {
    fn length(&self) -> u64 {
        self.memory.len() as u64 + self.in_file
    }

    async fn append(&mut self, bytes: Bytes, store: &Arc<TempStore>) -> Result<(), BodyError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(TempFile::create(store).await.map_err(BodyError::Temporary)?),
        };
        let length = bytes.len() as u64;
        file.write(bytes, self.in_file).await.map_err(BodyError::Temporary)?;
        self.in_file += length;
        Ok(())
    }
}
