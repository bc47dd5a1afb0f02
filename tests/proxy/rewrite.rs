//! What the backend sees as path.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, ingress_with, serve, service};
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

#[tokio::test(flavor = "multi_thread")]
async fn targets_hold_variables_and_a_query() {
    let origin = Origin::start("web").await;
    let path = ("/x/(.*)", "ImplementationSpecific");
    let target = [("rewrite-target", "/$host/$1?own=$request_method")];
    let yaml = service("web", &[origin.address]) + &ingress_with("web", "a.example", path, "web", &target);
    let proxy = serve(&yaml).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example:81", "/x/y%20z?q=1").await.unwrap().status, 200);
    assert_eq!(origin.last().line, "GET /a.example/y%20z?own=GET&q=1 HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rewrite_makes_expressions_of_the_host_unless_its_paths_are_strict() {
    let (rewritten, exact, strict) =
        (Origin::start("rewritten").await, Origin::start("exact").await, Origin::start("strict").await);
    let path = |path: &'static str| (path, "Exact");
    let yaml = [
        service("rewritten", &[rewritten.address]),
        service("exact", &[exact.address]),
        service("strict", &[strict.address]),
        ingress("rewritten", "a.example", "/app", "rewritten", &[("rewrite-target", "/")]),
        ingress_with("exact", "a.example", path("/exact"), "exact", &[]),
        ingress_with("strict", "a.example", path("/strict"), "strict", &[("portcullis.dev/strict", "true")]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let ask = async |target: &'static str| {
        let answer = client::fetch(proxy.http, "a.example", target).await.unwrap();
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    assert_eq!(ask("/APP/x").await, "rewritten");
    assert_eq!(rewritten.last().line, "GET / HTTP/1.1");
    assert_eq!((ask("/exact").await, ask("/EXACTLY/x").await), ("exact".to_owned(), "exact".to_owned()));
    assert_eq!((ask("/strict").await, ask("/strict/x").await), ("strict".to_owned(), "404".to_owned()));
    assert_eq!(ask("/Strict").await, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_that_the_backend_is_told_may_quote_groups() {
    let origin = Origin::start("web").await;
    let path = ("/(app|docs)(/|$)(.*)", "ImplementationSpecific");
    let settings = [("rewrite-target", "/$3"), ("x-forwarded-prefix", "/$1")];
    let yaml = service("web", &[origin.address]) + &ingress_with("web", "a.example", path, "web", &settings);
    let proxy = serve(&yaml).await.unwrap();
    for (target, line, prefix) in
        [("/docs/a?q", "GET /a?q HTTP/1.1", "/docs"), ("/APP", "GET / HTTP/1.1", "/APP")]
    {
        assert_eq!(client::fetch(proxy.http, "a.example", target).await.unwrap().status, 200, "{target}");
        assert_eq!(origin.last().line, line);
        assert_eq!(origin.last().header("x-forwarded-prefix").as_deref(), Some(prefix), "{target}");
    }
}
