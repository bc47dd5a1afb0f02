//! rtnetlink conversations, each on a connection of its own: they are rare, and none outlives its question.

use std::io;

use rtnetlink::Handle;

/// Why a question to the network stack failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused.
    #[error("netlink: {what}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// Somebody else has what was asked for.
    #[error("{what} is somebody else's, and is left alone")]
    Taken {
        /// What it is.
        what: String,
    },
    /// The connection ended before its answer.
    #[error("the netlink connection ended early")]
    Ended,
}

impl NetlinkError {
    /// Says what was asked for.
    pub(super) fn refused(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Refused { what, source }
    }

    /// What the kernel said, as a number of errno.h.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Refused { source: rtnetlink::Error::NetlinkError(message), .. } => {
                message.to_io().raw_os_error()
            }
            Self::Open(error) => error.raw_os_error(),
            _ => None,
        }
    }

    /// Whether what was asked about is not there, or is no more.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.code(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT))
    }

    /// Whether the rights are missing.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Refused { source: rtnetlink::Error::NetlinkError(message), .. } => {
                message.to_io().kind() == io::ErrorKind::PermissionDenied
            }
            Self::Open(error) => error.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}

/// Runs a conversation with the network stack of this process's network namespace.
pub(super) async fn converse<T>(
    conversation: impl AsyncFnOnce(Handle) -> Result<T, NetlinkError>,
) -> Result<T, NetlinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    // The connection is driven here instead of in a task: it has no life beyond the conversation.
    tokio::select! {
        result = conversation(handle) => result,
        () = connection => Err(NetlinkError::Ended),
    }
}
