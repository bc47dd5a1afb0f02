//! Certificates of clients: who is let in, what refused clients are told, what the backend sees, and that no connection is
//! good for another host.

use std::sync::Arc;

use ingress_tests::client::{Http1, Http2, Identity, get, tls_as, tls_config};
use ingress_tests::manifests::{ingress, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_tests::responder::oauth2_proxy;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth_basic::{secret, with_header};

type Signer = Issuer<'static, KeyPair>;

/// An authority, or one below another.
fn authority(name: &str, above: Option<&Signer>) -> (rcgen::Certificate, Signer) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let made = match above {
        Some(above) => params.signed_by(&key, above).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (made, Issuer::new(params, key))
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Example");
    subject.push(DnType::CommonName, name);
    subject
}

fn client(name: &str, serial: u64, signer: &Signer, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = subject(name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let made = params.signed_by(&key, signer).unwrap();
    Identity { chain: vec![made.der().clone()], key: key.serialize_der() }
}

fn tls_ingress(name: &str, host: &str, annotations: &[(&str, &str)]) -> String {
    ingress(name, host, "/", "web", &[&[("ssl-redirect", "false")][..], annotations].concat())
}

async fn start(origin: &Origin, parts: &[String]) -> Instance {
    let yaml = [&[service("web", &[origin.address])][..], parts].concat().concat();
    Instance::start(translation(&yaml).unwrap().model).await.unwrap()
}

async fn status(proxy: &Instance, host: &str, identity: Option<&Identity>) -> u16 {
    let stream = tls_as(proxy.https, host, &["http/1.1"], identity).await.unwrap();
    Http1::open_over(stream).await.unwrap().send(get(host, "/")).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_service_is_told_who_the_client_is() {
    let (origin, judge) = (Origin::start("web").await, oauth2_proxy().await);
    let (root, signer) = authority("Root", None);
    let url = format!("http://{}/oauth2/auth", judge.address);
    let annotations = [
        ("auth-tls-secret", "default/ca"),
        ("auth-tls-verify-client", "optional"),
        ("auth-tls-pass-certificate-to-upstream", "true"),
        ("auth-url", &url),
        ("auth-cache-key", "one-for-all"),
    ];
    let proxy = start(
        &origin,
        &[secret("ca", &[("ca.crt", &root.pem())]), tls_ingress("app", "on.example", &annotations)],
    )
    .await;
    let ask = async |identity: Option<&Identity>| {
        let stream = tls_as(proxy.https, "on.example", &["http/1.1"], identity).await.unwrap();
        let mut request = get("on.example", "/");
        for (name, value) in [
            ("authorization", "Bearer bob"),
            ("ssl-client-verify", "SUCCESS"),
            ("ssl-client-subject-dn", "CN=forged"),
            ("ssl-client-cert", "forged"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(Http1::open_over(stream).await.unwrap().send(request).await.unwrap().status, 200);
        judge.last()
    };
    let seen = ask(None).await;
    assert_eq!(seen.header("ssl-client-verify").as_deref(), Some("NONE"));
    assert_eq!((seen.header("ssl-client-subject-dn"), seen.header("ssl-client-cert")), (None, None));
    // The key is the same for all, and yet nobody has the verdict of another.
    for (count, name) in [(2, "ada"), (3, "eve")] {
        let identity = client(name, count, &signer, |_| {});
        for _ in 0..2 {
            let seen = ask(Some(&identity)).await;
            assert_eq!(judge.seen().len() as u64, count, "{name}");
            assert_eq!(seen.header("ssl-client-verify").as_deref(), Some("SUCCESS"));
            assert_eq!(seen.header("ssl-client-subject-dn"), Some(format!("CN={name},O=Example")));
            assert_eq!(seen.header("ssl-client-issuer-dn").as_deref(), Some("CN=Root,O=Example"));
            let passed = seen.header("ssl-client-cert").unwrap();
            assert!(passed.starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{passed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_authority_is_let_in_and_nothing_else() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let (_, stranger) = authority("Stranger", None);
    let (between, below) = authority("Below", Some(&signer));
    let (deeper, deep) = authority("Deeper", Some(&below));
    let good = client("ada", 1, &signer, |_| {});
    let strange = client("ada", 1, &stranger, |_| {});
    let expired = client("ada", 1, &signer, |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let server = client("ada", 1, &signer, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    // As `openssl req -x509` makes them: an authority that nobody signed, or that the authority did.
    let own = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = subject("eve");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        (made.pem(), Identity { chain: vec![made.der().clone()], key: key.serialize_der() })
    };
    let (pinned_pem, pinned) = own(&|_| {});
    let (signer_pem, signs_only) = own(&|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let (_, unknown) = own(&|_| {});
    let signed = client("ada", 1, &signer, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let authorities = [root.pem(), pinned_pem, signer_pem].concat();
    let mut near = client("ada", 1, &below, |_| {});
    near.chain.push(between.der().clone());
    let mut far = client("ada", 1, &deep, |_| {});
    far.chain.extend([deeper.der().clone(), between.der().clone()]);
    let asks = |mode: &'static str| [("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", mode)];
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &authorities)]),
            tls_ingress("must", "on.example", &asks("on")),
            tls_ingress("optional", "optional.example", &asks("optional")),
            tls_ingress("no-ca", "no-ca.example", &asks("optional_no_ca")),
            tls_ingress("never", "off.example", &asks("off")),
            tls_ingress("depth", "depth.example", &[asks("on")[0], ("auth-tls-verify-depth", "2")]),
            tls_ingress("plain", "plain.example", &[]),
        ],
    )
    .await;
    for (host, who, identity, expected) in [
        ("on.example", "nobody", None, 400),
        ("on.example", "good", Some(&good), 200),
        ("on.example", "strange", Some(&strange), 400),
        ("on.example", "expired", Some(&expired), 400),
        ("on.example", "a server's", Some(&server), 400),
        ("on.example", "one between", Some(&near), 200),
        ("on.example", "two between", Some(&far), 400),
        ("on.example", "one of the authorities", Some(&pinned), 200),
        ("on.example", "one of the authorities, which may only sign", Some(&signs_only), 400),
        ("on.example", "an authority that nobody knows", Some(&unknown), 400),
        ("on.example", "an authority that is signed", Some(&signed), 200),
        ("no-ca.example", "an authority that nobody knows", Some(&unknown), 200),
        ("depth.example", "two between", Some(&far), 200),
        ("optional.example", "nobody", None, 200),
        ("optional.example", "good", Some(&good), 200),
        ("optional.example", "strange", Some(&strange), 400),
        ("no-ca.example", "nobody", None, 200),
        ("no-ca.example", "strange", Some(&strange), 200),
        ("no-ca.example", "expired", Some(&expired), 400),
        ("off.example", "strange", Some(&strange), 200),
        ("plain.example", "strange", Some(&strange), 200),
    ] {
        assert_eq!(status(&proxy, host, identity).await, expected, "{host} {who}");
    }
    // Only hosts that want a certificate ask for one.
    for (host, is_asked) in [("on.example", true), ("off.example", false), ("plain.example", false)] {
        let stream = tls_as(proxy.https, host, &["http/1.1"], Some(&good)).await.unwrap();
        Http1::open_over(stream).await.unwrap().send(get(host, "/asked")).await.unwrap();
        let seen = origin.last().header("ssl-client-subject-dn");
        assert_eq!(seen.is_some(), is_asked, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_sees_who_it_is_and_no_lies() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let (_, stranger) = authority("Stranger", None);
    let ask = ("auth-tls-secret", "default/ca");
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &root.pem())]),
            tls_ingress("a", "a.example", &[ask, ("auth-tls-pass-certificate-to-upstream", "true")]),
            tls_ingress("b", "b.example", &[ask, ("auth-tls-verify-client", "optional_no_ca")]),
            tls_ingress("plain", "plain.example", &[]),
        ],
    )
    .await;
    const NAMES: [&str; 4] =
        ["ssl-client-verify", "ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-cert"];
    let seen = async |host: &str, identity: Option<&Identity>| {
        let stream = tls_as(proxy.https, host, &["http/1.1"], identity).await.unwrap();
        let request = NAMES.iter().fold(get(host, "/"), |request, name| with_header(request, name, "a lie"));
        assert_eq!(
            Http1::open_over(stream).await.unwrap().send(request).await.unwrap().status,
            200,
            "{host}"
        );
        NAMES.map(|name| origin.last().header(name).unwrap_or_default())
    };
    let good = client("ada", 1, &signer, |_| {});
    let [verify, subject, issuer, certificate] = seen("a.example", Some(&good)).await;
    assert_eq!([verify.as_str(), &subject, &issuer], ["SUCCESS", "CN=ada,O=Example", "CN=Root,O=Example"]);
    assert!(certificate.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"), "{certificate}");
    assert!(certificate.ends_with("%0A-----END%20CERTIFICATE-----%0A"), "{certificate}");
    let strange = client("eve", 1, &stranger, |_| {});
    assert_eq!(
        seen("b.example", Some(&strange)).await,
        ["FAILED:unable to verify the first certificate", "CN=eve,O=Example", "CN=Stranger,O=Example", ""]
    );
    assert_eq!(seen("b.example", None).await, ["NONE", "", "", ""]);
    assert_eq!(seen("plain.example", Some(&good)).await, ["", "", "", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_good_for_a_host_that_asks_otherwise() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let (other_root, _) = authority("Other", None);
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &root.pem())]),
            secret("other", &[("ca.crt", &other_root.pem())]),
            tls_ingress("a", "a.example", &[("auth-tls-secret", "default/ca")]),
            tls_ingress("same", "same.example", &[("auth-tls-secret", "default/ca")]),
            tls_ingress("b", "b.example", &[("auth-tls-secret", "default/other")]),
            tls_ingress("plain", "plain.example", &[]),
        ],
    )
    .await;
    let good = client("ada", 1, &signer, |_| {});
    for (name, asked, expected) in [
        ("a.example", "a.example", 200),
        ("plain.example", "a.example", 421),
        ("unknown.example", "a.example", 421),
        ("a.example", "b.example", 421),
        ("a.example", "same.example", 200),
        ("a.example", "plain.example", 200),
    ] {
        let stream = tls_as(proxy.https, name, &["http/1.1"], Some(&good)).await.unwrap();
        let answer = Http1::open_over(stream).await.unwrap().send(get(asked, "/")).await.unwrap();
        assert_eq!(answer.status, expected, "HTTP/1.1 {name} {asked}");
        let stream = tls_as(proxy.https, name, &["h2"], Some(&good)).await.unwrap();
        let answer = Http2::open_over(stream).await.unwrap().send(get(asked, "/")).await.unwrap();
        assert_eq!(answer.status, expected, "HTTP/2 {name} {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_carries_no_proof_from_one_connection_to_another() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &root.pem())]),
            tls_ingress("a", "a.example", &[("auth-tls-secret", "default/ca")]),
        ],
    )
    .await;
    let good = client("ada", 1, &signer, |_| {});
    let config = Arc::new(tls_config(&["http/1.1"], Some(&good)).unwrap());
    for _ in 0..2 {
        let connector = TlsConnector::from(Arc::clone(&config));
        let stream = TcpStream::connect(proxy.https).await.unwrap();
        let stream = connector.connect("a.example".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let answer = Http1::open_over(stream).await.unwrap().send(get("a.example", "/")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_are_refused() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2100, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7_u64),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&signer).unwrap().pem().unwrap();
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &root.pem()), ("ca.crl", &list)]),
            tls_ingress("a", "a.example", &[("auth-tls-secret", "default/ca")]),
        ],
    )
    .await;
    let revoked = client("eve", 7, &signer, |_| {});
    let good = client("ada", 8, &signer, |_| {});
    assert_eq!(status(&proxy, "a.example", Some(&revoked)).await, 400);
    assert_eq!(status(&proxy, "a.example", Some(&good)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_matched_and_refused_clients_sent_to_a_page() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let ask = ("auth-tls-secret", "default/ca");
    let proxy = start(
        &origin,
        &[
            secret("ca", &[("ca.crt", &root.pem())]),
            tls_ingress("match", "match.example", &[ask, ("auth-tls-match-cn", "CN=(ada|bob),O=Exam")]),
            tls_ingress("page", "page.example", &[ask, ("auth-tls-error-page", "https://help.example/cert")]),
        ],
    )
    .await;
    for (name, expected) in [("ada", 200), ("bob", 200), ("eve", 403), ("x,CN=ada,O=Example", 403)] {
        let identity = client(name, 1, &signer, |_| {});
        assert_eq!(status(&proxy, "match.example", Some(&identity)).await, expected, "{name}");
    }
    let stream = tls_as(proxy.https, "page.example", &["http/1.1"], None).await.unwrap();
    let answer = Http1::open_over(stream).await.unwrap().send(get("page.example", "/")).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://help.example/cert")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_used_refuses_the_whole_host() {
    let origin = Origin::start("web").await;
    let (root, signer) = authority("Root", None);
    let elsewhere =
        secret("far", &[("ca.crt", &root.pem())]).replace("name: far", "name: far, namespace: other");
    let parts = [
        secret("empty", &[("other", "x")]),
        elsewhere,
        tls_ingress("lost", "lost.example", &[("auth-tls-secret", "default/lost")]),
        ingress("neighbour", "lost.example", "/other", "web", &[("ssl-redirect", "false")]),
        tls_ingress("empty", "empty.example", &[("auth-tls-secret", "default/empty")]),
        tls_ingress("path", "path.example", &[("auth-tls-secret", "../../etc/passwd")]),
        tls_ingress("far", "far.example", &[("auth-tls-secret", "other/far")]),
    ];
    let good = client("ada", 1, &signer, |_| {});
    let proxy = start(&origin, &parts).await;
    for host in ["lost.example", "empty.example", "path.example", "far.example"] {
        assert_eq!(status(&proxy, host, Some(&good)).await, 403, "{host}");
    }
    let stream = tls_as(proxy.https, "lost.example", &["http/1.1"], None).await.unwrap();
    let answer = Http1::open_over(stream).await.unwrap().send(get("lost.example", "/other")).await.unwrap();
    assert_eq!(answer.status, 403);
    let allowed = settings(&[("allow-cross-namespace-resources", "true")]);
    let proxy = start(&origin, &[&parts[..], &[allowed]].concat()).await;
    assert_eq!(status(&proxy, "far.example", Some(&good)).await, 200);
}
