//! Copies of requests: what the mirror gets, and that it never touches the request itself.

use ingress_tests::client::{self, Http1};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::{self, Origin};
use ingress_tests::proxy::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_gets_a_copy_with_its_body() {
    let (origin, mirror) = (Origin::start("web").await, Origin::start("mirror").await);
    let target = format!("http://{}$request_uri", mirror.address);
    let host = ("mirror-host", "copy.example.com");
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", "a.example.com", "/", "web", &[("mirror-target", &target)]),
        ingress(
            "bare",
            "b.example.com",
            "/",
            "web",
            &[("mirror-target", &target), ("mirror-request-body", "off"), host],
        ),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let posted = client::request("POST", "a.example.com", "/a?b=c", "some body");
    let answer = client::send(proxy.http, posted).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "web"));
    let seen = eventually(|| mirror.seen().first().cloned()).await.unwrap();
    assert!(seen.line.starts_with("POST /a?b=c "), "{}", seen.line);
    assert_eq!(seen.body, "some body");
    assert_eq!(seen.header("host").as_deref(), Some("127.0.0.1"));
    assert_eq!(origin.last().body, "some body");

    client::send(proxy.http, client::request("PUT", "b.example.com", "/x", "some body")).await.unwrap();
    let seen = eventually(|| mirror.seen().get(1).cloned()).await.unwrap();
    assert!(seen.line.starts_with("PUT /x ") && seen.body.is_empty(), "{seen:?}");
    assert_eq!(seen.header("host").as_deref(), Some("copy.example.com"));
    eventually(|| (mirror.seen().len() == 2).then_some(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_hangs_slows_and_fails_nothing() {
    let origin = Origin::start("web").await;
    let hangs = origin::raw(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let (closed, oversized) = (origin::refused().await, vec![b'x'; (1 << 20) + 1]);
    let target = |address| format!("http://{address}$request_uri");
    let (slow, down) = (target(hangs.address), target(closed));
    let size = ("proxy-body-size", "8m");
    let yaml = [
        service("web", &[origin.address]),
        ingress("slow", "slow.example.com", "/", "web", &[("mirror-target", &slow), size]),
        ingress("down", "down.example.com", "/", "web", &[("mirror-target", &down)]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..100 {
        let answer = connection.send(client::get("slow.example.com", "/")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(client::fetch(proxy.http, "down.example.com", "/").await.unwrap().status, 200);
    let posted = client::request("POST", "slow.example.com", "/", oversized.clone());
    assert_eq!(client::send(proxy.http, posted).await.unwrap().status, 200);
    assert_eq!(origin.last().body.len(), oversized.len());
    let count = async |result: &str| {
        proxy.metric(&format!("portcullis_mirrored_requests_total{{result=\"{result}\"}}")).await
    };
    assert!(count("dropped").await >= 60.0, "the bound holds");
    assert_eq!(count("sent").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_mirrored() {
    let (origin, mirror) = (Origin::start("web").await, Origin::start("mirror").await);
    let target = format!("http://{}/", mirror.address);
    let annotations = [("mirror-target", &*target), ("whitelist-source-range", "198.18.0.0/15")];
    let yaml = [service("web", &[origin.address]), ingress("app", "a.example.com", "/", "web", &annotations)];
    let proxy = serve(&yaml.concat()).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example.com", "/").await.unwrap().status, 403);
    let metric = "portcullis_mirrored_requests_total";
    for result in ["sent", "dropped", "failed"] {
        assert_eq!(proxy.metric(&format!("{metric}{{result=\"{result}\"}}")).await, 0.0);
    }
    assert_eq!(mirror.seen().len(), 0);
}
