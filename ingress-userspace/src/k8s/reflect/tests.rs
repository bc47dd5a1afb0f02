use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, JoinSet};

use super::{Access, Pace, Reflectors, Wanted};
use crate::k8s::cluster::{Cluster, ObjectKey};
use crate::problem::Code;

const DEADLINE: Duration = Duration::from_secs(20);
const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
const POOLS: &str = "/apis/portcullis.dev/v1alpha1/addresspools";
const POLICIES: &str = "/apis/portcullis.dev/v1alpha1/edgepolicies";
const SECRETS: &str = "/api/v1/secrets";
const CONFIG_MAPS: &str = "/api/v1/configmaps";
const SECRET_COPIES: &str = "/api/v1/namespaces/synced/secrets";
const CONFIG_MAP_COPIES: &str = "/api/v1/namespaces/synced/configmaps";
const KINDS: [(&str, &str, &str); 10] = [
    (INGRESSES, "networking.k8s.io/v1", "Ingress"),
    ("/apis/networking.k8s.io/v1/ingressclasses", "networking.k8s.io/v1", "IngressClass"),
    ("/api/v1/services", "v1", "Service"),
    ("/apis/discovery.k8s.io/v1/endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
    (SECRETS, "v1", "Secret"),
    (CONFIG_MAPS, "v1", "ConfigMap"),
    (SECRET_COPIES, "v1", "Secret"),
    (CONFIG_MAP_COPIES, "v1", "ConfigMap"),
    (POLICIES, "portcullis.dev/v1alpha1", "EdgePolicy"),
    (POOLS, "portcullis.dev/v1alpha1", "AddressPool"),
];

/// What an API server says: lists by path, and watch events as they are sent.
struct Api {
    lists: Mutex<BTreeMap<&'static str, Answer>>,
    events: broadcast::Sender<(&'static str, Value)>,
}

#[derive(Clone)]
enum Answer {
    Objects(Vec<Value>),
    NotFound,
    Forbidden,
}

impl Api {
    fn new() -> Arc<Self> {
        let lists = KINDS.iter().map(|(path, ..)| (*path, Answer::Objects(Vec::new()))).collect();
        Arc::new(Self { lists: Mutex::new(lists), events: broadcast::channel(16).0 })
    }

    fn set(&self, path: &'static str, answer: Answer) {
        self.lists.lock().unwrap().insert(path, answer);
    }

    /// Serves until aborted; connections end with it.
    async fn serve(self: &Arc<Self>, address: &str) -> (SocketAddr, AbortHandle) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(Arc::clone(&api).answer(stream));
            }
        });
        (address, task.abort_handle())
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, api_version, kind) = *KINDS.iter().find(|(known, ..)| *known == path).unwrap();
        if query.contains("watch=true") {
            return self.watch(stream, path).await;
        }
        let answer = self.lists.lock().unwrap()[path].clone();
        let (status, body) = match answer {
            Answer::Objects(items) => {
                let list = format!("{kind}List");
                (
                    "200 OK",
                    json!({"apiVersion": api_version, "kind": list, "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            Answer::NotFound => ("404 Not Found", status(404, "NotFound")),
            Answer::Forbidden => ("403 Forbidden", status(403, "Forbidden")),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }

    async fn watch(&self, mut stream: TcpStream, path: &str) {
        let mut events = self.events.subscribe();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        while let Ok((of, event)) = events.recv().await {
            if of == path {
                let line = format!("{event}\n");
                let _ = stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await;
            }
        }
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code})
}

fn object(path: &str, name: &str, more: &Value) -> Value {
    let (_, api_version, kind) = KINDS.iter().find(|(known, ..)| *known == path).unwrap();
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
            "managedFields": [{"manager": "kubectl"}]},
    });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn start(address: SocketAddr) -> Reflectors {
    start_with(address, Access::Originals)
}

fn start_with(address: SocketAddr, access: Access) -> Reflectors {
    start_wanted(address, &Wanted { access, ..Wanted::default() })
}

fn start_every(address: SocketAddr, period: Duration) -> Reflectors {
    start_wanted(address, &Wanted { pace: Pace { period }, ..Wanted::default() })
}

