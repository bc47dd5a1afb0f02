use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
const SHOP: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses";

/// Answers by path, in order, the last one again and again; an empty list to what is not named.
type Script = BTreeMap<&'static str, Vec<(u16, Value)>>;

async fn serve(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(Mutex::new(script));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&script)));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    let (status, body) = match script.lock().unwrap().get_mut(path) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        None => (200, list_of("Any", &[], None)),
    };
    let body = body.to_string();
    let text = format!(
        "HTTP/1.1 {status} Any\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
}

fn list_of(kind: &str, names: &[&str], next: Option<&str>) -> Value {
    let items: Vec<Value> =
        names.iter().map(|name| json!({"metadata": {"namespace": "shop", "name": name}})).collect();
    json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {"continue": next.unwrap_or_default()}, "items": items})
}

fn status(code: u16) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": "No", "code": code,
    });
    (code, body)
}

async fn listed(script: Script, namespace: Option<&str>) -> Result<Listed, ListError> {
    let address = serve(script).await;
    ask(address, namespace).await
}

async fn ask(address: SocketAddr, namespace: Option<&str>) -> Result<Listed, ListError> {
    let server = format!("http://{address}/");
    let client = Client::try_from(kube::Config::new(server.parse().unwrap())).unwrap();
    list(&client, &server, &Wanted::default(), namespace).await
}

#[tokio::test]
async fn pages_are_put_together_and_listed_anew_when_they_took_too_long() {
    let pages = vec![
        (200, list_of("Ingress", &["a", "b"], Some("next"))),
        (200, list_of("Ingress", &["c"], Some("later"))),
        status(410),
        (200, list_of("Ingress", &["a", "d"], None)),
    ];
    let found = listed(BTreeMap::from([(INGRESSES, pages)]), None).await.unwrap();
    let names: Vec<&str> = found.cluster.ingresses.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["a", "d"]);
    assert_eq!(found.gaps, []);
}

#[tokio::test]
async fn a_kind_that_may_not_be_listed_is_named_and_the_rest_is_there() {
    let script = BTreeMap::from([
        (INGRESSES, vec![(200, list_of("Ingress", &["a"], None))]),
        ("/api/v1/secrets", vec![status(403)]),
        ("/api/v1/namespaces/shop/secrets", vec![(200, list_of("Secret", &["tls"], None))]),
        ("/apis/networking.k8s.io/v1/ingressclasses", vec![status(403)]),
        ("/apis/portcullis.dev/v1alpha1/edgepolicies", vec![status(404)]),
    ]);
    let found = listed(script, Some("shop")).await.unwrap();
    assert_eq!((found.cluster.ingresses.len(), found.cluster.secrets.len()), (1, 1));
    assert_eq!(found.cluster.problems.len(), 1, "a kind that is not installed");
    let told: Vec<String> = found.gaps.iter().map(|gap| gap.problem().message).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("list IngressClass objects in all namespaces: none are known"), "{told:?}");
    assert!(told[1].contains("only those of namespace shop are known"), "{told:?}");
    assert!(
        told[1].contains("kubectl create clusterrole list-secrets --verb=list --resource=secrets"),
        "{told:?}"
    );
}

#[tokio::test]
async fn without_the_right_to_list_ingresses_there_is_nothing_to_say() {
    let script = BTreeMap::from([(INGRESSES, vec![status(403)]), (SHOP, vec![status(403)])]);
    let error = listed(script, Some("shop")).await.unwrap_err().to_string();
    assert!(error.contains("may not list ingresses.networking.k8s.io in all namespaces"), "{error}");
    assert!(error.contains("--resource=ingresses.networking.k8s.io"), "{error}");
    let script = BTreeMap::from([
        (INGRESSES, vec![status(403)]),
        (SHOP, vec![(200, list_of("Ingress", &["a"], None))]),
    ]);
    let found = listed(script, Some("shop")).await.unwrap();
    assert_eq!(found.cluster.ingresses.len(), 1);
    assert_eq!(found.gaps[0].read.as_deref(), Some("shop"));
}

#[tokio::test]
async fn a_server_that_is_away_or_knows_nobody_is_named() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(gone, None).await.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{gone}/ cannot be reached")), "{error}");
    let error = listed(BTreeMap::from([(INGRESSES, vec![status(401)])]), None).await.unwrap_err().to_string();
    assert!(error.contains("does not know this user (401"), "{error}");
    let error = listed(BTreeMap::from([(INGRESSES, vec![status(500)])]), None).await.unwrap_err().to_string();
    assert!(error.contains("does not list ingresses.networking.k8s.io: 500 no"), "{error}");
}
