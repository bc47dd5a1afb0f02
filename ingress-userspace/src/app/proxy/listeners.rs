//! Which sockets are open: what the agent's plan and the model's listeners ask for, and no more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context as _;
use tracing::{error, info};

use super::thread::Workers;
use crate::l4::udp::Datagrams;
use crate::link::messages::{HandedSocket, ListenPlan, SocketAbout};
use crate::listener::accept::{Listening, Reads};
use crate::listener::bind::{BoundDatagrams, BoundSocket, bind, bind_datagrams};
use crate::model::Model;
use crate::model::listener::{Listener, ListenerProtocol};
use crate::snapshot::edge::Enforce;

/// The open listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    workers: u32,
    plan: Option<ListenPlan>,
    wanted: Option<Vec<Listener>>,
    open: BTreeMap<String, Open>,
    /// Listeners that could not be opened, and what was said about each.
    failing: BTreeMap<String, String>,
    is_told: bool,
}

#[derive(Debug)]
struct Open {
    listener: Listener,
    plan: ListenPlan,
    addresses: Vec<SocketAddr>,
    /// Duplicates, to be handed over again when the agent comes back.
    sockets: Vec<Kept>,
}

/// A duplicate of a socket, and what it is.
#[derive(Debug)]
struct Kept {
    about: SocketAbout,
    socket: OwnedFd,
}

impl Kept {
    fn of(about: SocketAbout, socket: &impl AsFd) -> anyhow::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned().context("a socket cannot be duplicated")?;
        Ok(Self { about, socket })
    }
}

impl Listeners {
    pub(super) fn new(workers: u32) -> Self {
        Self {
            workers,
            plan: None,
            wanted: None,
            open: BTreeMap::new(),
            failing: BTreeMap::new(),
            is_told: false,
        }
    }

    /// The agent said where to listen; it waits for all sockets.
    pub(super) fn plan(&mut self, plan: ListenPlan) {
        self.plan = Some(plan);
        self.is_told = false;
    }

    /// The model said on which ports.
    pub(super) fn model(&mut self, model: &Model) {
        self.wanted = Some(model.listeners.clone());
    }

    /// Whether everything that is asked for is open.
    pub(super) fn is_bound(&self) -> bool {
        self.plan.is_some() && self.wanted.is_some()
    }

    /// Where each listener listens.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let all = self.open.iter();
        all.flat_map(|(name, open)| open.addresses.iter().map(|address| (name.clone(), *address))).collect()
    }

    /// Opens and closes sockets until they are as asked for; returns those to be handed over.
    pub(super) fn settle(&mut self, workers: &Workers) -> anyhow::Result<Option<Vec<HandedSocket>>> {
        let (Some(plan), Some(wanted)) = (self.plan.clone(), self.wanted.clone()) else { return Ok(None) };
        let is_gone = |open: &Open| {
            !wanted.iter().any(|listener| {
                listener.name == open.listener.name
                    && listener.port == open.listener.port
                    && kind(listener) == kind(&open.listener)
            }) || !is_compatible(&open.plan, &plan)
        };
        let gone: Vec<String> =
            self.open.iter().filter(|(_, open)| is_gone(open)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.open.remove(&name);
            workers.unlisten(&name);
            self.is_told = false;
            info!(listener = name, "listener closed");
        }
        for listener in &wanted {
            if !self.open.contains_key(&listener.name.0) {
                let name = &listener.name.0;
                match self.open(listener, &plan, workers) {
                    Ok(open) => {
                        self.failing.remove(name);
                        self.open.insert(name.clone(), open);
                        self.is_told = false;
                    }
                    // A service whose port cannot be had takes nothing from the others; the next model tries again.
                    Err(error) if listener.protocol.is_stream() => {
                        let error = format!("{error:#}");
                        if self.failing.get(name) != Some(&error) {
                            error!(listener = name, port = listener.port, error, "service is not served");
                            self.failing.insert(name.clone(), error);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if self.is_told || !matches!(plan, ListenPlan::Handover { .. }) {
            return Ok(None);
        }
        self.is_told = true;
        self.handed().map(Some)
    }

    fn open(&self, listener: &Listener, plan: &ListenPlan, workers: &Workers) -> anyhow::Result<Open> {
        let enforce = match plan {
            ListenPlan::Ports { .. } => Enforce::ListsAndLimits,
            ListenPlan::Handover { .. } => Enforce::Lists,
        };
        if listener.protocol.is_udp() {
            return self.open_datagrams(listener, plan, workers);
        }
        let sockets = bind(listener, plan, self.workers)?;
        for bound in sockets.iter().filter(|bound| bound.worker == 0) {
            info!(listener = listener.name.0, address = %bound.address, port = listener.port, "listening");
        }
        let addresses = sockets.iter().filter(|bound| bound.worker == 0).map(|bound| bound.address).collect();
        // In userspace mode nobody asks for the sockets.
        let keeps = matches!(plan, ListenPlan::Handover { .. });
        let mut kept = Vec::new();
        for BoundSocket { listener: name, worker, address, socket } in sockets {
            if keeps {
                kept.push(Kept::of(SocketAbout::new(&name, worker, address), &socket)?);
            }
            workers.listen(worker, Listening { listener: name, socket, reads: kind(listener), enforce });
        }
        Ok(Open { listener: listener.clone(), plan: plan.clone(), addresses, sockets: kept })
    }

    fn open_datagrams(
        &self,
        listener: &Listener,
        plan: &ListenPlan,
        workers: &Workers,
    ) -> anyhow::Result<Open> {
        let keeps = matches!(plan, ListenPlan::Handover { .. });
        let (mut addresses, mut kept) = (Vec::new(), Vec::new());
        for bound in bind_datagrams(listener, plan, self.workers)? {
            let BoundDatagrams { listener: name, worker, address, socket } = bound;
            if worker == 0 {
                info!(listener = name, %address, "receiving");
                addresses.push(address);
            }
            if keeps {
                let about = SocketAbout { is_udp: true, ..SocketAbout::new(&name, worker, address) };
                kept.push(Kept::of(about, &socket)?);
            }
            workers.receive(worker, Datagrams { listener: name, socket });
        }
        Ok(Open { listener: listener.clone(), plan: plan.clone(), addresses, sockets: kept })
    }

    fn handed(&self) -> anyhow::Result<Vec<HandedSocket>> {
        let kept = self.open.values().flat_map(|open| &open.sockets);
        kept.map(|kept| {
            let Kept { about, socket } = Kept::of(kept.about.clone(), &kept.socket)?;
            Ok(HandedSocket { about, socket })
        })
        .collect()
    }
}

fn kind(listener: &Listener) -> Reads {
    match listener.protocol {
        ListenerProtocol::Http => Reads::Http,
        ListenerProtocol::Https { .. } => Reads::Tls,
        ListenerProtocol::Tcp(_) | ListenerProtocol::Udp(_) => Reads::Nothing,
    }
}

/// Whether sockets of one plan serve another as well. A group that exists is kept whatever port the agent proposes.
fn is_compatible(before: &ListenPlan, now: &ListenPlan) -> bool {
    match (before, now) {
        (ListenPlan::Handover { .. }, ListenPlan::Handover { .. }) => true,
        (before, now) => before == now,
    }
}
