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
    cases.push(
        case("implementation specific is a prefix")
            .manifests(ingress_with("lit", "lit.example", ("/lit", "ImplementationSpecific"), "web", &[]))
            .server("lit.example", &prefix("/lit"))
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
            .server(
                "slash.example",
                "location /dir/ { @proxy@ } location = /dir/ { @proxy@ } location / { return 404; }",
            )
            .get("slash.example", "/dir")
            .get("slash.example", "/dir?a=b")
            .get("slash.example", "/dir/")
            .get("slash.example", "/dirx")
            .with("GET", "SLASH.example:8080", "/dir", &[], "")
            .with("POST", "slash.example", "/dir", &[], "body"),
    );
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_hosts_as_clients_write_them() {
    let host = "target.example";
    let mut targets =
        case("targets").manifests(ingress("target", host, "/", "web", &[])).server(host, &prefix("/"));
    for target in [
        "/%zz",
        "/a%2",
        "/%",
        "/%00",
        "/a%00b",
        "/..",
        "/../x",
        "/a/../../b",
        "/a;b=c/d",
        "/a,b",
        "/~u/@x:y",
        "/a%7Eb",
        "/a%3Fb",
        "/a%23b",
        "/%E4%B8%AD",
        "/a?b?c",
        "/a?",
        "/?",
        "/?a=%zz",
        "/a?q=%00",
        "/a+b",
        "/a'b(c)*",
        "/a=b&c",
        "/$x",
        "/a:b",
        "/a?x=[1]&y={2}|3",
        "/a?x=\"1\"",
        "/a?u=http://b/../c//d",
        "/a?q=<s>",
        "/a[1]",
        "/a|b",
        "/a{b}",
        "/a\"b",
        "/a<b>",
        "/a^b`c",
        "/a!b",
        "/%2e%2E%2Fx",
        "/-._~",
    ] {
        targets = targets.get(host, target);
    }
    let mut hosts = case("hosts")
        .manifests(ingress("spelt", "spelt.example", "/", "web", &[]))
        .server("spelt.example", &prefix("/"));
    for host in [
        "SPELT.example",
        "spelt.example.",
        "spelt.example:1",
        "spelt.example:",
        "Spelt.Example.:8080",
        "unspelt.example",
    ] {
        hosts = hosts.get(host, "/x");
    }
    let requests = case("requests")
        .manifests(ingress("form", "form.example", "/", "web", &[]))
        .server("form.example", &prefix("/"))
        .raw("GET http://form.example/x?y HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET http://form.example HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET http://form.example?a HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET /x HTTP/1.1\r\nHost: form.example\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
        .raw("GET /x HTTP/1.0\r\n\r\n")
        .raw("GET /x HTTP/1.1\nHost: form.example\nConnection: close\n\n")
        .raw("\r\nGET /x HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("OPTIONS * HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET x HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET /a b HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("get /x HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("FOO-BAR /x HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("PROPFIND /x HTTP/1.1\r\nHost: form.example\r\nConnection: close\r\n\r\n")
        .raw("GET /x HTTP/1.1\r\nHost: form.example\r\nX-Empty:\r\nX-Pad:   a   \r\nConnection: close\r\n\r\n")
        .raw("GET /x HTTP/1.1\r\nHost: form.example\r\nX.Dot: 1\r\nX!: 2\r\nConnection: close\r\n\r\n")
        .raw("POST /x HTTP/1.1\r\nHost: form.example\r\nContent-Length: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab")
        .raw("POST /x HTTP/1.1\r\nHost: form.example\r\nContent-Length: x\r\nConnection: close\r\n\r\nab")
        .raw("POST /x HTTP/1.1\r\nHost: form.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\nab\r\n0\r\n\r\n");
    run(vec![targets, hosts, requests]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_path_takes_has_the_annotations_of_the_first_ingress() {
    let basic = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: rest}\nstringData:\n  auth: |\n    \
                 user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n";
    let rest = |name: &'static str, annotations: &[(&str, &str)], directives: &str| {
        let host = format!("{name}.example");
        case(name)
            .manifests(ingress(name, &host, "/only", "web", annotations))
            .server(
                &host,
                &format!(
                    "location /only/ {{ {directives} @proxy@ }} location = /only {{ {directives} @proxy@ }}
                     location / {{ {directives} proxy_pass http://nobody; }}"
                ),
            )
            .get(&host, "/only")
            .get(&host, "/other")
            .get(&host, "/")
    };
    run(vec![
        rest("rest-plain", &[], "")
            .http("upstream nobody { server unix:@dir@/nobody; }\nserver { listen unix:@dir@/nobody; return 404; }\n"),
        rest("rest-deny", &[("denylist-source-range", "127.0.0.1")], "deny 127.0.0.1;"),
        rest(
            "rest-auth",
            &[("auth-type", "basic"), ("auth-secret", "rest"), ("auth-realm", "r")],
            "auth_basic r; auth_basic_user_file @dir@/htpasswd; proxy_set_header Authorization \"\";",
        )
        .manifests(basic),
        rest(
            "rest-forced",
            &[("force-ssl-redirect", "true")],
            "if ($request_uri ~ \"^(.*?)/?$\") { return 308 https://$host$1; }",
        ),
        rest("rest-moved", &[("permanent-redirect", "https://new.example")], "return 301 https://new.example;"),
    ])
    .await;
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
