//! Trusted proxies before us: whose word about the client counts.

use ingress_tests::client::{self, get};
use ingress_tests::manifests::{ingress, serve, service, settings};
use ingress_tests::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_names_the_client() {
    let origin = Origin::start("web").await;
    let rows = [
        // What the ConfigMap says, and what the backend sees.
        (&[][..], "127.0.0.1", "127.0.0.1", "http", "a.example"),
        (&[("use-forwarded-headers", "true")][..], "10.0.0.1", "10.0.0.1", "https", "public.example"),
        (
            &[("use-forwarded-headers", "true"), ("proxy-real-ip-cidr", "198.18.0.0/15")],
            "127.0.0.1",
            "127.0.0.1",
            "http",
            "a.example",
        ),
        (
            &[
                ("use-forwarded-headers", "true"),
                ("proxy-real-ip-cidr", "127.0.0.0/8"),
                ("compute-full-forwarded-for", "true"),
            ],
            "203.0.113.7",
            "10.0.0.1, 203.0.113.7, 127.0.0.1",
            "https",
            "public.example",
        ),
    ];
    for (data, real_ip, chain, scheme, host) in rows {
        let yaml = [
            settings(&[data, &[("ssl-redirect", "false")]].concat()),
            service("web", &[origin.address]),
            ingress("web", "a.example", "/", "web", &[]),
        ]
        .concat();
        let translation = ingress_tests::manifests::translation(&yaml).unwrap();
        let proxy = ingress_tests::proxy::Instance::start(translation.model).await.unwrap();
        let mut request = get("a.example", "/x");
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1, 203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
        let seen = origin.seen().pop().unwrap();
        let got = ["x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
            .map(|name| seen.header(name).unwrap_or_default());
        assert_eq!(got, [real_ip, chain, scheme, host], "{data:?}");
    }
    let proxy =
        serve(&[service("web", &[origin.address]), ingress("web", "", "/", "web", &[])].concat()).await;
    assert!(proxy.is_ok());
}
