//! When another endpoint is asked: attempts are counted at the backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ingress_tests::client::{self, Answer};
use ingress_tests::manifests::{ingress, serve, service, settings};
use ingress_tests::origin::{Origin, Raw, raw, read_head};
use ingress_tests::proxy::Instance;
use tokio::io::AsyncWriteExt;

const HOST: &str = "a.example.com";

/// A backend that always answers the same, and counts.
async fn always(answer: &'static str) -> (Raw, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let backend = raw(move |mut stream| {
        let count = Arc::clone(&counted);
        async move {
            if !read_head(&mut stream).await.is_empty() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (backend, count)
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";

fn manifests(endpoints: &[std::net::SocketAddr], annotations: &[(&str, &str)]) -> String {
    [service("web", endpoints), ingress("web", HOST, "/", "web", annotations)].concat()
}

async fn ask(proxy: &Instance, method: &str) -> Answer {
    client::send(proxy.http, client::request(method, HOST, "/", "")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_retried_when_they_are_named() {
    let good = Origin::start("good").await;
    let (bad, count) = always(BUSY).await;
    let rows = [("proxy-next-upstream", "error http_503")];
    let proxy = serve(&manifests(&[bad.address, good.address], &rows)).await.unwrap();
    for _ in 0..6 {
        assert_eq!(ask(&proxy, "GET").await.text(), "good");
    }
    assert!(count.load(Ordering::SeqCst) >= 2);
    let lines = proxy.log_lines(&format!("{}, {}", bad.address, good.address), 2).await.unwrap();
    assert!(lines[0].contains(" 503, 200 "), "{lines:?}");
    let proxy = serve(&manifests(&[bad.address, good.address], &[])).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&proxy, "GET").await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_the_last_try_is_passed_on() {
    for (tries, expected) in [("1", 1), ("2", 2), ("3", 3), ("5", 5), ("0", 6)] {
        let (one, first) = always(BUSY).await;
        let (two, second) = always(BUSY).await;
        let rows = [("proxy-next-upstream", "http_503"), ("proxy-next-upstream-tries", tries)];
        let proxy = serve(&manifests(&[one.address, two.address], &rows)).await.unwrap();
        let answer = ask(&proxy, "GET").await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
        let asked = first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst);
        assert_eq!(asked, expected, "{tries} tries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_idempotent_is_retried_only_on_request() {
    for (on, in_config, method, expected) in [
        ("http_503", "false", "POST", 1),
        ("http_503", "false", "PATCH", 1),
        ("http_503", "false", "LOCK", 1),
        ("http_503", "false", "PUT", 3),
        ("http_503", "false", "DELETE", 3),
        ("http_503 non_idempotent", "false", "POST", 3),
        ("http_503", "true", "POST", 3),
        ("off http_503", "true", "GET", 1),
        ("error timeout", "false", "GET", 1),
    ] {
        let (bad, count) = always(BUSY).await;
        let yaml = [
            settings(&[("retry-non-idempotent", in_config)]),
            manifests(&[bad.address], &[("proxy-next-upstream", on)]),
        ];
        let proxy = serve(&yaml.concat()).await.unwrap();
        assert_eq!(ask(&proxy, method).await.status, 503);
        assert_eq!(count.load(Ordering::SeqCst), expected, "{on} {method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_and_silence_have_names_of_their_own() {
    for (answer, on, expected) in [
        ("this is not HTTP\r\n\r\n", "error timeout", 1),
        ("this is not HTTP\r\n\r\n", "invalid_header", 3),
        ("", "error", 3),
        ("", "timeout", 1),
        ("", "off", 1),
    ] {
        let (bad, count) = always(answer).await;
        let proxy = serve(&manifests(&[bad.address], &[("proxy-next-upstream", on)])).await.unwrap();
        assert_eq!(ask(&proxy, "GET").await.status, 502);
        assert_eq!(count.load(Ordering::SeqCst), expected, "{answer:?} {on}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_try_begins_after_the_time_for_tries() {
    let origin = Origin::start("web").await;
    let rows = [
        ("proxy-read-timeout", "1"),
        ("proxy-next-upstream", "timeout"),
        ("proxy-next-upstream-timeout", "1"),
        ("proxy-next-upstream-tries", "9"),
    ];
    let proxy = serve(&manifests(&[origin.address], &rows)).await.unwrap();
    let started = Instant::now();
    let answer = client::fetch(proxy.http, HOST, "/delay/9000").await.unwrap();
    assert_eq!(answer.status, 504);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_have_a_budget() {
    let (bad, count) = always(BUSY).await;
    let rows = [("proxy-next-upstream", "http_503"), ("portcullis.dev/retry-budget", "10")];
    let proxy = serve(&manifests(&[bad.address], &rows)).await.unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&proxy, "GET").await.status, 503);
    }
    // A hundred in reserve, and ten for a hundred requests; two for each would be 200.
    let retries = count.load(Ordering::SeqCst) - 100;
    assert!((100..=111).contains(&retries), "{retries} retries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_read_whole_is_sent_again() {
    let good = Origin::start("good").await;
    for (buffering, expected) in [("on", 200), ("off", 503)] {
        let (bad, count) = always(BUSY).await;
        let rows =
            [("proxy-next-upstream", "http_503 non_idempotent"), ("proxy-request-buffering", buffering)];
        let proxy = serve(&manifests(&[bad.address, good.address], &rows)).await.unwrap();
        let mut statuses = Vec::new();
        for _ in 0..12 {
            let answer = client::send(proxy.http, client::request("POST", HOST, "/", "hello")).await.unwrap();
            statuses.push(answer.status);
        }
        assert!(count.load(Ordering::SeqCst) > 0, "the failing endpoint was asked");
        assert_eq!(statuses.contains(&503), expected == 503, "{buffering} {statuses:?}");
        assert!(good.seen().iter().all(|seen| seen.body == "hello"));
    }
}
