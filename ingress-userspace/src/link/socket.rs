//! The link over the unix socket of the pod: MessagePack frames, file descriptors by SCM_RIGHTS, and of a model only what
//! [`changes`].
//!
//! Both directions: 8 bytes (length of the body, number of descriptors; little endian), one byte per batch of
//! descriptors, then the body. Descriptors ride on the batch bytes, so that a frame may hand over more of them than one
//! control message can carry. Frames are bounded; a peer that breaks a rule loses its connection, nothing else.
//!
//! Who may connect is decided by the file: mode 0660, and the group that a set-group-id folder (a pod volume with
//! `fsGroup`) gives it. A proxy needs no capability.

mod changes;
mod frame;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::messages::{Hello, ToAgent, ToProxy};
use super::{AgentEnd, Arrival, INBOX, OutboxReader, ProxyEnd, ProxyId, ProxySender};
use crate::error_chain::chain;
use changes::Held;
use frame::{Frame, FrameReader, Wire, write_frame};

/// Proxies at a time: the old and the new one of an upgrade, and some that hang.
const MOST_PROXIES: usize = 16;
/// A frame must be written within this time: a stopped peer is dropped, not waited for.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// Between attempts to reach an agent that is away.
const RECONNECT: Duration = Duration::from_millis(250);

/// Why the link could not be opened or a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket file could not be made.
    #[error("cannot listen on the unix socket {path}; the folder must exist and be writable (--link-socket)")]
    Bind {
        /// Of the socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("connection lost")]
    Io(#[from] io::Error),
    /// The body is not a message that we know.
    #[error("message not understood; agent and proxy must be of the same release")]
    Decode(#[from] rmp_serde::decode::Error),
    /// A message could not be written.
    #[error("message could not be encoded")]
    Encode(#[from] rmp_serde::encode::Error),
    /// A frame breaks a bound or its descriptors do not fit its message.
    #[error("frame refused: {0}")]
    Frame(&'static str),
    /// The peer does not read.
    #[error("the peer did not read for {WRITE_DEADLINE:?}")]
    Stuck,
}

/// Accepts proxies; run it as a task of its own.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    arrivals: mpsc::Sender<Arrival>,
    again: Arc<Notify>,
}

/// Listens on `path`, replacing a socket file that an earlier agent left (or still holds) in one step.
pub fn bind(path: &Path) -> Result<(AgentEnd, Server), LinkError> {
    let (listener, inode) = listen(path)?;
    let (arrivals, inbox) = mpsc::channel(INBOX);
    let again = Arc::new(Notify::new());
    let end = AgentEnd { inbox, outboxes: BTreeMap::new(), again: Arc::clone(&again) };
    Ok((end, Server { listener, path: path.to_owned(), inode, arrivals, again }))
}

fn listen(path: &Path) -> Result<(UnixListener, u64), LinkError> {
    let error = |source| LinkError::Bind { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(error)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660)).map_err(error)?;
    let inode = std::fs::metadata(&fresh).map_err(error)?.ino();
    std::fs::rename(&fresh, path).map_err(error)?;
    Ok((listener, inode))
}

impl Server {
    /// Accepts until `shutdown`; then closes every connection and removes the socket file if it is still ours.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut next = 1;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                () = self.again.notified() => self.listen_again(),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= MOST_PROXIES => {
                        warn!(proxies = connections.len(), "too many proxies on the link, connection refused");
                        drop(stream);
                    }
                    Ok((stream, _)) => {
                        connections.spawn(serve_proxy(ProxyId(next), stream, self.arrivals.clone()));
                        next += 1;
                    }
                    Err(error) => {
                        warn!(%error, "accepting a proxy on the link failed");
                        // Out of descriptors, as a rule: without a pause this loop would spin.
                        tokio::time::sleep(RECONNECT).await;
                    }
                },
            }
        }
        connections.shutdown().await;
        if self.has_file() {
            // Best effort: a file that stays is replaced by the next agent.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Whether the socket file is still ours.
    fn has_file(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode)
    }

    /// Puts a socket file of its own in place of one that another agent left.
    fn listen_again(&mut self) {
        if self.has_file() {
            return;
        }
        match listen(&self.path) {
            Ok((listener, inode)) => {
                (self.listener, self.inode) = (listener, inode);
                info!(path = %self.path.display(), "listening for proxies again");
            }
            Err(error) => error!(error = %chain(&error), "new proxies cannot reach this agent"),
        }
    }
}

