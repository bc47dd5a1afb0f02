//! Who is refused on every host.

use ingress_tests::client::{self, get};
use ingress_tests::manifests::{ingress, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

use crate::auth_basic::with_header;

#[tokio::test(flavor = "multi_thread")]
async fn blocked_sources_agents_and_referers_get_403_on_every_host() {
    let origin = Origin::start("web").await;
    let yaml = [
        settings(&[
            ("use-forwarded-headers", "true"),
            ("block-cidrs", "192.0.2.0/24,2001:db8::/32"),
            ("block-user-agents", "~*badbot,~Evil/[0-9],curl/7.1"),
            ("block-referers", "~*spam\\.example,https://exact.example/"),
        ]),
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", &[("permanent-redirect", "https://b.example/")]),
        ingress("open", "open.example", "/", "web", &[("whitelist-source-range", "192.0.2.1")]),
        ingress("other", "other.example", "/", "web", &[]),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    for (host, field, value, expected) in [
        ("other.example", "x-forwarded-for", "198.51.100.1", 200),
        ("other.example", "x-forwarded-for", "192.0.2.9", 403),
        ("other.example", "x-forwarded-for", "2001:db8::9", 403),
        ("a.example", "x-forwarded-for", "192.0.2.9", 403),
        ("open.example", "x-forwarded-for", "192.0.2.1", 403),
        ("unknown.example", "x-forwarded-for", "192.0.2.9", 403),
        ("unknown.example", "x-forwarded-for", "198.51.100.1", 404),
        ("other.example", "user-agent", "Mozilla BadBot/1", 403),
        ("other.example", "user-agent", "Evil/3", 403),
        ("other.example", "user-agent", "evil/3", 200),
        ("other.example", "user-agent", "CURL/7.1", 403),
        ("other.example", "user-agent", "curl/7.10", 200),
        ("other.example", "referer", "http://www.SPAM.example/x", 403),
        ("other.example", "referer", "https://exact.example/", 403),
        ("other.example", "referer", "https://exact.example/x", 200),
    ] {
        let answer = client::send(proxy.http, with_header(get(host, "/"), field, value)).await.unwrap();
        assert_eq!(answer.status, expected, "{host} {field}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_has_the_headers_of_all_answers() {
    let parts = [
        settings(&[("block-user-agents", "~bot"), ("add-headers", "default/response")]),
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: response}\ndata: {X-Asked: $host$request_uri}\n".to_owned(),
    ];
    let proxy = Instance::start(translation(&parts.concat()).unwrap().model).await.unwrap();
    let bot = with_header(get("a.example", "/x?y"), "user-agent", "a bot");
    let answer = client::send(proxy.http, bot).await.unwrap();
    assert_eq!((answer.status, answer.header("x-asked")), (403, Some("a.example/x?y")));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_sources_are_turned_away_at_accept_where_packets_say_who_it_is() {
    let origin = Origin::start("web").await;
    let blocked = |sources| {
        let yaml = [
            settings(&[("block-cidrs", sources)]),
            service("web", &[origin.address]),
            ingress("web", "a.example", "/", "web", &[]),
        ];
        translation(&yaml.concat()).unwrap().model
    };
    let mut proxy = Instance::start(blocked("192.0.2.0/24")).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, 200);
    proxy.publish(blocked("127.0.0.0/8")).await.unwrap();
    assert!(client::fetch(proxy.http, "a.example", "/").await.is_err());
}
