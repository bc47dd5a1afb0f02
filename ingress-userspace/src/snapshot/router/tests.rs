use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::filter::Chain;
use crate::model::policy::Timeouts;
use crate::snapshot::Action;
use crate::snapshot::delivery::Delivery;
use crate::telemetry::labels::RouteLabels;
use crate::upstream::transport::RouteTransport;

fn route(name: &str) -> Arc<Route> {
    let second = Duration::from_secs(1);
    Arc::new(Route {
        chain: Chain::default(),
        action: Action::Respond(StatusCode::OK),
        timeouts: Timeouts { connect: second, send: second, read: second },
        is_logged: true,
        transport: RouteTransport::plain(),
        delivery: Delivery::default(),
        labels: Arc::new(RouteLabels { path: name.to_owned(), ..RouteLabels::default() }),
    })
}

fn host(matchers: Vec<PathMatcher>) -> HostRoutes {
    let mut routes = HostRoutes::default();
    for matcher in matchers {
        let name = format!("{matcher:?}");
        routes.push(matcher, route(&name));
    }
    routes
}

fn regex(text: &str) -> PathMatcher {
    PathMatcher::Regex(regex::bytes::RegexBuilder::new(text).case_insensitive(true).build().unwrap())
}

#[track_caller]
fn check(routes: &HostRoutes, path: &str, expected: &str) {
    let found = routes.route(path.as_bytes()).map_or("none", |route| route.labels.path.as_str());
    assert!(found.starts_with(expected), "{path}: {found}, expected {expected}");
}

#[test]
fn prefixes_end_at_path_elements_and_exact_ones_at_the_end() {
    let routes = host(vec![
        PathMatcher::Exact("/foo".into()),
        PathMatcher::Prefix("/foo/bar".into()),
        PathMatcher::Prefix("/foo".into()),
        PathMatcher::StartsWith("/st".into()),
        PathMatcher::Prefix(String::new()),
    ]);
    check(&routes, "/foo", "Exact(\"/foo\")");
    check(&routes, "/foo/", "Prefix(\"/foo\")");
    check(&routes, "/foo/x", "Prefix(\"/foo\")");
    check(&routes, "/foo/bar/x", "Prefix(\"/foo/bar\")");
    check(&routes, "/foo/barx", "Prefix(\"/foo\")");
    check(&routes, "/foobar", "Prefix(\"\")");
    check(&routes, "/FOO", "Prefix(\"\")");
    check(&routes, "/stuff", "StartsWith(\"/st\")");
    check(&routes, "/", "Prefix(\"\")");
}

#[test]
fn the_order_of_the_model_decides_between_kinds() {
    let routes = host(vec![regex("^/api/v[0-9]+"), PathMatcher::Prefix("/api".into()), regex("^/api/late")]);
    check(&routes, "/API/v2/x", "Regex");
    check(&routes, "/api/v2", "Regex(Regex(\"^/api/v");
    check(&routes, "/api/late", "Prefix");
    check(&routes, "/other", "none");
}

#[test]
fn a_wildcard_covers_one_label_and_never_the_apex() {
    let mut router = Router::default();
    router.exact.insert("a.example.com".into(), Arc::new(host(vec![PathMatcher::Exact("/a".into())])));
    router.wildcard.insert("example.com".into(), Arc::new(host(vec![PathMatcher::Prefix(String::new())])));
    let found = |name: &str| router.route(name, b"/").is_some();
    assert!(found("b.example.com"));
    assert!(!found("example.com"));
    assert!(!found("x.b.example.com"));
    assert!(!found(".example.com"));
    assert!(!found("a.example.com"), "a served host does not fall back to the wildcard");
}
