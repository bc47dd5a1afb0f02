//! `use-gzip`, as ingress-nginx's template writes it.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, run_with};

const GZIP: &str = "gzip on; gzip_comp_level 1; gzip_http_version 1.1; gzip_min_length 256; gzip_proxied any; gzip_vary on;
    gzip_types application/atom+xml application/javascript application/x-javascript application/json application/rss+xml
      application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml
      application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component;";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_and_how_it_is_told() {
    let host = "zip.example";
    let mut found = case("gzip")
        .manifests(ingress("zip", host, "/", "web", &[]))
        .server(host, "location / { @proxy@ }")
        .any_body()
        .whole_head();
    let json = "Content-Type: application/json";
    for (accepted, answer) in [
        ("gzip", format!("bytes=1000|{json}")),
        ("gzip", "bytes=1000|Content-Type: text/html; charset=utf-8".to_owned()),
        ("gzip", "bytes=1000|Content-Type: text/plain|chunked".to_owned()),
        ("gzip", "bytes=100|Content-Type: text/plain|chunked".to_owned()),
        ("gzip, deflate, br;q=0", format!("bytes=1000|{json}")),
        ("gzip;q=0", format!("bytes=1000|{json}")),
        ("*", format!("bytes=1000|{json}")),
        ("identity", format!("bytes=1000|{json}")),
        ("", format!("bytes=1000|{json}")),
        ("deflate", format!("bytes=1000|{json}")),
        ("x-gzip", format!("bytes=1000|{json}")),
        ("GZIP", format!("bytes=1000|{json}")),
        ("gzip;q=0.5", format!("bytes=1000|{json}")),
        ("gzip", format!("bytes=255|{json}")),
        ("gzip", format!("bytes=256|{json}")),
        ("gzip", "bytes=1000|Content-Type: image/png".to_owned()),
        ("gzip", "bytes=1000|Content-Type: APPLICATION/JSON".to_owned()),
        ("gzip", "bytes=1000".to_owned()),
        ("gzip", format!("bytes=1000|{json}|Content-Encoding: br")),
        ("gzip", format!("bytes=1000|{json}|Content-Encoding: identity")),
        ("gzip", format!("bytes=1000|{json}|ETag: \"abc\"")),
        ("gzip", format!("bytes=1000|{json}|ETag: W/\"abc\"")),
        ("gzip", format!("bytes=1000|{json}|ETag: bad")),
        ("gzip", format!("bytes=1000|{json}|Vary: Origin")),
        (
            "gzip",
            format!("bytes=1000|{json}|Accept-Ranges: bytes|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"),
        ),
        ("gzip", format!("status=404|bytes=1000|{json}")),
        ("gzip", format!("status=403|bytes=1000|{json}")),
        ("gzip", format!("status=500|bytes=1000|{json}")),
        ("gzip", format!("status=201|bytes=1000|{json}")),
        ("gzip", format!("status=206|bytes=1000|{json}|Content-Range: bytes 0-999/2000")),
        ("gzip", format!("status=302|bytes=1000|{json}|Location: /x")),
    ] {
        let headers = [("Accept-Encoding", accepted), ("X-Answer", answer.as_str())];
        let headers = if accepted.is_empty() { &headers[1..] } else { &headers[..] };
        found = found.with("GET", host, "/", headers, "");
    }
    let answer = format!("bytes=1000|{json}");
    let headers = [("Accept-Encoding", "gzip"), ("X-Answer", answer.as_str())];
    found = found.with("HEAD", host, "/", &headers, "");
    found = found.with("GET", host, "/", &[headers[0], headers[1], ("Via", "1.1 cache")], "");
    found = found.with("POST", host, "/", &headers, "body");
    found =
        found.with("GET", host, "/", &[headers[0], headers[1], ("User-Agent", "Mozilla/4.0 (MSIE 6.0)")], "");
    found = found.raw(&format!(
        "GET / HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: gzip\r\nX-Answer: {answer}\r\n\r\n"
    ));
    let data = settings(&[("use-gzip", "true"), ("hsts", "false")]);
    run_with(&data, GZIP, vec![found.twice("tls.example")]).await;
}
