//! Snippets as public guides write them: what the service that authenticates, the backend and the client see.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service};
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
