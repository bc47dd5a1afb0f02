//! `/healthz` for load balancers in front of the node.

use ingress_tests::client::{self, get, request};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

async fn ask(proxy: &Instance, host: &str, path: &str) -> (u16, String) {
    let answer = client::send(proxy.http, get(host, path)).await.unwrap();
    (answer.status, answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_answered_for_every_name_without_a_rule() {
    let origin = Origin::start("web").await;
    let named =
        ingress("web", "a.example", "/", "web", &[]) + &ingress("all", "*.b.example", "/", "web", &[]);
    let proxy = serve(&(service("web", &[origin.address]) + &named)).await.unwrap();
    for host in ["192.0.2.1", "other.example", "b.example"] {
        assert_eq!(ask(&proxy, host, "/healthz").await, (200, String::new()), "{host}");
        assert_eq!(ask(&proxy, host, "/healthz?deep").await.0, 200);
        assert_eq!(ask(&proxy, host, "/healthz/x").await.0, 404);
        assert_eq!(ask(&proxy, host, "/").await.0, 404);
    }
    let head = client::send(proxy.http, request("HEAD", "192.0.2.1", "/healthz", "")).await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(origin.seen().len(), 0);
    for host in ["a.example", "x.b.example"] {
        assert_eq!(ask(&proxy, host, "/healthz").await, (200, "web".to_owned()), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_without_host_hides_it_by_that_path_alone() {
    let origin = Origin::start("web").await;
    let service = service("web", &[origin.address]);
    let proxy = serve(&(service.clone() + &ingress("web", "", "/", "web", &[]))).await.unwrap();
    assert_eq!(ask(&proxy, "192.0.2.1", "/healthz").await, (200, String::new()));
    assert_eq!(ask(&proxy, "192.0.2.1", "/x").await, (200, "web".to_owned()));
    let proxy = serve(&(service + &ingress("web", "", "/healthz", "web", &[]))).await.unwrap();
    assert_eq!(ask(&proxy, "192.0.2.1", "/healthz").await, (200, "web".to_owned()));
}
