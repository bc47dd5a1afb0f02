//! Digest authentication as clients do it.

use ingress_tests::client::{self, get};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use md5::{Digest as _, Md5};

use crate::auth_basic::{secret, with_header};

fn md5(text: &str) -> String {
    let hash: [u8; 16] = Md5::digest(text).into();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn protected(origin: &Origin) -> Instance {
    let users = format!("ada:staff:{}\nbob:others:{}\n", md5("ada:staff:secret"), md5("bob:others:secret"));
    let annotations = &[("auth-type", "digest"), ("auth-secret", "users"), ("auth-realm", "staff")];
    let yaml = [
        secret("users", &[("auth", &users)]),
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", annotations),
    ];
    serve(&yaml.concat()).await.unwrap()
}

fn nonce(challenge: &str) -> String {
    challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

fn answer(user: &str, password: &str, nonce: &str, count: u32, uri: &str) -> String {
    let secret = md5(&format!("{user}:staff:{password}"));
    let request = md5(&format!("GET:{uri}"));
    let response = md5(&format!("{secret}:{nonce}:{count:08x}:0a4f113b:auth:{request}"));
    format!(
        "Digest username=\"{user}\", realm=\"staff\", nonce=\"{nonce}\", uri=\"{uri}\", qop=auth, nc={count:08x}, \
         cnonce=\"0a4f113b\", response=\"{response}\""
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_answer_is_let_in_once() {
    let origin = Origin::start("web").await;
    let proxy = protected(&origin).await;
    let challenged = client::fetch(proxy.http, "a.example", "/x?y=1").await.unwrap();
    assert_eq!(challenged.status, 401);
    let challenge = challenged.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Digest algorithm=MD5, qop=\"auth\", realm=\"staff\", nonce=\""),
        "{challenge}"
    );
    let nonce = nonce(challenge);
    let ask = async |target: &str, authorization: &str| {
        let request = with_header(get("a.example", target), "authorization", authorization);
        client::send(proxy.http, request).await.unwrap()
    };
    let right = answer("ada", "secret", &nonce, 1, "/x?y=1");
    assert_eq!(ask("/x?y=1", &right).await.status, 200);
    assert_eq!(origin.last().header("authorization"), None);
    let line = proxy.log_lines(" - ada [", 1).await.unwrap().remove(0);
    assert!(line.starts_with("127.0.0.1 - ada ["), "{line}");
    // The same answer once more is a replay, a greater count is not.
    let replayed = ask("/x?y=1", &right).await;
    assert_eq!(replayed.status, 401);
    assert!(replayed.header("www-authenticate").unwrap().ends_with(", stale=true"));
    assert_eq!(ask("/x?y=1", &answer("ada", "secret", &nonce, 2, "/x?y=1")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_asked_again() {
    let origin = Origin::start("web").await;
    let proxy = protected(&origin).await;
    let challenged = client::fetch(proxy.http, "a.example", "/").await.unwrap();
    let nonce = nonce(challenged.header("www-authenticate").unwrap());
    let good = answer("ada", "secret", &nonce, 1, "/");
    for wrong in [
        answer("ada", "Secret", &nonce, 1, "/"),
        answer("eve", "secret", &nonce, 1, "/"),
        // Of another realm.
        answer("bob", "secret", &nonce, 1, "/"),
        // For another path.
        answer("ada", "secret", &nonce, 1, "/other"),
        good.replace("qop=auth", "qop=auth-int"),
        good.replace("realm=\"staff\"", "realm=\"others\""),
        good.replace("nc=00000001", "nc=1"),
        "Digest".to_owned(),
        "Basic YWRhOnNlY3JldA==".to_owned(),
    ] {
        let request = with_header(get("a.example", "/"), "authorization", &wrong);
        let refused = client::send(proxy.http, request).await.unwrap();
        assert_eq!(refused.status, 401, "{wrong}");
        assert!(!refused.header("www-authenticate").unwrap().contains("stale"), "{wrong}");
    }
    assert!(origin.seen().is_empty());
}
