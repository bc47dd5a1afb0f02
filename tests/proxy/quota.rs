//! `portcullis.dev/rate-limit`: any time, any key, and what clients are told.

use ingress_tests::client::{self, Answer, Http1, Http2};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

async fn serve(origin: &Origin, annotations: &[(&str, &str)]) -> Instance {
    let own: Vec<(String, &str)> =
        annotations.iter().map(|(key, value)| (format!("portcullis.dev/{key}"), *value)).collect();
    let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let yaml =
        [manifests::service("web", &[origin.address]), manifests::ingress("web", "a", "/", "web", &own)];
    manifests::serve(&yaml.concat()).await.unwrap()
}

async fn get(connection: &mut Http1, path: &str, header: (&'static str, &str)) -> Answer {
    let mut request = client::get("a", path);
    request.headers_mut().insert(header.0, header.1.parse().unwrap());
    connection.send(request).await.unwrap()
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_how_they_stand_on_every_answer() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("rate-limit", "3/1h"), ("rate-limit-headers", "true")]).await;
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    for left in [2, 1, 0] {
        let answer = h2.send(client::get("a", "/")).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!((number(&answer, "ratelimit-limit"), number(&answer, "ratelimit-remaining")), (3, left));
        assert_eq!(answer.header("retry-after"), None);
    }
    let refused = client::fetch(proxy.http, "a", "/").await.unwrap();
    assert_eq!((refused.status, number(&refused, "ratelimit-remaining")), (429, 0));
    // One comes back every 20 minutes, all of them within an hour.
    assert!((1190..=1200).contains(&number(&refused, "retry-after")), "{refused:?}");
    assert!((3590..=3600).contains(&number(&refused, "ratelimit-reset")), "{refused:?}");
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_and_status_are_as_annotated_and_nothing_is_told_without_asking() {
    let origin = Origin::start("web").await;
    let limits = [("rate-limit", "1000/1d,100/1h"), ("rate-limit-burst", "2"), ("rate-limit-status", "503")];
    let proxy = serve(&origin, &limits).await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for status in [200, 200, 503] {
        let answer = get(&mut connection, "/", ("x", "y")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("ratelimit-limit"), None);
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_a_combination_and_falls_back_to_the_address() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("rate-limit", "1/1h"), ("rate-limit-key", "header:X-Api-Key+path")]).await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for (path, key, status) in [
        ("/a", "one", 200),
        ("/b", "one", 200),
        ("/a", "two", 200),
        ("/a", "one", 429),
        ("/a?q=1", "two", 429),
        ("/a", "", 200),
        ("/a", "", 429),
    ] {
        assert_eq!(get(&mut connection, path, ("x-api-key", key)).await.status, status, "{path} {key}");
    }
    let proxy = serve(&origin, &[("rate-limit", "1/1h"), ("rate-limit-key", "cookie:id")]).await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for (cookie, status) in [("id=1; b=2", 200), ("b=2; id=1", 429), ("id=2", 200)] {
        assert_eq!(get(&mut connection, "/", ("cookie", cookie)).await.status, status, "{cookie}");
    }
}
