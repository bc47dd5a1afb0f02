//! Change and end: churn under load, new models while requests run, drain, panic-free closing, accept-time policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::kernel::connections;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, eventually, policies, simple};
use ingress_userspace::model::edge::{AddressRange, BanRule, EdgePolicy, EdgeScope, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn endpoints_come_and_go_under_load_without_a_failed_request() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let all: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let mut proxy = Instance::start(simple("", policies(), &all)).await.unwrap();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (stop, served, address) = (Arc::clone(&stop), Arc::clone(&served), proxy.http);
            tokio::spawn(async move {
                let mut h1 = Http1::open(address).await.unwrap();
                let mut h2 = Http2::open(address).await.unwrap();
                while !stop.load(Ordering::SeqCst) {
                    let request = client::get("a", "/delay/1");
                    // An HTTP/1 connection ends after a thousand requests.
                    if h1.is_closed() {
                        h1 = Http1::open(address).await.unwrap();
                    }
                    let answer =
                        if number % 2 == 0 { h1.send(request).await } else { h2.send(request).await }
                            .unwrap();
                    assert_eq!(answer.status, 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..40 {
        let keep = all[round % 3];
        proxy.publish(simple("", policies(), &[keep])).await.unwrap();
        proxy.publish(simple("", policies(), &all)).await.unwrap();
        let target = served.load(Ordering::SeqCst) + 5;
        eventually(|| (served.load(Ordering::SeqCst) >= target).then_some(())).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(served.load(Ordering::SeqCst) >= 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_with_the_configuration_that_it_began_with() {
    let origin = Origin::start("web").await;
    let mut proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let address = proxy.http;
    let slow = tokio::spawn(async move { client::fetch(address, "a", "/stream/4/200").await });
    eventually(|| (!origin.seen().is_empty()).then_some(())).await.unwrap();
    proxy.publish(ingress_tests::proxy::model()).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 404);
    let answer = slow.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.text().lines().count()), (200, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_lets_open_requests_finish_and_then_ends() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let (http, readiness) = (proxy.http, Arc::clone(&proxy.state.readiness));
    assert_eq!(readiness.check(), Ok(()));
    let slow = tokio::spawn(async move { client::fetch(http, "a", "/stream/10/150").await });
    let mut h2 = Http2::open(http).await.unwrap();
    let stream = tokio::spawn({
        let mut h2 = h2.clone();
        async move { h2.send(client::get("a", "/stream/10/150")).await }
    });
    let mut kept = Http1::open(http).await.unwrap();
    assert_eq!(kept.send(client::get("a", "/")).await.unwrap().header("connection"), None);
    eventually(|| (origin.seen().len() >= 3).then_some(())).await.unwrap();

    proxy.begin_drain();
    eventually(|| readiness.check().err().filter(|why| why.contains("draining"))).await.unwrap();
    // Clients that come back in the meantime are told to go elsewhere.
    assert_eq!(kept.send(client::get("a", "/")).await.unwrap().header("connection"), Some("close"));
    assert!(h2.send(client::get("a", "/")).await.is_err(), "after GOAWAY there is no new stream");
    assert_eq!(slow.await.unwrap().unwrap().text().lines().count(), 10);
    assert_eq!(stream.await.unwrap().unwrap().text().lines().count(), 10);
    proxy.ended().await.unwrap();
    assert!(tokio::net::TcpStream::connect(http).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_has_a_deadline() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start_with(simple("", policies(), &[origin.address]), |settings| {
        settings.drain_timeout = Duration::from_millis(300);
    })
    .await
    .unwrap();
    let http = proxy.http;
    let mut tunnel = tokio::net::TcpStream::connect(http).await.unwrap();
    let upgrade = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    tunnel.write_all(upgrade).await.unwrap();
    assert!(tunnel.read(&mut [0; 512]).await.unwrap() > 0);
    let endless = tokio::spawn(async move { client::fetch(http, "a", "/stream/1000/50").await });
    eventually(|| (origin.seen().len() >= 2).then_some(())).await.unwrap();
    let started = Instant::now();
    proxy.ended().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(endless.await.unwrap().is_err());
    assert_eq!(tunnel.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

fn policy(scope: EdgeScope) -> EdgePolicy {
    EdgePolicy {
        name: "p".into(),
        scope,
        allow: vec![],
        deny: vec![],
        exempt: vec![],
        limits: vec![],
        syn_protection: None,
        ban: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_policies_are_enforced_at_accept() {
    let origin = Origin::start("web").await;
    let with = |policies_: Vec<EdgePolicy>| {
        let mut model = simple("", policies(), &[origin.address]);
        let loopback =
            AddressRange { first: "127.0.0.0".parse().unwrap(), last: "127.0.0.255".parse().unwrap() };
        let elsewhere =
            AddressRange { first: "198.18.100.0".parse().unwrap(), last: "198.18.100.9".parse().unwrap() };
        model.edge.pools = vec![Pool::new("here", vec![loopback]), Pool::new("there", vec![elsewhere])];
        model.edge.policies = policies_;
        model
    };
    let me = || vec!["127.0.0.1/32".parse().unwrap()];
    let others = || vec!["198.18.0.0/15".parse().unwrap()];
    let pool = |name: &str| EdgeScope::Pools(vec![name.into()]);
    let limits = || vec![connections(1, 2)];
    let cases = [
        ("no policy", vec![], true),
        ("denied everywhere", vec![EdgePolicy { deny: me(), ..policy(EdgeScope::Cluster) }], false),
        ("denied here", vec![EdgePolicy { deny: me(), ..policy(pool("here")) }], false),
        ("denied elsewhere", vec![EdgePolicy { deny: me(), ..policy(pool("there")) }], true),
        ("not allowed", vec![EdgePolicy { allow: others(), ..policy(EdgeScope::Cluster) }], false),
        ("allowed", vec![EdgePolicy { allow: me(), ..policy(EdgeScope::Cluster) }], true),
        (
            "allow lists intersect",
            vec![
                EdgePolicy { allow: me(), ..policy(EdgeScope::Cluster) },
                EdgePolicy { allow: others(), ..policy(EdgeScope::Cluster) },
            ],
            false,
        ),
        (
            "exempt is not allowed",
            vec![EdgePolicy { exempt: me(), deny: me(), ..policy(EdgeScope::Cluster) }],
            false,
        ),
    ];
    let mut proxy = Instance::start(with(vec![])).await.unwrap();
    for (what, list, is_served) in cases {
        proxy.publish(with(list)).await.unwrap();
        let answer = client::fetch(proxy.http, "a", "/").await;
        assert_eq!(answer.is_ok_and(|answer| answer.status == 200), is_served, "{what}");
    }
    proxy.publish(with(vec![EdgePolicy { limits: limits(), ..policy(EdgeScope::Cluster) }])).await.unwrap();
    let mut served = 0;
    for _ in 0..10 {
        served += u32::from(client::fetch(proxy.http, "a", "/").await.is_ok());
    }
    assert!((2..=4).contains(&served), "{served}");
    assert!(proxy.metric("portcullis_accept_refused_total{reason=\"over-limit\"}").await >= 6.0);
    let exempt = EdgePolicy { limits: limits(), exempt: me(), ..policy(EdgeScope::Cluster) };
    proxy.publish(with(vec![exempt])).await.unwrap();
    for _ in 0..10 {
        assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 200);
    }

    // Four refused connections lead to a ban, which outlasts what the limit would have given back, and new policies; of an
    // exempt source nobody notices it.
    let rule =
        BanRule { after: 4, within: Duration::from_secs(600), lasts: Duration::from_secs(600), most: 10 };
    let banning = |limits| EdgePolicy { limits, ban: Some(rule), ..policy(EdgeScope::Cluster) };
    proxy.publish(with(vec![banning(limits())])).await.unwrap();
    for _ in 0..10 {
        let _ = client::fetch(proxy.http, "a", "/").await;
    }
    let banned = "portcullis_accept_refused_total{reason=\"banned\"}";
    let before = proxy.metric(banned).await;
    assert!(before >= 1.0, "{before}");
    proxy.publish(with(vec![banning(vec![])])).await.unwrap();
    assert!(client::fetch(proxy.http, "a", "/").await.is_err(), "the ban goes on");
    assert!(proxy.metric(banned).await > before, "refused for the ban");
    let exempt = EdgePolicy { exempt: me(), ..banning(vec![]) };
    proxy.publish(with(vec![exempt])).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 200);
    proxy.publish(with(vec![EdgePolicy { ban: None, ..banning(vec![]) }])).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 200, "no policy bans");
}
