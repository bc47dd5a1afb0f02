//! Sessions by cookie: they stay with their endpoint, and the cookie says what it should.

use std::collections::BTreeMap;

use ingress_tests::client::{self, Answer, Http1};
use ingress_tests::manifests::{ingress, ingress_with, model, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

const HOST: &str = "a.example.com";

async fn origins() -> Vec<Origin> {
    let mut origins = Vec::new();
    for name in ["one", "two", "three", "four"] {
        origins.push(Origin::start(name).await);
    }
    origins
}

fn manifests(origins: &[Origin], annotations: &[(&str, &str)]) -> String {
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let mut all = vec![("affinity", "cookie")];
    all.extend(annotations);
    [
        service("web", &endpoints),
        ingress("web", HOST, "/", "web", &all),
        ingress("plain", HOST, "/plain", "web", &[]),
    ]
    .concat()
}

async fn ask(proxy: &Instance, cookie: Option<&str>) -> Answer {
    let mut request = client::get(HOST, "/");
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    client::send(proxy.http, request).await.unwrap()
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// Forty sessions and where each is served.
async fn sessions(proxy: &Instance) -> BTreeMap<String, String> {
    let mut sessions = BTreeMap::new();
    for _ in 0..40 {
        let answer = ask(proxy, None).await;
        sessions.insert(cookie(&answer), answer.text());
    }
    sessions
}

/// How many of the sessions are served elsewhere now.
async fn moved(proxy: &Instance, sessions: &BTreeMap<String, String>) -> usize {
    let mut moved = 0;
    for (cookie, served) in sessions {
        moved += usize::from(ask(proxy, Some(cookie)).await.text() != *served);
    }
    moved
}

#[tokio::test(flavor = "multi_thread")]
async fn balanced_sessions_stay_and_some_move_when_endpoints_come() {
    let origins = origins().await;
    let mut proxy = serve(&manifests(&origins[..3], &[])).await.unwrap();
    let all = sessions(&proxy).await;
    assert_eq!(all.len(), 40);
    let names: std::collections::BTreeSet<_> = all.values().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(moved(&proxy, &all).await, 0);
    proxy.publish(model(&manifests(&origins, &[])).unwrap()).await.unwrap();
    let count = moved(&proxy, &all).await;
    assert!((1..=22).contains(&count), "{count} of 40 moved to the fourth");
}

#[tokio::test(flavor = "multi_thread")]
async fn persistent_sessions_stay_until_their_endpoint_is_gone() {
    let origins = origins().await;
    let with = |count: usize| manifests(&origins[..count], &[("affinity-mode", "persistent")]);
    let mut proxy = serve(&with(3)).await.unwrap();
    let mut all = BTreeMap::new();
    for _ in 0..12 {
        let answer = ask(&proxy, None).await;
        all.insert(cookie(&answer), answer.text());
    }
    assert_eq!(all.len(), 3, "one key per endpoint");
    proxy.publish(model(&with(4)).unwrap()).await.unwrap();
    assert_eq!(moved(&proxy, &all).await, 0);
    proxy.publish(model(&with(2)).unwrap()).await.unwrap();
    assert_eq!(moved(&proxy, &all).await, 1);
    let lost = all.iter().find(|(_, served)| *served == "three").unwrap().0;
    let answer = ask(&proxy, Some(lost)).await;
    assert_ne!(cookie(&answer), *lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_opaque_and_only_for_the_paths_that_ask_for_it() {
    let origins = origins().await;
    for mode in ["balanced", "persistent"] {
        let proxy = serve(&manifests(&origins, &[("affinity-mode", mode)])).await.unwrap();
        let answer = ask(&proxy, None).await;
        let line = answer.header("set-cookie").unwrap();
        let value = line.strip_prefix("INGRESSCOOKIE=").unwrap().strip_suffix("; Path=/; HttpOnly").unwrap();
        let (key, backend) = value.split_once('|').unwrap();
        for part in [key, backend] {
            assert!(part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
        }
        let port = origins.iter().map(|origin| origin.address.port().to_string());
        assert!(!port.clone().any(|port| value == port) && !value.contains("127.0.0.1"));
        let plain = client::fetch(proxy.http, HOST, "/plain").await.unwrap();
        assert_eq!(plain.header("set-cookie"), None);
        // A value that we did not make is a session that begins.
        for forged in ["127.0.0.1:1", "|", "x|y", "zzzz|0000000000000000", "a|b|c"] {
            let answer = ask(&proxy, Some(&format!("INGRESSCOOKIE={forged}"))).await;
            assert_eq!(answer.status, 200);
            assert!(answer.header("set-cookie").is_some(), "{forged}");
        }
        let mut tls = Http1::open_tls(proxy.https, HOST).await.unwrap();
        let answer = tls.send(client::get(HOST, "/")).await.unwrap();
        assert!(answer.header("set-cookie").unwrap().ends_with("; Path=/; Secure; HttpOnly"));
        let mut h2 = client::Http2::open(proxy.http).await.unwrap();
        let mut request = client::get(HOST, "/");
        request.headers_mut().insert("cookie", cookie(&answer).parse().unwrap());
        let again = h2.send(request).await.unwrap();
        assert_eq!((again.text(), again.header("set-cookie")), (answer.text(), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attribute_of_the_cookie_can_be_set() {
    let origins = origins().await;
    let rows = [
        ("affinity", "cookie"),
        ("session-cookie-name", "route"),
        ("session-cookie-max-age", "172800"),
        ("session-cookie-expires", "60"),
        ("session-cookie-domain", "example.com"),
        ("session-cookie-samesite", "None"),
        ("session-cookie-conditional-samesite-none", "true"),
        ("session-cookie-secure", "true"),
    ];
    let yaml = [
        service("web", &[origins[0].address]),
        ingress_with("web", HOST, ("/app", "Prefix"), "web", &rows),
        ingress("other", HOST, "/set", "web", &[("affinity", "cookie"), ("session-cookie-path", "/else")]),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let mut request = client::get(HOST, "/app/x");
    let line = client::send(proxy.http, request.clone()).await.unwrap();
    let line = line.header("set-cookie").unwrap();
    assert!(line.starts_with("route=") && line.contains("; Expires="), "{line}");
    assert!(
        line.ends_with(
            " GMT; Max-Age=172800; Domain=example.com; Path=/app; Secure; HttpOnly; SameSite=None"
        ),
        "{line}"
    );
    let old = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) Version/12.1 Safari/604.1";
    request.headers_mut().insert("user-agent", old.parse().unwrap());
    let answer = client::send(proxy.http, request).await.unwrap();
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure; HttpOnly"));
    let answer = client::fetch(proxy.http, HOST, "/set").await.unwrap();
    assert!(answer.header("set-cookie").unwrap().contains("; Path=/else;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_leaves_a_failing_endpoint_only_when_it_may() {
    for (mode, moves) in
        [("persistent", "false"), ("persistent", "true"), ("balanced", "false"), ("balanced", "true")]
    {
        let (bad, spare) = (Origin::start("bad").await, Origin::start("spare").await);
        let rows =
            [("affinity", "cookie"), ("affinity-mode", mode), ("session-cookie-change-on-failure", moves)];
        let yaml =
            [service("web", &[bad.address, spare.address]), ingress("web", HOST, "/", "web", &rows)].concat();
        let proxy = serve(&yaml).await.unwrap();
        let session = loop {
            let answer = ask(&proxy, None).await;
            if answer.text() == "bad" {
                break cookie(&answer);
            }
        };
        drop(bad);
        let answer = ask(&proxy, Some(&session)).await;
        let expected = if moves == "true" { 200 } else { 502 };
        assert_eq!(answer.status, expected, "{mode} {moves}");
        assert_eq!(answer.header("set-cookie").is_some(), moves == "true", "{mode} {moves}");
        // A session that begins goes on to the other endpoint in any case.
        for _ in 0..6 {
            let answer = ask(&proxy, None).await;
            assert_eq!(answer.text(), "spare", "{mode} {moves}");
            assert_eq!(ask(&proxy, Some(&cookie(&answer))).await.text(), "spare");
        }
    }
}
