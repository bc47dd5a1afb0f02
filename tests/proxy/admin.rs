//! Health, metrics and dumps, over the port and over the unix socket.

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, certificate, policies, simple};
use ingress_userspace::admin::{Endpoints, State, bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

async fn ask(path: &std::path::Path, target: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_shows_health_and_the_socket_also_the_model() {
    let origin = Origin::start("web").await;
    let mut model = simple("a.example", policies(), &[origin.address]);
    let id = certificate(&mut model, "secret", "a.example");
    std::sync::Arc::make_mut(&mut model.hosts[0]).certificate = Some(id);
    let proxy = Instance::start(model).await.unwrap();
    let socket = std::env::temp_dir().join(format!("portcullis-admin-{}.sock", std::process::id()));
    let endpoints =
        Endpoints { addresses: vec!["127.0.0.1".parse().unwrap()], port: 0, socket: Some(socket.clone()) };
    let server = bind(&endpoints).unwrap();
    let address = ([127, 0, 0, 1], server.port().unwrap()).into();
    let end = CancellationToken::new();
    let task = tokio::spawn(server.run(proxy.state.clone(), end.clone()));

    for (target, status, text) in [
        ("/healthz", 200, "ok\n"),
        ("/readyz", 200, "ready\n"),
        ("/model", 404, "not found\n"),
        ("/other", 404, "not found\n"),
    ] {
        let answer = client::fetch(address, "a", target).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{target}");
    }
    let metrics = client::fetch(address, "a", "/metrics").await.unwrap();
    assert!(metrics.text().contains("portcullis_model_version 1\n"), "{}", metrics.text());
    let post = client::send(address, client::request("POST", "a", "/readyz", "")).await.unwrap();
    assert_eq!(post.status, 405);

    let model = ask(&socket, "/model").await;
    assert!(model.contains("a.example") && !model.contains("PRIVATE"), "{model}");
    assert!(ask(&socket, "/listeners").await.contains(&format!("http {}\n", proxy.http)));
    assert!(ask(&socket, "/readyz").await.contains("ready"));
    proxy.state.readiness.fails("proxy", "draining");
    let answer = client::fetch(address, "a", "/readyz").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, "proxy: draining\n"));
    end.cancel();
    task.await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_process_without_conditions_is_not_ready() {
    assert_eq!(State::default().readiness.check(), Err("starting\n".into()));
}
