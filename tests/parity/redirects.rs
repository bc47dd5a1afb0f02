//! Redirects that the proxy answers itself.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, run};

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
    let forced = "if ($request_uri ~ \"^(.*?)/?$\") { return 308 https://$host$1; }";
    run(vec![
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
        redirect("forced", &[("force-ssl-redirect", "true")], forced, &["/", "/x", "/x/", "/x?y=z", "/a//b"]),
        redirect("unforced", &[("ssl-redirect", "true")], "", &["/", "/x"]),
    ])
    .await;
}
