//! One frame: header, descriptor batches, body.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::LinkError;
use super::changes::ModelPart;
use crate::link::messages::{HandedSocket, Hello, ListenPlan, ProxyReport, SocketAbout, ToAgent};

/// Largest body. Models come in parts of a few megabytes.
const MOST_BYTES: usize = 64 << 20;
/// Most descriptors of a frame: every slot of the kernel's socket map.
const MOST_DESCRIPTORS: usize = 1024;
/// Descriptors per control message; the kernel takes at most 253.
const BATCH: usize = 128;
const HEADER: usize = 8;

/// A message as it travels: a serde body and descriptors beside it.
pub(super) trait Wire: Sized {
    /// The serde part.
    type Body: Serialize + DeserializeOwned;
    /// Takes a message apart.
    fn apart(self) -> (Self::Body, Vec<OwnedFd>);
    /// Puts it together again; the descriptors must fit.
    fn together(body: Self::Body, descriptors: Vec<OwnedFd>) -> Result<Self, LinkError>;
}

/// [`ToProxy`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame {
    Listen(ListenPlan),
    Model(ModelPart),
    Close,
}

impl Wire for Frame {
    type Body = Self;

    fn apart(self) -> (Self, Vec<OwnedFd>) {
        (self, Vec::new())
    }

    fn together(body: Self, descriptors: Vec<OwnedFd>) -> Result<Self, LinkError> {
        if descriptors.is_empty() { Ok(body) } else { Err(LinkError::Frame("descriptors from the agent")) }
    }
}

/// [`ToAgent`] without its sockets.
#[derive(Serialize, Deserialize)]
pub(super) enum ToAgentBody {
    Hello(Hello),
    Sockets(Vec<SocketAbout>),
    Report(ProxyReport),
    Loads(Vec<u32>),
    Draining,
    Closing,
}

impl Wire for ToAgent {
    type Body = ToAgentBody;

    fn apart(self) -> (ToAgentBody, Vec<OwnedFd>) {
        match self {
            Self::Hello(hello) => (ToAgentBody::Hello(hello), Vec::new()),
            Self::Report(report) => (ToAgentBody::Report(report), Vec::new()),
            Self::Loads(loads) => (ToAgentBody::Loads(loads), Vec::new()),
            Self::Draining => (ToAgentBody::Draining, Vec::new()),
            Self::Closing => (ToAgentBody::Closing, Vec::new()),
            Self::Sockets(sockets) => {
                let (about, descriptors) = sockets.into_iter().map(|s| (s.about, s.socket)).unzip();
                (ToAgentBody::Sockets(about), descriptors)
            }
        }
    }

    fn together(body: ToAgentBody, descriptors: Vec<OwnedFd>) -> Result<Self, LinkError> {
        let expected = if let ToAgentBody::Sockets(about) = &body { about.len() } else { 0 };
        if descriptors.len() != expected {
            return Err(LinkError::Frame("number of descriptors differs from the message"));
        }
        Ok(match body {
            ToAgentBody::Hello(hello) => Self::Hello(hello),
            ToAgentBody::Report(report) => Self::Report(report),
            ToAgentBody::Loads(loads) => Self::Loads(loads),
            ToAgentBody::Draining => Self::Draining,
            ToAgentBody::Closing => Self::Closing,
            ToAgentBody::Sockets(about) => Self::Sockets(
                about
                    .into_iter()
                    .zip(descriptors)
                    .map(|(about, socket)| HandedSocket { about, socket })
                    .collect(),
            ),
        })
    }
}

/// Writes one message.
pub(super) async fn write_frame<M: Wire>(stream: &UnixStream, message: M) -> Result<(), LinkError> {
    let (body, descriptors) = message.apart();
    let body = rmp_serde::to_vec_named(&body)?;
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(LinkError::Frame("more than 1024 listening sockets; use fewer --workers"));
    }
    if body.len() > MOST_BYTES {
        return Err(LinkError::Frame("message too large"));
    }
    let mut header = Vec::with_capacity(HEADER);
    // Both fit in 32 bits by the bounds above.
    header.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&u32::try_from(descriptors.len()).unwrap_or(u32::MAX).to_le_bytes());
    write_all(stream, &header, &[]).await?;
    for batch in descriptors.chunks(BATCH) {
        let batch: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        write_all(stream, &[0], &batch).await?;
    }
    write_all(stream, &body, &[]).await?;
    Ok(())
}

/// Writes all bytes; `descriptors` ride on the first.
async fn write_all(
    stream: &UnixStream,
    mut bytes: &[u8],
    mut descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("control message does not fit"));
            }
            Ok(rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Ok(sent) => {
                bytes = bytes.get(sent..).unwrap_or_default();
                descriptors = &[];
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads messages from a connection.
pub(super) struct FrameReader<'a> {
    stream: &'a UnixStream,
    descriptors: VecDeque<OwnedFd>,
}

impl<'a> FrameReader<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Self {
        Self { stream, descriptors: VecDeque::new() }
    }

    /// The next message; `None` at the end of the stream. Not cancel safe: a cancelled read ends the connection.
    pub(super) async fn next<M: Wire>(&mut self) -> Result<Option<M>, LinkError> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header).await? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = header;
        let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let descriptors = u32::from_le_bytes([e, f, g, h]) as usize;
        if bytes > MOST_BYTES || descriptors > MOST_DESCRIPTORS {
            return Err(LinkError::Frame("larger than allowed"));
        }
        let mut batches = vec![0; descriptors.div_ceil(BATCH)];
        // The buffer grows with what arrives, so that a header alone cannot make us reserve the bound.
        let mut body = Vec::new();
        let whole = self.fill(&mut batches).await? && {
            while body.len() < bytes {
                let start = body.len();
                body.resize(bytes.min(start + (1 << 20)), 0);
                let Some(part) = body.get_mut(start..) else { break };
                if !self.fill(part).await? {
                    return Err(LinkError::Frame("cut short"));
                }
            }
            true
        };
        if !whole {
            return Err(LinkError::Frame("cut short"));
        }
        if self.descriptors.len() != descriptors {
            return Err(LinkError::Frame("number of descriptors differs from the header"));
        }
        let body = rmp_serde::from_slice(&body)?;
        M::together(body, self.descriptors.drain(..).collect()).map(Some)
    }

    /// Fills the buffer; `false` when the stream ended before its first byte.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LinkError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.read_some(rest).await? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(LinkError::Frame("cut short")),
                read => filled += read,
            }
        }
        Ok(true)
    }

    async fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, LinkError> {
        loop {
            self.stream.readable().await?;
            let descriptors = &mut self.descriptors;
            let read = self.stream.try_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut slices = [IoSliceMut::new(buffer)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let read = rustix::net::recvmsg(self.stream, &mut slices, &mut control, flags)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        descriptors.extend(received);
                    }
                }
                Ok((read.bytes, read.flags))
            });
            match read {
                Ok((_, flags)) if flags.contains(ReturnFlags::CTRUNC) => {
                    return Err(LinkError::Frame(
                        "descriptors cut off; the limit of open files may be reached",
                    ));
                }
                Ok(_) if self.descriptors.len() > MOST_DESCRIPTORS => {
                    return Err(LinkError::Frame("more descriptors than announced"));
                }
                Ok((bytes, _)) => return Ok(bytes),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
