//! Redirects that the proxy answers itself.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run, run_with};

fn redirect(name: &'static str, annotations: &[(&str, &str)], directive: &str, targets: &[&str]) -> Case {
    let host = format!("{name}.example");
    let mut found = case(name)
        .manifests(ingress(name, &host, "/", "web", annotations))
        .server(&host, &format!("location / {{ {directive} @proxy@ }}"));
    for target in targets {
        found = found.get(&host, target);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_and_temporal() {
    let both = [("permanent-redirect", "https://p.example"), ("temporal-redirect", "https://t.example")];
    run(vec![
        redirect(
            "permanent",
            &[("permanent-redirect", "https://www.example.com/a?b=c")],
            "return 301 https://www.example.com/a?b=c;",
            &["/", "/x?y"],
        ),
        redirect(
            "permanent-code",
            &[("permanent-redirect", "https://www.example.com"), ("permanent-redirect-code", "308")],
            "return 308 https://www.example.com;",
            &["/", "/x"],
        ),
        redirect(
            "permanent-bad-code",
            &[("permanent-redirect", "https://www.example.com"), ("permanent-redirect-code", "404")],
            "return 301 https://www.example.com;",
            &["/"],
        ),
        redirect(
            "temporal",
            &[("temporal-redirect", "http://t.example/x")],
            "return 302 http://t.example/x;",
            &["/"],
        ),
        redirect(
            "temporal-code",
            &[("temporal-redirect", "https://t.example"), ("temporal-redirect-code", "307")],
            "return 307 https://t.example;",
            &["/"],
        ),
        redirect(
            "moved-methods",
            &[("permanent-redirect", "https://m.example/x")],
            "return 301 https://m.example/x;",
            &["/"],
        )
        .with("POST", "moved-methods.example", "/", &[], "body")
        .with("HEAD", "moved-methods.example", "/", &[], "")
        .with("OPTIONS", "moved-methods.example", "/", &[], ""),
        redirect(
            "moved-see-other",
            &[("permanent-redirect", "https://m.example"), ("permanent-redirect-code", "303")],
            "return 303 https://m.example;",
            &["/"],
        ),
        redirect("both", &both, "return 302 https://t.example;", &["/"]),
        redirect(
            "temporal-variables",
            &[("temporal-redirect", "https://$host/moved$is_args$args")],
            "return 302 https://$host/moved$is_args$args;",
            &["/", "/a?b=c"],
        ),
        redirect(
            "temporal-bad-code",
            &[("temporal-redirect", "https://t.example"), ("temporal-redirect-code", "308")],
            "return 302 https://t.example;",
            &["/"],
        ),
        redirect(
            "variables",
            &[("permanent-redirect", "https://new.example$request_uri")],
            "return 301 https://new.example$request_uri;",
            &["/", "/a?b=c", "/a%20b"],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_root_and_https() {
    let forced = "return 308 https://$redirect_host$bare_uri;";
    let maps = "map $http_host $redirect_host { ~^(?<bare_host>[^:]+) $bare_host; }
                map $request_uri $bare_uri { ~^(?<bare>.*?)/?$ $bare; }";
    run_with("", maps, vec![
        case("app-root")
            .manifests(ingress("root", "root.example", "/", "web", &[("app-root", "/app1")]))
            .server(
                "root.example",
                "if ($uri = /) { return 302 $scheme://$http_host/app1; } location / { @proxy@ }",
            )
            .get("root.example", "/")
            .get("root.example", "/?a=b")
            .get("root.example", "/app1")
            .get("root.example", "/x"),
        redirect(
            "forced",
            &[("force-ssl-redirect", "true")],
            forced,
            &["/", "/x", "/x/", "/x?y=z", "/a//b", "/x?y=/", "/x/?y", "/a%20b/"],
        )
        .with("GET", "FORCED.example:8080", "/x", &[], "")
        .with("POST", "forced.example", "/x", &[], "body")
        .with("HEAD", "forced.example", "/x", &[], "")
        .with("GET", "forced.example", "/x", &[("X-Forwarded-Proto", "https")], ""),
        redirect(
            "forced-slash",
            &[("force-ssl-redirect", "true"), ("preserve-trailing-slash", "true")],
            "return 308 https://$redirect_host$request_uri;",
            &["/", "/x/", "/x?y=/"],
        ),
        case("app-root beside a redirect")
            .manifests(ingress(
                "start",
                "start.example",
                "/",
                "web",
                &[("app-root", "/app1"), ("permanent-redirect", "https://new.example")],
            ))
            .server(
                "start.example",
                "if ($uri = /) { return 302 $scheme://$http_host/app1; } location / { return 301 https://new.example; @proxy@ }",
            )
            .get("start.example", "/")
            .get("start.example", "//")
            .get("start.example", "/x/..")
            .get("start.example", "/x")
            .with("GET", "START.example:8080", "/", &[], "")
            .with("POST", "start.example", "/", &[], "body")
            .with("HEAD", "start.example", "/", &[], ""),
        case("app-root of another path")
            .manifests(ingress("sub", "sub.example", "/sub", "web", &[("app-root", "/sub/app")]))
            .server(
                "sub.example",
                "if ($uri = /) { return 302 $scheme://$http_host/sub/app; } location /sub/ { @proxy@ } location = /sub { @proxy@ }
                 location / { return 404; }",
            )
            .get("sub.example", "/")
            .get("sub.example", "/sub")
            .get("sub.example", "/x"),
        case("to and from www")
            .manifests(ingress("www", "www.far.example", "/", "web", &[("from-to-www-redirect", "true")]))
            .manifests(ingress("near", "near.example", "/", "web", &[("from-to-www-redirect", "true")]))
            .server("far.example", "return 308 $scheme://www.far.example:$server_port$bare_uri;")
            .server("www.near.example", "return 308 $scheme://near.example:$server_port$bare_uri;")
            .server("www.far.example", "location / { @proxy@ }")
            .server("near.example", "location / { @proxy@ }")
            .get("far.example", "/")
            .get("far.example", "/x/?y=z")
            .get("far.example", "/x/")
            .get("www.far.example", "/x")
            .get("www.near.example", "/x")
            .get("near.example", "/x")
            .with("POST", "far.example", "/x", &[], "body")
            .with("GET", "far.example:8080", "/x?y=z", &[], "")
            .with("GET", "WWW.near.example:8080", "/a%20b/?y=z", &[], "")
            .with("HEAD", "www.near.example", "/x", &[], "")
            .get("far.example", "/x?y=z")
            .over_tls("far.example")
            .with("HEAD", "far.example", "/x?y=z", &[], "")
            .over_http2("far.example"),
        redirect("unforced", &[("ssl-redirect", "true")], "", &["/", "/x"]),
    ])
    .await;
}
