//! Over TLS: HSTS, what the backend is told, redirects.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, run, run_with};

const HSTS: &str = "if ($scheme = https) { more_set_headers \"Strict-Transport-Security: max-age=31536000; includeSubDomains\"; }";

#[tokio::test(flavor = "multi_thread")]
async fn https_is_told_and_kept() {
    let host = "tls.example";
    let location = format!("location / {{ {HSTS} @proxy@ }}");
    let pair = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    let lines = |pem: &str| pem.lines().fold(String::new(), |all, line| all + "    " + line + "\n");
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: tls}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        lines(&pair.cert.pem()),
        lines(&pair.signing_key.serialize_pem())
    );
    let with_tls = |ingress: String| ingress.replace("spec:\n", "spec:\n  tls: [{secretName: tls}]\n");
    run(vec![
        case("hsts")
            .manifests(secret)
            .manifests(with_tls(ingress("tls", host, "/", "web", &[])))
            .server(host, &location)
            .get(host, "/")
            .over_tls(host)
            .with("GET", host, "/", &[("X-Answer", "status=404")], "")
            .over_tls(host)
            .with("GET", host, "/", &[("X-Answer", "Strict-Transport-Security: max-age=1")], "")
            .over_tls(host)
            .with("GET", host, "/", &[("X-Forwarded-Proto", "http")], "")
            .over_tls(host),
        case("app-root without a certificate of its own")
            .manifests(ingress("tlsroot", "tlsroot.example", "/", "web", &[("app-root", "/app")]))
            .server(
                "tlsroot.example",
                &format!("if ($uri = /) {{ return 302 $scheme://$http_host/app; }} {location}"),
            )
            .get("tlsroot.example", "/app")
            .over_tls("tlsroot.example")
            .get("tlsroot.example", "/x")
            .over_http2("tlsroot.example"),
        case("what nobody serves")
            .server("nobody.example", &format!("location / {{ {HSTS} return 404; }}"))
            .get("nobody.example", "/")
            .over_tls("nobody.example"),
        case("what no path takes is redirected first")
            .manifests(with_tls(ingress("tlspath", "path.tls.example", "/only", "web", &[])))
            .server("path.tls.example", "return 308 https://$host$request_uri;")
            .get("path.tls.example", "/only")
            .get("path.tls.example", "/other"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_wide_settings() {
    let data = [("hsts", "false"), ("limit-req-status-code", "429"), ("custom-http-errors", "")];
    let mut limited = case("limit status")
        .manifests(ingress(
            "lim",
            "lim.example",
            "/",
            "web",
            &[("limit-rpm", "1"), ("limit-burst-multiplier", "6")],
        ))
        .http("limit_req_zone $binary_remote_addr zone=lim:5m rate=1r/m;\n")
        .server(
            "lim.example",
            "location / { limit_req_status 429; limit_req zone=lim burst=6 nodelay; @proxy@ }",
        );
    for _ in 0..9 {
        limited = limited.get("lim.example", "/");
    }
    run_with(
        &settings(&data),
        "",
        vec![
            limited,
            case("no hsts")
                .manifests(ingress("plain", "plain.example", "/", "web", &[]))
                .server("plain.example", "location / { @proxy@ }")
                .get("plain.example", "/")
                .over_tls("plain.example"),
        ],
    )
    .await;
}
