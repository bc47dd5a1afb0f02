//! Answers without a backend: redirects of annotations and snippets.

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests::{ingress, ingress_with, serve, service, settings};
use ingress_tests::origin::Origin;

async fn location(address: std::net::SocketAddr, host: &str, target: &str) -> (u16, Option<String>) {
    let answer = client::fetch(address, host, target).await.unwrap();
    (answer.status, answer.header("location").map(str::to_owned))
}

fn to(status: u16, url: &str) -> (u16, Option<String>) {
    (status, Some(url.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_path_is_sent_to_another_url() {
    let origin = Origin::start("web").await;
    let url = "https://new.example$request_uri";
    let yaml = [
        service("web", &[origin.address]),
        ingress("moved", "moved.example", "/", "web", &[("permanent-redirect", url)]),
        ingress(
            "coded",
            "coded.example",
            "/",
            "web",
            &[("permanent-redirect", "http://x.example"), ("permanent-redirect-code", "308")],
        ),
        ingress(
            "temporal",
            "temporal.example",
            "/",
            "web",
            &[("temporal-redirect", "https://t.example/$arg_to"), ("permanent-redirect", url)],
        ),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let seen = location(proxy.http, "moved.example", "/a%20b/?c=d").await;
    assert_eq!(seen, to(301, "https://new.example/a%20b/?c=d"));
    assert_eq!(location(proxy.http, "coded.example", "/x").await, to(308, "http://x.example"));
    assert_eq!(location(proxy.http, "temporal.example", "/?to=y").await, to(302, "https://t.example/y"));
    let mut h2 = Http2::open_tls(proxy.https, "moved.example").await.unwrap();
    let answer = h2.send(client::get("moved.example", "/h2")).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (301, Some("https://new.example/h2")));
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_gets_the_head_of_an_answer_over_http2_as_over_http1() {
    let yaml =
        ingress("moved", "moved.example", "/", "web", &[("permanent-redirect", "https://new.example")]);
    let origin = Origin::start("web").await;
    let proxy = serve(&(service("web", &[origin.address]) + &yaml)).await.unwrap();
    let mut h2 = Http2::open_tls(proxy.https, "moved.example").await.unwrap();
    for (host, status) in [("moved.example", 301), ("nobody.example", 404)] {
        let get = client::fetch(proxy.http, host, "/").await.unwrap();
        let head = client::send(proxy.http, client::request("HEAD", host, "/", "")).await.unwrap();
        let head2 = h2.send(client::request("HEAD", host, "/", "")).await.unwrap();
        assert_eq!((get.status, head.status, head2.status), (status, status, status));
        let length = Some(get.body.len().to_string());
        for answer in [&head, &head2] {
            assert_eq!(answer.header("content-length").map(str::to_owned), length, "{host}");
            assert!(answer.body.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_path_stand_in_redirects_and_answers() {
    let regex = ("use-regex", "true");
    let snippet =
        "if ($arg_to = \"b\") { return 302 https://b.example/$1; }\nreturn 307 https://c.example/$2;";
    let yaml = [
        service("web", &[]),
        ingress(
            "moved",
            "a.example",
            "/shop/(.*)",
            "web",
            &[regex, ("permanent-redirect", "https://new.example/$1")],
        ),
        ingress("snippet", "a.example", "/x(a|b)/(.*)", "web", &[("configuration-snippet", snippet)]),
        ingress("literal", "l.example", "/", "web", &[("permanent-redirect", "HTTPS://new.example/$1")]),
    ]
    .concat();
    let model = ingress_tests::manifests::translation(&yaml).unwrap().model;
    let proxy = ingress_tests::proxy::Instance::start(model).await.unwrap();
    let seen = location(proxy.http, "a.example", "/Shop/a/b?c=d").await;
    assert_eq!(seen, to(301, "https://new.example/a/b"));
    assert_eq!(location(proxy.http, "a.example", "/xa/y?to=b").await, to(302, "https://b.example/a"));
    assert_eq!(location(proxy.http, "a.example", "/xa/y/z").await, to(307, "https://c.example/y/z"));
    assert_eq!(location(proxy.http, "l.example", "/x").await, to(301, "HTTPS://new.example/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_break_out_of_a_variable_is_no_header() {
    let url = "https://new.example$uri";
    let yaml = ingress("moved", "moved.example", "/", "web", &[("permanent-redirect", url)]);
    let yaml = service("web", &[]) + &yaml;
    let model = ingress_tests::manifests::translation(&yaml).unwrap().model;
    let proxy = ingress_tests::proxy::Instance::start(model).await.unwrap();
    let answer = client::fetch(proxy.http, "moved.example", "/%0d%0aSet-Cookie:%20a=b").await.unwrap();
    assert_eq!((answer.status, answer.header("set-cookie")), (400, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_page_is_only_for_the_root_and_comes_before_everything() {
    let origin = Origin::start("web").await;
    let annotations =
        [("app-root", "/app"), ("force-ssl-redirect", "true"), ("whitelist-source-range", "198.18.0.0/15")];
    let yaml = service("web", &[origin.address]) + &ingress("web", "a.example", "/", "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    assert_eq!(location(proxy.http, "a.example:8080", "/").await, to(302, "http://a.example:8080/app"));
    assert_eq!(location(proxy.http, "a.example", "/app").await, to(308, "https://a.example/app"));
    let mut tls = Http1::open_tls(proxy.https, "a.example").await.unwrap();
    assert_eq!(tls.send(client::get("a.example", "/app")).await.unwrap().status, 403);
    let answer = tls.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://a.example/app")));
}

#[tokio::test(flavor = "multi_thread")]
async fn www_leads_to_the_host_with_scheme_and_port() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", &[("from-to-www-redirect", "true")]),
        ingress("www", "www.b.example", "/", "web", &[("from-to-www-redirect", "true")]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let (http, https) = (proxy.http.port(), proxy.https.port());
    let seen = location(proxy.http, "www.a.example", "/x/?y=z").await;
    assert_eq!(seen, to(308, &format!("http://a.example:{http}/x/?y=z")));
    let seen = location(proxy.http, "b.example", "/dir/").await;
    assert_eq!(seen, to(308, &format!("http://www.b.example:{http}/dir")));
    let mut tls = Http2::open_tls(proxy.https, "www.a.example").await.unwrap();
    let answer = tls.send(client::get("www.a.example", "/")).await.unwrap();
    assert_eq!(answer.header("location"), Some(format!("https://a.example:{https}").as_str()));
    assert_eq!(answer.header("strict-transport-security"), None);
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().text(), "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_as_rewrite_target_redirects_before_the_source_is_looked_at() {
    let origin = Origin::start("web").await;
    let annotations =
        [("rewrite-target", "https://other.example/new/$1"), ("whitelist-source-range", "198.18.0.0/15")];
    let path = ("/x/(.*)", "ImplementationSpecific");
    let yaml =
        service("web", &[origin.address]) + &ingress_with("web", "a.example", path, "web", &annotations);
    let proxy = serve(&yaml).await.unwrap();
    let seen = location(proxy.http, "a.example", "/X/y?z=1").await;
    assert_eq!(seen, to(302, "https://other.example/new/y?z=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn snippets_answer_by_what_the_request_says() {
    let origin = Origin::start("web").await;
    let snippet = "if ($http_x_blocked = \"yes\") { return 403; }\n\
                   if ($http_user_agent ~* (bot|crawler)) { return 429 \"slow down, $1\"; }\n\
                   if ($arg_go) { return 302 /there; }\n\
                   rewrite ^/old/(.*)$ /new/$1 permanent;\n\
                   rewrite ^(/dashboard)$ $1/ redirect;\n\
                   if ($http_x_moved ~ ^y) { rewrite ^/(.*)$ https://new.example/$1? permanent; }\n\
                   if ($request_method = OPTIONS) { add_header X-Preflight $host; return 204; }\n";
    let yaml = service("web", &[origin.address])
        + &ingress("web", "a.example", "/", "web", &[("configuration-snippet", snippet)]);
    let proxy = serve(&yaml).await.unwrap();
    let send = async |name: &'static str, value: &str| {
        let mut request = client::get("a.example", "/");
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = client::send(proxy.http, request).await.unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(send("x-blocked", "yes").await.0, 403);
    assert_eq!(send("x-blocked", "no").await, (200, "web".to_owned()));
    assert_eq!(send("user-agent", "a Crawler").await, (429, "slow down, Crawler".to_owned()));
    assert_eq!(location(proxy.http, "a.example:81", "/?go=1").await, to(302, "http://a.example/there"));
    assert_eq!(location(proxy.http, "a.example", "/?go=0").await.0, 200);
    assert_eq!(location(proxy.http, "a.example", "/dashboard").await, to(302, "http://a.example/dashboard/"));
    let mut request = client::get("a.example", "/x?y=z");
    request.headers_mut().insert("x-moved", "yes".parse().unwrap());
    let answer = client::send(proxy.http, request).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (301, Some("https://new.example/x")));
    let request = client::request("OPTIONS", "a.example", "/x", "");
    let answer = client::send(proxy.http, request).await.unwrap();
    assert_eq!((answer.status, answer.header("x-preflight")), (204, Some("a.example")));
    assert_eq!(location(proxy.http, "a.example", "/old/a?b=c").await, to(301, "http://a.example/new/a?b=c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_to_a_slash_names_what_it_is_asked_to() {
    let origin = Origin::start("web").await;
    let path = ("/dir/", "ImplementationSpecific");
    let yaml = [
        service("web", &[origin.address]),
        ingress_with("plain", "plain.example", path, "web", &[]),
        ingress_with("port", "port.example", path, "web", &[("use-port-in-redirects", "true")]),
        ingress_with("relative", "relative.example", path, "web", &[("relative-redirects", "true")]),
        ingress_with("strict", "strict.example", path, "web", &[("portcullis.dev/strict", "true")]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    let port = proxy.http.port();
    let cases = [
        ("plain.example:81", "http://plain.example/dir/?a=b".to_owned()),
        ("port.example", format!("http://port.example:{port}/dir/?a=b")),
        ("relative.example", "/dir/?a=b".to_owned()),
    ];
    for (host, url) in cases {
        assert_eq!(location(proxy.http, host, "/dir?a=b").await, to(301, &url), "{host}");
    }
    assert_eq!(location(proxy.http, "strict.example", "/dir").await, (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_served_as_the_host_is() {
    let origin = Origin::start("web").await;
    let annotations = [("server-alias", "b.example,*.c.example"), ("app-root", "/app")];
    let yaml = [
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", &annotations),
        settings(&[("hsts", "false")]),
    ]
    .concat();
    let proxy = serve(&yaml).await.unwrap();
    for host in ["a.example", "b.example", "x.c.example"] {
        assert_eq!(client::fetch(proxy.http, host, "/x").await.unwrap().text(), "web", "{host}");
        let url = format!("http://{host}/app");
        assert_eq!(location(proxy.http, host, "/").await, to(302, &url));
    }
    assert_eq!(client::fetch(proxy.http, "c.example", "/x").await.unwrap().status, 404);
}

/// nginx's status 444: no answer at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_hang_up() {
    let origin = Origin::start("web").await;
    let snippet = "if ($http_user_agent ~* bot) { return 444; }";
    let yaml = service("web", &[origin.address])
        + &ingress("web", "a.example", "/", "web", &[("configuration-snippet", snippet)]);
    let proxy = serve(&yaml).await.unwrap();
    let bot = "GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: robot\r\n\r\n";
    assert_eq!(client::raw(proxy.http, bot.as_bytes()).await.unwrap(), "");
    let mut http2 = Http2::open(proxy.http).await.unwrap();
    let mut request = client::get("a.example", "/");
    request.headers_mut().insert("user-agent", "robot".parse().unwrap());
    assert!(http2.send(request).await.is_err());
    let answer = http2.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "web".to_owned()), "other streams go on");
    assert_eq!(origin.seen().len(), 1);
    let lines = proxy.log_lines("robot", 2).await.unwrap();
    assert!(lines.iter().all(|line| line.contains("\" 444 0 ")), "{lines:?}");
}
