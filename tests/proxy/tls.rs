//! Certificates by server name, and their replacement while connections are open.

use std::sync::Arc;

use ingress_tests::client::{self, Http1};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, certificate, model, policies, route, to};
use ingress_userspace::model::Model;
use ingress_userspace::model::certificate::KeyDer;
use ingress_userspace::model::host::HostPattern;
use ingress_userspace::model::listener::ListenerProtocol;
use ingress_userspace::model::route::PathMatch;

fn leaf(model: &Model, secret: &str) -> Vec<u8> {
    let found = model.certificates.iter().find(|(id, _)| id.name == secret).expect("a known secret");
    found.1.chain[0].clone()
}

/// Hosts `a.example` (own certificate), `*.wild.example` (own) and `plain.example` (none).
async fn three_hosts(origin: &Origin) -> Model {
    let mut model = model();
    let id = backend(&mut model, "web", &[origin.address]);
    for (host, secret) in
        [("a.example", Some("a")), ("*.wild.example", Some("wild")), ("plain.example", None)]
    {
        route(&mut model, host, PathMatch::Prefix(String::new()), policies(), to(&id));
        if let Some(secret) = secret {
            let certificate = certificate(&mut model, secret, host);
            Arc::make_mut(model.hosts.last_mut().unwrap()).certificate = Some(certificate);
        }
    }
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_chooses_the_certificate() {
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    let mut proxy = Instance::start(model.clone()).await.unwrap();
    let own = client::certificate(proxy.https, "unknown.example").await.unwrap();
    assert!(String::from_utf8_lossy(&own).contains("Portcullis default certificate"));
    let cases = [
        ("a.example", leaf(&model, "a")),
        ("A.EXAMPLE", leaf(&model, "a")),
        ("x.wild.example", leaf(&model, "wild")),
        ("y.x.wild.example", own.clone()),
        ("wild.example", own.clone()),
        ("plain.example", own.clone()),
    ];
    for (name, expected) in cases {
        assert_eq!(client::certificate(proxy.https, name).await.unwrap(), expected, "{name}");
    }
    let default = certificate(&mut model, "default", "default.example");
    model.listeners[1].protocol = ListenerProtocol::Https { default_certificate: Some(default) };
    proxy.publish(model.clone()).await.unwrap();
    assert_eq!(client::certificate(proxy.https, "unknown.example").await.unwrap(), leaf(&model, "default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_serves_new_handshakes_and_drops_no_connection() {
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    let mut proxy = Instance::start(model.clone()).await.unwrap();
    let mut open = Http1::open_tls(proxy.https, "a.example").await.unwrap();
    assert_eq!(open.send(client::get("a.example", "/")).await.unwrap().status, 200);
    for _ in 0..5 {
        certificate(&mut model, "a", "a.example");
        proxy.publish(model.clone()).await.unwrap();
        assert_eq!(client::certificate(proxy.https, "a.example").await.unwrap(), leaf(&model, "a"));
        assert_eq!(open.send(client::get("a.example", "/")).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_is_reported_and_the_default_serves() {
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    let mut proxy = Instance::start(model.clone()).await.unwrap();
    let ids: Vec<_> = model.certificates.keys().cloned().collect();
    Arc::make_mut(model.certificates.get_mut(&ids[0]).unwrap()).key = KeyDer(b"not a key".to_vec());
    let report = proxy.publish(model.clone()).await.unwrap();
    assert_eq!(report.refused.len(), 1);
    assert!(report.refused[0].contains("Secret default/a"), "{report:?}");
    let served = client::certificate(proxy.https, "a.example").await.unwrap();
    assert!(String::from_utf8_lossy(&served).contains("Portcullis default certificate"));
    assert_eq!(client::certificate(proxy.https, "x.wild.example").await.unwrap(), leaf(&model, "wild"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_a_metric() {
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    for certificate in model.certificates.values_mut() {
        Arc::make_mut(certificate).not_after = 1_800_000_000;
    }
    let proxy = Instance::start(model).await.unwrap();
    let series = "nginx_ingress_controller_ssl_expire_time_seconds{namespace=\"default\",secret_name=\"wild\",\
                  host=\"*.wild.example\",identifier=\"test\"}";
    assert!((proxy.metric(series).await - 1.8e9).abs() < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_names_and_protocols_are_as_configured() {
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    model.global.tls.has_tls12 = false;
    model.global.tls.has_http2 = false;
    model.global.tls.rejects_unknown = true;
    let proxy = Instance::start(model).await.unwrap();
    assert!(client::certificate(proxy.https, "a.example").await.is_ok());
    let refused = client::certificate(proxy.https, "nobody.example").await.unwrap_err();
    assert!(format!("{refused:#}").contains("UnrecognisedName"), "{refused:#}");
    let stream = client::tls(proxy.https, "a.example", &["h2", "http/1.1"]).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_ciphers_of_its_own() {
    use ingress_userspace::model::tls::{CipherSuite, Ciphers};
    let origin = Origin::start("web").await;
    let mut model = three_hosts(&origin).await;
    model.global.tls.has_tls13 = false;
    let host =
        model.hosts.iter_mut().find(|host| host.pattern == HostPattern::Exact("a.example".into())).unwrap();
    Arc::make_mut(host).ciphers =
        Some(Ciphers { suites: vec![CipherSuite::EcdsaChacha20], is_our_order: true });
    let proxy = Instance::start(model).await.unwrap();
    let agreed = |name: &'static str| async move {
        let stream = client::tls(proxy.https, name, &["http/1.1"]).await.unwrap();
        stream.get_ref().1.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()))
    };
    let own = agreed("a.example").await.unwrap();
    assert!(own.contains("CHACHA20"), "{own}");
}
