//! Connections to endpoints: how many are kept, and for how many requests.

use ingress_tests::client::{self, Http1};
use ingress_tests::manifests::{ingress, serve, service, settings};
use ingress_tests::origin::Origin;

const HOST: &str = "a.example.com";

/// Connections that an origin sees of twelve requests, one after the other.
async fn connections(config: &[(&str, &str)], annotations: &[(&str, &str)]) -> usize {
    let origin = Origin::start("web").await;
    let yaml =
        [settings(config), service("web", &[origin.address]), ingress("web", HOST, "/", "web", annotations)];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..12 {
        assert_eq!(connection.send(client::get(HOST, "/")).await.unwrap().status, 200);
    }
    origin.connections()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_as_long_and_as_often_as_configured() {
    assert_eq!(connections(&[], &[]).await, 1);
    assert_eq!(connections(&[("upstream-keepalive-requests", "3")], &[]).await, 4);
    assert_eq!(connections(&[("upstream-keepalive-connections", "0")], &[]).await, 12);
    assert_eq!(connections(&[], &[("upstream-keepalive-connections", "0")]).await, 12);
    assert_eq!(connections(&[], &[("upstream-keepalive-connections", "1")]).await, 1);
}
