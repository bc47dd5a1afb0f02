//! The Service's own address in place of its pods.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve};
use ingress_tests::origin::Origin;

const HOST: &str = "a.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_address_of_the_service() {
    let (pod, address) = (Origin::start("pod").await, Origin::start("address").await);
    let service = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations: {{portcullis.dev/endpoints: \"{}\"}}\n\
         spec: {{clusterIP: 127.0.0.1, ports: [{{port: {}}}]}}\n",
        pod.address,
        address.address.port()
    );
    let rows = [("service-upstream", "true"), ("affinity", "cookie")];
    let yaml = [ingress("web", HOST, "/", "web", &rows), ingress("pods", HOST, "/pods", "web", &[])].concat();
    let yaml = yaml.replace("number: 80", &format!("number: {}", address.address.port()));
    let proxy = serve(&[service, yaml].concat()).await.unwrap();
    let answer = client::fetch(proxy.http, HOST, "/").await.unwrap();
    assert_eq!((answer.text().as_str(), answer.header("set-cookie")), ("address", None));
    assert_eq!(client::fetch(proxy.http, HOST, "/pods").await.unwrap().text(), "pod");
    let name = format!("[default-web-{}] []", address.address.port());
    assert_eq!(proxy.log_lines(&name, 2).await.unwrap().len(), 2);
}
