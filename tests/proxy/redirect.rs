//! Cleartext goes to HTTPS.

use ingress_tests::client::{self, Http1};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};
use ingress_userspace::model::policy::{HttpsRedirect, Policies};

fn redirect() -> Option<HttpsRedirect> {
    let except = vec!["/.well-known/acme-challenge".into()];
    Some(HttpsRedirect { status: 308, except, keeps_slash: false, port: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn cleartext_is_redirected_to_https_but_for_the_challenge() {
    let origin = Origin::start("web").await;
    let policies = Policies { https_redirect: redirect(), ..policies() };
    let proxy = Instance::start(simple("web.example", policies, &[origin.address])).await.unwrap();
    let cases = [
        ("web.example:8080", "/", "https://web.example"),
        ("WEB.example", "/dir/", "https://WEB.example/dir"),
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
async fn slash_and_port_stay_where_they_are_asked_for() {
    let origin = Origin::start("web").await;
    let force = ("force-ssl-redirect", "true");
    let yaml = [
        service("web", &[origin.address]),
        ingress("slash", "slash.example", "/", "web", &[force, ("preserve-trailing-slash", "true")]),
        ingress("plain", "plain.example", "/", "web", &[force]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    for (host, location) in
        [("slash.example", "https://slash.example/a/"), ("plain.example", "https://plain.example/a")]
    {
        let answer = client::fetch(proxy.http, host, "/a/").await.unwrap();
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)));
    }
}