/// One connection of a proxy, from joining to leaving.
async fn serve_proxy(id: ProxyId, stream: UnixStream, arrivals: mpsc::Sender<Arrival>) {
    let (outbox_sender, outbox) = OutboxReader::open();
    if arrivals.send(Arrival::Joined(id, outbox_sender)).await.is_err() {
        return;
    }
    match stream.peer_cred() {
        Ok(peer) => info!(proxy = %id, uid = peer.uid(), pid = peer.pid(), "proxy connected"),
        Err(error) => debug!(proxy = %id, %error, "no credentials of the proxy"),
    }
    let outcome = exchange_with_proxy(id, &stream, outbox, &arrivals).await;
    match outcome {
        Ok(()) => info!(proxy = %id, "proxy disconnected"),
        Err(error) => warn!(proxy = %id, error = %chain(&error), "proxy disconnected"),
    }
    // The agent may have ended meanwhile, and then needs no telling.
    let _ = arrivals.send(Arrival::Left(id)).await;
}

async fn exchange_with_proxy(
    id: ProxyId,
    stream: &UnixStream,
    mut outbox: OutboxReader,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<(), LinkError> {
    let reading = async {
        let mut reader = FrameReader::new(stream);
        while let Some(message) = reader.next::<ToAgent>().await? {
            if arrivals.send(Arrival::Said(id, message)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let writing = async {
        let mut sent = Arc::default();
        while let Some(message) = outbox.next().await {
            match message {
                ToProxy::Listen(plan) => write(stream, Frame::Listen(plan)).await?,
                ToProxy::Model { version, model } => {
                    for part in changes::parts(version, &sent, &model) {
                        write(stream, Frame::Model(part)).await?;
                    }
                    sent = model;
                }
                ToProxy::Close => write(stream, Frame::Close).await?,
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

/// Keeps a proxy connected; run it as a task of its own.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    hello: Hello,
    to_proxy: mpsc::Sender<ToProxy>,
    from_proxy: mpsc::Receiver<ToAgent>,
}

/// The end of a proxy whose agent listens on `path`, now or later.
pub fn connect(path: &Path, hello: Hello) -> (ProxyEnd, Client) {
    let (to_proxy, inbox) = mpsc::channel(1);
    let (sender, from_proxy) = mpsc::channel(INBOX);
    (
        ProxyEnd { inbox, sender: ProxySender(sender) },
        Client { path: path.to_owned(), hello, to_proxy, from_proxy },
    )
}

impl Client {
    /// Connects, and connects again whenever the agent went away, until `shutdown` or the proxy's end is dropped.
    /// What was still queued for the agent at `shutdown` is sent first, as long as there is a connection.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Said once per absence: the proxy serves on with the last model, and the attempts are many.
        let mut told = false;
        loop {
            match UnixStream::connect(&self.path).await {
                Ok(stream) => {
                    told = false;
                    info!(path = %self.path.display(), "connected to the agent");
                    match self.exchange(&stream, &shutdown).await {
                        Ok(Exchange::Over) => return,
                        Ok(Exchange::Lost) => warn!("agent went away, serving the last model"),
                        Err(error) => {
                            warn!(error = %chain(&error), "agent went away, serving the last model")
                        }
                    }
                }
                Err(error) if !told => {
                    told = true;
                    warn!(path = %self.path.display(), %error, "agent not reachable, trying again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.to_proxy.closed() => return,
                () = tokio::time::sleep(RECONNECT) => {}
            }
            // Of no use to the next agent, which begins with a listen plan; and the senders must not wait for it.
            while self.from_proxy.try_recv().is_ok() {}
        }
    }

    async fn exchange(
        &mut self,
        stream: &UnixStream,
        shutdown: &CancellationToken,
    ) -> Result<Exchange, LinkError> {
        let Self { hello, to_proxy, from_proxy, .. } = self;
        let reading = async {
            let mut reader = FrameReader::new(stream);
            let mut held = Held::default();
            while let Some(frame) = reader.next::<Frame>().await? {
                let message = match frame {
                    Frame::Listen(plan) => ToProxy::Listen(plan),
                    Frame::Model(part) => match held.take(part) {
                        Some((version, model)) => ToProxy::Model { version, model },
                        None => continue,
                    },
                    Frame::Close => ToProxy::Close,
                };
                if to_proxy.send(message).await.is_err() {
                    return Ok(Exchange::Over);
                }
            }
            Ok(Exchange::Lost)
        };
        let writing = async {
            write(stream, ToAgent::Hello(hello.clone())).await?;
            loop {
                tokio::select! {
                    biased;
                    message = from_proxy.recv() => match message {
                        Some(message) => write(stream, message).await?,
                        None => return Ok(Exchange::Over),
                    },
                    () = shutdown.cancelled() => return Ok(Exchange::Over),
                }
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    }
}

/// How a connection to the agent ended.
enum Exchange {
    /// The agent is gone, maybe to come back.
    Lost,
    /// This process is done.
    Over,
}

async fn write<M: Wire>(stream: &UnixStream, message: M) -> Result<(), LinkError> {
    tokio::time::timeout(WRITE_DEADLINE, write_frame(stream, message)).await.unwrap_or(Err(LinkError::Stuck))
}

#[cfg(test)]
mod tests;
