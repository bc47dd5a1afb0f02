//! Certificates of X.509 version 1, as `openssl x509 -req` makes them: they are served, they name clients, and endpoints
//! may show them.

use std::sync::Arc;

use ingress_tests::client::{self, Http1, Identity, get, tls_as};
use ingress_tests::manifests::{ingress, service, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_tests::secure::{Backend, Pair, Speech};
use ingress_userspace::model::Model;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::auth_basic::secret;

/// `CN=Example Root`, of version 3; all are valid from 2020 to 2120.
const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBUTCB96ADAgECAgEQMAoGCCqGSM49BAMCMBcxFTATBgNVBAMMDEV4YW1wbGUg
Um9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFzEVMBMGA1UE
AwwMRXhhbXBsZSBSb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6k/1j5vF
72VTtq9sW3yoHN6KPOFSi1yHD4lqKRZEWYJCEZGPUozy+R3rBPoZYfP2x+8jTVCH
628mnTtwiI2vZKMyMDAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUY12i7pwP
Jbs5sjyp7h2R3IggtVMwCgYIKoZIzj0EAwIDSQAwRgIhAKnZ/m3CCUZLvz/99apj
als4P3f8/wrMmo1O/i+3kOx6AiEAvfcQM08tHxlPICvHRljeqlAmS8kYJMu6GJmj
Ecw03yE=
-----END CERTIFICATE-----
";

/// `CN=web.example`, signed by it.
const SERVER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBFzCBvQIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxFeGFtcGxlIFJvb3Qw
IBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBYxFDASBgNVBAMMC3dl
Yi5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/CM7ZfKdx26cFem0
N14KQRy2fkc0sfD6bEjv2cMd4lQIJWs7jJP43bz2X4TnVO8apWitvvXhZKCVz1aH
xiwYVzAKBggqhkjOPQQDAgNJADBGAiEAqmLtbcj+/XvlV14AJV+4apPfw3TaMObh
94LbFMgJQLwCIQCbK9lndguYi3ShSwRTUsJko5UzqR2134eA9ncAKlP0jw==
-----END CERTIFICATE-----
";
const SERVER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaByR8gCrfTcVt8EW
ku5/agU5KQ5xmmJTV1SHJIEAaMyhRANCAAT8Iztl8p3HbpwV6bQ3XgpBHLZ+RzSx
8PpsSO/Zwx3iVAglazuMk/jdvPZfhOdU7xqlaK2+9eFkoJXPVofGLBhX
-----END PRIVATE KEY-----
";

/// `CN=Ada`, signed by it.
const CLIENT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBDjCBtQIBAjAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxFeGFtcGxlIFJvb3Qw
IBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA4xDDAKBgNVBAMMA0Fk
YTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHB/ALm8iN3+X4oIFjnCtmO+cFBT
+83G249MXO6UPrs54zcQUrPS7lIIvnpBzOazYcehMhzTK9ZCupFMt7xE0FgwCgYI
KoZIzj0EAwIDSAAwRQIgW+LCqNZkTCuHzEK+xJn4Gno5BVEj6jvZ7449E6VFLHYC
IQDw2aCXFYWpBrK/E9krf/gZDTHBn/XkeZY/6fFlbPdvQw==
-----END CERTIFICATE-----
";
const CLIENT_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg56ajNCMQNy995mnl
AwwSUc0KPkl8gVdmshx5POrdflihRANCAARwfwC5vIjd/l+KCBY5wrZjvnBQU/vN
xtuPTFzulD67OeM3EFKz0u5SCL56Qczms2HHoTIc0yvWQrqRTLe8RNBY
-----END PRIVATE KEY-----
";

/// The same, signed by another authority of the same name.
const FORGED: &str = "\
-----BEGIN CERTIFICATE-----
MIIBDjCBtQIBAjAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxFeGFtcGxlIFJvb3Qw
IBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA4xDDAKBgNVBAMMA0Fk
YTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHB/ALm8iN3+X4oIFjnCtmO+cFBT
+83G249MXO6UPrs54zcQUrPS7lIIvnpBzOazYcehMhzTK9ZCupFMt7xE0FgwCgYI
KoZIzj0EAwIDSAAwRQIhAL4JMEee7BXisKVqf6di6ME9FkMpSmMyGbXf/LIAj6/D
AiBLZmxuTPKpyOT2nlzcsgdn0NEfBW2NJC4ulk4t+drwkw==
-----END CERTIFICATE-----
";

fn chain(certificate: &str) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()]
}

fn identity(certificate: &str) -> Identity {
    let key = PrivatePkcs8KeyDer::from_pem_slice(CLIENT_KEY.as_bytes()).unwrap();
    Identity { chain: chain(certificate), key: key.secret_pkcs8_der().to_vec() }
}

fn manifests(origin: &Origin, authority: &[(&str, &str)]) -> Model {
    let ask = [("auth-tls-secret", "default/ca"), ("ssl-redirect", "false")];
    let parts = [
        service("web", &[origin.address]),
        secret("ca", authority),
        ingress("web", "web.example", "/", "web", &ask),
    ];
    Arc::unwrap_or_clone(translation(&parts.concat()).unwrap().model)
}

async fn attempt(proxy: &Instance, identity: &Identity) -> anyhow::Result<u16> {
    let stream = tls_as(proxy.https, "web.example", &["http/1.1"], Some(identity)).await?;
    Ok(Http1::open_over(stream).await?.send(get("web.example", "/")).await?.status)
}

async fn status(proxy: &Instance, identity: &Identity) -> u16 {
    attempt(proxy, identity).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_let_in_whose_authority_signed_it() {
    let origin = Origin::start("web").await;
    let mut model = manifests(&origin, &[("ca.crt", ROOT)]);
    for (has_tls12, has_tls13) in [(true, false), (false, true)] {
        (model.global.tls.has_tls12, model.global.tls.has_tls13) = (has_tls12, has_tls13);
        let proxy = Instance::start(model.clone()).await.unwrap();
        assert_eq!(status(&proxy, &identity(CLIENT)).await, 200);
        assert_eq!(origin.last().header("ssl-client-subject-dn").as_deref(), Some("CN=Ada"));
        assert_eq!(origin.last().header("ssl-client-verify").as_deref(), Some("SUCCESS"));
        assert_eq!(status(&proxy, &identity(FORGED)).await, 400);
        let without_its_key = Identity { key: identity(CLIENT).key, chain: chain(SERVER) };
        assert!(attempt(&proxy, &without_its_key).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_shows_it() {
    let origin = Origin::start("web").await;
    let tls = [("tls.crt", SERVER), ("tls.key", SERVER_KEY)];
    let yaml = [
        service("web", &[origin.address]),
        secret("web-tls", &tls),
        ingress("web", "web.example", "/", "web", &[])
            .replace("spec:", "spec:\n  tls: [{hosts: [web.example], secretName: web-tls}]"),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    let shown = client::certificate(proxy.https, "web.example").await.unwrap();
    assert_eq!(shown, chain(SERVER)[0].to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_shows_it_is_spoken_to() {
    let pair = Pair::of_pem(SERVER, SERVER_KEY);
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let yaml = [
        service("web", &[backend.address]),
        ingress("web", "web.example", "/", "web", &[("backend-protocol", "HTTPS")]),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    assert_eq!(client::send(proxy.http, get("web.example", "/")).await.unwrap().status, 200);
}
