//! Cross-origin requests.

use std::net::SocketAddr;

use ingress_tests::client::{self, Answer, Http2};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::{Origin, canned};

async fn ask(address: SocketAddr, method: &str, host: &str, origin: Option<&str>) -> Answer {
    let mut request = client::request(method, host, "/", "");
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    client::send(address, request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_is_answered_before_redirects_limits_and_source_lists() {
    let origin = Origin::start("web").await;
    let annotations = [
        ("enable-cors", "true"),
        ("force-ssl-redirect", "true"),
        ("limit-rps", "1"),
        ("whitelist-source-range", "198.18.0.0/15"),
    ];
    let yaml = service("web", &[origin.address]) + &ingress("web", "a.example", "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    for _ in 0..10 {
        let answer = ask(proxy.http, "OPTIONS", "a.example", None).await;
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        let headers = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,\
                       Authorization";
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT, POST, DELETE, PATCH, OPTIONS"),
            ("access-control-allow-headers", headers),
            ("access-control-max-age", "1728000"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    }
    let answer = ask(proxy.http, "GET", "a.example", None).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (308, Some("*")));
    assert_eq!(origin.seen().len(), 0);
    let mut h2 = Http2::open_tls(proxy.https, "a.example").await.unwrap();
    let answer = h2.send(client::request("OPTIONS", "a.example", "/", "")).await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("*")));
    // A script can read why it was refused.
    let answer = h2.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, Some("*")));
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_are_echoed_and_others_see_nothing() {
    let backend = canned(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://backend.example\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let annotations = [
        ("enable-cors", "true"),
        ("cors-allow-origin", "https://a.example,https://*.b.example:8443"),
        ("cors-allow-credentials", "false"),
        ("cors-expose-headers", "X-A"),
        ("cors-max-age", "5"),
    ];
    let yaml = service("web", &[backend.address]) + &ingress("web", "web.example", "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    for allowed in ["https://a.example", "HTTPS://A.example", "https://x.b.example:8443"] {
        let answer = ask(proxy.http, "GET", "web.example", Some(allowed)).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(allowed));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.header("access-control-expose-headers"), Some("X-A"));
        assert_eq!(answer.header("access-control-max-age"), Some("5"));
        assert_eq!(ask(proxy.http, "OPTIONS", "web.example", Some(allowed)).await.status, 204);
    }
    let others = [
        "https://a.example.evil",
        "https://evil.example?https://a.example",
        "https://x.y.b.example:8443",
        "null",
    ];
    for other in others {
        let answer = ask(proxy.http, "OPTIONS", "web.example", Some(other)).await;
        // It is the backend's to answer.
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{other}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://backend.example"));
        assert_eq!(answer.header("access-control-allow-methods"), None);
    }
}
