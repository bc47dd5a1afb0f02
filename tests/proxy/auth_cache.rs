//! Verdicts of an authentication service that are kept: for whom, and which never are.

use ingress_tests::client;
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::responder::oauth2_proxy;

use crate::auth_external::{HOST, ask};

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_kept_by_key_and_credentials() {
    let (origin, oauth2) = (Origin::start("web").await, oauth2_proxy().await);
    let url = format!("http://{}/oauth2/auth", oauth2.address);
    let annotations = [
        ("auth-url", &*url),
        ("auth-cache-key", "$remote_user$http_authorization"),
        ("auth-cache-duration", "200 202 30m, 401 1m"),
        ("auth-response-headers", "X-Auth-Request-User"),
    ];
    let cookie_key = [
        ("auth-url", &*url),
        ("auth-cache-key", "$cookie__oauth2_proxy"),
        ("auth-response-headers", "X-Auth-Request-User"),
    ];
    let yaml = [
        service("web", &[origin.address]),
        ingress("app", HOST, "/", "web", &annotations),
        ingress("other", HOST, "/other", "web", &annotations),
        ingress("cookie", "cookie.example.com", "/", "web", &cookie_key),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    let asked = || oauth2.seen().len();
    let bob = [("authorization", "Bearer bob")];
    for _ in 0..5 {
        assert_eq!(ask(&proxy, "/", &bob).await.status, 200);
        assert_eq!(origin.last().header("x-auth-request-user").as_deref(), Some("bob"));
    }
    assert_eq!(asked(), 1, "kept, also for the other worker");
    assert_eq!(ask(&proxy, "/", &[]).await.status, 401);
    assert_eq!(ask(&proxy, "/", &[]).await.header("www-authenticate"), Some("Bearer realm=\"test\""));
    assert_eq!(asked(), 2, "refusals are kept as well");
    // The key says nothing of cookies, yet nobody becomes bob, or somebody else.
    for (count, user) in [(3, "ann"), (4, "eve")] {
        let cookie = format!("_oauth2_proxy={user}");
        for _ in 0..2 {
            assert_eq!(ask(&proxy, "/", &[("cookie", &cookie)]).await.status, 200);
            assert_eq!(origin.last().header("x-auth-request-user").as_deref(), Some(user));
        }
        assert_eq!(asked(), count);
    }
    ask(&proxy, "/other", &bob).await;
    assert_eq!(asked(), 5, "another location has verdicts of its own");
    client::send(proxy.http, {
        let mut posted = client::request("POST", HOST, "/", "");
        posted.headers_mut().insert("authorization", "Bearer bob".parse().unwrap());
        posted
    })
    .await
    .unwrap();
    assert_eq!(asked(), 6, "and so has another method");
    // Neither errors nor answers with cookies are kept.
    for (user, status) in [("broken", 500), ("fresh", 200), ("banned", 403)] {
        let bearer = format!("Bearer {user}");
        let before = asked();
        for _ in 0..2 {
            assert_eq!(ask(&proxy, "/", &[("authorization", &bearer)]).await.status, status);
        }
        assert_eq!(asked(), before + 2, "{user}");
    }
    // A key that names the session's cookie does not mind others.
    let before = asked();
    for other in ["a=1", "a=2"] {
        let mut request = client::get("cookie.example.com", "/");
        request.headers_mut().insert("cookie", format!("{other}; _oauth2_proxy=ann").parse().unwrap());
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
    }
    assert_eq!(asked(), before + 1);
    for user in ["ann", "eve"] {
        let mut request = client::get("cookie.example.com", "/");
        request.headers_mut().insert("authorization", format!("Bearer {user}").parse().unwrap());
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
        assert_eq!(origin.last().header("x-auth-request-user").as_deref(), Some(user));
    }
}