fn start_wanted(address: SocketAddr, wanted: &Wanted) -> Reflectors {
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    Reflectors::start(&kube::Client::try_from(config).unwrap(), wanted)
}

async fn until(reflectors: &Reflectors, what: &str, is: impl Fn(&Cluster) -> bool) -> Cluster {
    let wait = async {
        loop {
            let cluster = reflectors.cluster();
            if reflectors.is_ready() && is(&cluster) {
                return cluster;
            }
            reflectors.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.ingresses.keys().map(|key| key.name.as_str()).collect()
}

#[tokio::test]
async fn lists_and_events_fill_the_stores_without_what_is_never_read() {
    let api = Api::new();
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "a", &json!({}))]));
    let data = json!({"data": {"tls.crt": "eA==", "tls.key": "eQ==", "release": "aHVnZQ==", "ada": "JDIk"}});
    api.set(SECRETS, Answer::Objects(vec![object(SECRETS, "s", &data)]));
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start(address);
    let cluster = until(&reflectors, "the lists", |cluster| names(cluster) == ["a"]).await;
    let secret = &cluster.secrets[&ObjectKey::new("default", "s")];
    let kept: Vec<(&str, &[u8])> =
        secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    assert_eq!(kept, [("ada", &b"$2$"[..]), ("release", b""), ("tls.crt", b"x"), ("tls.key", b"y")]);
    assert!(
        cluster.ingresses.values().all(|ingress| ingress
            .metadata
            .managed_fields
            .as_ref()
            .is_none_or(Vec::is_empty))
    );
    assert_eq!(cluster.problems, []);
    // The watch may open after the list was read: events are sent until one is seen.
    let added = json!({"type": "ADDED", "object": object(INGRESSES, "b", &json!({}))});
    let resend = async {
        loop {
            let _ = api.events.send((INGRESSES, added.clone()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = until(&reflectors, "the event", |cluster| names(cluster) == ["a", "b"]) => {}
        () = resend => {}
    }
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let api = Api::new();
    api.set(POOLS, Answer::NotFound);
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start(address);
    let cluster = until(&reflectors, "ready without pools", |cluster| !cluster.problems.is_empty()).await;
    let found: Vec<_> =
        cluster.problems.iter().map(|problem| (problem.code, problem.value.as_str())).collect();
    assert_eq!(found, [(Code::KindNotInstalled, "addresspools.portcullis.dev")]);
    let spec = json!({"spec": {"blocks": [{"cidr": "198.18.100.0/28"}]}});
    api.set(POOLS, Answer::Objects(vec![object(POOLS, "edge", &spec)]));
    let cluster = until(&reflectors, "the pool", |cluster| cluster.address_pools.len() == 1).await;
    assert_eq!(cluster.problems, []);
}

#[tokio::test]
async fn nothing_is_ready_while_one_kind_cannot_be_listed() {
    let api = Api::new();
    api.set(SECRETS, Answer::Forbidden);
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start(address);
    // All other kinds are listed at once; the refused one keeps everything back.
    let others = async {
        while reflectors.cluster().ingresses.is_empty() {
            reflectors.changed().await;
        }
    };
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "a", &json!({}))]));
    let _ = tokio::time::timeout(Duration::from_secs(1), others).await;
    assert!(!reflectors.is_ready());
    api.set(SECRETS, Answer::Objects(Vec::new()));
    until(&reflectors, "ready", |_| true).await;
}

