//! Sources and passwords together.

use ingress_tests::client::{self, get};
use ingress_tests::manifests::{ingress, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

use crate::auth_basic::{secret, with_header, with_password};

#[tokio::test(flavor = "multi_thread")]
async fn any_takes_one_rule_and_all_takes_both() {
    let origin = Origin::start("web").await;
    let rules = |satisfy: &'static str, extra: &[(&'static str, &'static str)]| {
        let base = [("auth-type", "basic"), ("auth-secret", "users"), ("satisfy", satisfy)];
        [&base[..], extra].concat()
    };
    let office = ("whitelist-source-range", "198.51.100.0/24");
    let banned = ("denylist-source-range", "192.0.2.0/24");
    let yaml = [
        settings(&[("use-forwarded-headers", "true")]),
        secret("users", &[("auth", "ada:{PLAIN}secret")]),
        service("web", &[origin.address]),
        ingress("all", "all.example", "/", "web", &rules("all", &[office])),
        ingress("any", "any.example", "/", "web", &rules("any", &[office])),
        ingress("deny", "deny.example", "/", "web", &rules("any", &[banned])),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    for (host, client, password, status) in [
        ("all.example", "198.51.100.1", "secret", 200),
        ("all.example", "198.51.100.1", "wrong", 401),
        ("all.example", "203.0.113.1", "secret", 403),
        ("any.example", "198.51.100.1", "secret", 200),
        ("any.example", "198.51.100.1", "wrong", 200),
        ("any.example", "203.0.113.1", "secret", 200),
        ("any.example", "203.0.113.1", "wrong", 401),
        // A list that only refuses lets nobody in by itself.
        ("deny.example", "203.0.113.1", "wrong", 401),
        ("deny.example", "203.0.113.1", "secret", 200),
        ("deny.example", "192.0.2.1", "wrong", 401),
        ("deny.example", "192.0.2.1", "secret", 200),
    ] {
        let request = with_header(get(host, "/"), "x-forwarded-for", client);
        let answer = client::send(proxy.http, with_password(request, "ada", password)).await.unwrap();
        assert_eq!(answer.status, status, "{host} {client} {password}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{host} {client} {password}");
        if status == 200 {
            assert_eq!(origin.last().header("authorization"), None, "{host} {client}");
        }
    }
}
