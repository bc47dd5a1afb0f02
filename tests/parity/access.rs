//! Who may do what: source lists, basic authentication, `satisfy`, external authentication, limits.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run};

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
    let mut limited = case("limit-rps")
        .manifests(ingress(
            "rps",
            "rps.example",
            "/",
            "web",
            &[("limit-rps", "1"), ("limit-burst-multiplier", "3")],
        ))
        .http("limit_req_zone $binary_remote_addr zone=rps:5m rate=1r/s;\n")
        .server("rps.example", "location / { limit_req zone=rps burst=3 nodelay; @proxy@ }");
    for _ in 0..7 {
        limited = limited.get("rps.example", "/");
    }
    run(vec![size("size-small", "1k"), size("size-large", "2k"), size("size-none", "0"), limited]).await;
}
