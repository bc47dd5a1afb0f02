//! `log-format-upstream`: the line of a request, field by field.

use ingress_tests::manifests::{ingress, settings};
use ingress_tests::proxy::eventually;

use crate::rig::{case, proxy, start};
use crate::wire::{Over, Sent, exchange};

/// Variables of the format. Lengths of chunked bodies are not compared (see `docs/migration.md`), and what follows the clock, the numbers of connections and our own texts is not among them.
const FIELDS: &str = "http_x_number host best_http_host remote_addr remote_user request request_method request_uri uri args
    query_string is_args scheme server_protocol status body_bytes_sent request_length content_length content_type
    http_referer http_user_agent http_x_custom http_x_absent arg_a cookie_c sent_http_x_sent upstream_http_x_sent
    upstream_addr upstream_status upstream_response_length ssl_protocol pipe proxy_upstream_name
    proxy_alternative_upstream_name req_id";

const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: basic}\nstringData:\n  auth: |\n    \
                      user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n";

fn format() -> String {
    FIELDS.split_whitespace().map(|name| format!("{name}=${name};;")).collect()
}

/// A line's fields that both must have.
fn fields(line: &str) -> Vec<String> {
    // What the proxy answers itself has texts of its own, and HTTP/2 packs what a client sends.
    let is_proxied = line.contains("upstream_status=2") || line.contains("upstream_status=4");
    let is_packed = line.contains("server_protocol=HTTP/2");
    let is_kept = |field: &&str| match field.split('=').next() {
        Some("body_bytes_sent") => is_proxied,
        Some("request_length") => !is_packed,
        _ => true,
    };
    line.split(";;").filter(is_kept).map(str::to_owned).collect()
}

fn requests() -> Vec<Sent> {
    let plain = |line: &str, host: &str, rest: &str| (line.to_owned(), host.to_owned(), rest.to_owned());
    let basic = "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n\r\n";
    let texts = [
        plain(
            "GET /a%20b/c?a=1&b=2 HTTP/1.1",
            "log.example",
            "Cookie: b=1; c=d\r\nX-Custom: some thing\r\n\r\n",
        ),
        plain(
            "GET /x? HTTP/1.1",
            "LOG.example:8080",
            "Referer: http://r.example/\r\nUser-Agent: \"quoted\" \\ agent\r\n\r\n",
        ),
        plain("POST /x HTTP/1.1", "log.example", "Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"),
        plain("HEAD /x HTTP/1.1", "log.example", "\r\n"),
        plain("GET /x HTTP/1.1", "log.example", "X-Answer: status=404|X-Sent: yes\r\n\r\n"),
        plain("GET /x HTTP/1.1", "log.example", "X-Answer: status=204\r\n\r\n"),
        plain("GET /x HTTP/1.1", "log.example", "X-Request-ID: given\r\n\r\n"),
        plain("GET /x HTTP/1.1", "log-dead.example", "\r\n"),
        plain("GET /x HTTP/1.1", "log-empty.example", "\r\n"),
        plain("GET /x HTTP/1.1", "log-auth.example", basic),
        plain("GET /x HTTP/1.1", "log-auth.example", "\r\n"),
        plain("GET /x HTTP/1.1", "log-moved.example", "\r\n"),
        plain("POST /x HTTP/1.1", "log-small.example", "Content-Length: 4\r\n\r\nbody"),
    ];
    let overs = [Over::Cleartext, Over::Tls("tls.example".into()), Over::Http2("tls.example".into())];
    let mut number = 100;
    let mut all = Vec::new();
    for over in &overs {
        for (line, host, rest) in &texts {
            number += 1;
            let id = if rest.contains("X-Request-ID") {
                String::new()
            } else {
                format!("X-Request-ID: id{number}\r\n")
            };
            let text =
                format!("{line}\r\nHost: {host}\r\nConnection: close\r\nX-Number: {number}\r\n{id}{rest}");
            all.push(Sent { bytes: text.into_bytes(), over: over.clone() });
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_requests() {
    let named = |name: &str, service: &str, annotations: &[(&str, &str)], directives: &str| {
        let host = format!("{name}.example");
        let upstream = if service == "dead" { "http://thrice" } else { "http://origin" };
        case("log").manifests(ingress(name, &host, "/", service, annotations)).server(
            &host,
            &format!(
                "access_log @dir@/lines.log line; set $proxy_upstream_name default-{service}-80;
                     set $proxy_alternative_upstream_name ''; set $best_http_host $http_host;
                     location / {{ {directives} {} }}",
                proxy(&[("http://origin", upstream)])
            ),
        )
    };
    let basic = [("auth-type", "basic"), ("auth-secret", "basic"), ("auth-realm", "r")];
    // The balancer of ingress-nginx tries the only endpoint three times.
    let mut cases = [
        named("log", "web", &[], "").manifests(SECRET).http("upstream thrice { server @dead@ max_fails=0; server @dead@ max_fails=0; server @dead@ max_fails=0; }\n"),
        named("log-dead", "dead", &[], ""),
        named("log-empty", "empty", &[], "return 503;"),
        named(
            "log-auth",
            "web",
            &basic,
            "auth_basic r; auth_basic_user_file @dir@/htpasswd; proxy_set_header Authorization '';",
        ),
        named(
            "log-moved",
            "web",
            &[("permanent-redirect", "https://new.example")],
            "return 301 https://new.example;",
        ),
        named("log-small", "web", &[("proxy-body-size", "1")], "client_max_body_size 1;"),
    ];
    let format = format();
    let pair = start(
        &settings(&[("log-format-upstream", format.as_str()), ("hsts", "false")]),
        &format!("log_format line '{format}';"),
        &mut cases,
    )
    .await;
    let requests = requests();
    for sent in &requests {
        for [plain, tls] in [[pair.nginx.address, pair.nginx.tls], [pair.proxy.http, pair.proxy.https]] {
            exchange(if matches!(sent.over, Over::Cleartext) { plain } else { tls }, sent).await;
        }
    }
    let path = pair.nginx.folder.join("lines.log");
    let mut theirs = eventually(|| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= requests.len()).then_some(text)
    })
    .await
    .expect("lines of nginx")
    .lines()
    .map(str::to_owned)
    .collect::<Vec<_>>();
    let mut ours = pair.proxy.log_lines("http_x_number=", requests.len()).await.expect("our lines");
    theirs.sort();
    ours.sort();
    assert_eq!(theirs.len(), ours.len());
    let mut differences = Vec::new();
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let (theirs, ours) = (fields(theirs), fields(ours));
        let differ = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
        let line = format!("{} {}", theirs[0], theirs[5]);
        differences.extend(differ.map(|(theirs, ours)| format!("{line}: nginx {theirs}, portcullis {ours}")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
