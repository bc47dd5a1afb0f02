//! Certificates on both sides: of clients (`auth-tls-*`), of backends and towards them (`proxy-ssl-*`).

use std::sync::Arc;

use ingress_tests::client::Identity;
use ingress_tests::manifests::{ingress, service, settings};
use ingress_tests::secure::{Authority, Backend, Pair, Speech};

use crate::rig::{Case, case, proxy, run, run_with};

/// A Secret `default/<name>`.
fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n");
    for (key, value) in data {
        text.push_str(&format!("  {key}: {}\n", serde_json::Value::from(*value)));
    }
    text
}

fn identity(pair: &Pair) -> Arc<Identity> {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject as _;
    let key = PrivatePkcs8KeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    Arc::new(Identity { chain: vec![pair.der().to_vec().into()], key: key.secret_pkcs8_der().to_vec() })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_clients() {
    let authority = Authority::new();
    let (good, alien) = (
        identity(&authority.sign_common_name("client.example")),
        identity(&Pair::self_signed("client.example")),
    );
    let pem = authority.pem();
    let told = "proxy_set_header ssl-client-verify $ssl_client_verify;
        proxy_set_header ssl-client-subject-dn $ssl_client_s_dn; proxy_set_header ssl-client-issuer-dn $ssl_client_i_dn;";
    let guarded = |name: &'static str,
                   mode: &str,
                   annotations: &[(&str, &str)],
                   more: &str,
                   last: &str|
     -> Case {
        let host = format!("{name}.example");
        let auth = [
            ("auth-tls-secret", "default/clients"),
            ("auth-tls-verify-client", mode),
            ("ssl-redirect", "false"),
        ];
        let forged = [
            ("ssl-client-verify", "SUCCESS"),
            ("ssl-client-subject-dn", "CN=admin"),
            ("ssl-client-cert", "x"),
        ];
        case(name)
            .manifests(ingress(name, &host, "/", "web", &[&auth[..], annotations].concat()))
            .file(&format!("{name}.crt"), &pem)
            .server(
                &host,
                &format!(
                    "ssl_client_certificate @dir@/{name}.crt; ssl_verify_client {mode}; ssl_verify_depth 1; {more}
                     location / {{ {last} {told} @proxy@ }}"
                ),
            )
            .get(&host, "/none")
            .over_tls(&host)
            .get(&host, "/good")
            .over_tls_as(&host, &good)
            .get(&host, "/alien")
            .over_tls_as(&host, &alien)
            .with("POST", &host, "/none", &[], "body")
            .over_tls(&host)
            .with("HEAD", &host, "/none", &[], "")
            .over_tls(&host)
            .with("GET", &host, "/forged", &forged[..2], "")
            .over_tls_as(&host, &good)
    };
    run_with(
        &settings(&[("hsts", "false")]),
        "",
        vec![
            guarded("mtls-on", "on", &[], "", "").manifests(secret("clients", &[("ca.crt", &pem)])),
            guarded("mtls-optional", "optional", &[], "", ""),
            guarded("mtls-any", "optional_no_ca", &[], "", ""),
            guarded(
                "mtls-pass",
                "on",
                &[("auth-tls-pass-certificate-to-upstream", "true")],
                "",
                "proxy_set_header ssl-client-cert $ssl_client_escaped_cert;",
            ),
            guarded(
                "mtls-page",
                "on",
                &[("auth-tls-error-page", "https://login.example/why")],
                "error_page 495 496 = https://login.example/why;",
                "",
            ),
            guarded(
                "mtls-name",
                "on",
                &[("auth-tls-match-cn", "CN=client")],
                "if ($ssl_client_s_dn !~ CN=client) { return 403 'client certificate unauthorized'; }",
                "",
            ),
            guarded(
                "mtls-other",
                "on",
                &[("auth-tls-match-cn", "CN=other")],
                "if ($ssl_client_s_dn !~ CN=other) { return 403 'client certificate unauthorized'; }",
                "",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_backends_and_towards_them() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (pair, ours) = (authority.sign("web.internal"), authority.sign("ingress.internal"));
    let open = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let asking =
        Backend::start(Speech { pair: Some(&pair), clients: Some(&authority), is_http2: false }).await;
    let secrets = [
        secret(
            "both",
            &[("tls.crt", &ours.certificate), ("tls.key", &ours.key), ("ca.crt", &authority.pem())],
        ),
        secret(
            "stranger",
            &[("tls.crt", &ours.certificate), ("tls.key", &ours.key), ("ca.crt", &stranger.pem())],
        ),
        service("open", &[open.address]),
        service("asking", &[asking.address]),
    ];
    let shown = "proxy_ssl_certificate @dir@/both.crt; proxy_ssl_certificate_key @dir@/both.key;";
    let towards = |name: &'static str,
                   service: &str,
                   annotations: &[(&str, &str)],
                   directives: &str|
     -> Case {
        let host = format!("{name}.example");
        let address = if service == "open" { open.address } else { asking.address };
        let pass = format!("https://{address}");
        case(name)
            .manifests(ingress(name, &host, "/", service, &[&[("backend-protocol", "HTTPS")][..], annotations].concat()))
            .server(
                &host,
                &format!(
                    "location / {{ proxy_ssl_ciphers DEFAULT; proxy_ssl_protocols TLSv1.2; proxy_ssl_verify_depth 1; proxy_ssl_session_reuse off; {directives} {} }}",
                    proxy(&[("http://origin", &pass)])
                ),
            )
            .with("POST", &host, "/", &[], "echo")
            .with("HEAD", &host, "/", &[], "")
    };
    let both = ("proxy-ssl-secret", "default/both");
    let (on, name) = (("proxy-ssl-verify", "on"), ("proxy-ssl-name", "web.internal"));
    let verified = format!(
        "{shown} proxy_ssl_trusted_certificate @dir@/both.ca; proxy_ssl_verify on; proxy_ssl_name web.internal;"
    );
    run(vec![
        towards("tls-plain", "open", &[], "")
            .manifests(secrets.concat())
            .file("both.crt", &ours.certificate)
            .file("both.key", &ours.key)
            .file("both.ca", &authority.pem())
            .file("stranger.ca", &stranger.pem()),
        towards("tls-good", "open", &[both, on, name], &verified),
        towards(
            "tls-sni",
            "open",
            &[both, on, name, ("proxy-ssl-server-name", "on")],
            &format!("{verified} proxy_ssl_server_name on;"),
        ),
        towards(
            "tls-wrong",
            "open",
            &[both, on, ("proxy-ssl-name", "other.internal")],
            &verified.replace("name web", "name other"),
        ),
        towards(
            "tls-strange",
            "open",
            &[("proxy-ssl-secret", "default/stranger"), on, name],
            &verified.replace("both.ca", "stranger.ca"),
        ),
        towards(
            "tls-unverified",
            "open",
            &[
                ("proxy-ssl-secret", "default/stranger"),
                ("proxy-ssl-verify", "off"),
                ("proxy-ssl-name", "other.internal"),
            ],
            shown,
        ),
        towards("tls-shown", "asking", &[both, on, name], &verified),
        towards("tls-silent", "asking", &[], ""),
        towards(
            "tls-new",
            "asking",
            &[both, on, name, ("proxy-ssl-protocols", "TLSv1.2 TLSv1.3")],
            &verified,
        ),
    ])
    .await;
}
