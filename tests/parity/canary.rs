//! Canaries: header before cookie before share, as ingress-nginx's balancer decides.

use ingress_tests::manifests::ingress;

use crate::rig::{Case, case, proxy, run};

/// A host with a canary; `map` says which of the two backends takes a request.
fn canary(name: &'static str, annotations: &[(&str, &str)], map: &str) -> Case {
    let host = format!("{name}.example");
    let variable = name.replace('-', "_");
    let location = proxy(&[("http://origin", &format!("http://${variable}"))]);
    let annotations = [&[("canary", "true")][..], annotations].concat();
    let mut found = case(name)
        .manifests(ingress(name, &host, "/", "web", &[]))
        .manifests(ingress(&format!("{name}-canary"), &host, "/", "other", &annotations))
        .http(&format!("{}\n", map.replace("$pool", &format!("${variable}"))))
        .server(&host, &format!("location / {{ {location} }}"));
    for headers in [
        &[][..],
        &[("X-Canary", "always")],
        &[("X-Canary", "never")],
        &[("X-Canary", "Always")],
        &[("X-Canary", "")],
        &[("X-Canary", "v2")],
        &[("X-Canary", "v23")],
        &[("x-canary", "always"), ("Cookie", "canary=never")],
        &[("X-Canary", "never"), ("Cookie", "canary=always")],
        &[("X-Canary", "v2"), ("Cookie", "canary=never")],
        &[("Cookie", "canary=always")],
        &[("Cookie", "a=b; canary=always; c=d")],
        &[("Cookie", "canary=never")],
        &[("Cookie", "canary=maybe")],
        &[("Cookie", "CANARY=always")],
    ] {
        found = found.with("GET", &host, "/x", headers, "");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_to_the_canary() {
    let pools = "upstream other { server @other@; }\n";
    let header = ("canary-by-header", "X-Canary");
    let cookie = ("canary-by-cookie", "canary");
    run(vec![
        canary("can-header", &[header], "map $http_x_canary $pool { default origin; ~^always$ other; }"),
        canary("can-cookie", &[cookie], "map $cookie_canary $pool { default origin; ~^always$ other; }"),
        canary(
            "can-both",
            &[header, cookie],
            "map $http_x_canary:$cookie_canary $pool { default origin; ~^always: other; ~^never: origin; ~:always$ other; }",
        ),
        canary(
            "can-value",
            &[header, ("canary-by-header-value", "v2")],
            "map $http_x_canary $pool { default origin; ~^v2$ other; }",
        ),
        canary(
            "can-value-cookie",
            &[header, ("canary-by-header-value", "v2"), cookie],
            "map $http_x_canary:$cookie_canary $pool { default origin; ~^v2: other; ~:always$ other; }",
        ),
        canary(
            "can-pattern",
            &[header, ("canary-by-header-pattern", "^v[0-9]+$")],
            "map $http_x_canary $pool { default origin; ~^v[0-9]+$ other; }",
        ),
        canary("can-all", &[("canary-weight", "100")], "map '' $pool { default other; }"),
        canary("can-none", &[("canary-weight", "0")], "map '' $pool { default origin; }"),
        canary(
            "can-all-header",
            &[("canary-weight", "100"), header, cookie],
            "map $http_x_canary:$cookie_canary $pool { default other; ~^never: origin; ~^always: other; ~:never$ origin; }",
        ),
        canary(
            "can-total",
            &[("canary-weight", "1000"), ("canary-weight-total", "1000")],
            "map '' $pool { default other; }",
        ),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, case)| if number == 0 { case.http(pools) } else { case })
    .collect())
    .await;
}
