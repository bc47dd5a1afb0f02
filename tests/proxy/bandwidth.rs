//! How fast a response goes out.

use std::time::Instant;

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn responses_keep_to_their_bandwidth() {
    let origin = Origin::start("web").await;
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", &[("limit-rate", "100")]),
        manifests::ingress("after", "b", "/", "web", &[("limit-rate", "1"), ("limit-rate-after", "300")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    // A second's worth goes out at once.
    let mut connection = Http1::open(proxy.http).await.unwrap();
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    let (started, path) = (Instant::now(), format!("/bytes/{}", 250 * 1024));
    let answers = tokio::join!(connection.send(client::get("a", &path)), h2.send(client::get("a", &path)));
    let time = started.elapsed().as_millis();
    for answer in [answers.0, answers.1] {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 250 * 1024));
        assert_eq!(answer.header("content-length"), Some("256000"));
    }
    assert!((1400..4000).contains(&time), "{time} ms");
    // What is below `limit-rate-after` goes out as fast as it can.
    let answer = connection.send(client::get("b", &path)).await.unwrap();
    assert_eq!(answer.body.len(), 250 * 1024);
}
