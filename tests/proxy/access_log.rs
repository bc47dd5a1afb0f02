//! `log-format-upstream` and what leaves requests out of the log: exact lines.

use ingress_tests::client::{self, Http2};
use ingress_tests::manifests::{ingress, serve, service, settings, translation_with};
use ingress_tests::origin::{self, Origin};
use ingress_tests::proxy::Instance;
use ingress_userspace::k8s::cluster::ObjectKey;
use ingress_userspace::translate::Settings;

use crate::auth_basic::with_header;

fn with_format(format: &str, more: &[(&str, &str)]) -> String {
    let format = format!("{format} END");
    let mut keys = vec![("log-format-upstream", format.as_str())];
    keys.extend_from_slice(more);
    settings(&keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_what_the_format_says() {
    let origin = Origin::start("web").await;
    let format = "$remote_addr|$remote_user|$host|$http_host|$request_method|$uri|$args|$arg_q|$is_args|$scheme|$status|\
                  $body_bytes_sent|$http_x_one|$http_missing|$cookie_a|$sent_http_x_origin|$namespace|$ingress_name|\
                  $service_name|$service_port|$proxy_upstream_name|[$proxy_alternative_upstream_name]|$location_path|\
                  $server_name|$server_protocol|$upstream_addr|$upstream_status|$upstream_response_length|$req_id|$pipe";
    let yaml = [
        service("web", &[origin.address]),
        ingress("shop", "a.example", "/p", "web", &[]),
        with_format(format, &[]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut request = client::get("A.example:80", "/p/x%20y?q=1&b");
    for (name, value) in [
        ("authorization", "Basic YW5uOnNlY3JldA=="),
        ("x-one", "say \"hi\""),
        ("cookie", "b=2; a=1"),
        ("x-request-id", "id-1"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = client::send(proxy.http, request).await.unwrap();
    let shown = answer.header("x-origin").unwrap_or("-").to_owned();
    let line = proxy.log_lines("END", 1).await.unwrap().remove(0);
    let address = origin.address;
    let length = answer.body.len();
    assert_eq!(
        line,
        format!(
            "127.0.0.1|ann|a.example|A.example:80|GET|/p/x y|q=1&b|1|?|http|200|{length}|say \\x22hi\\x22|-|1|{shown}|\
             default|shop|web|80|default-web-80|[]|/p|a.example|HTTP/1.1|{address}|200|{length}|id-1|. END"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_json_whatever_a_client_sends() {
    let origin = Origin::start("web").await;
    let format =
        r#"{"agent":"$http_user_agent","none":"$http_missing","path":"$request_uri","status":$status}"#;
    let yaml = [
        service("web", &[origin.address]),
        ingress("shop", "a.example", "/", "web", &[]),
        settings(&[("log-format-upstream", format), ("log-format-escape-json", "true")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut request = client::get("a.example", "/json");
    request.headers_mut().insert("user-agent", "a\"b\\c".parse().unwrap());
    client::send(proxy.http, request).await.unwrap();
    let line = proxy.log_lines("/json", 1).await.unwrap().remove(0);
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({"agent": "a\"b\\c", "none": "", "path": "/json", "status": 200});
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_stands_in_the_lists() {
    let origin = Origin::start("web").await;
    let refused = origin::refused().await;
    let yaml = [
        service("web", &[refused, origin.address]),
        ingress("shop", "a.example", "/", "web", &[("load-balance", "round_robin")]),
        with_format("$upstream_addr|$upstream_status|$upstream_connect_time|$upstream_header_time", &[]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    for _ in 0..4 {
        client::fetch(proxy.http, "a.example", "/").await.unwrap();
    }
    let lines = proxy.log_lines("END", 4).await.unwrap();
    let tried = lines.iter().find(|line| line.contains(", ")).expect("a second attempt");
    assert!(tried.starts_with(&format!("{refused}, {}|502, 200|-, 0.", origin.address)), "{tried}");
    assert!(tried.contains("|-, 0."), "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_request_is_named() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", &[]),
        with_format("$host $uri $arg_q $status", &[("block-user-agents", "badbot")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let bot = with_header(client::get("a.example", "/x?q=1"), "user-agent", "badbot");
    assert_eq!(client::send(proxy.http, bot).await.unwrap().status, 403);
    assert_eq!(proxy.log_lines("END", 1).await.unwrap(), ["a.example /x 1 403 END"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_ingresses_skipped_targets_and_unknown_hosts_are_not_logged() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("quiet", "quiet.example", "/", "web", &[("enable-access-log", "false")]),
        ingress("loud", "loud.example", "/", "web", &[]),
        with_format("$host$request_uri", &[("skip-access-log-urls", "/HEALTHZ,~^/static/")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    for (host, target) in [
        ("quiet.example", "/a"),
        ("loud.example", "/healthz"),
        ("loud.example", "/static/x.png"),
        ("nobody.example", "/a"),
        ("loud.example", "/healthz?deep=1"),
        ("loud.example", "/last"),
    ] {
        client::fetch(proxy.http, host, target).await.unwrap();
    }
    proxy.log_lines("/last", 1).await.unwrap();
    // Each worker hands its lines over when its turn comes.
    let mut lines = proxy.log_lines("END", 2).await.unwrap();
    lines.sort();
    assert_eq!(lines, ["loud.example/healthz?deep=1 END", "loud.example/last END"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_default_backend_answers_is_logged_when_asked_for() {
    let origin = Origin::start("web").await;
    for (setting, expected) in
        [("false", &["a.example/last END"][..]), ("true", &["a.example/last END", "b.example/x END"])]
    {
        let yaml = [
            service("web", &[origin.address]),
            ingress("web", "a.example", "/", "web", &[]),
            with_format("$host$request_uri", &[("enable-access-log-for-default-backend", setting)]),
        ];
        let default =
            |settings: &mut Settings| settings.default_backend = Some(ObjectKey::new("default", "web"));
        let model = translation_with(&yaml.concat(), default).unwrap().model;
        let proxy = Instance::start(model).await.unwrap();
        assert_eq!(client::fetch(proxy.http, "b.example", "/x").await.unwrap().text(), "web");
        client::fetch(proxy.http, "a.example", "/last").await.unwrap();
        let mut lines = proxy.log_lines("END", expected.len()).await.unwrap();
        lines.sort();
        assert_eq!(lines, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_has_a_host_and_a_protocol_too() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("shop", "a.example", "/", "web", &[]),
        with_format("$http_host|$request|$connection_requests", &[]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut client = Http2::open(proxy.http).await.unwrap();
    client.send(client::get("a.example", "/two")).await.unwrap();
    let line = proxy.log_lines("END", 1).await.unwrap().remove(0);
    assert_eq!(line, "a.example|GET /two HTTP/2.0|1 END");
}
