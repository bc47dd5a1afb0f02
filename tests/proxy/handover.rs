//! Kernel modes: sockets in hidden groups on loopback, each handed over as a duplicate.

use std::collections::BTreeSet;
use std::net::TcpListener;

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, eventually, policies, simple};
use ingress_userspace::link::messages::{GroupPort, HandedSocket, ListenPlan};

/// Listener, worker and whether it is IPv6.
type Kinds = BTreeSet<(String, u32, bool)>;
/// Listener and port.
type Ports = BTreeSet<(String, u16)>;

fn describe(sockets: &[HandedSocket]) -> (Kinds, Ports) {
    let about = || sockets.iter().map(|handed| &handed.about);
    (
        about().map(|about| (about.listener.clone(), about.worker, about.bound.is_ipv6())).collect(),
        about().map(|about| (about.listener.clone(), about.bound.port())).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_hands_over_a_socket_per_listener_and_family() {
    let origin = Origin::start("web").await;
    let mut proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let sockets = proxy.hand_over(ListenPlan::Handover { group_ports: vec![] }).await.unwrap();
    let (kinds, ports) = describe(&sockets);
    assert_eq!((sockets.len(), kinds.len(), ports.len()), (8, 8, 2), "{kinds:?} {ports:?}");
    for handed in &sockets {
        let socket = TcpListener::from(handed.socket.try_clone().unwrap());
        assert_eq!(socket.local_addr().unwrap(), handed.about.bound);
        assert!(handed.about.bound.ip().is_loopback());
    }
    // What comes through a handed-over socket is served; the ports of the plan before are closed.
    let http = sockets
        .iter()
        .find(|handed| handed.about.listener == "http" && handed.about.bound.is_ipv4())
        .unwrap();
    assert_eq!(client::fetch(http.about.bound, "a", "/").await.unwrap().text(), "web");
    eventually(|| std::net::TcpStream::connect(proxy.http).is_err().then_some(())).await.unwrap();

    // An agent that comes back proposes other ports, and gets the sockets that serve already.
    let group_ports = vec![GroupPort { listener: "http".into(), port: 1 }];
    let again = proxy.hand_over(ListenPlan::Handover { group_ports }).await.unwrap();
    assert_eq!(describe(&again), (kinds, ports));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_proxy_joins_the_groups_of_the_first() {
    let origin = Origin::start("web").await;
    let model = simple("", policies(), &[origin.address]);
    let mut old = Instance::start(model.clone()).await.unwrap();
    let first = old.hand_over(ListenPlan::Handover { group_ports: vec![] }).await.unwrap();
    let (_, ports) = describe(&first);
    let group_ports: Vec<_> =
        ports.iter().map(|(listener, port)| GroupPort { listener: listener.clone(), port: *port }).collect();
    let mut new = Instance::start(model).await.unwrap();
    let second = new.hand_over(ListenPlan::Handover { group_ports }).await.unwrap();
    assert_eq!(describe(&second), describe(&first));
    let address = second[0].about.bound;
    drop(first);
    old.ended().await.unwrap();
    // The group goes on without the one that left.
    for _ in 0..20 {
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    }
}
