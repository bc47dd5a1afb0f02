//! Tells neighbours of the VIPs that this node begins to announce: at once, and again one and two seconds later, since
//! nobody acknowledges what was heard.
//!
//! What is new is an address on an interface: a pool that this node takes over, an address that joins a pool, a link
//! that comes back; and everything, when another node was not heard for a while, which in between may have said
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::Agent;
use crate::bpf::announce::tell;
use crate::bpf::interfaces::Interface;
use crate::bpf::kernel::Standing;
use crate::compile::maps::announce::announced;

/// Between two announcements of the same.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is said.
const TIMES: u8 = 3;

/// What neighbours shall know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct News {
    /// The interfaces of the node.
    interfaces: Vec<Interface>,
    /// The VIPs that it announces.
    addresses: BTreeSet<IpAddr>,
    /// Counts up when all of it is new.
    edition: u32,
}

/// Addresses by the number of their interface.
type Places = BTreeMap<u32, BTreeSet<IpAddr>>;

/// The task that tells.
pub(super) struct Crier {
    news: watch::Sender<News>,
    _task: AbortOnDropHandle<()>,
}

impl Crier {
    pub(super) fn start() -> Self {
        let (news, seen) = watch::channel(News::default());
        Self { news, _task: AbortOnDropHandle::new(tokio::spawn(run(seen, send))) }
    }

    /// From now on, this holds.
    fn tell(&self, now: News) {
        self.news.send_if_modified(|news| {
            let now = News { edition: news.edition, ..now };
            let is_new = *news != now;
            *news = now;
            is_new
        });
    }

    /// Neighbours may have heard otherwise: they are told again.
    pub(super) fn repeat(&self) {
        self.news.send_modify(|news| news.edition = news.edition.wrapping_add(1));
    }
}

impl Agent {
    /// Once the program answers for an address, those who know another place for it are told.
    pub(super) fn tell_neighbours(&self) {
        let addresses = match &self.kernel {
            Some(kernel) if kernel.standing() == Standing::Owner => announced(kernel.contents()),
            _ => BTreeSet::new(),
        };
        self.crier.tell(News { interfaces: self.links.clone(), addresses, edition: 0 });
    }
}

/// Something that is said again.
struct Round {
    at: Instant,
    left: u8,
    places: Places,
}

async fn run(mut news: watch::Receiver<News>, mut send: impl FnMut(&Interface, &BTreeSet<IpAddr>)) {
    let mut known = Places::new();
    let mut edition = 0;
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let now = news.borrow_and_update().clone();
        let places = places(&now);
        if now.edition != edition {
            edition = now.edition;
            known.clear();
            rounds.clear();
        }
        let gained = without(&places, &known);
        known = places;
        if gained.values().any(|addresses| !addresses.is_empty()) {
            info!(addresses = ?now.addresses, "neighbours are told of announced addresses");
            rounds.push(Round { at: Instant::now(), left: TIMES, places: gained });
        }
        for round in &mut rounds {
            if round.at <= Instant::now() {
                say(&now.interfaces, &known, round, &mut send);
                round.left -= 1;
                round.at += AGAIN;
            }
        }
        rounds.retain(|round| round.left > 0);
        let next = rounds.iter().map(|round| round.at).min();
        let is_over = tokio::select! {
            changed = news.changed() => changed.is_err(),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => false,
        };
        if is_over {
            return;
        }
    }
}

/// Says what of a round is still true.
fn say(
    interfaces: &[Interface],
    known: &Places,
    round: &Round,
    send: &mut impl FnMut(&Interface, &BTreeSet<IpAddr>),
) {
    for interface in interfaces {
        let (Some(of_round), Some(now)) = (round.places.get(&interface.index), known.get(&interface.index))
        else {
            continue;
        };
        let addresses: BTreeSet<IpAddr> = of_round.intersection(now).copied().collect();
        if !addresses.is_empty() {
            send(interface, &addresses);
        }
    }
}

fn send(interface: &Interface, addresses: &BTreeSet<IpAddr>) {
    match tell(interface, addresses) {
        Ok(()) => debug!(interface = interface.name, ?addresses, "neighbours told"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => warn!(
            interface = interface.name,
            %error,
            fix = "run with CAP_NET_RAW",
            "neighbours are not told of announced addresses, and notice when they ask again"
        ),
        Err(error) => warn!(interface = interface.name, %error, "neighbours could not be told"),
    }
}

/// An interface without a hardware address has no neighbours to tell.
fn places(news: &News) -> Places {
    let with_address = news.interfaces.iter().filter(|interface| interface.mac != [0; 6]);
    let up = with_address.filter(|interface| interface.nature.is_up);
    up.map(|interface| (interface.index, news.addresses.clone())).collect()
}

fn without(places: &Places, known: &Places) -> Places {
    let none = BTreeSet::new();
    let gained = |(index, addresses): (&u32, &BTreeSet<IpAddr>)| {
        let known = known.get(index).unwrap_or(&none);
        (*index, addresses.difference(known).copied().collect())
    };
    places.iter().map(gained).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::bpf::interfaces::Nature;

    fn interface(index: u32) -> Interface {
        let nature = Nature { is_up: true, ..Nature::default() };
        Interface {
            index,
            name: format!("eth{index}"),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![],
            xdp: None,
            nature,
        }
    }

    fn news(interfaces: &[u32], addresses: &[&str]) -> News {
        News {
            interfaces: interfaces.iter().map(|index| interface(*index)).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            edition: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_new_is_said_three_times_as_long_as_it_is_true() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (sender, seen) = watch::channel(News::default());
        let start = Instant::now();
        let log = Arc::clone(&said);
        let task = tokio::spawn(run(seen, move |interface: &Interface, addresses: &BTreeSet<IpAddr>| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            log.lock().unwrap().push((start.elapsed().as_millis(), interface.index, texts.join(" ")));
        }));
        let sleep = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
        let take = || {
            let mut said = said.lock().unwrap();
            std::mem::take(&mut *said)
        };
        sleep(100).await;
        sender.send_replace(news(&[1, 2], &["198.18.100.1"]));
        sleep(5000).await;
        let one = |at, index: u32| (at, index, "198.18.100.1".to_owned());
        let both = [100, 1100, 2100].map(|at| [one(at, 1), one(at, 2)]).concat();
        assert_eq!(take(), both);

        // Another address and another interface: only they are new.
        sender.send_replace(news(&[1, 2], &["198.18.100.1", "2001:db8::1"]));
        sleep(500).await;
        sender.send_replace(news(&[1, 2, 3], &["198.18.100.1"]));
        sleep(5000).await;
        let new = |at, index: u32| (at, index, "2001:db8::1".to_owned());
        assert_eq!(
            take(),
            [new(5100, 1), new(5100, 2), one(5600, 3), one(6600, 3), one(7600, 3)],
            "what was given away is said no more"
        );

        // Somebody may have said otherwise.
        sender.send_replace(News { edition: 1, ..news(&[3], &["198.18.100.1"]) });
        sleep(5000).await;
        assert_eq!(take(), [one(10_600, 3), one(11_600, 3), one(12_600, 3)]);
        drop(sender);
        task.await.unwrap();
    }
}
