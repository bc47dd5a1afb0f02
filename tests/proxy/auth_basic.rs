//! Users and passwords: who is let in, what the backend sees, and what a Secret does to its paths.

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use ingress_tests::client::{self, Http1, Http2, get};
use ingress_tests::manifests::{ingress, serve, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

/// `ada` has bcrypt, `bob` apr1, `cy` plain text; the password is `secret`.
const USERS: &str = "ada:$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n\
                     bob:$apr1$12345678$0lqb/6VUFP8JY/s/jTrIk0\ncy:{PLAIN}secret\n";

pub(crate) fn secret(name: &str, parts: &[(&str, &str)]) -> String {
    let parts: Vec<String> =
        parts.iter().map(|(key, text)| format!("{key}: {}", serde_json::Value::from(*text))).collect();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{}}}\n",
        parts.join(", ")
    )
}

pub(crate) fn with_password(
    request: Request<Full<Bytes>>,
    user: &str,
    password: &str,
) -> Request<Full<Bytes>> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    with_header(request, "authorization", &format!("Basic {encoded}"))
}

pub(crate) fn with_header(
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &str,
) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

const BASIC: &[(&str, &str)] =
    &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "Authentication Required - foo")];

async fn protected(origin: &Origin, users: &str) -> Instance {
    let yaml = [
        secret("users", &[("auth", users)]),
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", BASIC),
    ];
    serve(&yaml.concat()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_the_password_are_let_in_and_nobody_else() {
    let origin = Origin::start("web").await;
    let proxy = protected(&origin, USERS).await;
    let anonymous = client::fetch(proxy.http, "a.example", "/").await.unwrap();
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.header("www-authenticate"), Some("Basic realm=\"Authentication Required - foo\""));
    for (user, password, status) in [
        ("ada", "secret", 200),
        ("ada", "Secret", 401),
        ("ada", "", 401),
        ("bob", "secret", 200),
        ("bob", "secre", 401),
        ("cy", "secret", 200),
        ("cy", "secret\0", 401),
        ("dan", "secret", 401),
        ("", "secret", 401),
        ("ada:x", "secret", 401),
    ] {
        // Twice: the second verdict is remembered.
        for _ in 0..2 {
            let request = with_password(get("a.example", "/"), user, password);
            assert_eq!(
                client::send(proxy.http, request).await.unwrap().status,
                status,
                "{user} {password:?}"
            );
        }
    }
    for broken in ["Basic", "Basic !!!", "Basic YWRh", "Bearer secret", "basic"] {
        let request = with_header(get("a.example", "/"), "authorization", broken);
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, 401, "{broken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_sees_no_credentials_and_the_log_the_user() {
    let origin = Origin::start("web").await;
    let proxy = protected(&origin, USERS).await;
    let request = with_password(get("a.example", "/who"), "ada", "secret");
    assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
    assert_eq!(origin.last().header("authorization"), None);
    let line = proxy.log_lines("/who", 1).await.unwrap().remove(0);
    assert!(line.starts_with("127.0.0.1 - ada ["), "{line}");
    assert!(!line.contains("secret"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_user_compares_once_and_all_are_let_in() {
    let origin = Origin::start("web").await;
    let proxy = protected(&origin, USERS).await;
    let mut connection = Http2::open(proxy.http).await.unwrap();
    assert_eq!(connection.send(get("a.example", "/")).await.unwrap().status, 401);
    let requests =
        (0..300).map(|_| {
            let mut connection = connection.clone();
            async move {
                connection.send(with_password(get("a.example", "/"), "ada", "secret")).await.unwrap().status
            }
        });
    let statuses = futures_util::future::join_all(requests).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_counts_at_once() {
    let origin = Origin::start("web").await;
    let mut proxy = protected(&origin, "ada:{PLAIN}old\nbob:$apr1$12345678$0lqb/6VUFP8JY/s/jTrIk0\n").await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for (user, password) in [("ada", "old"), ("bob", "secret")] {
        let request = with_password(get("a.example", "/"), user, password);
        assert_eq!(connection.send(request).await.unwrap().status, 200);
    }
    let yaml = [
        secret("users", &[("auth", "ada:{PLAIN}new\n")]),
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", BASIC),
    ];
    proxy.publish(translation(&yaml.concat()).unwrap().model).await.unwrap();
    for (user, password, status) in [("ada", "old", 401), ("ada", "new", 200), ("bob", "secret", 401)] {
        let request = with_password(get("a.example", "/"), user, password);
        assert_eq!(connection.send(request).await.unwrap().status, status, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_has_a_user_per_key_and_a_missing_secret_denies() {
    let origin = Origin::start("web").await;
    let map = &[("auth-type", "basic"), ("auth-secret", "people"), ("auth-secret-type", "auth-map")];
    let lost = &[("auth-type", "basic"), ("auth-secret", "lost")];
    let yaml = [
        secret("people", &[("ada", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")]),
        service("web", &[origin.address]),
        ingress("map", "map.example", "/", "web", map),
        ingress("lost", "lost.example", "/", "web", lost),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    let status = async |host: &str, password: &str| {
        client::send(proxy.http, with_password(get(host, "/"), "ada", password)).await.unwrap().status
    };
    assert_eq!(status("map.example", "secret").await, 200);
    assert_eq!(status("map.example", "other").await, 401);
    assert_eq!(status("lost.example", "secret").await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_needs_leave() {
    let origin = Origin::start("web").await;
    let users = secret("users", &[("auth", USERS)]).replace("name: users", "name: users, namespace: other");
    let annotations = &[("auth-type", "basic"), ("auth-secret", "other/users")];
    let base =
        [users, service("web", &[origin.address]), ingress("web", "a.example", "/", "web", annotations)]
            .concat();
    let allowed = settings(&[("allow-cross-namespace-resources", "true")]);
    for (yaml, status) in [(base.clone(), 503), ([base, allowed].concat(), 200)] {
        let proxy = Instance::start(translation(&yaml).unwrap().model).await.unwrap();
        let request = with_password(get("a.example", "/"), "ada", "secret");
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, status);
    }
}
