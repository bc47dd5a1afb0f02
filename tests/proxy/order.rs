//! The order of the filters.

use ingress_tests::client::{self, Http1};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, rate_limit, simple};
use ingress_userspace::model::policy::{AllowList, HttpsRedirect, Policies};

fn redirect() -> Option<HttpsRedirect> {
    let except = vec!["/.well-known/acme-challenge".into()];
    Some(HttpsRedirect { status: 308, except, keeps_slash: false, port: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_come_before_limits_and_limits_before_source_checks() {
    let origin = Origin::start("web").await;
    let nobody = Some(AllowList { sources: vec!["198.18.0.0/15".parse().unwrap()] });
    let all = Policies {
        https_redirect: redirect(),
        rate_limit: Some(rate_limit(1, 1)),
        allow_list: nobody,
        ..policies()
    };
    let proxy = Instance::start(simple("", all, &[origin.address])).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 308);
    }
    let mut tls = Http1::open_tls(proxy.https, "a").await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(tls.send(client::get("a", "/")).await.unwrap().status);
    }
    assert_eq!(statuses[..3], [403, 403, 503], "{statuses:?}");
}
