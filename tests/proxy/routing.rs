//! Host and path decide the backend; what none takes gets 404.

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, backend, model, policies, route, simple, to};
use ingress_userspace::model::policy::answer::LocationForm;
use ingress_userspace::model::route::{PathMatch, RouteAction};

#[tokio::test(flavor = "multi_thread")]
async fn host_and_path_choose_the_backend() {
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    let mut model = model();
    let ids = [
        backend(&mut model, "a", &[a.address]),
        backend(&mut model, "b", &[b.address]),
        backend(&mut model, "c", &[c.address]),
    ];
    let prefix = |text: &str| PathMatch::Prefix(text.into());
    route(&mut model, "one.example", PathMatch::Exact("/exact".into()), policies(), to(&ids[1]));
    route(&mut model, "one.example", prefix("/api"), policies(), to(&ids[2]));
    route(&mut model, "one.example", prefix(""), policies(), to(&ids[0]));
    route(&mut model, "*.wild.example", prefix(""), policies(), to(&ids[2]));
    route(&mut model, "two.example", prefix("/only"), policies(), to(&ids[1]));
    let proxy = Instance::start(model).await.unwrap();
    let cases = [
        ("one.example", "/", 200, "a"),
        ("ONE.example.:8080", "/x", 200, "a"),
        ("one.example", "/exact", 200, "b"),
        ("one.example", "/exact/", 200, "a"),
        ("one.example", "/api", 200, "c"),
        ("one.example", "/api/v1", 200, "c"),
        ("one.example", "/apis", 200, "a"),
        ("one.example", "/x/../api/v1", 200, "c"),
        ("one.example", "/%61pi", 200, "c"),
        ("x.wild.example", "/", 200, "c"),
        ("y.x.wild.example", "/", 404, ""),
        ("wild.example", "/", 404, ""),
        ("two.example", "/other", 404, ""),
        ("unknown.example", "/", 404, ""),
    ];
    for (host, path, status, name) in cases {
        let answer = client::fetch(proxy.http, host, path).await.unwrap();
        assert_eq!(answer.status, status, "{host}{path}");
        if status == 200 {
            assert_eq!(answer.text(), name, "{host}{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served_in_clear_and_over_tls() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("web.example", policies(), &[origin.address])).await.unwrap();
    let get = || client::get("web.example", "/");
    assert_eq!(Http1::open(proxy.http).await.unwrap().send(get()).await.unwrap().text(), "web");
    assert_eq!(Http2::open(proxy.http).await.unwrap().send(get()).await.unwrap().text(), "web");
    let mut tls = Http1::open_tls(proxy.https, "web.example").await.unwrap();
    assert_eq!(tls.send(get()).await.unwrap().text(), "web");
    let mut h2 = Http2::open_tls(proxy.https, "web.example").await.unwrap();
    assert_eq!(h2.send(get()).await.unwrap().text(), "web");
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_can_answer_and_redirect_by_itself() {
    let mut model = model();
    let exact = |path: &str| PathMatch::Exact(path.into());
    route(&mut model, "a.example", exact("/gone"), policies(), RouteAction::Respond { status: 410 });
    let redirect = RouteAction::Redirect { status: 301, path: "/dir/".into(), form: LocationForm::Host };
    route(&mut model, "a.example", exact("/dir"), policies(), redirect);
    let proxy = Instance::start(model).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a.example", "/gone").await.unwrap().status, 410);
    let answer = client::fetch(proxy.http, "a.example:81", "/dir?q=1").await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (301, Some("http://a.example/dir/?q=1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_endpoints_are_reused_and_endpoints_take_turns() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let model = simple("web.example", policies(), &[a.address, b.address]);
    let proxy = Instance::start_with(model, |settings| settings.workers = 1).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..20 {
        assert_eq!(connection.send(client::get("web.example", "/")).await.unwrap().status, 200);
    }
    assert_eq!((a.seen().len(), b.seen().len()), (10, 10));
    assert_eq!((a.connections(), b.connections()), (1, 1));
    assert!(proxy.metric("portcullis_upstream_connections_total{result=\"reused\"}").await >= 18.0);
}
