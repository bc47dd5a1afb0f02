//! What the backend sees as path.

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, route, to};
use ingress_userspace::model::policy::{Policies, Rewrite};
use ingress_userspace::model::route::PathMatch;
use ingress_userspace::model::template::Template;

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_rewritten_with_captures_and_the_query_stays() {
    let origin = Origin::start("web").await;
    let mut model = model();
    let id = backend(&mut model, "web", &[origin.address]);
    let rewrite = Rewrite { pattern: "/x(/|$)(.*)".into(), replacement: Template::parse("/$2").unwrap() };
    let policies = Policies { rewrite: Some(rewrite), ..policies() };
    route(&mut model, "", PathMatch::Regex("/x(/|$)(.*)".into()), policies, to(&id));
    let proxy = Instance::start(model).await.unwrap();
    for (target, seen) in
        [("/x/a/b?c=d", "/a/b?c=d"), ("/x", "/"), ("/X/y%20z", "/y%20z"), ("/x/%3Fq", "/%3Fq")]
    {
        assert_eq!(client::fetch(proxy.http, "a", target).await.unwrap().status, 200, "{target}");
        assert_eq!(origin.last().line, format!("GET {seen} HTTP/1.1"), "{target}");
    }
    assert_eq!(client::fetch(proxy.http, "a", "/xy").await.unwrap().status, 404);
}
