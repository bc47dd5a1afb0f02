//! TLS towards backends: whom we verify, what we send, what we show.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service, translation};
use ingress_tests::proxy::Instance;
use ingress_tests::secure::{Authority, Backend, Pair, Speech};

/// A Secret `default/backend` with a pair and an authority.
fn secret(pair: &Pair, authority: &Authority) -> String {
    secret_with(pair, &authority.pem())
}

fn secret_with(pair: &Pair, authorities: &str) -> String {
    let text = |pem: &str| serde_json::Value::from(pem).to_string();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: backend}}\nstringData:\n  tls.crt: {}\n  tls.key: {}\n  ca.crt: {}\n",
        text(&pair.certificate),
        text(&pair.key),
        text(authorities)
    )
}

async fn start(backend: &Backend, secret: &str, annotations: &[(&str, &str)]) -> Instance {
    let mut all = vec![("backend-protocol", "HTTPS"), ("proxy-ssl-secret", "default/backend")];
    all.extend(annotations);
    let yaml = service("web", &[backend.address]) + secret + &ingress("web", "a.example", "/", "web", &all);
    serve(&yaml).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_backend_must_have_the_name_and_the_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ours = authority.sign("ingress.internal");
    let pair = authority.sign("web.internal");
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let verify = |name| {
        [("proxy-ssl-verify", "on"), ("proxy-ssl-name", name), ("proxy-ssl-protocols", "TLSv1.2 TLSv1.3")]
    };
    let rows = [
        ("good", &authority, "web.internal", 200),
        ("wrong name", &authority, "other.internal", 502),
        ("unknown authority", &other, "web.internal", 502),
    ];
    for (case, trusted, name, status) in rows {
        let proxy = start(&backend, &secret(&ours, trusted), &verify(name)).await;
        let answer = client::fetch(proxy.http, "a.example", "/").await.unwrap();
        assert_eq!(answer.status, status, "{case}");
    }
    assert!(backend.names().iter().all(Option::is_none), "{:?}", backend.names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_be_named_by_its_common_name_and_sign_itself() {
    let authority = Authority::new();
    let ours = authority.sign("ingress.internal");
    let rows = [
        ("signed", authority.sign_common_name("Web.internal"), "web.internal", authority.pem(), 200),
        ("wildcard", authority.sign_common_name("*.internal"), "web.internal", authority.pem(), 200),
        ("wrong name", authority.sign_common_name("other.internal"), "web.internal", authority.pem(), 502),
    ];
    let own = Pair::self_signed("web.internal");
    let trusted = own.certificate.clone();
    let stranger = Pair::self_signed("web.internal");
    let more = [
        ("itself", own, "web.internal", trusted, 200),
        ("stranger", stranger, "web.internal", authority.pem(), 502),
    ];
    for (case, pair, name, authorities, status) in rows.into_iter().chain(more) {
        let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
        let verify = [("proxy-ssl-verify", "on"), ("proxy-ssl-name", name)];
        let proxy = start(&backend, &secret_with(&ours, &authorities), &verify).await;
        let answer = client::fetch(proxy.http, "a.example", "/").await.unwrap();
        assert_eq!(answer.status, status, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_is_sent_when_asked_for() {
    let authority = Authority::new();
    let pair = authority.sign("web.internal");
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let names = [("proxy-ssl-name", "web.internal"), ("proxy-ssl-server-name", "on")];
    let proxy = start(&backend, &secret(&pair, &authority), &names).await;
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, 200);
    assert_eq!(backend.names(), [Some("web.internal".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_certificate_is_shown_to_backends_that_ask_for_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign("web.internal");
    let backend =
        Backend::start(Speech { pair: Some(&pair), clients: Some(&authority), is_http2: false }).await;
    for (signer, status) in [(&authority, 200), (&other, 502)] {
        let proxy = start(&backend, &secret(&signer.sign("ingress.internal"), &authority), &[]).await;
        assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_answers_503_and_asks_nobody() {
    let pair = Authority::new().sign("web.internal");
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let annotations = [("backend-protocol", "HTTPS"), ("proxy-ssl-secret", "default/backend")];
    let yaml = service("web", &[backend.address]) + &ingress("web", "a.example", "/", "web", &annotations);
    let proxy = Instance::start(translation(&yaml).unwrap().model).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, 503);
    assert_eq!(backend.connections(), 0);
}
