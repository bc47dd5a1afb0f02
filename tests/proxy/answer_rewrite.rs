//! What backends say about themselves.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::canned;

#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_locations_of_backends_are_rewritten() {
    let backend = canned(
        "HTTP/1.1 302 Found\r\nLocation: http://a.internal/x?y=z\r\nRefresh: 5; url=http://a.internal/r\r\n\
         Set-Cookie: one=1; Path=/app/x; Domain=.A.internal; HttpOnly\r\nSet-Cookie: two=a.internal; path=/other\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await;
    let annotations = [
        ("proxy-cookie-domain", "a.internal $host"),
        ("proxy-cookie-path", "/app/ /"),
        ("proxy-redirect-from", "http://a.internal/"),
        ("proxy-redirect-to", "/base/"),
    ];
    let yaml = [
        service("web", &[backend.address]),
        ingress("web", "a.example", "/", "web", &annotations),
        ingress("plain", "b.example", "/", "web", &[]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let cookies = |answer: &client::Answer| -> Vec<String> {
        answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let answer = client::fetch(proxy.http, "a.example:81", "/").await.unwrap();
    assert_eq!(answer.header("location"), Some("http://a.example/base/x?y=z"));
    assert_eq!(answer.header("refresh"), Some("5; url=/base/r"));
    assert_eq!(
        cookies(&answer),
        ["one=1; Path=/x; Domain=a.example; HttpOnly", "two=a.internal; path=/other"]
    );
    let answer = client::fetch(proxy.http, "b.example", "/").await.unwrap();
    assert_eq!(answer.header("location"), Some("http://a.internal/x?y=z"));
    assert_eq!(cookies(&answer)[0], "one=1; Path=/app/x; Domain=.A.internal; HttpOnly");
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_replace_the_whole_value() {
    let backend = canned(
        "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1:8080/x\r\nSet-Cookie: a=1; Path=/V1/x\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let annotations = [
        ("proxy-cookie-path", "~*^/v1(/.*)$ /app$1"),
        ("proxy-redirect-from", "~^http://[^/]+(/.*)$"),
        ("proxy-redirect-to", "$scheme://$http_host$1"),
        ("relative-redirects", "true"),
    ];
    let yaml = service("web", &[backend.address]) + &ingress("web", "a.example", "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    let answer = client::fetch(proxy.http, "a.example", "/").await.unwrap();
    assert_eq!(answer.header("set-cookie"), Some("a=1; Path=/app/x"));
    assert_eq!(answer.header("location"), Some("http://a.example/x"));
}
