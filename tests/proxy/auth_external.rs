//! A service decides who is let through: what it is asked, what the client and the backend see of its answer.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use ingress_tests::client::{self, Answer, Http1, Http2};
use ingress_tests::manifests::{ingress, ingress_with, serve, service, settings};
use ingress_tests::origin::{self, Origin};
use ingress_tests::proxy::Instance;
use ingress_tests::responder::{Responder, oauth2_proxy};

pub(crate) const HOST: &str = "app.example.com";

fn request(target: &str, lines: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = client::get(HOST, target);
    for (name, value) in lines {
        request
            .headers_mut()
            .append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    request
}

pub(crate) async fn ask(proxy: &Instance, target: &str, lines: &[(&str, &str)]) -> Answer {
    client::send(proxy.http, request(target, lines)).await.unwrap()
}

/// The manifests that oauth2-proxy's documentation gives for ingress-nginx: the URL names the host itself, and a second
/// Ingress serves `/oauth2` of the same host without authentication.
async fn oauth2_pattern(origin: &Origin, proxy: &Responder) -> Instance {
    let annotations = [
        ("auth-url", "http://$host/oauth2/auth"),
        ("auth-signin", "http://$host/oauth2/start?rd=$escaped_request_uri"),
        ("auth-response-headers", "X-Auth-Request-User, X-Auth-Request-Email, X-Auth-Request-Access-Token"),
    ];
    let yaml = [
        service("web", &[origin.address]),
        service("oauth2-proxy", &[proxy.address]),
        ingress("app", HOST, "/", "web", &annotations),
        ingress("oauth2", HOST, "/oauth2", "oauth2-proxy", &[]),
    ];
    serve(&yaml.concat()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oauth2_pattern_signs_in_and_lets_through() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let proxy = oauth2_pattern(&origin, &oauth2).await;
    let answer = ask(&proxy, "/private?a=1&b=2", &[]).await;
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.header("location"),
        Some("http://app.example.com/oauth2/start?rd=%2Fprivate%3Fa%3D1%26b%3D2")
    );
    assert_eq!(origin.seen().len(), 0, "nothing reaches the backend before");
    let start = ask(&proxy, "/oauth2/start?rd=%2Fprivate", &[]).await;
    assert_eq!((start.status, start.header("location")), (302, Some("https://provider.example/authorize")));

    let forged =
        [("cookie", "_oauth2_proxy=alice"), ("x-auth-request-user", "root"), ("x-auth-request-groups", "g")];
    let answer = ask(&proxy, "/private", &forged).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "web"));
    let seen = origin.last();
    assert_eq!(seen.header("x-auth-request-user").as_deref(), Some("alice"));
    assert_eq!(seen.header("x-auth-request-email").as_deref(), Some("alice@example.com"));
    assert_eq!(seen.header("x-auth-request-access-token").map(|token| token.len()), Some(7000));
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_session_reaches_the_client_line_by_line() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let proxy = oauth2_pattern(&origin, &oauth2).await;
    let cookies = |answer: &Answer| -> Vec<String> {
        answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    };
    let expected = [
        "_oauth2_proxy_0=renewed0; Path=/; Expires=Sat, 01 Jan 2028 00:00:00 GMT",
        "_oauth2_proxy_1=renewed1; Path=/; Expires=Sat, 01 Jan 2028 00:00:00 GMT",
    ];
    let fresh = [("cookie", "_oauth2_proxy=fresh")];
    assert_eq!(cookies(&ask(&proxy, "/", &fresh).await), expected);
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(cookies(&h2.send(request("/", &fresh)).await.unwrap()), expected);
    // As nginx's add_header without `always`.
    assert!(cookies(&ask(&proxy, "/status/404", &fresh).await).is_empty());
    assert_eq!(cookies(&ask(&proxy, "/status/302", &fresh).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_asked_with_exact_headers() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth?x=$arg_x", oauth2.address);
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &[("auth-url", &url), ("auth-method", "POST")]),
        ingress("plain", "plain.example.com", "/", "web", &[("auth-url", &url)]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut posted = client::request("POST", HOST, "/a//b?x=1", "body");
    for (name, value) in [
        ("authorization", "Bearer bob"),
        ("x-custom", "kept"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-original-url", "http://evil.example/"),
        ("x-request-id", "id-1"),
        ("content-type", "text/plain"),
    ] {
        posted.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(client::send(proxy.http, posted).await.unwrap().status, 200);
    let seen = oauth2.last();
    assert_eq!(seen.line, "POST /oauth2/auth?x=1");
    for (name, expected) in [
        ("host", Some("127.0.0.1")),
        ("x-original-url", Some("http://app.example.com/a//b?x=1")),
        ("x-original-method", Some("POST")),
        ("x-original-uri", Some("/a//b?x=1")),
        ("x-scheme", Some("http")),
        ("x-auth-request-redirect", Some("/a//b?x=1")),
        ("x-sent-from", Some("nginx-ingress-controller")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-request-id", Some("id-1")),
        ("x-custom", Some("kept")),
        ("authorization", Some("Bearer bob")),
        ("content-type", Some("text/plain")),
        ("x-forwarded-proto", None),
        ("x-forwarded-host", None),
        ("x-forwarded-uri", None),
    ] {
        assert_eq!(seen.header(name).as_deref(), expected, "{name}");
    }
    assert!(seen.body.is_empty());
    assert_eq!(origin.last().body, "body", "the backend gets the body all the same");

    let mut plain = client::get("plain.example.com", "/");
    plain.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
    assert_eq!(client::send(proxy.http, plain).await.unwrap().status, 200);
    let seen = oauth2.last();
    assert!(seen.line.starts_with("GET "), "{}", seen.line);
    assert_eq!((seen.header("x-original-uri"), seen.header("x-scheme")), (None, None));
    assert_eq!(seen.header("content-length"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_verdicts_are_passed_on_and_all_else_is_500() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let asks = |address| format!("http://{address}/oauth2/auth");
    let hangs = origin::raw(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let (closed, garbage) = (origin::refused().await, origin::canned("nonsense\r\n\r\n").await);
    let url = asks(oauth2.address);
    let (down, silent, odd) = (asks(closed), asks(hangs.address), asks(garbage.address));
    let missing = format!("http://{}/nowhere", oauth2.address);
    let read = ("proxy-read-timeout", "1");
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &[("auth-url", &url)]),
        ingress("down", "down.example.com", "/", "web", &[("auth-url", &down)]),
        ingress("silent", "silent.example.com", "/", "web", &[("auth-url", &silent), read]),
        ingress("odd", "odd.example.com", "/", "web", &[("auth-url", &odd)]),
        ingress("missing", "missing.example.com", "/", "web", &[("auth-url", &missing)]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let answer = ask(&proxy, "/", &[]).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer realm=\"test\"")));
    assert!(!answer.text().contains("Unauthorized\nUnauthorized"));
    assert_eq!(ask(&proxy, "/", &[("authorization", "Bearer banned")]).await.status, 403);
    assert_eq!(ask(&proxy, "/", &[("authorization", "Bearer broken")]).await.status, 500);
    for host in ["down.example.com", "silent.example.com", "odd.example.com", "missing.example.com"] {
        assert_eq!(client::fetch(proxy.http, host, "/").await.unwrap().status, 500, "{host}");
    }
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(ask(&proxy, "/", &[("authorization", "Bearer bob")]).await.status, 200);
    // One connection to the service serves many requests; one that it closed is not an error.
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..3 {
        let answer = connection.send(request("/", &[("authorization", "Bearer bob")])).await.unwrap();
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_says_cannot_be_taken_away_by_the_client() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let annotations = [("auth-url", &*url), ("auth-response-headers", "X-Auth-Request-User,X-Absent")];
    let yaml = [service("web", &[origin.address]), ingress("app", HOST, "/", "web", &annotations)];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: app.example.com\r\nAuthorization: Bearer eve\r\nX-Absent: forged\r\n\
                Connection: close, X-Auth-Request-User, Authorization\r\n\r\n";
    // The client's own Authorization is named away before anybody reads it: so it is not authenticated by it.
    let answer = client::raw(proxy.http, head.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let head = head.replace(", Authorization", "");
    let answer = client::raw(proxy.http, head.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = origin.last();
    assert_eq!(seen.header("x-auth-request-user").as_deref(), Some("eve"));
    assert_eq!(seen.header("x-absent"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn global_authentication_leaves_out_who_opted_out_and_challenges() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let solver = ("/.well-known/acme-challenge/token", "Exact");
    let yaml = [
        settings(&[
            ("global-auth-url", &url),
            ("global-auth-response-headers", "X-Auth-Request-User"),
            ("global-auth-signin", "https://sso.example.com/start"),
            ("global-auth-signin-redirect-param", "back"),
        ]),
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &[]),
        ingress("open", "open.example.com", "/", "web", &[("enable-global-auth", "false")]),
        ingress_with("solver", HOST, solver, "web", &[]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let answer = ask(&proxy, "/x?y=z", &[]).await;
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.header("location"),
        Some("https://sso.example.com/start?back=http://app.example.com%2Fx%3Fy%3Dz")
    );
    assert_eq!(ask(&proxy, "/", &[("authorization", "Bearer bob")]).await.status, 200);
    assert_eq!(origin.last().header("x-auth-request-user").as_deref(), Some("bob"));
    assert_eq!(client::fetch(proxy.http, "open.example.com", "/").await.unwrap().status, 200);
    assert_eq!(ask(&proxy, "/.well-known/acme-challenge/token", &[]).await.status, 200);
    // Not by the path of a request: the rule of `/` stays protected.
    assert_eq!(ask(&proxy, "/.well-known/acme-challenge/other", &[]).await.status, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_breaks_out_of_a_redirect() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let signin = ("auth-signin", "https://$host/start?rd=$scheme://$host$request_uri");
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &[("auth-url", &url), signin]),
        ingress("path", "path.example.com", "/", "web", &[("auth-url", &url), ("auth-signin", "/login")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let answer = ask(&proxy, "//evil.example/%0d%0aX-Bad:1", &[]).await;
    assert_eq!(
        answer.header("location"),
        Some("https://app.example.com/start?rd=http://app.example.com//evil.example/%0d%0aX-Bad:1")
    );
    assert_eq!(answer.header("x-bad"), None);
    let answer = client::fetch(proxy.http, "path.example.com", "/x").await.unwrap();
    assert_eq!(
        answer.header("location"),
        Some("http://path.example.com/login?rd=http://path.example.com%2Fx")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn further_headers_come_from_a_config_map() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let extra = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra, namespace: default}\n\
                 data: {X-Tenant: blue, X-Path: $uri, X-Empty: $arg_nothing, Authorization: Bearer service}\n";
    let annotations = [
        ("auth-url", &*url),
        ("auth-proxy-set-headers", "default/extra"),
        ("auth-request-redirect", "https://back.example$request_uri"),
    ];
    let yaml =
        [service("web", &[origin.address]), extra.to_owned(), ingress("app", HOST, "/", "web", &annotations)];
    let proxy = serve(&yaml.concat()).await.unwrap();
    assert_eq!(ask(&proxy, "/a", &[("x-empty", "forged")]).await.status, 200);
    let seen = oauth2.last();
    assert_eq!(seen.header("x-tenant").as_deref(), Some("blue"));
    assert_eq!(seen.header("x-path").as_deref(), Some("/a"));
    assert_eq!(seen.header("x-empty"), None);
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer service"));
    assert_eq!(seen.header("x-auth-request-redirect").as_deref(), Some("https://back.example/a"));
    assert_eq!(origin.last().header("authorization"), None, "only the service is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_about_itself_is_refused() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &[("auth-url", "http://$host/verify")]),
        ingress("ok", "ok.example.com", "/", "web", &[("auth-url", "http://open.example.com/status/204")]),
        ingress("open", "open.example.com", "/", "web", &[]),
        ingress(
            "named",
            "named.example.com",
            "/",
            "web",
            &[("auth-url", "http://web.default.svc.cluster.local/status/403")],
        ),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    assert_eq!(ask(&proxy, "/", &[]).await.status, 500);
    assert_eq!(origin.seen().len(), 0);
    assert_eq!(client::fetch(proxy.http, "ok.example.com", "/").await.unwrap().status, 200);
    assert_eq!(client::fetch(proxy.http, "named.example.com", "/").await.unwrap().status, 403);
    assert_eq!(origin.last().header("host").as_deref(), Some("web.default.svc.cluster.local"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_source_and_service_is_enough_where_that_is_asked_for() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let headers = ("auth-response-headers", "X-Auth-Request-User");
    let common = [("auth-url", &*url), ("satisfy", "any"), headers];
    let with = |sources| [common.as_slice(), &[("whitelist-source-range", sources)]].concat();
    let yaml = [
        service("web", &[origin.address]),
        ingress("near", HOST, "/", "web", &with("127.0.0.0/8")),
        ingress("far", "far.example.com", "/", "web", &with("198.18.0.0/15")),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let forged = [("x-auth-request-user", "root")];
    assert_eq!(ask(&proxy, "/", &forged).await.status, 200);
    assert_eq!(oauth2.seen().len(), 0, "the source is enough");
    assert_eq!(origin.last().header("x-auth-request-user"), None, "nobody said who it is");
    let far = async |lines: &[(&str, &str)]| {
        let mut request = request("/", lines);
        request.headers_mut().insert("host", "far.example.com".parse().unwrap());
        client::send(proxy.http, request).await.unwrap().status
    };
    assert_eq!(far(&[("authorization", "Bearer bob")]).await, 200);
    assert_eq!(far(&[]).await, 401);
    assert_eq!(far(&[("authorization", "Bearer banned")]).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_pass_and_refusals_carry_cors_headers() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let annotations =
        [("auth-url", &*url), ("enable-cors", "true"), ("cors-allow-origin", "https://spa.example.com")];
    let yaml = [service("web", &[origin.address]), ingress("app", HOST, "/", "web", &annotations)];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let origin_line = ("origin", "https://spa.example.com");
    let mut preflight = client::request("OPTIONS", HOST, "/", "");
    preflight.headers_mut().insert("origin", origin_line.1.parse().unwrap());
    let answer = client::send(proxy.http, preflight).await.unwrap();
    assert_eq!((answer.status, oauth2.seen().len()), (204, 0));
    let refused = ask(&proxy, "/", &[origin_line]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://spa.example.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_the_node_are_not_asked_where_they_are_forbidden() {
    let (origin, service_of_the_node) = (Origin::start("web").await, oauth2_proxy().await);
    // What names the machine to others, if it has a way to them.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let outside = socket.connect("198.18.0.1:9").and_then(|()| socket.local_addr()).ok();
    let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    hosts.extend(outside.map(|address| address.ip().to_string()));
    for host in hosts {
        let url = format!("http://{host}:{}/status/204", service_of_the_node.address.port());
        let yaml =
            [service("web", &[origin.address]), ingress("app", HOST, "/", "web", &[("auth-url", &*url)])];
        let mut model = ingress_tests::manifests::model(&yaml.concat()).unwrap();
        model.global.subrequests.forbids_local = true;
        let proxy = Instance::start(model).await.unwrap();
        assert_eq!(ask(&proxy, "/", &[]).await.status, 500, "{host}");
    }
    assert_eq!((origin.seen().len(), service_of_the_node.seen().len()), (0, 0));
}
