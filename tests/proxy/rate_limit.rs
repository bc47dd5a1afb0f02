//! Requests per client, over all workers.

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, route, to};
use ingress_userspace::model::policy::{Policies, RateLimit};
use ingress_userspace::model::route::PathMatch;

fn limit(requests_per_second: u32, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { bucket: "default/web".into(), requests_per_second, burst, status: 503 })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_rate_is_one_for_all_workers_and_survives_a_new_model() {
    let origin = Origin::start("web").await;
    // Slow enough that no token comes back during the test.
    let with = |path: &str| {
        let mut model = model();
        let id = backend(&mut model, "web", &[origin.address]);
        let policies = Policies { rate_limit: limit(1, 9), ..policies() };
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
