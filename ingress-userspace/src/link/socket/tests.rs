//! Over a real unix socket in a folder of its own.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::super::messages::{HandedSocket, ListenPlan, ProxyReport, SocketAbout};
use super::super::{FromProxy, ProxyId};
use super::*;
use crate::model::Model;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-link-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hello(pid: u32) -> Hello {
    Hello { pid, workers: 1, build: "test".into() }
}

async fn event(agent: &mut AgentEnd) -> FromProxy {
    tokio::time::timeout(Duration::from_secs(10), agent.next())
        .await
        .expect("an event in time")
        .expect("open")
}

async fn joined(agent: &mut AgentEnd, pid: u32) -> ProxyId {
    let FromProxy::Joined(id) = event(agent).await else { panic!("expected a proxy to join") };
    match event(agent).await {
        FromProxy::Said(said, ToAgent::Hello(h)) if said == id => assert_eq!(h, hello(pid)),
        other => panic!("expected Hello, got {other:?}"),
    }
    id
}

async fn message(proxy: &mut ProxyEnd) -> ToProxy {
    tokio::time::timeout(Duration::from_secs(10), proxy.recv())
        .await
        .expect("a message in time")
        .expect("open")
}

fn plan() -> ListenPlan {
    ListenPlan::Handover { group_ports: vec![] }
}

#[tokio::test]
async fn models_go_down_and_three_hundred_sockets_come_up() {
    let folder = Folder::new("sockets");
    let (mut agent, server) = bind(&folder.socket()).unwrap();
    let (mut proxy, client) = connect(&folder.socket(), hello(1));
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.run(stop.clone()));
    let client = tokio::spawn(client.run(stop.clone()));

    let id = joined(&mut agent, 1).await;
    agent.send(id, ToProxy::Listen(plan()));
    agent.send(id, ToProxy::Model { version: 3, model: Arc::new(Model::default()) });
    assert!(matches!(message(&mut proxy).await, ToProxy::Listen(p) if p == plan()));
    assert!(matches!(message(&mut proxy).await, ToProxy::Model { version: 3, .. }));

    let sockets: Vec<HandedSocket> = (0..300)
        .map(|worker| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let bound = socket.local_addr().unwrap();
            let about = SocketAbout { listener: "http".into(), worker, bound, is_udp: false };
            HandedSocket { about, socket: socket.into() }
        })
        .collect();
    let bound: Vec<SocketAddr> = sockets.iter().map(|s| s.about.bound).collect();
    proxy.send(ToAgent::Sockets(sockets)).await;
    proxy.send(ToAgent::Report(ProxyReport { version: 3, refused: vec!["x".into()] })).await;
    let FromProxy::Said(_, ToAgent::Sockets(got)) = event(&mut agent).await else {
        panic!("expected sockets")
    };
    assert_eq!(got.iter().map(|s| s.about.bound).collect::<Vec<_>>(), bound);
    for handed in got {
        let socket = TcpListener::from(handed.socket);
        assert_eq!(
            socket.local_addr().unwrap(),
            handed.about.bound,
            "the descriptor is the socket it claims to be"
        );
    }
    assert!(matches!(event(&mut agent).await, FromProxy::Said(_, ToAgent::Report(r)) if r.refused == ["x"]));

    drop(proxy);
    assert!(matches!(event(&mut agent).await, FromProxy::Left(left) if left == id));
    stop.cancel();
    server.await.unwrap();
    client.await.unwrap();
    assert!(!folder.socket().exists(), "the socket file goes with the agent");
}

#[tokio::test]
async fn a_proxy_finds_the_restarted_agent_and_is_asked_again_for_its_sockets() {
    let folder = Folder::new("restart");
    let (mut proxy, client) = connect(&folder.socket(), hello(1));
    let client_stop = CancellationToken::new();
    let client = tokio::spawn(client.run(client_stop.clone()));
    for _ in 0..2 {
        let (mut agent, server) = bind(&folder.socket()).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(stop.clone()));
        let id = joined(&mut agent, 1).await;
        agent.send(id, ToProxy::Listen(plan()));
        assert!(matches!(message(&mut proxy).await, ToProxy::Listen(_)));
        stop.cancel();
        server.await.unwrap();
    }
    client_stop.cancel();
    client.await.unwrap();
}

#[tokio::test]
async fn two_proxies_side_by_side_and_the_last_word_of_one_that_ends_is_heard() {
    let folder = Folder::new("two");
    let (mut agent, server) = bind(&folder.socket()).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.run(stop.clone()));
    let (old, old_client) = connect(&folder.socket(), hello(1));
    let old_stop = CancellationToken::new();
    let old_client = tokio::spawn(old_client.run(old_stop.clone()));
    let old_id = joined(&mut agent, 1).await;
    let (_new, new_client) = connect(&folder.socket(), hello(2));
    let new_client = tokio::spawn(new_client.run(stop.clone()));
    let new_id = joined(&mut agent, 2).await;
    assert!(new_id > old_id);
    assert_eq!(agent.proxies().collect::<Vec<_>>(), [old_id, new_id]);

    old.send(ToAgent::Draining).await;
    old_stop.cancel();
    assert!(matches!(event(&mut agent).await, FromProxy::Said(id, ToAgent::Draining) if id == old_id));
    assert!(matches!(event(&mut agent).await, FromProxy::Left(id) if id == old_id));
    stop.cancel();
    for task in [server, old_client, new_client] {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_loses_its_connection_and_nothing_else() {
    let folder = Folder::new("rules");
    let (mut agent, server) = bind(&folder.socket()).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(server.run(stop.clone()));
    let frames: [(&str, &[u8]); 5] = [
        ("body larger than the bound", &[255, 255, 255, 255, 0, 0, 0, 0]),
        ("more descriptors than slots", &[1, 0, 0, 0, 255, 255, 0, 0, 0]),
        ("descriptors announced, none sent", &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0]),
        ("not a message", &[2, 0, 0, 0, 0, 0, 0, 0, 0xc1, 0xc1]),
        ("end within a frame", &[9, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for (name, bytes) in frames {
        let mut peer = std::os::unix::net::UnixStream::connect(folder.socket()).unwrap();
        peer.write_all(bytes).unwrap();
        if name.starts_with("end") {
            drop(peer);
        }
        let FromProxy::Joined(id) = event(&mut agent).await else { panic!("{name}: expected joining") };
        assert!(matches!(event(&mut agent).await, FromProxy::Left(left) if left == id), "{name}");
    }
    let (_proxy, client) = connect(&folder.socket(), hello(9));
    let client = tokio::spawn(client.run(stop.clone()));
    joined(&mut agent, 9).await;
    stop.cancel();
    server.await.unwrap();
    client.await.unwrap();
}

#[test]
fn the_socket_file_is_for_owner_and_group_and_a_missing_folder_is_named() {
    let folder = Folder::new("mode");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let (_agent, _server) = bind(&folder.socket()).unwrap();
    let mode = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (_next, _replaces) = bind(&folder.socket()).expect("a socket file that is there is replaced");
    let error = bind(&folder.0.join("missing/agent.sock")).unwrap_err().to_string();
    assert!(error.contains("missing/agent.sock") && error.contains("--link-socket"), "{error}");
}
