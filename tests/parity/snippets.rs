//! `configuration-snippet` and `server-snippet`: the same text for both, as ingress-nginx pastes it.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run};

/// A host whose only path has this snippet.
fn pasted(name: &'static str, snippet: &str) -> Case {
    let host = format!("{name}.example");
    case(name)
        .manifests(ingress(name, &host, "/", "web", &[("configuration-snippet", snippet)]))
        .server(&host, &format!("location / {{ {snippet} @proxy@ }}"))
}

/// The same with requests.
fn asked(name: &'static str, snippet: &str, requests: &[(&str, &[(&str, &str)])]) -> Case {
    let host = format!("{name}.example");
    let asks = |case: Case, (target, headers): &(&str, &[(&str, &str)])| {
        case.with("GET", &host, target, headers, "")
    };
    requests.iter().fold(pasted(name, snippet), asks)
}

const PLAIN: &[(&str, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_a_snippet_rewrites() {
    let beta = &[("X-Beta", "1")][..];
    run(vec![
        asked(
            "snip-break",
            "rewrite ^/old/(.*)$ /new/$1 break; rewrite ^/gone /away? break; rewrite ^/arg$ /x?own=1 break;",
            &[
                ("/old/a/b?c=d", PLAIN),
                ("/OLD/a", PLAIN),
                ("/old/a%20b%2Bc?d=%20", PLAIN),
                ("/x/old/a", PLAIN),
                ("/gone/for/ever?x=y", PLAIN),
                ("/arg", PLAIN),
                ("/arg?q=r", PLAIN),
                ("/new/old/x", PLAIN),
            ],
        ),
        asked(
            "snip-part",
            "rewrite /v(1|2)/ /api$1/ break;",
            &[("/x/v1/y?z", PLAIN), ("/v3/", PLAIN), ("/v2/", PLAIN)],
        ),
        asked(
            "snip-if",
            "if ($http_x_beta) { rewrite ^/(.*)$ /beta/$1 break; } rewrite ^/a /b break; return 404;",
            &[("/a", PLAIN), ("/a", beta), ("/c", PLAIN), ("/c?d=e", beta)],
        ),
        asked(
            "snip-vars",
            "set $tenant $arg_tenant; if ($tenant = '') { set $tenant none; } rewrite ^/(.*)$ /$tenant/$1 break;",
            &[("/x", PLAIN), ("/x?tenant=t", PLAIN)],
        ),
        asked(
            "snip-moved",
            "rewrite ^/a/(.*)$ https://b.example/$1 permanent; rewrite ^/c/(.*) /d/$1 redirect; rewrite ^/e /f? permanent;",
            &[("/a/x?y=z", PLAIN), ("/c/x?y", PLAIN), ("/e?y", PLAIN), ("/g", PLAIN)],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_a_snippet_changes() {
    let origin = &[("Origin", "https://a.b.example")][..];
    let other = &[("Origin", "https://evil.test")][..];
    let failed = &[("Origin", "https://a.b.example"), ("X-Answer", "status=404")][..];
    run(vec![
        asked(
            "snip-cors",
            "if ($http_origin ~* \"^https://(.+\\.)?b\\.example$\") { add_header Access-Control-Allow-Origin \"$http_origin\" always; \
             add_header Vary Origin always; }",
            &[("/", PLAIN), ("/", origin), ("/", other), ("/", failed)],
        ),
        asked(
            "snip-last",
            "more_set_headers 'X-All: 1'; if ($arg_a) { more_set_headers 'X-A: $arg_a'; } if ($arg_b) { more_set_headers 'X-B: $arg_b'; } \
             if ($arg_c) { set $x 1; }",
            &[("/", PLAIN), ("/?a=1", PLAIN), ("/?b=1", PLAIN), ("/?a=1&b=2", PLAIN), ("/?a=1&c=1", PLAIN)],
        ),
        asked(
            "snip-answer",
            "if ($arg_a) { add_header X-A a always; } if ($arg_b) { add_header X-B b always; return 403; } if ($arg_c) { return 204; }",
            &[("/?a=1", PLAIN), ("/?a=1&b=1", PLAIN), ("/?b=1", PLAIN), ("/?a=1&c=1", PLAIN), ("/", PLAIN)],
        ),
        asked(
            "snip-success",
            "add_header X-Ok 1; add_header X-Always 1 always; more_set_headers -s '404 500' 'X-Bad: 1'; more_set_headers -t 'text/plain' 'X-Text: 1';",
            &[
                ("/", PLAIN),
                ("/", &[("X-Answer", "status=404")]),
                ("/", &[("X-Answer", "status=500|Content-Type: text/plain")]),
                ("/", &[("X-Answer", "status=301|Location: /x")]),
                ("/", &[("X-Answer", "status=304|ETag: \"x\"")]),
                ("/", &[("X-Answer", "Content-Type: text/plain; charset=utf-8")]),
            ],
        ),
        asked(
            "snip-clear",
            "more_clear_headers 'X-Debug-*' X-Gone; proxy_hide_header X-Hidden; more_set_headers 'X-Empty:';",
            &[("/", &[("X-Answer", "X-Debug-One: 1|X-Debug: 2|X-Gone: 3|X-Hidden: 4|X-Kept: 5|X-Empty: 6")])],
        ),
        asked(
            "snip-input",
            "more_set_input_headers 'X-In: $host' 'X-Two: 2'; more_set_input_headers -r 'X-There: yes'; more_clear_input_headers X-Out 'X-Bye-*';",
            &[
                ("/", PLAIN),
                ("/", &[("X-In", "a"), ("X-There", "no"), ("X-Out", "1"), ("X-Two", "x"), ("X-Bye-Bye", "1")]),
            ],
        ),
        asked(
            "snip-upstream",
            "proxy_set_header X-Who $arg_who; proxy_set_header Accept-Encoding ''; proxy_set_header X-Uri $request_uri; \
             proxy_set_header X-Both \"$host-$remote_addr\"; proxy_set_header Authorization 'Basic x';",
            &[
                ("/?who=me", PLAIN),
                ("/", &[("X-Who", "forged"), ("Accept-Encoding", "gzip"), ("Authorization", "Bearer y")]),
            ],
        ),
        asked(
            "snip-cookies",
            "proxy_hide_header Set-Cookie; add_header Set-Cookie 'a=b; Path=/';",
            &[("/", &[("X-Answer", "Set-Cookie: x=y")]), ("/", PLAIN)],
        ),
        asked("snip-off", "expires off; etag off; proxy_pass_header Authorization;", &[
            ("/", PLAIN),
            ("/", &[("X-Answer", "ETag: \"x\"|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"), ("If-None-Match", "\"x\"")]),
        ]),
        asked("snip-epoch", "expires epoch;", &[("/", PLAIN), ("/", &[("X-Answer", "status=404")])]),
        asked("snip-max", "expires max;", &[("/", PLAIN), ("/", &[("X-Answer", "Cache-Control: private")])]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_come_and_what_is_answered() {
    let mut methods = pasted("snip-methods", "limit_except GET POST { deny all; }");
    let mut banned = pasted(
        "snip-banned",
        "if ($request_method ~ ^(PUT|DELETE)$) { return 405; } if ($http_x_key != 'k') { return 401; }",
    );
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        methods = methods.with(method, "snip-methods.example", "/", &[], "");
        banned = banned.with(method, "snip-banned.example", "/", &[("X-Key", "k")], "");
    }
    let server = "location = /health { default_type text/plain; return 200 'ok\\n'; } location ~ /\\.git { deny all; } \
                  location ^~ /old/ { return 301 https://new.example$request_uri; } add_header X-Server 1;";
    let host = "snip-server.example";
    let mut whole = case("snip-server")
        .manifests(ingress("snip-server", host, "/", "web", &[("server-snippet", server)]))
        .server(host, &format!("{server} location / {{ @proxy@ }}"));
    for target in ["/", "/health", "/healthy", "/.git/config", "/x/.git", "/old/x?y", "/old"] {
        whole = whole.get(host, target);
    }
    let health = case("snip-health")
        .manifests(ingress("snip-health", "snip-health.example", "/", "web", &[("server-snippet", server)]))
        .server("snip-health.example", &format!("{server} location / {{ @proxy@ }}"))
        .get("snip-health.example", "/health")
        .whole_head();
    run(vec![
        health,
        asked("snip-in", "allow 127.0.0.0/8; deny all;", &[("/", PLAIN)]),
        asked("snip-out", "allow 198.18.0.0/15; deny all;", &[("/", PLAIN)]),
        asked("snip-one", "deny 127.0.0.1; allow 127.0.0.0/8; deny all;", &[("/", PLAIN)]),
        asked("snip-open", "deny 198.18.0.1; allow 198.18.0.0/15;", &[("/", PLAIN)]),
        asked("snip-none", "deny all;", &[("/", PLAIN)]),
        asked("snip-first", "deny all; return 302 https://login.example/;", &[("/", PLAIN)]),
        asked(
            "snip-text",
            "default_type text/plain; if ($arg_x) { return 403; } return 200 'host $host';",
            &[("/", PLAIN)],
        )
        .whole_head(),
        asked(
            "snip-json",
            "default_type application/json; return 503 '{\"error\":\"$uri\"}';",
            &[("/a%20b", PLAIN)],
        )
        .whole_head(),
        asked(
            "snip-https",
            "if ($http_x_forwarded_proto = 'http') { return 301 https://$host$request_uri; }",
            &[("/x?y", &[("X-Forwarded-Proto", "http")]), ("/x?y", PLAIN)],
        ),
        methods,
        banned,
        whole,
    ])
    .await;
}