#[tokio::test]
async fn a_lost_server_leaves_the_last_state_and_a_new_list_replaces_it() {
    let api = Api::new();
    api.set(
        INGRESSES,
        Answer::Objects(vec![object(INGRESSES, "a", &json!({})), object(INGRESSES, "b", &json!({}))]),
    );
    let (address, server) = api.serve("127.0.0.1:0").await;
    let reflectors = start(address);
    until(&reflectors, "the lists", |cluster| names(cluster) == ["a", "b"]).await;
    server.abort();
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    assert_eq!(names(&reflectors.cluster()), ["a", "b"]);
    assert!(reflectors.is_ready());
    // The watches that are opened now are told to list again, as after a compaction.
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "c", &json!({}))]));
    let (_, _) = api.serve(&address.to_string()).await;
    let expired = json!({"type": "ERROR", "object": status(410, "Expired")});
    let resend = async {
        loop {
            let _ = api.events.send((INGRESSES, expired.clone()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = until(&reflectors, "the new list", |cluster| names(cluster) == ["c"]) => {}
        () = resend => {}
    }
}

#[tokio::test]
async fn what_a_silent_watch_missed_is_found_by_the_next_list() {
    let api = Api::new();
    api.set(
        INGRESSES,
        Answer::Objects(vec![object(INGRESSES, "a", &json!({})), object(INGRESSES, "b", &json!({}))]),
    );
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start_every(address, Duration::from_millis(200));
    until(&reflectors, "the lists", |cluster| names(cluster) == ["a", "b"]).await;
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "b", &json!({}))]));
    until(&reflectors, "what is gone", |cluster| names(cluster) == ["b"]).await;
    assert_eq!(reflectors.freshness().stale_for(), None);
}

#[tokio::test]
async fn after_a_break_everything_is_listed_although_the_watch_goes_on() {
    let api = Api::new();
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "lost", &json!({}))]));
    let (address, server) = api.serve("127.0.0.1:0").await;
    let reflectors = start_every(address, Duration::from_secs(10));
    until(&reflectors, "the lists", |cluster| names(cluster) == ["lost"]).await;
    server.abort();
    let freshness = reflectors.freshness();
    let is_stale = async {
        while freshness.stale_for().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_stale).await.expect("the loss is noticed");
    // A restored backup: the watches that are opened now stay silent, for their version is not reached yet.
    api.set(INGRESSES, Answer::Objects(vec![object(INGRESSES, "restored", &json!({}))]));
    let (_, _) = api.serve(&address.to_string()).await;
    until(&reflectors, "the restored state", |cluster| names(cluster) == ["restored"]).await;
    let is_fresh = async {
        while freshness.stale_for().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_fresh).await.expect("every kind is followed again");
}

#[tokio::test]
async fn copies_are_read_as_their_originals_once_all_were_made() {
    let api = Api::new();
    // What is elsewhere may not even be asked for.
    api.set(SECRETS, Answer::Forbidden);
    api.set(CONFIG_MAPS, Answer::Forbidden);
    let of = |name: &str| {
        json!({"metadata": {"name": format!("shop.{name}"), "namespace": "synced", "annotations": {
            "portcullis.dev/source-namespace": "shop", "portcullis.dev/source-name": name}},
            "data": {"tls.crt": "eA=="}})
    };
    api.set(SECRET_COPIES, Answer::Objects(vec![object(SECRET_COPIES, "x", &of("web-tls"))]));
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start_with(address, Access::Copies("synced".to_owned()));
    let waits = async {
        while reflectors.waiting() != ["the mark of the controller that everything was copied"] {
            reflectors.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, waits).await.expect("only the mark is missing");
    let mark = object(CONFIG_MAP_COPIES, "portcullis.synced", &json!({}));
    let added = (CONFIG_MAP_COPIES, json!({"type": "ADDED", "object": mark}));
    while !reflectors.is_ready() {
        // Nobody hears it before the watch began.
        let _ = api.events.send(added.clone());
        let _ = tokio::time::timeout(Duration::from_millis(20), reflectors.changed()).await;
    }
    let cluster = until(&reflectors, "the mark", |_| true).await;
    assert_eq!(cluster.secrets.keys().collect::<Vec<_>>(), [&ObjectKey::new("shop", "web-tls")]);
    assert!(cluster.config_maps.is_empty(), "the mark is no ConfigMap of anybody");
}

#[tokio::test]
async fn a_webhook_never_asks_for_secrets() {
    let api = Api::new();
    api.set(SECRETS, Answer::Forbidden);
    api.set(CONFIG_MAPS, Answer::Forbidden);
    let (address, _) = api.serve("127.0.0.1:0").await;
    let reflectors = start_with(address, Access::WithoutSecrets(None));
    until(&reflectors, "ready", |_| true).await;
}
