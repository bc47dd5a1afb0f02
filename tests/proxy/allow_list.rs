//! Sources that may use a route.

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};
use ingress_userspace::model::policy::{AllowList, Policies};

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_sources_are_served() {
    let origin = Origin::start("web").await;
    let list = |source: &str| {
        let policies =
            Policies { allow_list: Some(AllowList { sources: vec![source.parse().unwrap()] }), ..policies() };
        simple("", policies, &[origin.address])
    };
    let mut proxy = Instance::start(list("198.18.0.0/15")).await.unwrap();
    let mut request = client::get("a", "/");
    request.headers_mut().insert("x-forwarded-for", "198.18.0.1".parse().unwrap());
    assert_eq!(client::send(proxy.http, request).await.unwrap().status, 403);
    assert!(origin.seen().is_empty());
    proxy.publish(list("127.0.0.0/8")).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 200);
}
