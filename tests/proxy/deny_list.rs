//! Sources that may not use a route.

use ingress_tests::client::{self, get};
use ingress_tests::manifests::{ingress, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

use crate::auth_basic::with_header;

#[tokio::test(flavor = "multi_thread")]
async fn denied_sources_get_403_whatever_is_allowed() {
    let origin = Origin::start("web").await;
    let yaml = [
        settings(&[("use-forwarded-headers", "true"), ("denylist-source-range", "192.0.2.0/24")]),
        service("web", &[origin.address]),
        ingress("global", "global.example", "/", "web", &[]),
        ingress("own", "own.example", "/", "web", &[("denylist-source-range", "198.51.100.0/24")]),
        ingress(
            "both",
            "both.example",
            "/",
            "web",
            &[("denylist-source-range", "198.51.100.7"), ("whitelist-source-range", "198.51.100.0/24")],
        ),
    ];
    let proxy = Instance::start(translation(&yaml.concat()).unwrap().model).await.unwrap();
    for (host, client, status) in [
        ("global.example", "192.0.2.1", 403),
        ("global.example", "198.51.100.1", 200),
        // The annotation replaces the cluster's list.
        ("own.example", "192.0.2.1", 200),
        ("own.example", "198.51.100.1", 403),
        ("both.example", "198.51.100.1", 200),
        ("both.example", "198.51.100.7", 403),
        ("both.example", "203.0.113.1", 403),
    ] {
        let request = with_header(get(host, "/"), "x-forwarded-for", client);
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, status, "{host} {client}");
    }
}
