//! Pages instead of errors: which answers are replaced, what the page's backend is told, and what never is replaced.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service, settings, translation, translation_with};
use ingress_tests::origin::{self, Origin};
use ingress_tests::proxy::Instance;
use ingress_tests::responder::{Responder, oauth2_proxy};
use ingress_userspace::k8s::cluster::ObjectKey;

/// Answers with the status that it is told, or 200 at `/`.
async fn pages() -> Responder {
    Responder::start(|seen| {
        let code = seen.header("x-code").unwrap_or_default();
        let status = code.parse().unwrap_or(200);
        (status, vec![("x-page", "1".to_owned())], format!("page {code}\n"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listed_answers_are_replaced_and_explained() {
    let (origin, pages) = (Origin::start("web").await, pages().await);
    let annotations =
        [("custom-http-errors", "404, 503,500"), ("default-backend", "pages"), ("rewrite-target", "/$2")];
    let app = ingress("app", "a.example.com", "/app(/|$)(.*)", "web", &annotations)
        .replace("Prefix", "ImplementationSpecific");
    let yaml = [service("web", &[origin.address]), service("pages", &[pages.address]), app];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut request = client::request("POST", "a.example.com", "/app/status/404?q=1", "body");
    for (name, value) in [("accept", "text/html"), ("x-request-id", "id-7"), ("x-code", "200")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client::send(proxy.http, request).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (404, "page 404\n"));
    assert_eq!(answer.header("x-page"), Some("1"));
    let seen = pages.last();
    assert_eq!(seen.line, "POST /?q=1", "with the query, as nginx rewrites");
    assert!(seen.body.is_empty());
    for (name, expected) in [
        ("host", "a.example.com"),
        ("x-code", "404"),
        ("x-format", "text/html"),
        ("x-original-uri", "/app/status/404?q=1"),
        ("x-namespace", "default"),
        ("x-ingress-name", "app"),
        ("x-service-name", "web"),
        ("x-service-port", "80"),
        ("x-request-id", "id-7"),
    ] {
        assert_eq!(seen.header(name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(
        client::fetch(proxy.http, "a.example.com", "/app/status/500").await.unwrap().text(),
        "page 500\n"
    );
    let other = client::fetch(proxy.http, "a.example.com", "/app/status/502").await.unwrap();
    assert_eq!((other.status, other.text().as_str()), (502, "web"), "not in the list");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_proxy_and_refusals_to_authenticate_are_replaced() {
    // As in nginx the status is the page's.
    let lax = Responder::start(|_| (200, Vec::new(), "welcome\n".to_owned())).await;
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let closed = origin::refused().await;
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let errors = ("custom-http-errors", "401,403,413,500,502,503");
    let pages = ("default-backend", "pages");
    let yaml = [
        service("web", &[origin.address]),
        service("down", &[closed]),
        service("pages", &[lax.address]),
        ingress("down", "down.example.com", "/", "down", &[errors, pages]),
        ingress(
            "list",
            "list.example.com",
            "/",
            "web",
            &[errors, pages, ("whitelist-source-range", "198.18.0.0/15")],
        ),
        ingress("small", "small.example.com", "/", "web", &[errors, pages, ("proxy-body-size", "1")]),
        ingress("auth", "auth.example.com", "/", "web", &[errors, pages, ("auth-url", &url)]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let down = client::fetch(proxy.http, "down.example.com", "/").await.unwrap();
    assert_eq!((down.status, down.text().as_str()), (200, "welcome\n"));
    assert_eq!(lax.last().header("x-code").as_deref(), Some("502"));
    client::fetch(proxy.http, "list.example.com", "/").await.unwrap();
    assert_eq!(lax.last().header("x-code").as_deref(), Some("403"));
    client::send(proxy.http, client::request("POST", "small.example.com", "/", "long")).await.unwrap();
    assert_eq!(lax.last().header("x-code").as_deref(), Some("413"));
    for (credentials, code) in [("Basic x", "401"), ("Bearer banned", "403"), ("Bearer broken", "500")] {
        let mut request = client::get("auth.example.com", "/");
        request.headers_mut().insert("authorization", credentials.parse().unwrap());
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
        assert_eq!(lax.last().header("x-code").as_deref(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_of_the_backend_sends_to_sign_in_where_errors_are_intercepted() {
    let (origin, oauth2, pages) = (Origin::start("web").await, oauth2_proxy().await, pages().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let auth = ("auth-url", &*url);
    let signin = ("auth-signin", "https://sso.example/");
    let yaml = [
        service("web", &[origin.address]),
        service("pages", &[pages.address]),
        ingress(
            "with",
            "with.example.com",
            "/",
            "web",
            &[auth, signin, ("custom-http-errors", "404"), ("default-backend", "pages")],
        ),
        ingress("without", "without.example.com", "/", "web", &[auth, signin]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    for (host, status) in [("with.example.com", 302), ("without.example.com", 401)] {
        let mut request = client::get(host, "/status/401");
        request.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_list_goes_to_the_controllers_default_backend() {
    let (origin, pages, own) = (Origin::start("web").await, pages().await, Origin::start("own").await);
    let yaml = [
        settings(&[("custom-http-errors", "404,418")]),
        service("web", &[origin.address]),
        service("own", &[own.address]),
        service("default-backend", &[pages.address]),
        ingress("app", "a.example.com", "/", "web", &[("default-backend", "own")]),
        ingress("other", "b.example.com", "/", "web", &[("custom-http-errors", "500")]),
        ingress("raw", "c.example.com", "/", "web", &[("disable-proxy-intercept-errors", "true")]),
    ];
    let yaml = yaml.concat();
    let with_default = translation_with(&yaml, |settings| {
        settings.default_backend = Some(ObjectKey::new("default", "default-backend"));
    });
    let proxy = Instance::start(with_default.unwrap().model).await.unwrap();
    let fetch = async |host, target| client::fetch(proxy.http, host, target).await.unwrap().text();
    assert_eq!(fetch("a.example.com", "/status/418").await, "page 418\n");
    assert_eq!(fetch("b.example.com", "/status/418").await, "web", "its own list replaces the cluster's");
    assert_eq!(fetch("b.example.com", "/status/500").await, "page 500\n");
    assert_eq!(fetch("c.example.com", "/status/418").await, "web");
    // Without anybody to make pages, errors stay as they are.
    let proxy = Instance::start(translation(&yaml).unwrap().model).await.unwrap();
    let answer = client::fetch(proxy.http, "a.example.com", "/status/418").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (418, "web"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_is_told_whose_place_it_takes() {
    let (pages, none) = (pages().await, service("web", &[]));
    let annotations = [("default-backend", "pages")];
    let yaml =
        [none, service("pages", &[pages.address]), ingress("app", "a.example.com", "/", "web", &annotations)];
    let translation = translation(&yaml.concat()).unwrap();
    let proxy = Instance::start(translation.model).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example.com", "/x").await.unwrap().status, 503);
    let seen = pages.last();
    assert_eq!(seen.line, "GET /x");
    for (name, expected) in
        [("x-code", "503"), ("x-service-name", "web"), ("x-ingress-name", "app"), ("x-namespace", "default")]
    {
        assert_eq!(seen.header(name).as_deref(), Some(expected), "{name}");
    }
}
