//! Which location takes a path, and what the backend sees of it.

use ingress_tests::manifests::{ingress, ingress_with};

use crate::rig::{case, run};

/// The locations that ingress-nginx makes of a path of type Prefix.
fn prefix(path: &str) -> String {
    match path {
        "/" => "location / { @proxy@ }".to_owned(),
        path => format!(
            "location {path}/ {{ @proxy@ }} location = {path} {{ @proxy@ }} location / {{ return 404; }}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn literal_paths() {
    let mut cases = Vec::new();
    for (name, path, targets) in [
        ("root-a.example", "/", &["/", "/x", "/x/y?q=1", "/%20", "/a%2Fb", "/x?"][..]),
        ("prefix-a.example", "/foo", &["/foo", "/foo/", "/foo/x", "/foobar", "/Foo", "/", "/foo?x=/y"]),
        ("prefix-deep.example", "/foo/bar", &["/foo/bar", "/foo/bar/baz", "/foo", "/foo/barbaz"]),
    ] {
        let mut found = case(name).manifests(ingress(&name.replace('.', "-"), name, path, "web", &[]));
        found = found.server(name, &prefix(path));
        for target in targets {
            found = found.get(name, target);
        }
        cases.push(found);
    }
    for (name, path, targets) in [
        ("exact-a.example", "/foo", &["/foo", "/foo/", "/foo/x", "/FOO", "/foo?a=b"][..]),
        ("exact-root.example", "/", &["/", "/x", "/?a=b"]),
    ] {
        let exact = format!("location = {path} {{ @proxy@ }} location / {{ return 404; }}");
        let mut found = case(name)
            .manifests(ingress_with(&name.replace('.', "-"), name, (path, "Exact"), "web", &[]))
            .server(name, &exact);
        for target in targets {
            found = found.get(name, target);
        }
        cases.push(found);
    }
    let literal = "location /lit { @proxy@ } location / { return 404; }";
    cases.push(
        case("implementation specific is a literal prefix")
            .manifests(ingress_with("lit", "lit.example", ("/lit", "ImplementationSpecific"), "web", &[]))
            .server("lit.example", literal)
            .get("lit.example", "/lit")
            .get("lit.example", "/literal")
            .get("lit.example", "/lit/x")
            .get("lit.example", "/li"),
    );
    cases.push(
        case("the longest path wins")
            .manifests(ingress("long-a", "long.example", "/", "web", &[]))
            .manifests(ingress("long-b", "long.example", "/a", "dead", &[]))
            .manifests(ingress("long-c", "long.example", "/a/b", "web", &[]))
            .server(
                "long.example",
                &format!(
                    "{} location /a/ {{ proxy_pass http://dead; }} location = /a {{ proxy_pass http://dead; }} {}",
                    prefix("/"),
                    prefix("/a/b").replace("location / { return 404; }", "")
                ),
            )
            .get("long.example", "/")
            .get("long.example", "/a")
            .get("long.example", "/a/x")
            .get("long.example", "/a/b/c")
            .get("long.example", "/ab"),
    );
    cases.push(
        case("a literal path with a slash redirects the request without it")
            .manifests(ingress_with(
                "slash",
                "slash.example",
                ("/dir/", "ImplementationSpecific"),
                "web",
                &[],
            ))
            .server("slash.example", "location /dir/ { @proxy@ } location / { return 404; }")
            .get("slash.example", "/dir")
            .get("slash.example", "/dir?a=b")
            .get("slash.example", "/dir/")
            .get("slash.example", "/dirx"),
    );
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts() {
    run(vec![
        case("wildcards cover one label")
            .manifests(ingress("wild", "*.wild.example", "/", "web", &[]))
            .manifests(ingress("wild-exact", "a.wild.example", "/only", "web", &[]))
            // nginx's own wildcards cover more labels; ingress-nginx writes this expression.
            .server("~^(?<subdomain>[\\w-]+)\\.wild\\.example$", &prefix("/"))
            .server("a.wild.example", &prefix("/only"))
            .get("b.wild.example", "/x")
            .get("B.WILD.example", "/x")
            .get("a.wild.example", "/only")
            .get("a.wild.example", "/other")
            .get("wild.example", "/x")
            .get("a.b.wild.example", "/x")
            .get("b.wild.example:8080", "/x"),
        case("an unknown host gets 404").get("nobody.example", "/"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regular_expressions() {
    let regex = [("use-regex", "true")];
    let spread = "location ~* \"^/api/v[0-9]+\" { @proxy@ } location ~* \"^/plain\" { @proxy@ }";
    run(vec![
        case("regex paths are case-insensitive and open at the end")
            .manifests(ingress_with("re", "re.example", ("/api/v[0-9]+", "ImplementationSpecific"), "web", &regex))
            .server("re.example", "location ~* \"^/api/v[0-9]+\" { @proxy@ } location / { return 404; }")
            .get("re.example", "/api/v1")
            .get("re.example", "/API/V22/x?y")
            .get("re.example", "/api/vx")
            .get("re.example", "/x/api/v1"),
        case("one regex path turns all paths of the host")
            .manifests(ingress_with("sp-a", "sp.example", ("/api/v[0-9]+", "ImplementationSpecific"), "web", &regex))
            .manifests(ingress_with("sp-b", "sp.example", ("/plain", "Exact"), "web", &[]))
            .server("sp.example", &format!("{spread} location / {{ return 404; }}"))
            .get("sp.example", "/plain")
            .get("sp.example", "/PLAIN")
            .get("sp.example", "/plainer/x")
            .get("sp.example", "/api/v9"),
        case("the longest text comes first")
            .manifests(ingress_with("lo-a", "lo.example", ("/a.*", "ImplementationSpecific"), "dead", &regex))
            .manifests(ingress_with("lo-b", "lo.example", ("/abc.*", "ImplementationSpecific"), "web", &regex))
            .server(
                "lo.example",
                "location ~* \"^/abc.*\" { @proxy@ } location ~* \"^/a.*\" { proxy_pass http://dead; } location / { return 404; }",
            )
            .get("lo.example", "/abcd")
            .get("lo.example", "/abd")
            .get("lo.example", "/b"),
    ])
    .await;
}
