//! The link between agent and proxy: the model one way; reports and listening sockets the other.
//!
//! `messages` is the contract. It is carried by channels when both live in one process (`channel`), or by the unix
//! socket of the pod (`socket`). Neither side knows which: both hold an [`AgentEnd`] or a [`ProxyEnd`].
//!
//! What goes to a proxy is state, not a queue: a proxy that is slow or away gets the newest listen plan and the newest
//! model, never a backlog. Each (re)connection begins with a listen plan, and a proxy answers every listen plan with
//! all of its sockets, so an agent that was restarted learns what it needs without any memory of its own.

pub mod channel;
pub mod messages;
pub mod socket;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use messages::{ListenPlan, ModelVersion, ToAgent, ToProxy};

use crate::model::Model;

/// Messages that may wait for the agent, of all proxies; senders wait when it is full.
const INBOX: usize = 64;

/// Names one connection of a proxy; a proxy that reconnects gets a new one. Ordered by time of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyId(u64);

impl ProxyId {
    /// An identity of its own choosing, for tests of what handles proxies.
    #[cfg(test)]
    pub(crate) fn for_test(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy-{}", self.0)
    }
}

/// What the agent learns of its proxies.
#[derive(Debug)]
pub enum FromProxy {
    /// A proxy connected; it waits for its listen plan.
    Joined(ProxyId),
    /// It said something.
    Said(ProxyId, ToAgent),
    /// Its connection ended: the process is gone, or will connect again under a new identity.
    Left(ProxyId),
}

/// The agent's end: any number of proxies (the old and the new one during an upgrade).
#[derive(Debug)]
pub struct AgentEnd {
    inbox: mpsc::Receiver<Arrival>,
    outboxes: BTreeMap<ProxyId, watch::Sender<Outbox>>,
    /// Asks for what [`Self::listen_again`] says.
    again: Arc<Notify>,
}

impl AgentEnd {
    /// Another agent had taken the socket file over and is gone: proxies must find this one there again.
    pub fn listen_again(&self) {
        self.again.notify_one();
    }

    /// The next event; `None` when no proxy can connect any more. Cancel safe.
    pub async fn next(&mut self) -> Option<FromProxy> {
        Some(match self.inbox.recv().await? {
            Arrival::Joined(id, outbox) => {
                self.outboxes.insert(id, outbox);
                FromProxy::Joined(id)
            }
            Arrival::Said(id, message) => FromProxy::Said(id, message),
            Arrival::Left(id) => {
                self.outboxes.remove(&id);
                FromProxy::Left(id)
            }
        })
    }

    /// Leaves a message for one proxy, replacing an undelivered one of the same kind. Never waits; a proxy that has
    /// left is ignored.
    pub fn send(&self, to: ProxyId, message: ToProxy) {
        if let Some(outbox) = self.outboxes.get(&to) {
            outbox.send_modify(|state| state.put(message));
        }
    }

    /// Leaves a message for every proxy.
    pub fn broadcast(&self, message: &ToProxy) {
        for outbox in self.outboxes.values() {
            outbox.send_modify(|state| state.put(message.clone()));
        }
    }

    /// The proxies that are connected now, oldest first.
    pub fn proxies(&self) -> impl Iterator<Item = ProxyId> + '_ {
        self.outboxes.keys().copied()
    }
}

/// The proxy's end. It outlives a restart of the agent: messages then simply begin again with a listen plan.
#[derive(Debug)]
pub struct ProxyEnd {
    inbox: mpsc::Receiver<ToProxy>,
    sender: ProxySender,
}

impl ProxyEnd {
    /// The next message; `None` when the agent has ended for good. Cancel safe.
    pub async fn recv(&mut self) -> Option<ToProxy> {
        self.inbox.recv().await
    }

    /// Sends to the agent. What is sent while no agent is connected is dropped, for every connection begins with a
    /// listen plan, which is answered with all sockets.
    pub async fn send(&self, message: ToAgent) {
        self.sender.send(message).await;
    }

