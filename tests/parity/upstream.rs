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
    let slow = [("X-Answer", "delay=1800")];
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
