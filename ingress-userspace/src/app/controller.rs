//! The role `controller`: one replica of several writes status and Events. Nothing waits for it.

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::world::{World, WorldReceiver};
use crate::controller::events::{self, Notice};
use crate::controller::lease::{self, LeaseSettings};
use crate::controller::status::{self, StatusSettings};

/// How often nodes, pods and the published Service are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How soon to go on when Events are left over.
const NEXT_ROUND: Duration = Duration::from_secs(1);

/// What the role needs to know.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    /// Which Lease elects the writer.
    pub lease: LeaseSettings,
    /// What to publish; `None`: status is left alone.
    pub status: Option<StatusSettings>,
}

/// Runs until `shutdown`.
pub async fn run(
    settings: ControllerSettings,
    client: Client,
    mut world: WorldReceiver,
    shutdown: CancellationToken,
) {
    let (leads, mut is_leader) = watch::channel(false);
    let election = tokio::spawn(lease::run(client.clone(), settings.lease.clone(), leads, shutdown.clone()));
    let mut events = events::Publisher::new(client.clone(), settings.lease.identity);
    let mut status = settings.status.map(|settings| status::Publisher::new(client, settings));
    loop {
        let build = world.borrow_and_update().clone();
        let mut wait = LOOK_AGAIN;
        if let Some(build) = build
            && *is_leader.borrow_and_update()
        {
            if let Some(status) = &mut status {
                status.publish(&build.model.edge, &build.ingresses).await;
            }
            if events.publish(notices(&build)).await {
                wait = NEXT_ROUND;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = world.changed() => if changed.is_err() { break },
            // The sender lives as long as the election, which ends with `shutdown`.
            _ = is_leader.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = election.await;
}

fn notices(build: &World) -> impl Iterator<Item = Notice> + '_ {
    let synced = build.ingresses.iter().map(|ingress| Notice::sync(&ingress.object));
    synced.chain(build.problems.iter().map(Notice::problem))
}
