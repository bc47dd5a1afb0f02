//! Tells that interfaces or addresses of this network namespace came, went or changed; what they are now must be asked.

use std::fmt;
use std::future::pending;
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rtnetlink::{Handle, MulticastGroup};

use super::netlink::NetlinkError;

/// Changes since it was made, or since it was last asked.
pub struct Monitor {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    changes: BoxStream<'static, ()>,
    is_over: bool,
    /// The connection lives as long as it.
    _handle: Handle,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Listens from now on.
    pub fn new() -> Result<Self, NetlinkError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, changes) =
            rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        let changes = changes.map(drop).boxed();
        Ok(Self { connection: Box::pin(connection), changes, is_over: false, _handle: handle })
    }

    /// Waits for a change; for ever, once the connection has ended.
    pub async fn changed(&mut self) {
        if !self.is_over {
            tokio::select! {
                change = self.changes.next() => if change.is_some() { return },
                () = &mut self.connection => {}
            }
            self.is_over = true;
        }
        pending().await
    }
}
