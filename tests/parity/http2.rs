//! The same over HTTP/2.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, proxy, run_with};

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers() {
    let host = "two.example";
    let large = "x".repeat(3000);
    let plain = case("plain")
        .manifests(ingress("two", host, "/", "web", &[("proxy-body-size", "2k")]))
        .server(host, "location / { client_max_body_size 2k; @proxy@ }")
        .get(host, "/x?y=z")
        .get(host, "/a%20b/c?d")
        .with("HEAD", host, "/", &[], "")
        .with("POST", host, "/", &[("Content-Type", "text/plain")], "body")
        .with("POST", host, "/", &[], &large)
        .with("PUT", host, "/", &[], "")
        .with("DELETE", host, "/", &[], "")
        .with("GET", host, "/", &[("Cookie", "a=b"), ("X-Dup", "1"), ("X-Dup", "2")], "")
        .with("GET", host, "/", &[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "http")], "")
        .with("GET", host, "/", &[("under_score", "1"), ("X-Request-ID", "abc")], "")
        .with("GET", host, "/", &[("X-Answer", "status=404|X-Custom: 1|Set-Cookie: a=b|Set-Cookie: c=d")], "")
        .with("GET", host, "/", &[("X-Answer", "status=204")], "")
        .with("GET", host, "/", &[("X-Answer", "status=304|ETag: \"x\"")], "")
        .with("GET", host, "/", &[("X-Answer", "chunked|bytes=20000")], "")
        .with("GET", host, "/", &[("X-Answer", "Connection: close|Keep-Alive: timeout=5")], "");
    let cors = case("cors over HTTP/2")
        .manifests(ingress("two-cors", "cors.two.example", "/", "web", &[("enable-cors", "true")]))
        .server(
            "cors.two.example",
            "set $cors ''; location / {
               if ($request_method = 'OPTIONS') { set $cors options; }
               if ($cors = options) { more_set_headers 'Access-Control-Allow-Origin: *' 'Access-Control-Allow-Credentials: true'
                 'Access-Control-Allow-Methods: GET, PUT, POST, DELETE, PATCH, OPTIONS'
                 'Access-Control-Allow-Headers: DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization'
                 'Access-Control-Max-Age: 1728000'; return 204; } @proxy@ }",
        )
        .with("OPTIONS", "cors.two.example", "/", &[("Origin", "https://a.example")], "");
    let moved = case("redirects over HTTP/2")
        .manifests(ingress(
            "two-moved",
            "moved.two.example",
            "/",
            "web",
            &[("permanent-redirect", "https://new.example$request_uri")],
        ))
        .server("moved.two.example", "location / { return 301 https://new.example$request_uri; }")
        .get("moved.two.example", "/x?y");
    let root = case("app-root over HTTP/2")
        .manifests(ingress("two-root", "root.two.example", "/", "web", &[("app-root", "/app")]))
        .server(
            "root.two.example",
            "if ($uri = /) { return 302 $scheme://$http_host/app; } location / { @proxy@ }",
        )
        .get("root.two.example", "/");
    let rewritten = case("rewrite over HTTP/2")
        .manifests(ingress("two-rewrite", "rewrite.two.example", "/api/(.*)", "web", &[("rewrite-target", "/v1/$1")]))
        .server(
            "rewrite.two.example",
            &format!("location ~* \"^/api/(.*)\" {{ rewrite \"(?i)/api/(.*)\" /v1/$1 break; {} }} location / {{ return 404; }}", proxy(&[])),
        )
        .get("rewrite.two.example", "/api/x%20y?z")
        .get("rewrite.two.example", "/other");
    let dead = case("dead over HTTP/2")
        .manifests(ingress("two-dead", "dead.two.example", "/", "dead", &[]))
        .server("dead.two.example", "location / { proxy_pass http://dead; }")
        .get("dead.two.example", "/")
        .get("nobody.two.example", "/");
    let cases = [plain, cors, moved, root, rewritten, dead].map(|case| case.twice("tls.example"));
    run_with(&settings(&[("hsts", "false")]), "", cases.into()).await;
}
