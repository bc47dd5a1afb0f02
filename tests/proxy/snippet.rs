//! Snippets as public guides write them: what the service that authenticates, the backend and the client see.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, ingress_with, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::responder::oauth2_proxy;

use crate::auth_external::{HOST, ask};

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_the_service_reaches_headers_by_name() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let snippet = "auth_request_set $user $upstream_http_x_auth_request_user;\n\
                   proxy_set_header X-Who \"user $user\";\nmore_set_headers \"X-Seen: $user\";";
    let annotations = [
        ("auth-url", "http://oauth2-proxy.default.svc.cluster.local/oauth2/auth"),
        ("configuration-snippet", snippet),
    ];
    let yaml = service("web", &[origin.address])
        + &service("oauth2-proxy", &[oauth2.address])
        + &ingress("app", HOST, "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    let answer = ask(&proxy, "/", &[("cookie", "_oauth2_proxy=alice"), ("x-who", "root")]).await;
    assert_eq!((answer.status, answer.header("x-seen")), (200, Some("alice")));
    assert_eq!(origin.last().header("x-who").as_deref(), Some("user alice"));
    let answer = ask(&proxy, "/", &[("x-who", "root")]).await;
    assert_eq!((answer.status, answer.header("x-seen")), (401, None));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippet_of_authentication_tells_the_service_more() {
    let (origin, auth) = (Origin::start("web").await, Origin::start("yes").await);
    let annotations = [
        ("auth-url", "http://auth.default.svc.cluster.local/verify"),
        (
            "auth-snippet",
            "proxy_set_header X-Forwarded-Method $request_method;\nproxy_set_header X-Forwarded-Host $http_host;",
        ),
    ];
    let yaml = service("web", &[origin.address])
        + &service("auth", &[auth.address])
        + &ingress("app", HOST, "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    let request = client::request("DELETE", HOST, "/x", "");
    assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
    let asked = auth.last();
    assert_eq!(asked.header("x-forwarded-method").as_deref(), Some("DELETE"));
    assert_eq!(asked.header("x-forwarded-host").as_deref(), Some(HOST));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_of_the_server_answers_for_its_host() {
    let origin = Origin::start("web").await;
    let server = "add_header X-Frame-Options DENY always;\n\
                  location = /.well-known/carddav { return 301 $scheme://$host/remote.php/dav; }\n\
                  location ~ ^/(?:build|config)/ { deny all; }\n\
                  location /health { access_log off; default_type text/plain; return 200 OK; }\n\
                  set $mobile 0;\nif ($http_user_agent ~* Mobile) { set $mobile 1; }\n\
                  if ($mobile = 1) { return 302 https://m.example.com$request_uri; }\n";
    let yaml = service("web", &[origin.address])
        + &ingress("app", HOST, "/", "web", &[("server-snippet", server)])
        + &ingress("deep", HOST, "/health/deep", "web", &[])
        + &ingress("other", "other.example", "/", "web", &[]);
    let proxy = serve(&yaml).await.unwrap();
    let answer = ask(&proxy, "/.well-known/carddav", &[]).await;
    let dav = format!("http://{HOST}/remote.php/dav");
    assert_eq!((answer.status, answer.header("location")), (301, Some(dav.as_str())));
    for (path, status) in [
        ("/config/x", 403),
        ("/configuration", 200),
        ("/health", 200),
        ("/healthy", 200),
        ("/health/deep/x", 200),
        ("/.well-known/carddav/x", 200),
    ] {
        let answer = ask(&proxy, path, &[]).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let is_ours = answer.text() == "OK";
        assert_eq!(is_ours, ["/health", "/healthy"].contains(&path), "{path}");
    }
    let answer = ask(&proxy, "/a?b=c", &[("user-agent", "X Mobile")]).await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://m.example.com/a?b=c")));
    let answer = client::send(proxy.http, client::get("other.example", "/config/x")).await.unwrap();
    assert_eq!((answer.status, answer.header("x-frame-options")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_changes_the_path_for_the_backend() {
    let origin = Origin::start("web").await;
    let snippet = "if ($arg_plain) { return 204; }\nrewrite ^/api/(v[0-9])/(.*)$ /$2?version=$1 break;\n\
                   rewrite /old /new break;\nrewrite ^/gone /410 permanent;";
    let annotations = [("configuration-snippet", snippet)];
    let yaml = service("web", &[origin.address]) + &ingress("app", HOST, "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    for (path, sent) in [
        ("/api/v1/users%20x?a=1", "/users%20x?version=v1&a=1"),
        ("/API/v1/users", "/API/v1/users"),
        ("/older", "/new"),
        ("/other?q", "/other?q"),
    ] {
        let answer = client::send(proxy.http, client::get(HOST, path)).await.unwrap();
        assert_eq!((answer.status, origin.last().line), (200, format!("GET {sent} HTTP/1.1")), "{path}");
    }
    for (path, status) in [("/api/v1/x?plain=1", 204), ("/gone", 301), ("/api/v1/../x", 200)] {
        let answer = client::send(proxy.http, client::get(HOST, path)).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_of_a_snippet_ends_that_of_the_annotation() {
    let origin = Origin::start("web").await;
    let snippet = "rewrite ^/app/static/(.*)$ /cdn/$1 break;";
    let annotations = [("rewrite-target", "/moved"), ("configuration-snippet", snippet)];
    let yaml = service("web", &[origin.address]) + &ingress("app", HOST, "/app", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    for (path, sent) in [("/app/static/a.css", "/cdn/a.css"), ("/app/index", "/moved")] {
        assert_eq!(client::send(proxy.http, client::get(HOST, path)).await.unwrap().status, 200);
        assert_eq!(origin.last().line, format!("GET {sent} HTTP/1.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_answer_of_old_guides_is_given() {
    let origin = Origin::start("web").await;
    let snippet = "if ($request_method = 'OPTIONS') {\n\
                   add_header 'Access-Control-Allow-Origin' '*';\n\
                   add_header 'Content-Type' 'text/plain; charset=utf-8';\n\
                   add_header 'Content-Length' 0;\nreturn 204;\n}\n\
                   more_set_headers \"Access-Control-Allow-Origin: $http_origin\";";
    let yaml = service("web", &[origin.address])
        + &ingress("app", HOST, "/", "web", &[("configuration-snippet", snippet)]);
    let proxy = serve(&yaml).await.unwrap();
    let answer = client::send(proxy.http, client::request("OPTIONS", HOST, "/", "")).await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_changes_paths_and_headers_of_some_requests() {
    let origin = Origin::start("web").await;
    let snippet = "rewrite ^/old/(.*)$ /new/$1?from=old break;\n\
                   if ($http_x_beta) { rewrite ^/(.*)$ /beta/$1 break; }\n\
                   if ($http_origin ~ \"^https://(.+\\.)?a\\.example$\") { add_header X-Cors $http_origin always; }\n\
                   if ($arg_b) { more_set_headers \"X-B: $arg_b\"; }";
    let annotations = [("configuration-snippet", snippet), ("rewrite-target", "/app/$1")];
    let yaml = service("web", &[origin.address])
        + &ingress_with("app", HOST, ("/(.*)", "ImplementationSpecific"), "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    let from = ("origin", "https://x.a.example");
    for (target, headers, seen, cors, b) in [
        ("/old/a%20b?c=d", &[][..], "/new/a%20b?from=old&c=d", None, None),
        ("/x", &[], "/app/x", None, None),
        ("/x", &[("x-beta", "1")], "/beta/x", None, None),
        ("/old/x", &[("x-beta", "1")], "/new/x?from=old", None, None),
        ("/x", &[from], "/app/x", Some(from.1), None),
        ("/x?b=1", &[from], "/app/x?b=1", None, Some("1")),
        ("/x?b=1", &[], "/app/x?b=1", None, Some("1")),
        ("/x", &[("origin", "https://evil.example")], "/app/x", None, None),
        // What ends the search ends it for what stands behind it, too.
        ("/old/x", &[from], "/new/x?from=old", None, None),
    ] {
        let answer = ask(&proxy, target, headers).await;
        assert_eq!(origin.last().line, format!("GET {seen} HTTP/1.1"), "{target} {headers:?}");
        assert_eq!((answer.header("x-cors"), answer.header("x-b")), (cors, b), "{target} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_says_who_may_come_and_what_is_logged() {
    let origin = Origin::start("web").await;
    let own = ("whitelist-source-range", "127.0.0.0/8");
    let yaml = service("web", &[origin.address])
        + &ingress(
            "out",
            HOST,
            "/out",
            "web",
            &[("configuration-snippet", "allow 198.18.0.0/15;\ndeny all;")],
        )
        + &ingress(
            "one",
            HOST,
            "/one",
            "web",
            &[("configuration-snippet", "deny 127.0.0.1; allow 127.0.0.0/8; deny all;")],
        )
        + &ingress(
            "in",
            HOST,
            "/in",
            "web",
            &[("configuration-snippet", "allow 127.0.0.1; deny all; access_log off;")],
        )
        + &ingress("kept", "b.example", "/", "web", &[("server-snippet", "deny all;")])
        + &ingress("kept-own", "b.example", "/own", "web", &[own]);
    let proxy = serve(&yaml).await.unwrap();
    for (host, target, status) in [
        (HOST, "/out", 403),
        (HOST, "/one", 403),
        (HOST, "/in", 200),
        ("b.example", "/", 403),
        ("b.example", "/own", 200),
    ] {
        assert_eq!(client::fetch(proxy.http, host, target).await.unwrap().status, status, "{host}{target}");
    }
    let lines = proxy.log_lines("GET /", 4).await.unwrap();
    assert!(lines.iter().all(|line| !line.contains("/in ")), "{lines:?}");
}
