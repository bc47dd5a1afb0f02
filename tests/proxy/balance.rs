//! Which endpoint takes a request: shares over many requests.

use std::collections::BTreeMap;
use std::time::Duration;

use ingress_tests::client::{self, Http1};
use ingress_tests::manifests::{ingress, model, serve, service, settings};
use ingress_tests::origin::{Origin, raw, read_head};
use ingress_tests::proxy::Instance;
use tokio::io::AsyncWriteExt;

const HOST: &str = "a.example.com";

async fn origins(count: usize) -> Vec<Origin> {
    let mut origins = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"].into_iter().take(count) {
        origins.push(Origin::start(name).await);
    }
    origins
}

fn manifests(origins: &[Origin], annotations: &[(&str, &str)]) -> String {
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    [service("web", &endpoints), ingress("web", HOST, "/", "web", annotations)].concat()
}

async fn shares(proxy: &Instance, targets: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for target in targets {
        let answer = connection.send(client::get(HOST, &target)).await.unwrap();
        *shares.entry(answer.text()).or_default() += 1;
    }
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn in_turn_every_endpoint_takes_the_same() {
    let origins = origins(4).await;
    let proxy = serve(&manifests(&origins, &[("load-balance", "round_robin")])).await.unwrap();
    let shares = shares(&proxy, (0..40).map(|_| "/".to_owned())).await;
    assert_eq!(shares.values().copied().collect::<Vec<_>>(), [10; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ewma_leaves_a_slow_endpoint_alone() {
    let quick = Origin::start("quick").await;
    let slow = raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(80)).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    let yaml = [
        settings(&[("load-balance", "ewma")]),
        service("web", &[quick.address, slow.address]),
        ingress("web", HOST, "/", "web", &[]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let shares = shares(&proxy, (0..60).map(|_| "/".to_owned())).await;
    let slow = shares.get("slow").copied().unwrap_or_default();
    assert!(slow <= 6, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_text_goes_to_the_same_endpoint() {
    let origins = origins(5).await;
    let rows = [("upstream-hash-by", "$arg_user"), ("load-balance", "ewma")];
    let mut proxy = serve(&manifests(&origins, &rows)).await.unwrap();
    let mut served = BTreeMap::new();
    for user in 0..40 {
        let shares = shares(&proxy, (0..3).map(|page| format!("/{page}?user={user}"))).await;
        assert_eq!(shares.len(), 1, "{shares:?}");
        served.insert(user, shares.into_keys().next().unwrap());
    }
    assert_eq!(served.values().collect::<std::collections::BTreeSet<_>>().len(), 5);
    // Another node would choose the same; one endpoint less moves only its own.
    let other = serve(&manifests(&origins, &rows)).await.unwrap();
    proxy.publish(model(&manifests(&origins[..4], &rows)).unwrap()).await.unwrap();
    for (user, name) in served {
        let target = || std::iter::once(format!("/?user={user}"));
        assert!(shares(&other, target()).await.contains_key(&name));
        assert!(shares(&proxy, target()).await.contains_key(&name) || name == "five");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_may_choose_a_group_of_endpoints() {
    let origins = origins(6).await;
    let rows = [
        ("upstream-hash-by", "$request_uri"),
        ("upstream-hash-by-subset", "true"),
        ("upstream-hash-by-subset-size", "2"),
    ];
    let proxy = serve(&manifests(&origins, &rows)).await.unwrap();
    let seen = shares(&proxy, (0..60).map(|_| "/same".to_owned())).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.values().all(|count| (12..=48).contains(count)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_endpoint_takes_less_at_first() {
    let origins = origins(2).await;
    let rows = [("portcullis.dev/slow-start", "600")];
    let mut proxy = serve(&manifests(&origins[..1], &rows)).await.unwrap();
    proxy.publish(model(&manifests(&origins, &rows)).unwrap()).await.unwrap();
    let seen = shares(&proxy, (0..200).map(|_| "/".to_owned())).await;
    let new = seen.get("two").copied().unwrap_or_default();
    assert!((1..=35).contains(&new), "{seen:?}");
    // Without slow start it takes its half at once.
    proxy.publish(model(&manifests(&origins, &[])).unwrap()).await.unwrap();
    let seen = shares(&proxy, (0..20).map(|_| "/".to_owned())).await;
    assert_eq!(seen.get("two"), Some(&10));
}
