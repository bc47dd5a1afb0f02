//! oauth2-proxy as its guides put it behind ingress-nginx, over TLS and in both versions of HTTP: sign-in, sessions, renewal,
//! on one host and on two. (What the service is asked and how its verdicts count stands in `auth_external`.)

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use ingress_tests::client::{self, Answer, Http1, Http2, PATIENCE};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_tests::responder::{Responder, oauth2_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOST: &str = "app.example.com";
const SSO: &str = "sso.example.com";

/// A browser, which keeps its connection.
enum Browser {
    One(Http1),
    Two(Http2),
}

impl Browser {
    /// One of each kind.
    async fn both(proxy: &Instance) -> [Self; 2] {
        let one = Http1::open_tls(proxy.https, HOST).await.unwrap();
        [Self::One(one), Self::Two(Http2::open_tls(proxy.https, HOST).await.unwrap())]
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        match self {
            Self::One(connection) => connection.send(request).await,
            Self::Two(connection) => connection.send(request).await,
        }
        .unwrap()
    }

    async fn get(&mut self, host: &str, target: &str, cookie: &str) -> Answer {
        let mut request = client::get(host, target);
        if !cookie.is_empty() {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        self.send(request).await
    }
}

fn cookies(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all("set-cookie").iter();
    lines.map(|line| line.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

/// The application behind `annotations`, and the service under `/oauth2` of `host`.
async fn start(origin: &Origin, oauth2: &Responder, host: &str, annotations: &[(&str, &str)]) -> Instance {
    let yaml = [
        service("web", &[origin.address]),
        service("oauth2-proxy", &[oauth2.address]),
        ingress("app", HOST, "/", "web", annotations),
        ingress("oauth2", host, "/oauth2", "oauth2-proxy", &[]),
    ];
    serve(&yaml.concat()).await.unwrap()
}

const ONE_HOST: [(&str, &str); 7] = [
    ("auth-url", "https://$host/oauth2/auth"),
    ("auth-signin", "https://$host/oauth2/start?rd=$escaped_request_uri"),
    ("auth-response-headers", "X-Auth-Request-User, X-Auth-Request-Email, Authorization"),
    ("auth-keepalive", "16"),
    ("auth-keepalive-requests", "100"),
    ("auth-keepalive-timeout", "30"),
    ("auth-keepalive-share-vars", "true"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_works_and_is_renewed() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let proxy = start(&origin, &oauth2, HOST, &ONE_HOST).await;
    for mut browser in Browser::both(&proxy).await {
        let first = browser.get(HOST, "/orders?id=7", "").await;
        assert_eq!(first.status, 302);
        let signin = first.header("location").unwrap();
        assert_eq!(signin, "https://app.example.com/oauth2/start?rd=%2Forders%3Fid%3D7");
        let start = browser.get(HOST, signin.trim_start_matches("https://app.example.com"), "").await;
        assert_eq!(
            (start.status, start.header("location")),
            (302, Some("https://provider.example/authorize"))
        );
        assert_eq!(cookies(&start), ["_oauth2_proxy_csrf=1"]);
        let back =
            browser.get(HOST, "/oauth2/callback?state=%2Forders%3Fid%3D7", "_oauth2_proxy_csrf=1").await;
        assert_eq!((back.status, back.header("location")), (302, Some("/orders?id=7")));
        assert_eq!(cookies(&back), ["_oauth2_proxy_csrf=", "_oauth2_proxy=alice"]);

        let page = browser.get(HOST, "/orders?id=7", "_oauth2_proxy=alice; theme=dark").await;
        assert_eq!((page.status, page.text().as_str()), (200, "web"));
        let seen = origin.last();
        assert_eq!(seen.header("x-auth-request-user").as_deref(), Some("alice"));
        assert_eq!(seen.header("x-auth-request-email").as_deref(), Some("alice@example.com"));
        assert_eq!(seen.header("cookie").as_deref(), Some("_oauth2_proxy=alice; theme=dark"));
        assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));

        let renewed = browser.get(HOST, "/orders?h=set-cookie:own=1", "_oauth2_proxy=fresh").await;
        assert_eq!(cookies(&renewed), ["own=1", "_oauth2_proxy_0=renewed0", "_oauth2_proxy_1=renewed1"]);
        // A refusal carries no cookies of the service, as in nginx, but the redirect to sign in does.
        let expired = browser.get(HOST, "/orders", "_oauth2_proxy=expired").await;
        assert_eq!(expired.status, 302);
        assert_eq!(cookies(&expired), ["_oauth2_proxy_0=", "_oauth2_proxy_1="]);
        assert_eq!(browser.get(HOST, "/orders", "_oauth2_proxy=banned").await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_signs_in_for_another_host() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let annotations = [
        ("auth-url", "https://sso.example.com/oauth2/auth"),
        ("auth-signin", "https://sso.example.com/oauth2/start?rd=$scheme://$host$escaped_request_uri"),
        ("auth-response-headers", "X-Auth-Request-User"),
        ("auth-cache-key", "$cookie__oauth2_proxy"),
        ("auth-cache-duration", "200 202 401 5m"),
    ];
    let proxy = start(&origin, &oauth2, SSO, &annotations).await;
    for (number, mut browser) in (0..).zip(Browser::both(&proxy).await) {
        let first = browser.get(HOST, "/a%20b", "").await;
        let expected = "https://sso.example.com/oauth2/start?rd=https://app.example.com%2Fa%2520b";
        assert_eq!((first.status, first.header("location")), (302, Some(expected)));
        let cookie = format!("_oauth2_proxy=user{number}");
        for _ in 0..3 {
            assert_eq!(browser.get(HOST, "/", &cookie).await.status, 200);
            assert_eq!(origin.last().header("x-auth-request-user"), Some(format!("user{number}")));
        }
        let asked = oauth2.seen();
        assert_eq!(asked.iter().filter(|seen| seen.header("cookie") == Some(cookie.clone())).count(), 1);
        assert_eq!(asked.last().and_then(|seen| seen.header("host")).as_deref(), Some(SSO));
        // The page of the service itself needs no session.
        let mut other = Http1::open_tls(proxy.https, SSO).await.unwrap();
        assert_eq!(other.send(client::get(SSO, "/oauth2/start")).await.unwrap().status, 302);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_come_with_refusals_where_that_is_asked_for() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    for (always, expected) in [("false", &[][..]), ("true", &["_oauth2_proxy_0=", "_oauth2_proxy_1="][..])] {
        let annotations = [("auth-url", "https://$host/oauth2/auth"), ("auth-always-set-cookie", always)];
        let proxy = start(&origin, &oauth2, HOST, &annotations).await;
        for mut browser in Browser::both(&proxy).await {
            let refused = browser.get(HOST, "/", "_oauth2_proxy=expired").await;
            assert_eq!(
                (refused.status, cookies(&refused)),
                (401, expected.iter().map(ToString::to_string).collect())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_large_headers_pass_and_the_service_gets_no_body() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let proxy = start(&origin, &oauth2, HOST, &ONE_HOST).await;
    let body = vec![b'x'; 300_000];
    // A session in the cookie itself is as large as browsers allow, and comes in parts.
    let part = |number| format!("_session_{number}={}", "s".repeat(3900));
    for mut browser in Browser::both(&proxy).await {
        let mut request = client::request("POST", HOST, "/upload", body.clone());
        let cookie = format!("_oauth2_proxy=alice; {}", part(0));
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("x-token", "t".repeat(7000).parse().unwrap());
        assert_eq!(browser.send(request).await.status, 200);
        let asked = oauth2.last();
        assert!(asked.line.starts_with("GET /oauth2/auth"), "{}", asked.line);
        assert_eq!((asked.body.len(), asked.header("content-length")), (0, None));
        assert_eq!(asked.header("x-original-method").as_deref(), Some("POST"));
        assert_eq!(asked.header("x-token").map(|token| token.len()), Some(7000));
        assert_eq!(asked.header("cookie"), Some(cookie.clone()));
        let seen = origin.last();
        assert_eq!((seen.body.len(), seen.header("cookie")), (body.len(), Some(cookie)));
        // Nobody uploads without a session.
        let refused = browser.send(client::request("POST", HOST, "/upload", body.clone())).await;
        assert_eq!(refused.status, 302);
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_with_a_session_only() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let proxy = start(&origin, &oauth2, HOST, &ONE_HOST).await;
    let open = async |cookie: &str| {
        let mut stream = client::tls(proxy.https, HOST, &["http/1.1"]).await.unwrap();
        let head = format!(
            "GET /upgrade HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: {cookie}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        (String::from_utf8(answer).unwrap(), stream)
    };
    let (status, mut stream) = open("_oauth2_proxy=alice").await;
    assert_eq!(status, "HTTP/1.1 101");
    stream.write_all(b"ping").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ping") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
        seen.push(byte.unwrap());
    }
    let asked = oauth2.last();
    assert_eq!((asked.header("upgrade"), asked.header("connection")), (None, None), "only the question");
    assert_eq!(open("theme=dark").await.0, "HTTP/1.1 302");
    assert_eq!(open("_oauth2_proxy=banned").await.0, "HTTP/1.1 403");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_sets_headers_of_the_question_and_spares_it() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let snippet = "proxy_set_header X-Tenant $arg_tenant;\n\
                   if ($request_uri ~ \"^/public/\") {\n  return 200;\n}\n\
                   if ($http_x_probe = \"no\") { return 403; }\n\
                   if ($http_x_probe) { return 401; }";
    let annotations = [&ONE_HOST[..], &[("auth-snippet", snippet)]].concat();
    let proxy = start(&origin, &oauth2, HOST, &annotations).await;
    for mut browser in Browser::both(&proxy).await {
        let before = oauth2.seen().len();
        let mut forged = client::get(HOST, "/public/page");
        forged.headers_mut().insert("x-auth-request-user", "root".parse().unwrap());
        assert_eq!(browser.send(forged).await.status, 200);
        assert_eq!(origin.last().header("x-auth-request-user"), None, "nobody said who it is");
        for (value, status) in [("no", 403), ("yes", 302)] {
            let mut probe = client::get(HOST, "/");
            probe.headers_mut().insert("x-probe", value.parse().unwrap());
            assert_eq!(browser.send(probe).await.status, status);
        }
        assert_eq!(oauth2.seen().len(), before, "it was not asked");
        assert_eq!(browser.get(HOST, "/?tenant=blue", "_oauth2_proxy=alice").await.status, 200);
        assert_eq!(oauth2.last().header("x-tenant").as_deref(), Some("blue"));
        // Neither encoding nor dots lead around it.
        for target in ["/x/../public/page", "/%70ublic/page"] {
            assert_eq!(browser.get(HOST, target, "").await.status, 302, "{target}");
        }
    }
}
