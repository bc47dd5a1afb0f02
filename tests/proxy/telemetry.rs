//! The access log line, field by field, and the metrics that dashboards read.

use ingress_tests::client::{self, Http2};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};

/// Splits a line at spaces, keeping what is quoted or in brackets together.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut end = None;
    for c in line.chars() {
        match (end, c) {
            (Some(last), _) if c == last => end = None,
            (None, '"') => end = Some('"'),
            (None, '[') => end = Some(']'),
            (None, ' ') => fields.push(String::new()),
            _ => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_the_fields_of_upstreaminfo_in_order() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("a.example", policies(), &[origin.address])).await.unwrap();
    let mut request = client::request("POST", "a.example", "/x%22y?q=1", "12345");
    for (name, value) in
        [("referer", "http://from/\"x\""), ("user-agent", "test/1"), ("x-request-id", "id-1")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    client::send(proxy.http, request).await.unwrap();
    let lines = proxy.log_lines("id-1", 1).await.unwrap();
    let f = fields(&lines[0]);
    assert_eq!(f.len(), 18, "{lines:?}");
    assert_eq!((f[0].as_str(), f[1].as_str(), f[2].as_str()), ("127.0.0.1", "-", "-"));
    assert!(f[3].len() == 26 && f[3].ends_with(" +0000"), "{}", f[3]);
    assert_eq!(f[4], "POST /x%22y?q=1 HTTP/1.1");
    assert_eq!((f[5].as_str(), f[6].as_str()), ("200", "3"));
    assert_eq!((f[7].as_str(), f[8].as_str()), ("http://from/\\x22x\\x22", "test/1"));
    assert!(f[9].parse::<u64>().unwrap() > 60, "{}", f[9]);
    assert!(f[10].parse::<f64>().unwrap() < 5.0 && f[10].split('.').nth(1).unwrap().len() == 3, "{}", f[10]);
    assert_eq!((f[11].as_str(), f[12].as_str()), ("default-web-80", ""));
    assert_eq!((f[13].clone(), f[14].as_str()), (origin.address.to_string(), "3"));
    assert!(f[15].parse::<f64>().is_ok(), "{}", f[15]);
    assert_eq!((f[16].as_str(), f[17].as_str()), ("200", "id-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_backend_are_logged_with_dashes() {
    let mut model = ingress_tests::proxy::model();
    model.global.access_log.has_unmatched = true;
    let proxy = Instance::start(model).await.unwrap();
    client::fetch(proxy.http, "nobody.example", "/none").await.unwrap();
    let f = fields(&proxy.log_lines("/none", 1).await.unwrap()[0]);
    assert_eq!((f[5].as_str(), f[11].as_str()), ("404", "-"));
    assert_eq!(f[13..17], ["-", "-", "-", "-"], "{f:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_refusals_are_logged_and_a_client_that_left_is_499() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    Http2::open(proxy.http).await.unwrap().send(client::get("a", "/two")).await.unwrap();
    let lines = proxy.log_lines("\"GET /two HTTP/2.0\" 200", 1).await.unwrap();
    assert_eq!(lines.len(), 1);
    client::raw(proxy.http, b"GET /bad%zz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    proxy.log_lines("\"GET /bad%zz HTTP/1.1\" 400", 1).await.unwrap();
    let address = proxy.http;
    let leaving = tokio::spawn(async move { client::fetch(address, "a", "/delay/1500").await });
    ingress_tests::proxy::eventually(|| (origin.seen().len() >= 2).then_some(())).await.unwrap();
    leaving.abort();
    proxy.log_lines("\"GET /delay/1500 HTTP/1.1\" 499 0", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_under_the_labels_of_their_route() {
    let origin = Origin::start("web").await;
    let mut model = simple("a.example", policies(), &[origin.address]);
    model.global.access_log.has_unmatched = true;
    let mut proxy = Instance::start(model).await.unwrap();
    for _ in 0..3 {
        client::fetch(proxy.http, "a.example", "/any").await.unwrap();
    }
    // A new model with other endpoints keeps the series.
    let mut model = simple("a.example", policies(), &[origin.address, origin.address]);
    model.global.access_log.has_unmatched = true;
    proxy.publish(model).await.unwrap();
    client::fetch(proxy.http, "a.example", "/any").await.unwrap();
    client::fetch(proxy.http, "unknown.example", "/any").await.unwrap();
    proxy.log_lines("/any", 5).await.unwrap();
    let labels = "{status=\"200\",method=\"GET\",path=\"/\",namespace=\"default\",ingress=\"web\",service=\"web\",\
                  canary=\"\",host=\"a.example\"}";
    for name in
        ["requests", "request_duration_seconds_count", "header_duration_seconds_count", "response_size_count"]
    {
        let value = proxy.metric(&format!("nginx_ingress_controller_{name}{labels}")).await;
        assert!((value - 4.0).abs() < 0.1, "{name}: {value}");
    }
    let sum = proxy.metric(&format!("nginx_ingress_controller_response_size_sum{labels}")).await;
    assert!((sum - 12.0).abs() < 0.1, "{sum}");
    assert!(proxy.metric("nginx_ingress_controller_nginx_process_requests_total").await >= 5.0);
    assert!(proxy.metric("nginx_ingress_controller_nginx_process_resident_memory_bytes").await > 1e6);
    assert!((proxy.metric("portcullis_model_version").await - 2.0).abs() < 0.1);
}
