//! `enable-opentelemetry`: the trace context that a backend sees, and that the log shows.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service, settings};
use ingress_tests::origin::Origin;

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_kept_where_it_is_trusted_and_made_where_there_is_none() {
    let origin = Origin::start("web").await;
    let on = ("enable-opentelemetry", "true");
    let yaml = [
        service("web", &[origin.address]),
        ingress("kept", "on.example", "/", "web", &[on]),
        ingress("fresh", "fresh.example", "/", "web", &[on, ("opentelemetry-trust-incoming-span", "false")]),
        ingress("plain", "off.example", "/", "web", &[]),
        settings(&[("log-format-upstream", "$host $opentelemetry_trace_id $opentelemetry_span_id")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    for (host, sent, is_kept) in [
        ("on.example", Some(SENT), true),
        ("on.example", Some("00-zz"), false),
        ("on.example", None, false),
        ("fresh.example", Some(SENT), false),
    ] {
        let mut request = client::get(host, "/");
        if let Some(sent) = sent {
            request.headers_mut().insert("traceparent", sent.parse().unwrap());
        }
        client::send(proxy.http, request).await.unwrap();
        let seen = origin.last().header("traceparent").unwrap();
        assert_eq!(seen == SENT, is_kept, "{host} {sent:?} {seen}");
        assert_eq!(seen.len(), SENT.len(), "{seen}");
        let parts: Vec<&str> = seen.split('-').collect();
        proxy.log_lines(&format!("{host} {} {}", parts[1], parts[2]), 1).await.unwrap();
    }
    client::fetch(proxy.http, "off.example", "/").await.unwrap();
    assert_eq!(origin.last().header("traceparent"), None);
    proxy.log_lines("off.example - -", 1).await.unwrap();
}
