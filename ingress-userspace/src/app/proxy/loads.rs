//! Tells the agent how much each worker has to do, so that new connections go to those that have less.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::link::ProxySender;
use crate::link::messages::ToAgent;
use crate::proxy::loads::Loads;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks without a change between two reports: what the kernel counted of connections that never came is forgotten then.
const REPEAT: u32 = 10;

/// Reports for ever.
pub(super) async fn report(loads: Arc<Loads>, agent: ProxySender) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut unchanged) = (Vec::new(), 0_u32);
    loop {
        tick.tick().await;
        let open = loads.open();
        unchanged = if open == told { unchanged + 1 } else { 0 };
        if unchanged.is_multiple_of(REPEAT) {
            told.clone_from(&open);
            agent.send(ToAgent::Loads(open)).await;
        }
    }
}
