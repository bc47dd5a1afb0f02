//! Services of type ExternalName: their names are looked up while they are served.

use std::net::SocketAddr;
use std::time::Duration;

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, route, to};
use ingress_userspace::model::backend::ExternalName;
use ingress_userspace::model::route::PathMatch;

fn external(name: &str, host: &str, target: SocketAddr) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{type: ExternalName, externalName: {host}, ports: [{{port: 80, targetPort: {}}}]}}\n",
        target.port()
    )
}

/// Asks until the name was looked up.
async fn status(proxy: &Instance, host: &str, unwanted: u16) -> u16 {
    for _ in 0..400 {
        let status = client::fetch(proxy.http, host, "/").await.unwrap().status;
        if status != unwanted {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unwanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_its_addresses_and_another_to_others() {
    let origin = Origin::start("named").await;
    let yaml = external("web", "localhost", origin.address)
        + &external("address", "127.0.0.1", origin.address)
        + &external("nowhere", "does-not-exist.invalid", origin.address)
        + &ingress("web", "a.example", "/", "web", &[])
        + &ingress("address", "b.example", "/", "address", &[])
        + &ingress("nowhere", "c.example", "/", "nowhere", &[]);
    let proxy = serve(&yaml).await.unwrap();
    assert_eq!(status(&proxy, "a.example", 503).await, 200);
    assert_eq!(status(&proxy, "b.example", 503).await, 200);
    assert_eq!(client::fetch(proxy.http, "c.example", "/").await.unwrap().status, 503);
    assert_eq!(origin.last().header("host").as_deref(), Some("b.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn local_addresses_are_not_asked_where_they_are_forbidden() {
    let origin = Origin::start("local").await;
    let mut model = model();
    let id = backend(&mut model, "web", &[]);
    let name = ExternalName { host: "localhost".into(), port: origin.address.port() };
    model.backends.get_mut(&id).unwrap().external_name = Some(name);
    route(&mut model, "a.example", PathMatch::Prefix(String::new()), policies(), to(&id));
    let mut proxy = Instance::start(model.clone()).await.unwrap();
    assert_eq!(status(&proxy, "a.example", 503).await, 200);
    // The same name is given up once it leads where it must not.
    model.global.subrequests.forbids_local = true;
    proxy.publish(model).await.unwrap();
    assert_eq!(status(&proxy, "a.example", 200).await, 503);
}
