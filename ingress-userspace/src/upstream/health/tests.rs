use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

/// An endpoint that answers with the status of the moment.
async fn endpoint(status: u16) -> (SocketAddr, watch::Sender<u16>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (set, status) = watch::channel(status);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut room = [0; 1024];
            let count = stream.read(&mut room).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&room[..count]).into_owned();
            let status =
                if head.starts_with("GET /healthz?a=b HTTP/1.1\r\n") { *status.borrow() } else { 400 };
            let _ = stream
                .write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .await;
        }
    });
    (address, set)
}

fn backend() -> BackendId {
    BackendId { namespace: "ns".into(), service: "web".into(), port: "80".into() }
}

fn checked(endpoints: &[SocketAddr], path: &str, transport: &Arc<Transport>) -> Checked {
    let plan = Plan {
        question: Question::Get(path.into()),
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        transport: Arc::clone(transport),
    };
    Checked { backend: backend(), plan, endpoints: endpoints.to_vec() }
}

#[tokio::test]
async fn an_endpoint_changes_sides_after_as_many_checks_as_configured() {
    let transport = Arc::new(Transport::plain());
    let (address, status) = endpoint(204).await;
    let mut monitor = Monitor::default();
    let plan = [checked(&[address], "/healthz?a=b", &transport)];
    monitor.update(&plan);
    for (given, is_healthy) in [(500, false), (302, true), (404, false)] {
        status.send_replace(given);
        let failed = monitor.counts.failed.load(Ordering::Relaxed);
        // An update that changes nothing disturbs nothing.
        monitor.update(&plan);
        assert_eq!(monitor.changed().await, Verdict { backend: backend(), endpoint: address, is_healthy });
        let failed = monitor.counts.failed.load(Ordering::Relaxed) - failed;
        assert!(is_healthy || failed >= 3, "{failed}");
    }
    // Another path: what is known of the endpoint is kept, and it comes back by the new checks.
    status.send_replace(200);
    monitor.update(&[checked(&[address], "/elsewhere", &transport)]);
    assert!(timeout(Duration::from_millis(200), monitor.changed()).await.is_err(), "400 is still a failure");
    monitor.update(&plan);
    assert!(monitor.changed().await.is_healthy);
}

#[tokio::test]
async fn silence_refusal_and_noise_are_failures() {
    let transport = Arc::new(Transport::plain());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let noisy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let noise = noisy.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = noisy.accept().await {
            let _ = stream.write_all(b"220 mail.example.com\r\n\r\n").await;
        }
    });
    let mut of = checked(&[silent.local_addr().unwrap(), refused, noise], "/", &transport);
    of.plan.timeout = Duration::from_millis(50);
    let mut monitor = Monitor::default();
    monitor.update(&[of]);
    for _ in 0..3 {
        assert!(!monitor.changed().await.is_healthy);
    }
    monitor.update(&[]);
    assert!(monitor.running.is_empty());
}
