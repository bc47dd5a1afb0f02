//! Limits that nodes share through a Redis.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_tests::client::{self, Http1};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use ingress_tests::redis::Redis;
use ingress_tests::secure::Authority;

/// `hunter2`.
const SECRET: &str =
    "---\napiVersion: v1\nkind: Secret\nmetadata: {name: redis}\ndata: {password: aHVudGVyMg==}\n";

fn yaml(origin: &Origin, redis: &Redis, secret: &str) -> String {
    yaml_with(origin, redis, secret, &[])
}

fn yaml_with(origin: &Origin, redis: &Redis, secret: &str, further: &[(&str, &str)]) -> String {
    let hourly =
        [("portcullis.dev/rate-limit", "10/1h"), ("portcullis.dev/rate-limit-key", "header:x-client")];
    let settings = [
        ("rate-limit-redis-address", redis.address.to_string()),
        ("rate-limit-redis-secret", "default/redis".to_owned()),
        ("rate-limit-redis-database", "2".to_owned()),
    ];
    let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
    let settings: Vec<(&str, &str)> = settings.chain(further.iter().copied()).collect();
    [
        manifests::service("web", &[origin.address]),
        manifests::ingress("hourly", "hourly", "/", "web", &hourly),
        manifests::ingress(
            "fast",
            "fast",
            "/",
            "web",
            &[("limit-rps", "20"), ("limit-burst-multiplier", "1")],
        ),
        manifests::settings(&settings),
        secret.to_owned(),
    ]
    .concat()
}

async fn get(connection: &mut Http1, host: &str, client: &str) -> u16 {
    let mut request = client::get(host, "/");
    request.headers_mut().insert("x-client", client.parse().unwrap());
    connection.send(request).await.unwrap().status
}

async fn admitted(connection: &mut Http1, client: &str, count: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..count {
        admitted += usize::from(get(connection, "hourly", client).await == 200);
    }
    admitted
}

/// Waits until the proxy says whether it shares.
async fn shares(proxy: &Instance, expected: f64) {
    let deadline = Instant::now() + client::PATIENCE;
    while (proxy.metric("portcullis_shared_limits_up").await - expected).abs() > 0.1 {
        assert!(Instant::now() < deadline, "shared limits did not become {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many requests a node lets through until it hears that the limit is used up, and how long that takes.
async fn until_refused(connection: &mut Http1, client: &str) -> (usize, Duration) {
    let started = Instant::now();
    for count in 0..10 {
        if get(connection, "hourly", client).await != 200 {
            return (count, started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    panic!("it used up a limit of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_a_limit_and_go_on_alone_without_the_redis() {
    let origin = Origin::start("web").await;
    let mut redis = Redis::start().await.unwrap();
    let manifests = yaml(&origin, &redis, SECRET);
    let first = manifests::serve(&manifests).await.unwrap();
    let second = manifests::serve(&manifests).await.unwrap();
    let mut one = Http1::open(first.http).await.unwrap();
    let mut two = Http1::open(second.http).await.unwrap();

    assert_eq!(admitted(&mut one, "a", 12).await, 10, "answered at once, by what this node knows");
    let (count, time) = until_refused(&mut two, "a").await;
    assert!(count <= 6 && time < Duration::from_secs(2), "{count} more in {time:?}");
    assert_eq!(admitted(&mut two, "b", 3).await, 3, "other clients have limits of their own");
    for proxy in [&first, &second] {
        shares(proxy, 1.0).await;
    }

    redis.stop();
    // The limits of this node hold, and no request waits for anything.
    let started = Instant::now();
    assert_eq!(admitted(&mut one, "c", 12).await, 10);
    assert_eq!(admitted(&mut two, "c", 12).await, 10);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    shares(&first, 0.0).await;
    shares(&second, 0.0).await;

    let _redis = Redis::start_at(redis.address).await.unwrap();
    // What makes them look for it again.
    let deadline = Instant::now() + client::PATIENCE;
    while first.metric("portcullis_shared_limits_up").await < 0.5
        || second.metric("portcullis_shared_limits_up").await < 0.5
    {
        get(&mut one, "fast", "d").await;
        get(&mut two, "fast", "d").await;
        assert!(Instant::now() < deadline, "the Redis is back and nobody noticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(admitted(&mut one, "e", 12).await, 10);
    let (count, time) = until_refused(&mut two, "e").await;
    assert!(count <= 6 && time < Duration::from_secs(2), "{count} more in {time:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn together_they_keep_to_the_average() {
    let origin = Origin::start("web").await;
    let redis = Redis::start().await.unwrap();
    let manifests = yaml(&origin, &redis, SECRET);
    let first = manifests::serve(&manifests).await.unwrap();
    let second = manifests::serve(&manifests).await.unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    let flood = |address| async move {
        let mut connection = Http1::open(address).await.unwrap();
        let mut admitted = 0_u32;
        while Instant::now() < until {
            admitted += u32::from(get(&mut connection, "fast", "x").await == 200);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        admitted
    };
    let (one, two) = tokio::join!(flood(first.http), flood(second.http));
    // 20 a second and 20 at once would be 100; each alone would let them through.
    assert!((70..=140).contains(&(one + two)), "{one} + {two}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_leaves_each_node_its_own_limits() {
    let origin = Origin::start("web").await;
    let redis = Redis::start().await.unwrap();
    let wrong = SECRET.replace("aHVudGVyMg==", "d3Jvbmc=");
    let proxy = manifests::serve(&yaml(&origin, &redis, &wrong)).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    assert_eq!(admitted(&mut connection, "a", 12).await, 10);
    shares(&proxy, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_redis_must_show_a_certificate_of_the_authorities_that_are_given() {
    let origin = Origin::start("web").await;
    let authority = Authority::new();
    let redis = Redis::start_tls(&authority.sign("127.0.0.1")).await.unwrap();
    let tls = [("rate-limit-redis-tls", "true")];
    let with = |authority: &Authority| {
        let authorities = format!("\ndata: {{ca.crt: {}, ", STANDARD.encode(authority.pem()));
        let secret = SECRET.replace("\ndata: {", &authorities);
        yaml_with(&origin, &redis, &secret, &tls)
    };
    let first = manifests::serve(&with(&authority)).await.unwrap();
    let second = manifests::serve(&with(&authority)).await.unwrap();
    let mut one = Http1::open(first.http).await.unwrap();
    let mut two = Http1::open(second.http).await.unwrap();
    assert_eq!(admitted(&mut one, "a", 12).await, 10);
    let (count, time) = until_refused(&mut two, "a").await;
    assert!(count <= 8, "{count} more in {time:?}");
    shares(&first, 1.0).await;

    for (who, manifests) in [
        ("another authority", with(&Authority::new())),
        ("no authority: that of the system", yaml_with(&origin, &redis, SECRET, &tls)),
        ("cleartext", yaml(&origin, &redis, SECRET)),
    ] {
        let alone = manifests::serve(&manifests).await.unwrap();
        let mut connection = Http1::open(alone.http).await.unwrap();
        assert_eq!(admitted(&mut connection, "b", 12).await, 10, "{who}");
        shares(&alone, 0.0).await;
    }
}
