//! Messages as clients vary them: the form of the target, conditions and ranges, methods on answers of the proxy itself.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, proxy, run, run_with};

#[tokio::test(flavor = "multi_thread")]
async fn absolute_targets_and_expectations() {
    let (host, moved) = ("form.example", "form-moved.example");
    let raw = |line: &str, rest: &str| format!("{line}\r\nHost: {host}\r\nConnection: close\r\n{rest}");
    run(vec![
        case("the form of the target")
            .manifests(ingress("form", host, "/", "web", &[]))
            .server(host, "location / { @proxy@ }")
            .raw(&raw("GET http://form.example/a?b=c HTTP/1.1", "\r\n"))
            .raw(&raw("GET http://form.example HTTP/1.1", "\r\n"))
            .raw(&raw("POST http://form.example/a HTTP/1.1", "Content-Length: 4\r\n\r\nbody"))
            .raw(&raw("OPTIONS / HTTP/1.1", "\r\n"))
            .raw(&raw("POST / HTTP/1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")),
        case("an expectation that is not met")
            .manifests(ingress("form-moved", moved, "/", "web", &[("permanent-redirect", "https://new.example")]))
            .server(moved, "location / { return 301 https://new.example; }")
            .with("POST", moved, "/", &[("Expect", "100-continue")], "body")
            .raw("GET http://form-moved.example/ HTTP/1.1\r\nHost: form-moved.example\r\nConnection: close\r\n\r\n"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_on_every_kind_of_answer() {
    let out = "allow 198.18.0.0/15; deny all;";
    let mut cases = vec![
        case("kinds-proxied")
            .manifests(ingress("kinds-proxied", "kinds-proxied.example", "/", "web", &[]))
            .server("kinds-proxied.example", "location / { @proxy@ }"),
        case("kinds-empty")
            .manifests(ingress("kinds-empty", "kinds-empty.example", "/", "empty", &[]))
            .server("kinds-empty.example", "location / { return 503; }"),
        case("kinds-dead")
            .manifests(ingress("kinds-dead", "kinds-dead.example", "/", "dead", &[]))
            .server("kinds-dead.example", "location / { proxy_pass http://dead; }"),
        case("kinds-out")
            .manifests(ingress(
                "kinds-out",
                "kinds-out.example",
                "/",
                "web",
                &[("whitelist-source-range", "198.18.0.0/15")],
            ))
            .server("kinds-out.example", &format!("location / {{ {out} @proxy@ }}")),
        case("kinds-forced")
            .manifests(ingress(
                "kinds-forced",
                "kinds-forced.example",
                "/",
                "web",
                &[("force-ssl-redirect", "true")],
            ))
            .server(
                "kinds-forced.example",
                "location / { if ($scheme = http) { return 308 https://$host$bare_uri; } @proxy@ }",
            ),
        case("kinds-root")
            .manifests(ingress("kinds-root", "kinds-root.example", "/", "web", &[("app-root", "/app")]))
            .server(
                "kinds-root.example",
                "if ($uri = /) { return 302 $scheme://$http_host/app; } location / { @proxy@ }",
            ),
        case("kinds-path")
            .manifests(ingress("kinds-path", "kinds-path.example", "/only", "web", &[]))
            .server(
                "kinds-path.example",
                "location / { return 404; } location /only/ { @proxy@ } location = /only { @proxy@ }",
            ),
        case("kinds-nobody"),
        case("kinds-small")
            .manifests(ingress("kinds-small", "kinds-small.example", "/", "web", &[("proxy-body-size", "1")]))
            .server("kinds-small.example", "location / { client_max_body_size 1; @proxy@ }"),
    ];
    for (found, name) in
        cases.iter_mut().zip(["proxied", "empty", "dead", "out", "forced", "root", "path", "nobody", "small"])
    {
        let host = format!("kinds-{name}.example");
        *found = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].iter().fold(
            found.clone(),
            |found, method| {
                let body = if ["POST", "PUT", "PATCH"].contains(method) { "body" } else { "" };
                found.with(method, &host, "/", &[("Origin", "https://a.example")], body)
            },
        );
    }
    let maps = "map $request_uri $bare_uri { ~^(?<bare>.*?)/?$ $bare; }";
    let cases = cases.into_iter().map(|case| case.twice("tls.example")).collect();
    run_with(&settings(&[("hsts", "false")]), maps, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_ranges_go_through_gzip() {
    let host = "cond.example";
    let gzip = "gzip on; gzip_comp_level 1; gzip_http_version 1.1; gzip_min_length 256; gzip_proxied any; gzip_vary on;
        gzip_types application/json text/plain;";
    let json = "bytes=1000|Content-Type: application/json";
    let since = ("If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT");
    let mut found = case("conditions")
        .manifests(ingress("cond", host, "/", "web", &[]))
        .server(host, "location / { @proxy@ }")
        .any_body()
        .whole_head();
    for (headers, answer) in [
        (vec![("If-None-Match", "\"abc\"")], format!("{json}|ETag: \"abc\"")),
        (vec![("If-None-Match", "W/\"abc\"")], format!("{json}|ETag: \"abc\"")),
        (vec![("If-None-Match", "W/\"abc\"")], "status=304|bytes=0|ETag: \"abc\"|Vary: Origin".to_owned()),
        (vec![since], format!("{json}|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT")),
        (vec![since], "status=304|bytes=0|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT".to_owned()),
        (vec![("If-Match", "\"abc\"")], format!("status=412|{json}")),
        (
            vec![("If-Unmodified-Since", since.1)],
            format!("{json}|Last-Modified: Tue, 02 Jan 2024 00:00:00 GMT"),
        ),
        (vec![("Range", "bytes=0-99")], format!("{json}|Accept-Ranges: bytes")),
        (vec![("Range", "bytes=0-99")], format!("{json}|Accept-Ranges: bytes|ETag: \"abc\"|chunked")),
        (
            vec![("Range", "bytes=0-999")],
            format!("status=206|{json}|Content-Range: bytes 0-999/2000|ETag: \"abc\""),
        ),
        (vec![("Range", "bytes=9000-")], format!("status=416|{json}|Content-Range: bytes */2000")),
        (vec![("Range", "bytes=0-99"), ("If-Range", "\"abc\"")], format!("{json}|ETag: \"abc\"")),
        (vec![("Range", "bytes=-5")], "bytes=1000|Content-Type: image/png|Accept-Ranges: bytes".to_owned()),
    ] {
        for accepted in ["gzip", "identity"] {
            let more = [("Accept-Encoding", accepted), ("X-Answer", answer.as_str())];
            let headers = [headers.as_slice(), &more].concat();
            found = found.with("GET", host, "/", &headers, "").with("HEAD", host, "/", &headers, "");
        }
    }
    let data =
        settings(&[("use-gzip", "true"), ("hsts", "false"), ("gzip-types", "application/json text/plain")]);
    run_with(&data, gzip, vec![found]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_for_other_errors() {
    // The balancer of ingress-nginx tries the only endpoint again.
    let again = |name: &'static str, conditions: &str, annotations: &[(&str, &str)], more: &str| {
        let host = format!("{name}.example");
        let annotations = [&[("proxy-next-upstream", conditions)][..], annotations].concat();
        let pass = format!("proxy_next_upstream {conditions}");
        let mut found = case(name)
            .http(&format!("upstream {name} {{ server @origin@ max_fails=0; server @origin@ max_fails=0; server @origin@ max_fails=0; }}\n"))
            .manifests(ingress(name, &host, "/", "web", &annotations))
            .server(
                &host,
                &format!(
                    "location / {{ {} }}",
                    proxy(&[
                        ("proxy_next_upstream error timeout", &pass),
                        ("proxy_next_upstream_tries 3", more),
                        ("http://origin", &format!("http://{name}"))
                    ])
                ),
            )
            .any_body();
        for (method, answer) in [
            ("GET", "status=503"),
            ("GET", "status=500"),
            ("GET", "status=404"),
            ("HEAD", "status=503"),
            ("PUT", "status=503"),
            ("DELETE", "status=503"),
            ("POST", "status=503"),
            ("PATCH", "status=503"),
        ] {
            found = found.with(method, &host, "/", &[("X-Answer", answer)], "");
        }
        found
    };
    let three = "proxy_next_upstream_tries 3";
    run(vec![
        again("again-503", "error timeout http_503", &[], three),
        again("again-404", "http_404 http_500", &[], three),
        again("again-all", "error timeout http_503 non_idempotent", &[], three),
        again(
            "again-once",
            "error timeout http_503",
            &[("proxy-next-upstream-tries", "1")],
            "proxy_next_upstream_tries 1",
        ),
        again("again-off", "off", &[], three),
    ])
    .await;
}
