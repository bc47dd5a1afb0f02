//! Each filter, as a client sees it, and their order.

use std::time::Duration;

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, route, simple, to};
use ingress_userspace::model::policy::{
    AllowList, BodyLimit, Deny, HttpsRedirect, Policies, RateLimit, Rewrite,
};
use ingress_userspace::model::route::PathMatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn redirect() -> Option<HttpsRedirect> {
    Some(HttpsRedirect { status: 308, except: vec!["/.well-known/acme-challenge".into()] })
}

fn limit(requests_per_second: u32, burst: u32) -> Option<RateLimit> {
    Some(RateLimit { bucket: "default/web".into(), requests_per_second, burst, status: 503 })
}

#[tokio::test(flavor = "multi_thread")]
async fn cleartext_is_redirected_to_https_but_for_the_challenge() {
    let origin = Origin::start("web").await;
    let policies = Policies { https_redirect: redirect(), ..policies() };
    let proxy = Instance::start(simple("web.example", policies, &[origin.address])).await.unwrap();
    let cases = [
        ("web.example:8080", "/", "https://web.example"),
        ("WEB.example", "/dir/", "https://web.example/dir"),
        ("web.example", "/a%20b?c=d", "https://web.example/a%20b?c=d"),
        ("web.example", "//evil.example/x", "https://web.example//evil.example/x"),
    ];
    for (host, target, location) in cases {
        let answer = client::fetch(proxy.http, host, target).await.unwrap();
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{target}");
    }
    let answer = client::fetch(proxy.http, "web.example", "/.well-known/acme-challenge/x").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "web"));
    let mut tls = Http1::open_tls(proxy.https, "web.example").await.unwrap();
    assert_eq!(tls.send(client::get("web.example", "/")).await.unwrap().status, 200);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_at_once_or_when_they_grow_too_large() {
    let origin = Origin::start("web").await;
    let policies = Policies { body_limit: BodyLimit { max_bytes: Some(1000) }, ..policies() };
    let proxy = Instance::start(simple("", policies, &[origin.address])).await.unwrap();
    let post = |bytes: usize| client::request("POST", "a", "/", vec![b'x'; bytes]);
    assert_eq!(client::send(proxy.http, post(1000)).await.unwrap().status, 200);
    assert_eq!(origin.last().body.len(), 1000);
    assert_eq!(client::send(proxy.http, post(1001)).await.unwrap().status, 413);
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(h2.send(post(1001)).await.unwrap().status, 413);
    assert_eq!(origin.seen().len(), 1, "what was announced too large never reached the backend");

    // A body of unknown length is refused when it exceeds the limit, and the answer arrives although it was not read.
    let mut stream = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..100 {
        if stream.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer} {read:?}");
    proxy.log_lines("\" 413 ", 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_rewritten_with_captures_and_the_query_stays() {
    let origin = Origin::start("web").await;
    let mut model = model();
    let id = backend(&mut model, "web", &[origin.address]);
    let rewrite = Rewrite { pattern: "/x(/|$)(.*)".into(), replacement: "/$2".into() };
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
async fn what_cannot_be_compiled_answers_503_and_is_reported() {
    let origin = Origin::start("web").await;
    let mut proxy = Instance::start(simple("a", policies(), &[origin.address])).await.unwrap();
    let mut model = simple("a", policies(), &[origin.address]);
    let id = backend(&mut model, "other", &[origin.address]);
    let broken = Rewrite { pattern: "/(?<look>(?=x))".into(), replacement: "/".into() };
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

#[tokio::test(flavor = "multi_thread")]
async fn redirects_come_before_limits_and_limits_before_source_checks() {
    let origin = Origin::start("web").await;
    let nobody = Some(AllowList { sources: vec!["198.18.0.0/15".parse().unwrap()] });
    let all =
        Policies { https_redirect: redirect(), rate_limit: limit(1, 1), allow_list: nobody, ..policies() };
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
