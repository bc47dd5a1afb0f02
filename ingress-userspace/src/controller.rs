//! What one replica does for the cluster: holds the Lease, writes status and Events.
//!
//! It reads the same [`World`](crate::app::world::World) build as the agents, from its own translation, and writes
//! nothing else: routing never waits for it.

pub mod addresses;
pub mod data_plane;
pub mod edge_status;
pub mod events;
pub mod lease;
pub mod members;
pub mod node_annotations;
pub mod status;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook_certificate;

use std::time::Duration;

/// No call to the API server takes longer: a silent server must not make an old leader believe that it still leads.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that ends: what the API server answered, or the failure to answer in time.
async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}

/// The HTTP status of a refusal.
fn refusal(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
