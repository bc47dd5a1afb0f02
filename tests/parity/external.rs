//! `auth-url` and its neighbours: what the auth service is asked, and what comes of its answer.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, proxy, run};

/// The location that asks, and the one that is guarded.
fn guarded(method: &str, more: &str, named: &str) -> String {
    let method = if method.is_empty() {
        String::new()
    } else {
        format!(
            "proxy_method {method}; proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Scheme $scheme;"
        )
    };
    format!(
        "location = /_external-auth {{ internal; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; {method}
           proxy_set_header X-Forwarded-Proto \"\"; proxy_set_header X-Request-ID $req_id; proxy_set_header Host 127.0.0.1;
           proxy_set_header X-Original-URL $scheme://$http_host$request_uri; proxy_set_header X-Original-Method $request_method;
           proxy_set_header X-Sent-From \"nginx-ingress-controller\"; proxy_set_header X-Real-IP $remote_addr;
           proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Auth-Request-Redirect $request_uri;
           proxy_buffering off; proxy_http_version 1.1; proxy_pass http://@origin@/auth; }}
         location / {{ auth_request /_external-auth; auth_request_set $auth_cookie $upstream_http_set_cookie;
           add_header Set-Cookie $auth_cookie; {more} {} }} {named}",
        proxy(&[])
    )
}

fn asked(name: &'static str, annotations: &[(&str, &str)], locations: &str) -> Case {
    let host = format!("{name}.example");
    let annotations = [&[("auth-url", "http://@origin@/auth")][..], annotations].concat();
    let mut found =
        case(name).manifests(ingress(name, &host, "/", "web", &annotations)).server(&host, locations);
    for answer in [
        "status=200",
        "status=202|X-Auth-User: jane|X-Other: 1",
        "status=200|Set-Cookie: session=1; Path=/",
        if name == "ask-signin" { "status=401" } else { "status=401|WWW-Authenticate: Bearer" },
        "status=403",
        "status=404",
        "status=500",
        "status=302|Location: http://elsewhere.example/",
    ] {
        found = found.with("GET", &host, "/priv", &[("X-Auth-Answer", answer)], "");
    }
    found.with("POST", &host, "/priv", &[("X-Auth-Answer", "status=200")], "body")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_service() {
    let user = "auth_request_set $user $upstream_http_x_auth_user; proxy_set_header 'X-Auth-User' $user;";
    let signin = "error_page 401 = @signin;";
    let named = "location @signin { internal; add_header Set-Cookie $auth_cookie;
                   return 302 https://login.example/start?rd=$scheme://$http_host%2Fpriv; }";
    run(vec![
        asked("ask", &[], &guarded("", "", "")),
        asked("ask-method", &[("auth-method", "POST")], &guarded("POST", "", "")),
        asked("ask-headers", &[("auth-response-headers", "X-Auth-User")], &guarded("", user, "")).with(
            "GET",
            "ask-headers.example",
            "/priv",
            &[("X-Auth-Answer", "status=200"), ("X-Auth-User", "forged")],
            "",
        ),
        asked(
            "ask-param",
            &[("auth-signin", "https://login.example/start?a=b"), ("auth-signin-redirect-param", "next")],
            &guarded("", signin, &named.replace("start?rd=", "start?a=b&next=")),
        ),
        asked(
            "ask-own-param",
            &[("auth-signin", "https://login.example/start?rd=$scheme://$host$request_uri")],
            &guarded("", signin, &named.replace("$http_host%2Fpriv", "$host$request_uri")),
        ),
        asked(
            "ask-redirect",
            &[("auth-request-redirect", "https://$host/back")],
            &guarded("", "", "").replace(
                "X-Auth-Request-Redirect $request_uri",
                "X-Auth-Request-Redirect https://$host/back",
            ),
        ),
        asked(
            "ask-always",
            &[("auth-always-set-cookie", "true")],
            &guarded("", "", "")
                .replace("add_header Set-Cookie $auth_cookie;", "add_header Set-Cookie $auth_cookie always;"),
        )
        .with(
            "GET",
            "ask-always.example",
            "/priv",
            &[("X-Auth-Answer", "status=200|Set-Cookie: s=1"), ("X-Answer", "status=404")],
            "",
        )
        .with(
            "GET",
            "ask-always.example",
            "/priv",
            &[("X-Auth-Answer", "status=403|Set-Cookie: s=1")],
            "",
        ),
        asked("ask-cookie", &[], &guarded("", "", ""))
            .with(
                "GET",
                "ask-cookie.example",
                "/priv",
                &[("X-Auth-Answer", "status=200|Set-Cookie: s=1"), ("X-Answer", "status=404")],
                "",
            )
            .with(
                "GET",
                "ask-cookie.example",
                "/priv",
                &[
                    ("X-Auth-Answer", "status=200|Set-Cookie: s=1"),
                    ("X-Answer", "status=302|Set-Cookie: t=2"),
                ],
                "",
            )
            .with(
                "GET",
                "ask-cookie.example",
                "/priv",
                &[("X-Auth-Answer", "status=401|Set-Cookie: s=1|WWW-Authenticate: Bearer")],
                "",
            )
            .with(
                "GET",
                "ask-cookie.example",
                "/a%20b?c=d",
                &[("X-Auth-Answer", "status=204"), ("Cookie", "x=y"), ("Authorization", "Bearer t")],
                "",
            )
            .with("HEAD", "ask-cookie.example", "/priv", &[("X-Auth-Answer", "status=200")], "")
            .with(
                "OPTIONS",
                "ask-cookie.example",
                "/priv",
                &[("X-Auth-Answer", "status=401|WWW-Authenticate: Bearer")],
                "",
            )
            .with(
                "PUT",
                "ask-cookie.example",
                "/priv",
                &[
                    ("X-Auth-Answer", "status=200"),
                    ("Content-Type", "text/plain"),
                    ("Range", "bytes=0-1"),
                    ("If-None-Match", "\"x\""),
                ],
                "body",
            ),
        asked(
            "ask-out",
            &[("whitelist-source-range", "198.18.0.0/15")],
            &guarded("", "allow 198.18.0.0/15; deny all;", ""),
        ),
        asked(
            "ask-any",
            &[("whitelist-source-range", "198.18.0.0/15"), ("satisfy", "any")],
            &guarded("", "satisfy any; allow 198.18.0.0/15; deny all;", ""),
        ),
        case("ask-nobody")
            .manifests(ingress(
                "ask-nobody",
                "ask-nobody.example",
                "/",
                "web",
                &[("auth-url", "http://@dead@/auth")],
            ))
            .server("ask-nobody.example", &guarded("", "", "").replace("@origin@", "@dead@"))
            .get("ask-nobody.example", "/"),
        case("ask-empty")
            .manifests(ingress(
                "ask-empty",
                "ask-empty.example",
                "/",
                "empty",
                &[("auth-url", "http://@origin@/auth")],
            ))
            .server("ask-empty.example", &guarded("", "return 503;", ""))
            .with("GET", "ask-empty.example", "/", &[("X-Auth-Answer", "status=401")], ""),
        asked("ask-signin", &[("auth-signin", "https://login.example/start")], &guarded("", signin, named)),
    ])
    .await;
}
