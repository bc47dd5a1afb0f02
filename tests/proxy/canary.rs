//! Canary Ingresses: which requests they take, and what logs and metrics say of it.

use ingress_tests::client::{self, Answer};
use ingress_tests::manifests::{ingress, model, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;

const HOST: &str = "a.example.com";

fn pair(stable: &Origin, new: &Origin, main: &[(&str, &str)], canary: &[(&str, &str)]) -> String {
    let mut rules = vec![("canary", "true")];
    rules.extend(canary);
    [
        service("stable", &[stable.address]),
        service("new", &[new.address]),
        ingress("web", HOST, "/", "stable", main),
        ingress("web-canary", HOST, "/", "new", &rules),
    ]
    .concat()
}

async fn ask(proxy: &Instance, headers: &[(&str, &str)]) -> Answer {
    let mut request = client::get(HOST, "/");
    for (name, value) in headers {
        request.headers_mut().append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_str(value).unwrap(),
        );
    }
    client::send(proxy.http, request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_goes_before_the_cookie_and_the_cookie_before_the_weight() {
    let (stable, new) = (Origin::start("stable").await, Origin::start("new").await);
    let all = [("canary-by-header", "X-Canary"), ("canary-by-cookie", "canary"), ("canary-weight", "100")];
    let proxy = serve(&pair(&stable, &new, &[], &all)).await.unwrap();
    for (headers, expected) in [
        (&[][..], "new"),
        (&[("x-canary", "never")], "stable"),
        (&[("x-canary", "never"), ("cookie", "canary=always")], "stable"),
        (&[("x-canary", "maybe"), ("cookie", "canary=never")], "stable"),
        (&[("x-canary", "always"), ("cookie", "canary=never")], "new"),
        (&[("cookie", "a=b; canary=never")], "stable"),
        (&[("cookie", "canary=perhaps")], "new"),
    ] {
        assert_eq!(ask(&proxy, headers).await.text(), expected, "{headers:?}");
    }
    let lines = proxy.log_lines("[default-stable-80] [default-new-80]", 3).await.unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let page = proxy.state.registry.render().await;
    let series = page.lines().find(|line| line.contains(r#"canary="default-new-80""#)).unwrap();
    assert!(series.contains(r#"service="stable""#), "{series}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_value_or_pattern_stands_for_always() {
    let (stable, new) = (Origin::start("stable").await, Origin::start("new").await);
    let value = [("canary-by-header", "Region"), ("canary-by-header-value", "north"), ("canary-weight", "0")];
    let proxy = serve(&pair(&stable, &new, &[], &value)).await.unwrap();
    for (region, expected) in
        [("north", "new"), ("always", "stable"), ("North", "stable"), ("north-1", "stable")]
    {
        assert_eq!(ask(&proxy, &[("region", region)]).await.text(), expected, "{region}");
    }
    let pattern = [("canary-by-header", "Region"), ("canary-by-header-pattern", "^(north|east)-[0-9]+$")];
    let proxy = serve(&pair(&stable, &new, &[], &pattern)).await.unwrap();
    for (region, expected) in
        [("north-1", "new"), ("east-22", "new"), ("always", "stable"), ("west-1", "stable")]
    {
        assert_eq!(ask(&proxy, &[("region", region)]).await.text(), expected, "{region}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_weight_is_a_share_of_the_requests() {
    let (stable, new) = (Origin::start("stable").await, Origin::start("new").await);
    let proxy = serve(&pair(&stable, &new, &[], &[("canary-weight", "50"), ("canary-weight-total", "200")]))
        .await
        .unwrap();
    let mut connection = client::Http1::open(proxy.http).await.unwrap();
    for _ in 0..400 {
        connection.send(client::get(HOST, "/")).await.unwrap();
    }
    let share = new.seen().len();
    assert!((60..=140).contains(&share), "{share} of 400");
    assert_eq!(share + stable.seen().len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_without_endpoints_takes_nothing() {
    let stable = Origin::start("stable").await;
    let new = Origin::start("new").await;
    let rules = [("canary-by-header", "X-Canary"), ("canary-weight", "100")];
    let with = |ready: bool| {
        let mut model = model(&pair(&stable, &new, &[], &rules)).unwrap();
        if !ready {
            model
                .backends
                .iter_mut()
                .filter(|(id, _)| id.service == "new")
                .for_each(|(_, b)| b.endpoints.clear());
        }
        model
    };
    let mut proxy = Instance::start(with(false)).await.unwrap();
    assert_eq!(ask(&proxy, &[("x-canary", "always")]).await.text(), "stable");
    proxy.publish(with(true)).await.unwrap();
    assert_eq!(ask(&proxy, &[("x-canary", "always")]).await.text(), "new");
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_stay_on_their_side_unless_that_is_not_wanted() {
    let (stable, new) = (Origin::start("stable").await, Origin::start("new").await);
    let main = [("affinity", "cookie")];
    let rules = [("canary-by-header", "X-Canary"), ("canary-weight", "0")];
    let proxy = serve(&pair(&stable, &new, &main, &rules)).await.unwrap();
    let of_new = cookie(&ask(&proxy, &[("x-canary", "always")]).await);
    let of_stable = cookie(&ask(&proxy, &[("x-canary", "never")]).await);
    for header in ["always", "never", "other"] {
        let answer = ask(&proxy, &[("x-canary", header), ("cookie", &of_new)]).await;
        assert_eq!((answer.text().as_str(), answer.header("set-cookie")), ("new", None), "{header}");
        let answer = ask(&proxy, &[("x-canary", header), ("cookie", &of_stable)]).await;
        assert_eq!((answer.text().as_str(), answer.header("set-cookie")), ("stable", None), "{header}");
    }
    let legacy = [("canary-by-header", "X-Canary"), ("affinity-canary-behavior", "legacy")];
    let proxy = serve(&pair(&stable, &new, &main, &legacy)).await.unwrap();
    for (header, expected) in [("always", "new"), ("never", "stable")] {
        assert_eq!(ask(&proxy, &[("x-canary", header), ("cookie", &of_stable)]).await.text(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_named_with_underscores_is_the_one_with_hyphens() {
    let (stable, new) = (Origin::start("stable").await, Origin::start("new").await);
    let proxy = serve(&pair(&stable, &new, &[], &[("canary-by-header", "X_Canary")])).await.unwrap();
    assert_eq!(ask(&proxy, &[("x-canary", "always")]).await.text(), "new");
    assert_eq!(ask(&proxy, &[("x_canary", "always")]).await.text(), "stable", "dropped at the gate");
}
