//! What the backend is told about the client, and what ends at the proxy.

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests::{ingress, ingress_with, serve, service, settings, translation};
use ingress_tests::origin::{Origin, canned};
use ingress_tests::proxy::{Instance, policies, simple};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_claims_about_itself_is_replaced() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut request = client::get("web.example:8080", "/");
    let claims = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-scheme", "https"),
        ("x-forwarded-prefix", "/evil"),
        ("x-scheme", "https"),
        ("x-real-ip", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-original-uri", "/admin"),
        ("ssl-client-verify", "SUCCESS"),
        ("proxy", "http://evil.example"),
        ("x_real_ip", "203.0.113.9"),
        ("connection", "x-real-ip, x-custom"),
        ("x-custom", "1"),
        ("x-kept", "1"),
    ];
    for (name, value) in claims {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
    let seen = origin.last();
    let port = proxy.http.port().to_string();
    let expected = [
        ("host", Some("web.example:8080")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-original-forwarded-for", Some("203.0.113.9")),
        ("x-forwarded-host", Some("web.example:8080")),
        ("x-original-forwarded-host", Some("evil.example")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-port", Some(port.as_str())),
        ("x-forwarded-scheme", Some("http")),
        ("x-scheme", Some("http")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-kept", Some("1")),
        ("x-forwarded-prefix", None),
        ("forwarded", None),
        ("x-original-uri", None),
        ("ssl-client-verify", None),
        ("proxy", None),
        ("x_real_ip", None),
        ("x-custom", None),
        ("connection", None),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_an_id_that_is_kept_when_it_has_one() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    client::fetch(proxy.http, "a", "/").await.unwrap();
    let first = origin.last().header("x-request-id").unwrap();
    assert!(first.len() == 32 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    client::fetch(proxy.http, "a", "/").await.unwrap();
    assert_ne!(origin.last().header("x-request-id").unwrap(), first);
    let mut request = client::get("a", "/");
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    client::send(proxy.http, request).await.unwrap();
    assert_eq!(origin.last().header("x-request-id").as_deref(), Some("mine"));
    proxy.log_lines(" mine", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_backend_is_told_https() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut connection = Http2::open_tls(proxy.https, "web.example").await.unwrap();
    connection.send(client::get("web.example", "/")).await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-port"), Some(proxy.https.port().to_string()));
    assert_eq!(seen.line, "GET / HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_headers_of_the_backend_end_at_the_proxy() {
    let backend = canned(
        "HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: secret/1.0\r\n\
         X-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = Instance::start(simple("", policies(), &[backend.address])).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..2 {
        // The backend closes its connection; ours to the client stays.
        let answer = connection.send(client::get("a", "/")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("x-kept"), Some("1"));
        for name in ["connection", "x-hop", "keep-alive", "server"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_one_backend_header_stands_for_are_joined() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut request = client::get("web.example", "/");
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-for", "203.0.113.2"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    // Browsers send a line per cookie over HTTP/2.
    Http2::open_tls(proxy.https, "web.example").await.unwrap().send(request).await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(seen.header("x-original-forwarded-for").as_deref(), Some("203.0.113.1, 203.0.113.2"));
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

/// A ConfigMap `default/<name>`.
fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    settings(data).replace("{name: settings}", &format!("{{name: {name}}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_cluster_reach_backends_and_clients() {
    let backend = canned(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: php\r\nX-Served-By: me\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let origin = Origin::start("web").await;
    let yaml = [
        service("canned", &[backend.address]),
        service("web", &[origin.address]),
        ingress("canned", "canned.example", "/", "canned", &[]),
        ingress("web", "web.example", "/", "web", &[]),
        config_map(
            "to-backends",
            &[("X-Asked", "$host$request_uri"), ("X-Scheme", "mine"), ("X-Real-IP", "")],
        ),
        config_map("to-clients", &[("X-Served-By", "portcullis"), ("X-Id", "$req_id")]),
        settings(&[
            ("proxy-set-headers", "default/to-backends"),
            ("add-headers", "default/to-clients"),
            ("hide-headers", "X-Powered-By"),
            ("enable-underscores-in-headers", "true"),
            ("generate-request-id", "false"),
            ("proxy-add-original-uri-header", "true"),
            ("server-tokens", "true"),
        ]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let answer = client::fetch(proxy.http, "canned.example", "/").await.unwrap();
    assert_eq!((answer.header("x-served-by"), answer.header("x-powered-by")), (Some("portcullis"), None));
    assert!(answer.header("server").is_some_and(|server| server.starts_with("portcullis/")));
    // Our own errors say it, too.
    let answer = client::fetch(proxy.http, "unknown.example", "/").await.unwrap();
    assert_eq!((answer.status, answer.header("x-served-by")), (404, Some("portcullis")));
    assert!(answer.header("x-id").is_some_and(|id| id.len() == 32));
    let mut request = client::get("web.example", "/a?b=c");
    request.headers_mut().insert("x_under", "1".parse().unwrap());
    request.headers_mut().insert("x.dot", "1".parse().unwrap());
    client::send(proxy.http, request).await.unwrap();
    let seen = origin.last();
    for (name, value) in [
        ("x-asked", Some("web.example/a?b=c")),
        ("x-scheme", Some("mine")),
        ("x-real-ip", None),
        ("x-request-id", None),
        ("x-original-uri", Some("/a?b=c")),
        ("x_under", Some("1")),
        ("x.dot", None),
    ] {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_an_ingress_reach_backends_and_clients() {
    let backend = canned(
        "HTTP/1.1 404 Not Found\r\nX-Debug-A: 1\r\nX-Powered-By: php\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno",
    )
    .await;
    let origin = Origin::start("web").await;
    let snippet = "more_set_headers \"Request-Id: $req_id\" 'X-Frame-Options: DENY';\n\
                   more_set_headers -s '404 503' -t 'text/html' 'X-Not-Found: $status';\n\
                   more_set_headers -s 500 'X-Broken: 1'; more_clear_headers X-Debug-*; proxy_hide_header X-Powered-By;\n\
                   add_header X-Success 1; add_header X-Always $upstream_http_content_type always; expires 1h;\n";
    let request = "proxy_set_header X-From-Snippet $http_user_agent; proxy_set_header Connection upgrade;\n\
                   more_clear_input_headers Cookie; expires -1;\n";
    let vhost = "$service_name.$namespace.svc:80";
    let rewritten = [("rewrite-target", "/$1"), ("x-forwarded-prefix", "/app"), ("upstream-vhost", vhost)];
    let yaml = [
        service("canned", &[backend.address]),
        service("web", &[origin.address]),
        ingress("answers", "answers.example", "/", "canned", &[("configuration-snippet", snippet)]),
        ingress("requests", "requests.example", "/", "web", &[("configuration-snippet", request)]),
        ingress_with("prefix", "prefix.example", ("/app/(.*)", "ImplementationSpecific"), "web", &rewritten),
        ingress("custom", "custom.example", "/", "web", &[("custom-headers", "default/site")]),
        ingress("closing", "closing.example", "/", "web", &[("connection-proxy-header", "close")]),
        config_map("site", &[("X-Site", "$host")]),
        settings(&[("global-allowed-response-headers", "X-Site")]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let answer = client::fetch(proxy.http, "answers.example", "/").await.unwrap();
    assert!(answer.header("request-id").is_some_and(|id| id.len() == 32));
    for (name, value) in [
        ("x-frame-options", Some("DENY")),
        ("x-not-found", Some("404")),
        ("x-broken", None),
        ("x-debug-a", None),
        ("x-powered-by", None),
        ("x-success", None),
        ("x-always", Some("text/html")),
        ("expires", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let mut request = client::get("requests.example", "/");
    request.headers_mut().insert("user-agent", "tester".parse().unwrap());
    request.headers_mut().insert("cookie", "a=b".parse().unwrap());
    let answer = client::send(proxy.http, request).await.unwrap();
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert!(answer.header("expires").is_some_and(|date| date.ends_with(" GMT")));
    let seen = origin.last();
    assert_eq!(seen.header("x-from-snippet").as_deref(), Some("tester"));
    assert_eq!((seen.header("cookie"), seen.header("connection")), (None, None));
    client::fetch(proxy.http, "prefix.example:81", "/app/x").await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.line, "GET /x HTTP/1.1");
    assert_eq!(seen.header("x-forwarded-prefix").as_deref(), Some("/app"));
    assert_eq!(seen.header("host").as_deref(), Some("web.default.svc:80"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("prefix.example:81"));
    let answer = client::fetch(proxy.http, "custom.example", "/").await.unwrap();
    assert_eq!(answer.header("x-site"), Some("custom.example"));
    client::fetch(proxy.http, "closing.example", "/").await.unwrap();
    assert_eq!(origin.last().header("connection").as_deref(), Some("close"));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_stay_with_https() {
    let origin = Origin::start("web").await;
    let with_tls = ingress("tls", "tls.example", "/", "web", &[("ssl-redirect", "false")])
        .replace("  rules:", "  tls: [{hosts: [tls.example]}]\n  rules:");
    let yaml = [service("web", &[origin.address]), with_tls, ingress("web", "web.example", "/", "web", &[])]
        .concat();
    let proxy = Instance::start(translation(&yaml).unwrap().model).await.unwrap();
    let over_tls = async |host: &'static str| {
        let mut connection = Http2::open_tls(proxy.https, host).await.unwrap();
        let answer = connection.send(client::get(host, "/")).await.unwrap();
        answer.header("strict-transport-security").map(str::to_owned)
    };
    assert_eq!(over_tls("tls.example").await.as_deref(), Some("max-age=31536000; includeSubDomains"));
    // As in ingress-nginx whatever the certificate is.
    assert_eq!(over_tls("web.example").await.as_deref(), Some("max-age=31536000; includeSubDomains"));
    let answer = client::fetch(proxy.http, "tls.example", "/").await.unwrap();
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_say_when_and_from_where() {
    let origin = Origin::start("web").await;
    let parts = [
        settings(&[("proxy-set-headers", "default/request"), ("add-headers", "default/response")]),
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: request}\ndata:\n  X-Request-Start: t=${msec}\n".to_owned(),
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: response}\ndata:\n  X-From: $upstream_addr $upstream_status\n"
            .to_owned(),
        service("web", &[origin.address]),
        ingress("web", "web.example", "/", "web", &[]),
    ];
    let proxy = serve(&parts.concat()).await.unwrap();
    let answer = client::send(proxy.http, client::get("web.example", "/")).await.unwrap();
    assert_eq!(answer.headers["x-from"], format!("{} 200", origin.address));
    let start = origin.last().header("x-request-start").unwrap();
    let (seconds, millis) = start.strip_prefix("t=").and_then(|time| time.split_once('.')).unwrap();
    assert!(seconds.parse::<u64>().unwrap() > 1_500_000_000 && millis.len() == 3, "{start}");
}
