//! Requests per client, over all workers.

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, rate_limit, route, to};
use ingress_userspace::model::policy::Policies;
use ingress_userspace::model::route::PathMatch;

#[tokio::test(flavor = "multi_thread")]
async fn the_request_rate_is_one_for_all_workers_and_survives_a_new_model() {
    let origin = Origin::start("web").await;
    // Slow enough that no token comes back during the test.
    let with = |path: &str| {
        let mut model = model();
        let id = backend(&mut model, "web", &[origin.address]);
        let policies = Policies { rate_limit: Some(rate_limit(1, 9)), ..policies() };
        route(&mut model, "a", PathMatch::Prefix(path.into()), policies.clone(), to(&id));
        route(&mut model, "b", PathMatch::Prefix(path.into()), policies, to(&id));
        model
    };
    let mut proxy = Instance::start_with(with(""), |settings| settings.workers = 4).await.unwrap();
    let started = std::time::Instant::now();
    let mut statuses = Vec::new();
    for number in 0..40 {
        // A connection each, so that the kernel spreads them over the workers.
        let host = if number % 2 == 0 { "a" } else { "b" };
        statuses.push(client::fetch(proxy.http, host, "/x").await.unwrap().status);
    }
    proxy.publish(with("/x")).await.unwrap();
    for _ in 0..5 {
        statuses.push(client::fetch(proxy.http, "a", "/x").await.unwrap().status);
    }
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    let refilled = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!(
        (10..=10 + refilled).contains(&admitted),
        "{admitted} admitted, {refilled} refilled: {statuses:?}"
    );
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 45 - admitted);
    assert!((proxy.metric("portcullis_rate_limited_total").await - (45 - admitted) as f64).abs() < 0.1);
}

/// Statuses of this many requests, one after the other.
async fn statuses(connection: &mut Http1, host: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(connection.send(client::get(host, "/")).await.unwrap().status);
    }
    statuses
}

fn admitted(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_per_minute_holds_beside_one_per_second_and_exempts_the_allow_list() {
    let origin = Origin::start("web").await;
    let minute = [("limit-rpm", "1"), ("limit-burst-multiplier", "3")];
    let both = [("limit-rps", "1"), ("limit-rpm", "600"), ("limit-burst-multiplier", "1")];
    let exempt = [("limit-rpm", "1"), ("limit-whitelist", "127.0.0.0/8")];
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("minute", "minute", "/", "web", &minute),
        manifests::ingress("both", "both", "/", "web", &both),
        manifests::ingress("exempt", "exempt", "/", "web", &exempt),
        manifests::settings(&[("limit-req-status-code", "429")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    assert_eq!(statuses(&mut connection, "minute", 6).await, [200, 200, 200, 200, 429, 429]);
    let started = std::time::Instant::now();
    let seen = statuses(&mut connection, "both", 10).await;
    let refilled = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((2..=2 + refilled).contains(&admitted(&seen)), "{seen:?}");
    assert_eq!(admitted(&statuses(&mut connection, "exempt", 20).await), 20);
    // The same buckets for every version of HTTP.
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(h2.send(client::get("minute", "/")).await.unwrap().status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_limits_can_be_a_header() {
    let origin = Origin::start("web").await;
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", &[("limit-rpm", "1"), ("limit-burst-multiplier", "1")]),
        manifests::settings(&[("limit-conn-zone-variable", "$http_x_api_key")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for (key, expected) in [("one", [200, 200, 503]), ("two", [200, 200, 503]), ("", [200, 200, 200])] {
        for status in expected {
            let mut request = client::get("a", "/");
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
            assert_eq!(connection.send(request).await.unwrap().status, status, "{key}");
        }
    }
}
