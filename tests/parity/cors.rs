//! CORS, as ingress-nginx's template writes it.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run};

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";

/// The location for one pattern of origins.
fn location(
    origin: &str,
    methods: &str,
    headers: &str,
    credentials: bool,
    max_age: &str,
    expose: &str,
) -> String {
    let allow = if origin == "*" {
        "set $http_origin '*'; set $cors 'true';".to_owned()
    } else {
        format!("if ($http_origin ~* ({origin})) {{ set $cors 'true'; }}")
    };
    let credentials =
        if credentials { "more_set_headers 'Access-Control-Allow-Credentials: true';" } else { "" };
    let expose_line = if expose.is_empty() {
        String::new()
    } else {
        format!("more_set_headers 'Access-Control-Expose-Headers: {expose}';")
    };
    let value = if origin == "*" { "*" } else { "$http_origin" };
    let common = format!("more_set_headers 'Access-Control-Allow-Origin: {value}'; {credentials}");
    let allow = if origin == "*" { "set $cors 'true';".to_owned() } else { allow };
    format!(
        "location / {{ {allow}
           if ($request_method = 'OPTIONS') {{ set $cors ${{cors}}options; }}
           if ($cors = \"true\") {{ {common} {expose_line}
             more_set_headers 'Access-Control-Allow-Methods: {methods}'; more_set_headers 'Access-Control-Allow-Headers: {headers}';
             more_set_headers 'Access-Control-Max-Age: {max_age}'; }}
           if ($cors = \"trueoptions\") {{ {common} {expose_line}
             more_set_headers 'Access-Control-Allow-Methods: {methods}'; more_set_headers 'Access-Control-Allow-Headers: {headers}';
             more_set_headers 'Access-Control-Max-Age: {max_age}';
             more_set_headers 'Content-Type: text/plain charset=UTF-8'; more_set_headers 'Content-Length: 0'; return 204; }}
           @proxy@ }}"
    )
}

fn cors(name: &'static str, annotations: &[(&str, &str)], location: &str, origins: &[&str]) -> Case {
    let host = format!("{name}.example");
    let annotations = [&[("enable-cors", "true")][..], annotations].concat();
    let mut found = case(name)
        .manifests(ingress(name, &host, "/", "web", &annotations))
        .server(&host, &format!("set $cors ''; {location}"));
    for origin in origins {
        for method in ["GET", "OPTIONS", "POST"] {
            let headers = [("Origin", *origin), ("Access-Control-Request-Method", "PUT")];
            found = found.with(method, &host, "/", &headers, "");
        }
    }
    found.get(&host, "/")
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_methods_and_headers() {
    run(vec![
        cors("cors-all", &[], &location("*", METHODS, HEADERS, true, "1728000", ""), &["https://a.example"]),
        cors(
            "cors-one",
            &[("cors-allow-origin", "https://app.example")],
            &location("^https://app\\.example$", METHODS, HEADERS, true, "1728000", ""),
            &[
                "https://app.example",
                "https://APP.example",
                "https://evil.example",
                "https://app.example.evil",
            ],
        ),
        cors(
            "cors-wild",
            &[("cors-allow-origin", "https://*.app.example:8443, http://b.example")],
            &location(
                "^https://[A-Za-z0-9\\-]+\\.app\\.example:8443$|^http://b\\.example$",
                METHODS,
                HEADERS,
                true,
                "1728000",
                "",
            ),
            &[
                "https://x.app.example:8443",
                "https://x.y.app.example:8443",
                "http://b.example",
                "https://b.example",
            ],
        ),
        cors(
            "cors-custom",
            &[
                ("cors-allow-origin", "https://app.example"),
                ("cors-allow-methods", "GET, POST"),
                ("cors-allow-headers", "X-One, X-Two"),
                ("cors-allow-credentials", "false"),
                ("cors-max-age", "600"),
                ("cors-expose-headers", "X-Exposed"),
            ],
            &location("^https://app\\.example$", "GET, POST", "X-One, X-Two", false, "600", "X-Exposed"),
            &["https://app.example", "https://evil.example"],
        ),
        cors("cors-backend", &[], &location("*", METHODS, HEADERS, true, "1728000", ""), &["https://a.example"])
            .with(
                "GET",
                "cors-backend.example",
                "/",
                &[("X-Answer", "Access-Control-Allow-Origin: https://b.example|Access-Control-Max-Age: 1|Vary: Origin")],
                "",
            )
            .with("GET", "cors-backend.example", "/", &[("X-Answer", "status=404")], "")
            .with("GET", "cors-backend.example", "/", &[("X-Answer", "status=500")], "")
            .with("OPTIONS", "cors-backend.example", "/", &[], "")
            .with("HEAD", "cors-backend.example", "/", &[], ""),
        cors(
            "cors-null",
            &[("cors-allow-origin", "null, https://app.example")],
            &location("^null$|^https://app\\.example$", METHODS, HEADERS, true, "1728000", ""),
            &["null", "https://app.example", "http://app.example"],
        )
        .with("OPTIONS", "cors-null.example", "/", &[], ""),
        cors(
            "cors-out",
            &[("whitelist-source-range", "198.18.0.0/15")],
            &location("*", METHODS, HEADERS, true, "1728000", "").replace("@proxy@", "allow 198.18.0.0/15; deny all; @proxy@"),
            &["https://a.example"],
        ),
        cors(
            "cors-moved",
            &[("permanent-redirect", "https://new.example")],
            &location("*", METHODS, HEADERS, true, "1728000", "").replace("@proxy@", "return 301 https://new.example; @proxy@"),
            &["https://a.example"],
        ),
        cors(
            "cors-size",
            &[("proxy-body-size", "2")],
            &location("*", METHODS, HEADERS, true, "1728000", "").replace("@proxy@", "client_max_body_size 2; @proxy@"),
            &["https://a.example"],
        )
        .with("POST", "cors-size.example", "/", &[("Origin", "https://a.example")], "body")
        .with("OPTIONS", "cors-size.example", "/", &[("Origin", "https://a.example")], "body"),
        cors(
            "cors-auth",
            &[("auth-type", "basic"), ("auth-secret", "cors-users"), ("auth-realm", "r")],
            &location("*", METHODS, HEADERS, true, "1728000", "")
                .replace("@proxy@", "auth_basic r; auth_basic_user_file @dir@/htpasswd; proxy_set_header Authorization ''; @proxy@"),
            &["https://a.example"],
        )
        .manifests(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: cors-users}\nstringData:\n  auth: |\n    \
             user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n",
        ),
    ])
    .await;
}
