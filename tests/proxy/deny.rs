//! What cannot be honoured is refused, and said.

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, policies, route, simple, to};
use ingress_userspace::model::policy::{Deny, Policies, Rewrite};
use ingress_userspace::model::route::PathMatch;
use ingress_userspace::model::template::Template;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compiled_answers_503_and_is_reported() {
    let origin = Origin::start("web").await;
    let mut proxy = Instance::start(simple("a", policies(), &[origin.address])).await.unwrap();
    let mut model = simple("a", policies(), &[origin.address]);
    let id = backend(&mut model, "other", &[origin.address]);
    let broken = Rewrite { pattern: "/(?<look>(?=x))".into(), replacement: Template::text("/") };
    let refused = Policies { rewrite: Some(broken), ..policies() };
    route(&mut model, "b", PathMatch::Prefix(String::new()), refused, to(&id));
    let denied = Policies { deny: Some(Deny { reason: "secret reason".into() }), ..policies() };
    route(&mut model, "c", PathMatch::Prefix(String::new()), denied, to(&id));
    route(&mut model, "d", PathMatch::Regex("/v[".into()), policies(), to(&id));
    route(&mut model, "d", PathMatch::Prefix(String::new()), policies(), to(&id));
    let report = proxy.publish(model).await.unwrap();
    assert_eq!(report.refused.len(), 2, "{report:?}");
    assert!(report.refused[0].contains("Ingress default/web") && report.refused[0].contains("\"b\""));
    let cases = [("a", "/", 200), ("b", "/", 503), ("c", "/", 503), ("d", "/v1", 503), ("d", "/w", 200)];
    for (host, path, status) in cases {
        let answer = client::fetch(proxy.http, host, path).await.unwrap();
        assert_eq!(answer.status, status, "{host}{path}");
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    assert!(proxy.metric("nginx_ingress_controller_config_last_reload_successful").await < 0.5);
}