    /// A handle for sending from other tasks.
    pub fn sender(&self) -> ProxySender {
        self.sender.clone()
    }
}

/// Sends to the agent from any task of the proxy.
#[derive(Clone, Debug)]
pub struct ProxySender(mpsc::Sender<ToAgent>);

impl ProxySender {
    /// As [`ProxyEnd::send`].
    pub async fn send(&self, message: ToAgent) {
        // An error means that the carrier has ended, which is the end of the process: nobody is left to tell.
        let _ = self.0.send(message).await;
    }
}

/// What a carrier tells the agent's end.
#[derive(Debug)]
enum Arrival {
    Joined(ProxyId, watch::Sender<Outbox>),
    Said(ProxyId, ToAgent),
    Left(ProxyId),
}

/// The newest of each kind of message for one proxy, each with a count so that the reader sees what is new.
#[derive(Debug, Default)]
struct Outbox {
    listen: (u64, Option<ListenPlan>),
    model: (u64, Option<(ModelVersion, Arc<Model>)>),
    /// Said once, at the end.
    may_close: bool,
}

impl Outbox {
    fn put(&mut self, message: ToProxy) {
        match message {
            ToProxy::Listen(plan) => self.listen = (self.listen.0 + 1, Some(plan)),
            ToProxy::Model { version, model } => self.model = (self.model.0 + 1, Some((version, model))),
            ToProxy::Close => self.may_close = true,
        }
    }
}

/// Reads an outbox as a sequence of messages: the listen plan before the model.
#[derive(Debug)]
struct OutboxReader {
    state: watch::Receiver<Outbox>,
    listen_seen: u64,
    model_seen: u64,
    close_seen: bool,
}

impl OutboxReader {
    /// A new outbox and its reader.
    fn open() -> (watch::Sender<Outbox>, Self) {
        let (sender, state) = watch::channel(Outbox::default());
        (sender, Self { state, listen_seen: 0, model_seen: 0, close_seen: false })
    }

    /// The next message; `None` when the agent's end is gone. Cancel safe.
    async fn next(&mut self) -> Option<ToProxy> {
        loop {
            if let Some(message) = self.ready() {
                return Some(message);
            }
            self.state.changed().await.ok()?;
        }
    }

    fn ready(&mut self) -> Option<ToProxy> {
        let state = self.state.borrow_and_update();
        if let (count, Some(plan)) = &state.listen
            && *count != self.listen_seen
        {
            self.listen_seen = *count;
            return Some(ToProxy::Listen(plan.clone()));
        }
        if let (count, Some((version, model))) = &state.model
            && *count != self.model_seen
        {
            self.model_seen = *count;
            return Some(ToProxy::Model { version: *version, model: Arc::clone(model) });
        }
        if state.may_close && !self.close_seen {
            self.close_seen = true;
            return Some(ToProxy::Close);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(version: ModelVersion) -> ToProxy {
        ToProxy::Model { version, model: Arc::new(Model::default()) }
    }

    fn plan(port: u16) -> ListenPlan {
        ListenPlan::Handover { group_ports: vec![messages::GroupPort { listener: "http".into(), port }] }
    }

    #[tokio::test]
    async fn a_slow_proxy_gets_the_newest_plan_and_model_and_no_backlog() {
        let (outbox, mut reader) = OutboxReader::open();
        for version in 1..=5 {
            outbox.send_modify(|state| state.put(model(version)));
        }
        outbox.send_modify(|state| state.put(ToProxy::Listen(plan(1))));
        outbox.send_modify(|state| state.put(ToProxy::Listen(plan(2))));
        assert!(matches!(reader.next().await, Some(ToProxy::Listen(p)) if p == plan(2)));
        assert!(matches!(reader.next().await, Some(ToProxy::Model { version: 5, .. })));
        drop(outbox);
        assert!(reader.next().await.is_none());
    }
}
