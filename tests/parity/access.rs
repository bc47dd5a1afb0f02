//! Who may do what: source lists, basic authentication, `satisfy`, external authentication, limits.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run, run_with};

const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: basic}\nstringData:\n  auth: |\n    \
                      user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n";
/// `user:password`.
const GOOD: &str = "Basic dXNlcjpwYXNzd29yZA==";
const BAD: &str = "Basic dXNlcjp3cm9uZw==";
const AUTH: &[(&str, &str)] =
    &[("auth-type", "basic"), ("auth-secret", "basic"), ("auth-realm", "Please log in")];
const AUTH_NGINX: &str =
    "auth_basic \"Please log in\"; auth_basic_user_file @dir@/htpasswd; proxy_set_header Authorization \"\";";

fn guarded(name: &'static str, annotations: &[(&str, &str)], directives: &str) -> Case {
    let host = format!("{name}.example");
    case(name)
        .manifests(ingress(name, &host, "/", "web", annotations))
        .server(&host, &format!("location / {{ {directives} @proxy@ }}"))
        .get(&host, "/")
        .with("GET", &host, "/x", &[("Authorization", GOOD)], "")
        .with("GET", &host, "/x", &[("Authorization", BAD)], "")
        .with("POST", &host, "/x", &[], "body")
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_passwords() {
    let list = |sources| vec![("whitelist-source-range", sources)];
    let with_auth = |more: &[(&'static str, &'static str)]| [AUTH, more].concat();
    run(vec![
        guarded("allow-in", &list("127.0.0.0/8"), "allow 127.0.0.0/8; deny all;"),
        guarded("allow-out", &list("198.18.0.0/15"), "allow 198.18.0.0/15; deny all;"),
        guarded("deny-in", &[("denylist-source-range", "127.0.0.1")], "deny 127.0.0.1;"),
        guarded("deny-out", &[("denylist-source-range", "198.18.0.0/15")], "deny 198.18.0.0/15;"),
        guarded(
            "deny-and-allow",
            &[("denylist-source-range", "127.0.0.1/32"), ("whitelist-source-range", "127.0.0.0/8")],
            "deny 127.0.0.1; allow 127.0.0.0/8; deny all;",
        ),
        guarded(
            "allow-two",
            &list("198.18.0.0/15, 127.0.0.1"),
            "allow 198.18.0.0/15; allow 127.0.0.1; deny all;",
        ),
        guarded("basic", AUTH, AUTH_NGINX).manifests(SECRET),
        guarded(
            "basic-allow-out",
            &with_auth(&[("whitelist-source-range", "198.18.0.0/15")]),
            &format!("allow 198.18.0.0/15; deny all; {AUTH_NGINX}"),
        ),
        guarded(
            "satisfy-any-out",
            &with_auth(&[("whitelist-source-range", "198.18.0.0/15"), ("satisfy", "any")]),
            &format!("satisfy any; allow 198.18.0.0/15; deny all; {AUTH_NGINX}"),
        ),
        guarded(
            "satisfy-any-in",
            &with_auth(&[("whitelist-source-range", "127.0.0.0/8"), ("satisfy", "any")]),
            &format!("satisfy any; allow 127.0.0.0/8; deny all; {AUTH_NGINX}"),
        ),
        guarded(
            "satisfy-all",
            &with_auth(&[("whitelist-source-range", "127.0.0.0/8"), ("satisfy", "all")]),
            &format!("satisfy all; allow 127.0.0.0/8; deny all; {AUTH_NGINX}"),
        ),
    ])
    .await;
}

/// What nginx decides first: sizes, redirects, whether anybody is there, then who may.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_decisions() {
    let with_auth = |more: &[(&'static str, &'static str)]| [AUTH, more].concat();
    let large = "x".repeat(1500);
    let out = "allow 198.18.0.0/15; deny all;";
    let outside = ("whitelist-source-range", "198.18.0.0/15");
    let empty = |name: &'static str, annotations: &[(&str, &str)], directives: &str| {
        let host = format!("{name}.example");
        case(name)
            .manifests(ingress(name, &host, "/", "empty", annotations))
            .server(&host, &format!("location / {{ {directives} return 503; @proxy@ }}"))
            .get(&host, "/")
            .with("POST", &host, "/", &[("Authorization", GOOD)], "body")
    };
    let mut cases = vec![
        guarded(
            "size-auth",
            &with_auth(&[("proxy-body-size", "1k")]),
            &format!("client_max_body_size 1k; {AUTH_NGINX}"),
        )
        .manifests(SECRET)
        .with("POST", "size-auth.example", "/", &[], &large)
        .with("POST", "size-auth.example", "/", &[("Authorization", GOOD)], &large),
        guarded(
            "size-out",
            &[("proxy-body-size", "1k"), outside],
            &format!("client_max_body_size 1k; {out}"),
        )
        .with("POST", "size-out.example", "/", &[], &large),
        guarded(
            "size-moved",
            &[("proxy-body-size", "1k"), ("permanent-redirect", "https://new.example")],
            "client_max_body_size 1k; return 301 https://new.example;",
        )
        .with("POST", "size-moved.example", "/", &[], &large),
        guarded(
            "moved-auth",
            &with_auth(&[("permanent-redirect", "https://new.example")]),
            &format!("{AUTH_NGINX} return 301 https://new.example;"),
        ),
        guarded(
            "moved-out",
            &[("temporal-redirect", "https://new.example"), outside],
            &format!("{out} return 302 https://new.example;"),
        ),
        guarded(
            "forced-auth",
            &with_auth(&[("force-ssl-redirect", "true")]),
            &format!("{AUTH_NGINX} return 308 https://$host$bare_uri;"),
        ),
        guarded(
            "forced-out",
            &[("force-ssl-redirect", "true"), outside],
            &format!("{out} return 308 https://$host$bare_uri;"),
        ),
        guarded(
            "forced-moved",
            &[("force-ssl-redirect", "true"), ("permanent-redirect", "https://new.example")],
            "return 301 https://new.example;",
        ),
        empty("empty-auth", AUTH, AUTH_NGINX),
        empty("empty-out", &[outside], out),
        empty(
            "empty-moved",
            &[("permanent-redirect", "https://new.example")],
            "return 301 https://new.example;",
        ),
        empty("empty-forced", &[("force-ssl-redirect", "true")], "return 308 https://$host$bare_uri;"),
        empty("empty-limit", &[("limit-rps", "1")], "limit_req zone=one burst=5 nodelay;"),
        guarded(
            "limit-auth",
            &with_auth(&[("limit-rpm", "1"), ("limit-burst-multiplier", "2")]),
            &format!("limit_req zone=two burst=2 nodelay; {AUTH_NGINX}"),
        ),
        guarded(
            "limit-out",
            &[("limit-rpm", "1"), ("limit-burst-multiplier", "2"), outside],
            &format!("limit_req zone=three burst=2 nodelay; {out}"),
        ),
        guarded(
            "any-deny",
            &with_auth(&[("denylist-source-range", "127.0.0.1"), ("satisfy", "any")]),
            &format!("satisfy any; deny 127.0.0.1; {AUTH_NGINX}"),
        ),
        guarded(
            "any-deny-other",
            &with_auth(&[("denylist-source-range", "198.18.0.1"), ("satisfy", "any")]),
            &format!("satisfy any; deny 198.18.0.1; {AUTH_NGINX}"),
        ),
        guarded(
            "any-both",
            &with_auth(&[
                ("denylist-source-range", "198.18.0.1"),
                ("whitelist-source-range", "127.0.0.1"),
                ("satisfy", "any"),
            ]),
            &format!("satisfy any; deny 198.18.0.1; allow 127.0.0.1; deny all; {AUTH_NGINX}"),
        ),
        guarded("any-list", &[outside, ("satisfy", "any")], &format!("satisfy any; {out}")),
    ];
    let mut spelt = guarded("spelt", AUTH, AUTH_NGINX);
    for sent in [
        "basic dXNlcjpwYXNzd29yZA==",
        "BASIC dXNlcjpwYXNzd29yZA==",
        "Basic  dXNlcjpwYXNzd29yZA==",
        "Basic dXNlcjpwYXNzd29yZA",
        "Basic !!!",
        "Basic dXNlcg==",
        "Basic dXNlcjo=",
        "Basic OnBhc3N3b3Jk",
        "Basic bm9ib2R5OnBhc3N3b3Jk",
        "Basic",
        "Bearer x",
        "",
        "Digest username=\"user\"",
    ] {
        spelt = spelt.with("GET", "spelt.example", "/", &[("Authorization", sent)], "");
    }
    for method in ["HEAD", "OPTIONS", "DELETE"] {
        spelt = spelt.with(method, "spelt.example", "/", &[("Authorization", BAD)], "");
    }
    cases.push(spelt);
    let http = "limit_req_zone $binary_remote_addr zone=one:1m rate=1r/s; limit_req_zone $binary_remote_addr zone=two:1m rate=1r/m;
                limit_req_zone $binary_remote_addr zone=three:1m rate=1r/m; map $request_uri $bare_uri { ~^(?<bare>.*?)/?$ $bare; }";
    run_with("", http, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_rates() {
    let large = "x".repeat(1500);
    let size = |name: &'static str, value: &str| {
        let host = format!("{name}.example");
        case(name)
            .manifests(ingress(name, &host, "/", "web", &[("proxy-body-size", value)]))
            .server(&host, &format!("location / {{ client_max_body_size {value}; @proxy@ }}"))
            .with("POST", &host, "/", &[], &large)
            .with("POST", &host, "/", &[], "small")
    };
    // So slow that nothing is given back while the requests are sent.
    let mut limited = case("limit-rpm")
        .manifests(ingress(
            "rpm",
            "rpm.example",
            "/",
            "web",
            &[("limit-rpm", "1"), ("limit-burst-multiplier", "3")],
        ))
        .http("limit_req_zone $binary_remote_addr zone=rpm:5m rate=1r/m;\n")
        .server("rpm.example", "location / { limit_req zone=rpm burst=3 nodelay; @proxy@ }");
    for _ in 0..7 {
        limited = limited.get("rpm.example", "/");
    }
    run(vec![size("size-small", "1k"), size("size-large", "2k"), size("size-none", "0"), limited]).await;
}
