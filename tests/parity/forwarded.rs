//! `use-forwarded-headers` and its neighbours.

use ingress_tests::manifests::{ingress, settings};

use crate::rig::{case, proxy, run_with};

/// What ingress-nginx's script does with what a proxy before it says.
const BELIEVED: &str = "real_ip_header X-Forwarded-For; real_ip_recursive on; set_real_ip_from 0.0.0.0/0;
    map $http_x_forwarded_proto $told_scheme { default $http_x_forwarded_proto; '' $scheme; }
    map $http_x_forwarded_port $told_port { default $http_x_forwarded_port; '' $server_port; }
    map $http_x_forwarded_host $told_host { ~^(?<first_host>[^,]+) $first_host; default $http_host; }
    map $http_x_forwarded_for $full_for { default \"$http_x_forwarded_for, $realip_remote_addr\"; '' $realip_remote_addr; }
    map $told_host $redirect_host { ~^(?<bare_host>[^:]+) $bare_host; }";

fn believed() -> String {
    proxy(&[
        ("Host $http_host;\n    proxy_set_header Upgrade", "Host $told_host;\n    proxy_set_header Upgrade"),
        ("X-Forwarded-Host $http_host", "X-Forwarded-Host $told_host"),
        ("X-Forwarded-Port $server_port", "X-Forwarded-Port $told_port"),
        ("X-Forwarded-Proto $scheme", "X-Forwarded-Proto $told_scheme"),
        ("X-Forwarded-Scheme $scheme", "X-Forwarded-Scheme $told_scheme"),
        ("X-Scheme $scheme", "X-Scheme $told_scheme"),
    ])
}

const SENT: &[&[(&str, &str)]] = &[
    &[],
    &[("X-Forwarded-For", "203.0.113.9")],
    &[("X-Forwarded-For", "203.0.113.9, 198.18.0.7")],
    &[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.18.0.7")],
    &[("X-Forwarded-For", "evil")],
    &[("X-Forwarded-For", "2001:db8::1")],
    &[("X-Forwarded-For", "203.0.113.9:4711")],
    &[("X-Forwarded-For", "[2001:db8::1]:4711")],
    &[("X-Forwarded-Proto", "https")],
    &[("X-Forwarded-Proto", "http")],
    &[("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https")],
    &[("X-Forwarded-Host", "outer.example")],
    &[("X-Forwarded-Host", "outer.example:8443")],
    &[("X-Forwarded-Host", "outer.example, inner.example")],
    &[("X-Forwarded-Prefix", "/outer"), ("Forwarded", "for=203.0.113.9")],
    &[("X-Original-Forwarded-For", "203.0.113.1"), ("X-Original-URI", "/x")],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_before_is_believed() {
    let host = "behind.example";
    let mut found = case("told")
        .manifests(ingress("behind", host, "/", "web", &[]))
        .server(host, &format!("location / {{ {} }}", believed()));
    let forced = "if ($told_scheme = http) { set $told_http 1; } if ($told_http) { return 308 https://$redirect_host/x; }";
    let mut forced = case("redirected as told")
        .manifests(ingress("offload", "offload.example", "/", "web", &[("force-ssl-redirect", "true")]))
        .server("offload.example", &format!("set $told_http ''; location / {{ {forced} {} }}", believed()));
    for headers in SENT {
        found = found.with("GET", host, "/x", headers, "");
        forced = forced.with("GET", "offload.example", "/x", headers, "");
    }
    let list = case("lists count the told address")
        .manifests(ingress("vip", "vip.example", "/", "web", &[("whitelist-source-range", "203.0.113.0/24")]))
        .server("vip.example", &format!("location / {{ allow 203.0.113.0/24; deny all; {} }}", believed()))
        .with("GET", "vip.example", "/x", SENT[1], "")
        .with("GET", "vip.example", "/x", SENT[5], "")
        .get("vip.example", "/x");
    let data = settings(&[("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "0.0.0.0/0")]);
    run_with(&data, BELIEVED, vec![found, forced, list]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_chain_goes_on() {
    let host = "chain.example";
    let location = believed().replace("X-Forwarded-For $remote_addr", "X-Forwarded-For $full_for");
    let mut found = case("chain")
        .manifests(ingress("chain", host, "/", "web", &[]))
        .server(host, &format!("location / {{ {location} }}"));
    for headers in SENT {
        found = found.with("GET", host, "/x", headers, "");
    }
    let data = settings(&[
        ("use-forwarded-headers", "true"),
        ("compute-full-forwarded-for", "true"),
        ("proxy-real-ip-cidr", "0.0.0.0/0"),
    ]);
    run_with(&data, BELIEVED, vec![found]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_proxies_name_the_client() {
    let host = "some.example";
    let location = believed()
        .replace("X-Original-Forwarded-For $http_x_forwarded_for", "X-Original-Forwarded-For $http_x_client");
    let http = BELIEVED
        .replace("X-Forwarded-For;", "X-Client;")
        .replace("0.0.0.0/0", "127.0.0.0/8; set_real_ip_from 198.18.0.0/15");
    let found = case("another header")
        .manifests(ingress("some", host, "/", "web", &[]))
        .server(host, &format!("location / {{ {location} }}"))
        .with("GET", host, "/x", &[("X-Client", "203.0.113.9, 192.0.2.1, 198.18.0.7")], "")
        .with("GET", host, "/x", &[("X-Client", "198.18.0.7")], "")
        .get(host, "/x");
    let data = settings(&[
        ("use-forwarded-headers", "true"),
        ("forwarded-for-header", "X-Client"),
        ("proxy-real-ip-cidr", "127.0.0.0/8,198.18.0.0/15"),
    ]);
    run_with(&data, &http, vec![found]).await;
}
