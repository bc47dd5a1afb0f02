//! The link within one process (`portcullis run`): no serialisation, sockets move as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::messages::{Hello, ToAgent};
use super::{AgentEnd, Arrival, INBOX, OutboxReader, ProxyEnd, ProxyId, ProxySender};

/// Moves messages between the two ends; run it as a task of its own. It ends when either end is dropped.
#[derive(Debug)]
pub struct Carrier {
    arrivals: mpsc::Sender<Arrival>,
    outbox: OutboxReader,
    to_proxy: mpsc::Sender<super::ToProxy>,
    from_proxy: mpsc::Receiver<ToAgent>,
    opening: Vec<Arrival>,
}

/// The one proxy of such a process.
const ID: ProxyId = ProxyId(1);

/// A connected pair of ends, and the carrier between them.
pub fn pair(hello: Hello) -> (AgentEnd, ProxyEnd, Carrier) {
    let (arrivals, inbox) = mpsc::channel(INBOX);
    let (to_proxy, proxy_inbox) = mpsc::channel(1);
    let (sender, from_proxy) = mpsc::channel(INBOX);
    let (outbox_sender, outbox) = OutboxReader::open();
    let opening = vec![Arrival::Joined(ID, outbox_sender), Arrival::Said(ID, ToAgent::Hello(hello))];
    (
        AgentEnd { inbox, outboxes: BTreeMap::new(), again: Arc::default() },
        ProxyEnd { inbox: proxy_inbox, sender: ProxySender(sender) },
        Carrier { arrivals, outbox, to_proxy, from_proxy, opening },
    )
}

impl Carrier {
    /// Carries until an end is gone.
    pub async fn run(self) {
        let Self { arrivals, mut outbox, to_proxy, mut from_proxy, opening } = self;
        for arrival in opening {
            if arrivals.send(arrival).await.is_err() {
                return;
            }
        }
        let up = async {
            while let Some(message) = from_proxy.recv().await {
                if arrivals.send(Arrival::Said(ID, message)).await.is_err() {
                    break;
                }
            }
        };
        let down = async {
            // Room is reserved first, so that a message is taken from the outbox (which keeps only the newest) at the
            // moment the proxy can have it.
            while let Ok(room) = to_proxy.reserve().await {
                match outbox.next().await {
                    Some(message) => room.send(message),
                    None => return,
                }
            }
            // The proxy is gone; what it said last is still on its way up, and its end ends that.
            std::future::pending().await
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
        // The agent may be gone first, and then needs no telling.
        let _ = arrivals.send(Arrival::Left(ID)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::messages::{ListenPlan, ProxyReport, ToProxy};
    use super::super::{FromProxy, ProxyId};
    use super::*;
    use crate::model::Model;

    #[tokio::test]
    async fn both_ends_hear_each_other_and_the_end_of_the_proxy_is_an_event() {
        let hello = Hello { pid: 7, workers: 2, build: "test".into() };
        let (mut agent, mut proxy, carrier) = pair(hello.clone());
        let carrier = tokio::spawn(carrier.run());

        assert!(matches!(agent.next().await, Some(FromProxy::Joined(id)) if id == ID));
        assert!(matches!(agent.next().await, Some(FromProxy::Said(_, ToAgent::Hello(h))) if h == hello));
        let plan = ListenPlan::Ports { addresses: vec![] };
        agent.send(ID, ToProxy::Listen(plan.clone()));
        agent.broadcast(&ToProxy::Model { version: 1, model: Arc::new(Model::default()) });
        assert!(matches!(proxy.recv().await, Some(ToProxy::Listen(p)) if p == plan));
        assert!(matches!(proxy.recv().await, Some(ToProxy::Model { version: 1, .. })));

        proxy.send(ToAgent::Report(ProxyReport { version: 1, refused: vec![] })).await;
        assert!(matches!(agent.next().await, Some(FromProxy::Said(_, ToAgent::Report(r))) if r.version == 1));
        drop(proxy);
        assert!(matches!(agent.next().await, Some(FromProxy::Left(_))));
        assert_eq!(agent.proxies().collect::<Vec<ProxyId>>(), []);
        carrier.await.unwrap();
    }
}
