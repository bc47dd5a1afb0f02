//! An endpoint's body that is read as fast as the endpoint sends it, however slow the client is: what the client has not
//! taken yet waits in bounded memory, then in a temporary file. Where neither has room the endpoint waits, as it
//! would without a spool; a disk that is full costs no response.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tracing::debug;

use super::{Body, BodyError};
use crate::proxy::temp::{TempFile, TempStore};

/// What goes to and comes from the file at once; smaller parts that come together are joined.
const PART: usize = 32 * 1024;
/// What a part in memory costs beside its bytes.
const PART_COST: usize = 64;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in a temporary file.
    pub file: u64,
}

/// The client's side of a spool.
#[derive(Debug)]
pub(super) struct SpooledBody {
    spool: Rc<RefCell<Spool>>,
    filler: AbortHandle,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    left: Option<u64>,
    is_end: bool,
}

#[derive(Debug, Default)]
struct Spool {
    memory: VecDeque<Bytes>,
    memory_cost: usize,
    file: Option<Rc<RefCell<TempFile>>>,
    /// Bytes from here on are not read yet; older than those that come, newer than those in memory.
    read_to: u64,
    written_to: u64,
    is_writing: bool,
    /// Set at the end; taken by the reader.
    end: Option<Result<Option<HeaderMap>, BodyError>>,
    reader: Option<Waker>,
    filler: Option<Waker>,
}

impl SpooledBody {
    /// Starts to read the body, as a task of the worker.
    pub(super) fn new(body: Body, room: Room, store: &Arc<TempStore>) -> Self {
        let left = body.size_hint().exact();
        let spool = Rc::new(RefCell::new(Spool::default()));
        let filler = Filler { spool: Rc::clone(&spool), room, store: Arc::clone(store), has_disk: true };
        let filler = spawn_local(filler.run(Source { body, next: None })).abort_handle();
        Self { spool, filler, reading: None, left, is_end: false }
    }

    pub(super) fn is_end(&self) -> bool {
        self.is_end
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_end {
            return Poll::Ready(None);
        }
        let mut spool = self.spool.borrow_mut();
        let data = if let Some(data) = spool.memory.pop_front() {
            spool.memory_cost -= data.len() + PART_COST;
            data
        } else if self.reading.is_some() || spool.read_to < spool.written_to {
            let reading = match (&mut self.reading, &spool.file) {
                (Some(reading), _) => reading,
                (None, Some(file)) => {
                    let length = usize::try_from(spool.written_to - spool.read_to).unwrap_or(PART).min(PART);
                    self.reading.insert(file.borrow().read(spool.read_to, length))
                }
                (None, None) => return Poll::Ready(None),
            };
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            let data = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(BodyError::Temporary(error)))),
            };
            spool.read_to += data.len() as u64;
            if spool.read_to == spool.written_to && !spool.is_writing {
                (spool.read_to, spool.written_to) = (0, 0);
            }
            data
        } else {
            let Some(end) = spool.end.take() else {
                spool.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.is_end = true;
            return Poll::Ready(match end {
                Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
                Err(error) => Some(Err(error)),
            });
        };
        if let Some(filler) = spool.filler.take() {
            filler.wake();
        }
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Drop for SpooledBody {
    fn drop(&mut self) {
        self.filler.abort();
    }
}

/// The endpoint's side of a spool.
#[derive(Debug)]
struct Filler {
    spool: Rc<RefCell<Spool>>,
    room: Room,
    store: Arc<TempStore>,
    /// The temporary file can be written.
    has_disk: bool,
}

impl Filler {
    async fn run(mut self, mut source: Source) {
        let mut trailers = None;
        let end = loop {
            match source.next().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.keep(data).await,
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => break Err(error),
                None => break Ok(trailers),
            }
        };
        // Its connection is free now, whatever the client does.
        drop(source);
        let mut spool = self.spool.borrow_mut();
        spool.end = Some(end);
        spool.wake_reader();
    }

    /// Puts a part behind those that wait, as soon as there is room.
    async fn keep(&mut self, data: Bytes) {
        let cost = data.len() + PART_COST;
        loop {
            let at = {
                let mut spool = self.spool.borrow_mut();
                let is_on_disk = spool.read_to < spool.written_to;
                let fits = spool.memory.is_empty() || (spool.memory_cost + cost) as u64 <= self.room.memory;
                if fits && !is_on_disk {
                    spool.memory_cost += cost;
                    spool.memory.push_back(data);
                    return spool.wake_reader();
                }
                spool.written_to
            };
            let has_room = at.saturating_add(data.len() as u64) <= self.room.file;
            if self.has_disk && has_room {
                match self.write(data.clone(), at).await {
                    Ok(()) => return,
                    Err(error) => {
                        debug!(%error, "a response goes on without its temporary file");
                        self.has_disk = false;
                    }
                }
            } else {
                self.read_by_client().await;
            }
        }
    }

    async fn write(&self, data: Bytes, at: u64) -> io::Result<()> {
        let known = self.spool.borrow().file.clone();
        let file = match known {
            Some(file) => file,
            None => {
                let file = Rc::new(RefCell::new(TempFile::create(&self.store).await?));
                self.spool.borrow_mut().file = Some(Rc::clone(&file));
                file
            }
        };
        let length = data.len() as u64;
        self.spool.borrow_mut().is_writing = true;
        let write = file.borrow_mut().start_write(data, at);
        let written = match write {
            Ok(write) => write.await.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(error) => Err(error),
        };
        let mut spool = self.spool.borrow_mut();
        spool.is_writing = false;
        written?;
        spool.written_to = at + length;
        spool.wake_reader();
        Ok(())
    }

    /// Returns when the client has taken a part.
    async fn read_by_client(&self) {
        let mut is_first = true;
        poll_fn(|cx| {
            if !std::mem::replace(&mut is_first, false) {
                return Poll::Ready(());
            }
            self.spool.borrow_mut().filler = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Spool {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// A body whose small parts are joined when they come together.
#[derive(Debug)]
struct Source {
    body: Body,
    /// What came behind joined parts.
    next: Option<Option<Result<Frame<Bytes>, BodyError>>>,
}

impl Source {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let first = match self.next.take() {
            Some(known) => known,
            None => self.frame().await,
        };
        let is_small = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(|data| data.len() < PART / 8);
        let Some(Ok(frame)) = first else { return first };
        if !is_small(&frame) {
            return Some(Ok(frame));
        }
        let mut joined = BytesMut::new();
        joined.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        while joined.len() < PART {
            match self.frame().now_or_never() {
                Some(Some(Ok(frame))) if is_small(&frame) => {
                    joined.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                Some(other) => {
                    self.next = Some(other);
                    break;
                }
                None => break,
            }
        }
        Some(Ok(Frame::data(joined.freeze())))
    }

    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await
    }
}
