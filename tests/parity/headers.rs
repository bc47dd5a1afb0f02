//! Headers in both directions.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, proxy, run, run_with};

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let host = "req.example";
    let forwarded = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "1"),
        ("X-Real-IP", "203.0.113.9"),
        ("X-Scheme", "https"),
    ];
    run(vec![
        case("what a client says of itself is replaced")
            .manifests(ingress("req", host, "/", "web", &[]))
            .server(host, "location / { @proxy@ }")
            .with("GET", host, "/", &forwarded, "")
            .with("GET", host, "/", &[("Proxy", "http://evil")], "")
            .with("GET", host, "/", &[("X-Request-ID", "abc")], "")
            .with("GET", host, "/", &[("User-Agent", "a"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")], "")
            .with("GET", host, "/", &[("Cookie", "a=b; c=d")], "")
            .with("GET", host, "/", &[("under_score", "x"), ("X-Ok", "y")], "")
            .with("GET", host, "/", &[("Keep-Alive", "x")], "")
            .with("GET", host, "/", &[("Authorization", "Bearer x")], "")
            .with("HEAD", host, "/", &[], "")
            .with("OPTIONS", host, "/", &[], "")
            .with("DELETE", host, "/", &[], "")
            .with("POST", host, "/", &[("Content-Type", "text/plain")], "hello")
            .with("PUT", host, "/", &[("X-Answer", "status=201")], "hello")
            .raw("POST / HTTP/1.1\r\nHost: req.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .with("GET", host, "/", &[("X-Dup", "1"), ("X-Dup", "2"), ("X-Empty", "")], "")
            .with("GET", host, "/", &[("Range", "bytes=0-1"), ("If-None-Match", "\"x\""), ("If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT")], "")
            .with("GET", host, "/", &[("Via", "1.1 a"), ("Max-Forwards", "1"), ("Pragma", "no-cache"), ("Referer", "http://r.example/")], "")
            .with("GET", host, "/", &[("X-Forwarded-Ssl", "on"), ("X-Forwarded-Server", "s"), ("X-Client-IP", "1.2.3.4"), ("True-Client-IP", "1.2.3.4")], "")
            .with("GET", host, "/", &[("TE", "gzip")], "")
            .with("GET", host, "/", &[], "body of a GET")
            .with("DELETE", host, "/", &[], "body of a DELETE")
            .with("POST", host, "/", &[("Expect", "100-continue")], "hello")
            .with("GET", host, "/", &[("X-Request-ID", "")], "")
            .with("GET", host, "/", &[("X-Large", "x".repeat(7000).as_str())], "")
            .with("POST", host, "/", &[], "x".repeat(100_000).as_str())
            .raw("GET / HTTP/1.0\r\nHost: req.example\r\n\r\n")
            .raw("GET / HTTP/1.0\r\nHost: req.example\r\nX-Answer: chunked\r\n\r\n")
            .raw("POST / HTTP/1.1\r\nHost: req.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        case("Host upstream is replaced")
            .manifests(ingress("vh", "vh.example", "/", "web", &[("upstream-vhost", "inner.example")]))
            .server(
                "vh.example",
                &format!("location / {{ {} }}", proxy(&[("Host $http_host;\n    proxy_set_header Upgrade", "Host inner.example;\n    proxy_set_header Upgrade")])),
            )
            .get("vh.example", "/x"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses() {
    let host = "res.example";
    let answers = [
        "X-Custom: 1|Set-Cookie: a=b|Set-Cookie: c=d",
        "status=404|X-Custom: 1",
        "status=301|Location: http://other.example/x",
        "status=302|Location: /relative",
        "status=500",
        "Cache-Control: no-store|ETag: \"x\"|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
        "X-Powered-By: php|Server: origin",
        "status=204",
        "status=304|ETag: \"x\"",
        "Content-Type: application/json; charset=utf-8",
        "WWW-Authenticate: Basic realm=\"x\"|status=401",
        "Keep-Alive: timeout=5",
        "Content-Encoding: gzip|Vary: Accept-Encoding",
        "Accept-Ranges: bytes|status=206|Content-Range: bytes 0-5/10",
        "Refresh: 5; url=/x|Link: </a>; rel=preload|Content-Disposition: attachment",
        "Expires: Mon, 01 Jan 2024 00:00:00 GMT|Age: 5|Pragma: no-cache|Via: 1.1 x|Warning: 199 x",
        "chunked|X-Custom: 1",
        "chunked|status=404",
        "status=205",
        "status=307|Location: http://other.example/x",
        "status=300|Location: /x",
        "status=418",
        "status=599",
        "X-Frame-Options: DENY|Content-Security-Policy: default-src 'self'|X-Frame-Options: SAMEORIGIN",
        "bytes=100000|Content-Type: text/plain",
        "bytes=100000|Content-Type: text/plain|chunked",
        "Trailer: X-T",
        "X-Empty: ",
        "X-Pad: 1|Status: 500",
    ];
    let mut found = case("what a backend answers goes through")
        .manifests(ingress("res", host, "/", "web", &[]))
        .server(host, "location / { @proxy@ }");
    for answer in answers {
        found = found.with("GET", host, "/", &[("X-Answer", answer)], "");
        found = found.with("HEAD", host, "/", &[("X-Answer", answer)], "");
    }
    let cookies =
        "status=200|Set-Cookie: a=b; Domain=inner.local; Path=/one|Set-Cookie: c=d; Path=/two; HttpOnly";
    let location = "status=302|Location: http://inner.local/x/y|Refresh: 5; url=http://inner.local/z";
    run(vec![
        found,
        case("cookie attributes are rewritten")
            .manifests(ingress(
                "cookies",
                "cookies.example",
                "/",
                "web",
                &[("proxy-cookie-domain", "inner.local outer.example"), ("proxy-cookie-path", "/one /uno")],
            ))
            .server(
                "cookies.example",
                "location / { proxy_cookie_domain inner.local outer.example; proxy_cookie_path /one /uno; @proxy@ }",
            )
            .with("GET", "cookies.example", "/", &[("X-Answer", cookies)], ""),
        case("Location and Refresh are rewritten")
            .manifests(ingress(
                "location",
                "location.example",
                "/",
                "web",
                &[("proxy-redirect-from", "http://inner.local/"), ("proxy-redirect-to", "https://outer.example/")],
            ))
            .server(
                "location.example",
                &format!(
                    "location / {{ {} }}",
                    proxy(&[("proxy_redirect off", "proxy_redirect http://inner.local/ https://outer.example/")])
                ),
            )
            .with("GET", "location.example", "/", &[("X-Answer", location)], ""),
        case("the snippet of headers")
            .manifests(ingress(
                "snippet",
                "snippet.example",
                "/",
                "web",
                &[("configuration-snippet", "more_set_headers \"X-One: 1\";\nmore_set_headers \"X-Id: $http_x_id\";")],
            ))
            .server(
                "snippet.example",
                "location / { more_set_headers \"X-One: 1\"; more_set_headers \"X-Id: $http_x_id\"; @proxy@ }",
            )
            .with("GET", "snippet.example", "/", &[("X-Id", "7")], "")
            .with("GET", "snippet.example", "/", &[("X-Answer", "status=404|X-One: 0")], ""),
    ])
    .await;
}

fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    settings(data).replace("name: settings", &format!("name: {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_from_config_maps() {
    let data = settings(&[
        ("proxy-set-headers", "default/towards"),
        ("add-headers", "default/back"),
        ("hide-headers", "X-Hidden"),
        ("global-allowed-response-headers", "X-Custom,X-Other"),
    ]);
    let maps = [
        config_map("towards", &[("X-Region", "west"), ("X-Uri", "$request_uri")]),
        config_map("back", &[("X-Served-By", "edge")]),
        config_map("custom", &[("X-Custom", "one"), ("X-Other", "two")]),
    ];
    let added = "more_set_headers \"X-Served-By: edge\";";
    let towards =
        "proxy_hide_header X-Hidden; proxy_set_header X-Region west; proxy_set_header X-Uri $request_uri;";
    let location = format!("location / {{ {added} {towards} @proxy@ }}");
    let custom = format!(
        "location / {{ {added} more_set_headers \"X-Custom: one\" \"X-Other: two\"; {towards} @proxy@ }}"
    );
    run_with(
        &(data + &maps.concat()),
        "",
        vec![
            case("sent upstream and back")
                .manifests(ingress("maps", "maps.example", "/", "web", &[]))
                .server("maps.example", &location)
                .get("maps.example", "/x?y")
                .with("GET", "maps.example", "/", &[("X-Region", "forged")], "")
                .with("GET", "maps.example", "/", &[("X-Answer", "X-Hidden: 1|X-Shown: 1")], ""),
            case("hidden headers of errors")
                .manifests(ingress("maps-b", "maps-b.example", "/", "web", &[]))
                .server("maps-b.example", &location)
                .with("GET", "maps-b.example", "/", &[("X-Answer", "status=404|X-Hidden: 1")], ""),
            case("custom headers of one Ingress")
                .manifests(ingress(
                    "custom",
                    "custom.example",
                    "/",
                    "web",
                    &[("custom-headers", "default/custom")],
                ))
                .server("custom.example", &custom)
                .get("custom.example", "/")
                .with("GET", "custom.example", "/", &[("X-Answer", "X-Custom: backend")], ""),
        ],
    )
    .await;
}
