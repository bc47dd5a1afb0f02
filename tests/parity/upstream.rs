//! What the client sees of a backend that is not well.

use ingress_tests::manifests::ingress;

use crate::rig::{case, proxy, run};

#[tokio::test(flavor = "multi_thread")]
async fn dead_backends() {
    run(vec![
        case("nothing listens")
            .manifests(ingress("dead", "dead.example", "/", "dead", &[]))
            .server("dead.example", "location / { proxy_pass http://dead; }")
            .get("dead.example", "/")
            .with("POST", "dead.example", "/", &[], "x"),
        case("there is no endpoint")
            .manifests(ingress("empty", "empty.example", "/", "empty", &[]))
            .server("empty.example", "location / { return 503; }")
            .get("empty.example", "/"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_or_hardly_one() {
    let one = |name: &'static str, answer: &'static str| {
        let host = format!("{name}.example");
        case(name)
            .canned(name, answer)
            .manifests(ingress(name, &host, "/", name, &[]))
            .server(
                &host,
                &format!("location / {{ {} }}", proxy(&[("http://origin", &format!("http://@{name}@"))])),
            )
            .get(&host, "/")
            .with("HEAD", &host, "/", &[], "")
            .with("POST", &host, "/", &[], "body")
    };
    let huge = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\nContent-Length: 4\r\n\r\necho", "x".repeat(5000));
    let large = format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 4\r\n\r\necho", "x".repeat(3000));
    run(vec![
        one("raw-nothing", ""),
        one("raw-half", "HTTP/1.1 200 OK\r\nContent-Type: te"),
        one("raw-old", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\necho until the end"),
        one("raw-end", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\necho until the end"),
        one("raw-plain", "HTTP/1.1 200\r\nContent-Length: 4\r\n\r\necho"),
        one("raw-reason", "HTTP/1.1 200 All is well\r\nContent-Length: 4\r\n\r\necho"),
        one("raw-lf", "HTTP/1.1 200 OK\nContent-Length: 4\n\necho"),
        one("raw-huge", huge.leak()),
        one("raw-large", large.leak()),
        one("raw-case", "HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 4\r\nx-CaSe: 1\r\n\r\necho"),
        one("raw-empty-body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        one("raw-204", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
        one("raw-304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        one("raw-chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\necho\r\n0\r\n\r\n"),
        one("raw-latin", "HTTP/1.1 200 OK\r\nX-Name: \u{e4}\r\nContent-Length: 4\r\n\r\necho"),
        one("raw-fold", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 4\r\n\r\necho"),
        one("raw-status", "HTTP/1.1 999 Odd\r\nContent-Length: 4\r\n\r\necho"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_buffers() {
    let with = |name: &'static str, annotations: &[(&str, &str)], changes: &[(&str, &str)], more: &str| {
        // nginx sends a length where a body that it streams has ended by then.
        let coding =
            if name.starts_with("stream") { "Content-Length: 4" } else { "Transfer-Encoding: chunked" };
        let body = if name.starts_with("stream") { "body" } else { "4\r\nbody\r\n0\r\n\r\n" };
        let host = format!("{name}.example");
        case(name)
            .manifests(ingress(name, &host, "/", "web", annotations))
            .server(&host, &format!("location / {{ {more} {} }}", proxy(changes)))
            .get(&host, "/x")
            .with("GET", &host, "/", &[("X-Answer", "bytes=100000")], "")
            .with("GET", &host, "/", &[("X-Answer", "bytes=100000|chunked")], "")
            .with("POST", &host, "/", &[], "body")
            .with("POST", &host, "/", &[], "x".repeat(50_000).as_str())
            .raw(&format!("POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{coding}\r\n\r\n{body}"))
            .raw(&format!("POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"))
    };
    run(vec![
        with("buf-on", &[("proxy-buffering", "on")], &[("proxy_buffering off", "proxy_buffering on")], ""),
        with(
            "buf-large",
            &[("proxy-buffering", "on"), ("proxy-buffer-size", "8k"), ("proxy-buffers-number", "8")],
            &[
                ("proxy_buffering off", "proxy_buffering on"),
                ("proxy_buffer_size 4k", "proxy_buffer_size 8k"),
                ("proxy_buffers 4 4k", "proxy_buffers 8 8k"),
            ],
            "",
        ),
        with(
            "stream",
            &[("proxy-request-buffering", "off")],
            &[("proxy_request_buffering on", "proxy_request_buffering off")],
            "",
        ),
        with(
            "small",
            &[("client-body-buffer-size", "1k"), ("proxy-body-size", "40k")],
            &[],
            "client_body_buffer_size 1k; client_max_body_size 40k;",
        ),
        with(
            "stream-small",
            &[("proxy-request-buffering", "off"), ("proxy-body-size", "40k")],
            &[("proxy_request_buffering on", "proxy_request_buffering off")],
            "client_max_body_size 40k;",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_backends_go_through() {
    let host = "err.example";
    let mut found = case("statuses")
        .manifests(ingress("err", host, "/", "web", &[]))
        .server(host, "location / { @proxy@ }");
    for status in ["400", "401", "403", "404", "429", "500", "502", "503", "504"] {
        found = found.with("GET", host, "/", &[("X-Answer", format!("status={status}").as_str())], "");
    }
    run(vec![found]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endpoints_and_deadlines() {
    let mut mixed = case("the next endpoint is asked")
        .manifests(ingress("mixed", "mixed.example", "/", "mixed", &[]))
        .server(
            "mixed.example",
            &format!("location / {{ {} }}", proxy(&[("http://origin", "http://mixed")])),
        );
    for method in ["GET", "PUT", "DELETE", "POST", "PATCH"] {
        mixed = mixed.with(method, "mixed.example", "/", &[], "");
    }
    let slow = [("X-Answer", "delay=60000")];
    run(vec![
        mixed,
        // The balancer of ingress-nginx tries the only endpoint three times.
        case("the read timeout is 504")
            .http("upstream thrice { server @origin@; server @origin@; server @origin@; }\n")
            .manifests(ingress("slow", "slow.example", "/", "web", &[("proxy-read-timeout", "1")]))
            .server("slow.example", &format!("location / {{ {} }}", proxy(&[("proxy_read_timeout 60s", "proxy_read_timeout 1s"), ("http://origin", "http://thrice")])))
            .with("GET", "slow.example", "/", &slow, ""),
        case("a chunked body over the limit is 413 and nobody sees it")
            .manifests(ingress("chunked", "chunked.example", "/", "web", &[("proxy-body-size", "4")]))
            .server("chunked.example", "location / { client_max_body_size 4; @proxy@ }")
            .raw("POST / HTTP/1.1\r\nHost: chunked.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        case("the connection header is replaced")
            .manifests(ingress("conn", "conn.example", "/", "web", &[("connection-proxy-header", "keep-alive")]))
            .server("conn.example", &format!("location / {{ {} }}", proxy(&[("Connection $connection_upgrade", "Connection keep-alive")])))
            .get("conn.example", "/"),
        case("HTTP/1.0 upstream")
            .manifests(ingress("old", "old.example", "/", "web", &[("proxy-http-version", "1.0")]))
            .server("old.example", &format!("location / {{ {} }}", proxy(&[("proxy_http_version 1.1", "proxy_http_version 1.0"), ("Connection $connection_upgrade", "Connection close")])))
            .get("old.example", "/"),
        case("gateway errors of one endpoint go to the next")
            .manifests(ingress("gate", "gate.example", "/", "web", &[("proxy-next-upstream", "error timeout http_502")]))
            .server("gate.example", &format!("location / {{ {} }}", proxy(&[("proxy_next_upstream error timeout", "proxy_next_upstream error timeout http_502")])))
            .with("GET", "gate.example", "/", &[("X-Answer", "status=503")], ""),
    ])
    .await;
}
