//! A real nginx and Portcullis side by side, before the same backend. A case is an Ingress, and the configuration that
//! ingress-nginx makes of it; the same bytes go to both, and what the client and the backend see must be equal.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use ingress_tests::client::{Identity, PATIENCE};
use ingress_tests::manifests::{service, translation};
use ingress_tests::origin::Raw;
use ingress_tests::proxy::Instance;
use tokio::time::timeout;

use crate::echo::Echo;
use crate::nginx::Nginx;
use crate::wire::{Over, Sent, exchange};

/// What ingress-nginx writes into every location that proxies.
pub(crate) const PROXY: &str = "
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header X-Request-ID $req_id;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Port $server_port;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Scheme $scheme;
    proxy_set_header X-Scheme $scheme;
    proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
    proxy_set_header X-Original-Forwarded-Host $http_x_forwarded_host;
    proxy_set_header Proxy \"\";
    proxy_connect_timeout 5s;
    proxy_send_timeout 60s;
    proxy_read_timeout 60s;
    proxy_buffering off;
    proxy_buffer_size 4k;
    proxy_buffers 4 4k;
    proxy_request_buffering on;
    proxy_http_version 1.1;
    proxy_next_upstream error timeout;
    proxy_next_upstream_tries 3;
    proxy_redirect off;
    proxy_pass http://origin;
";

/// The same with other lines in place of some.
pub(crate) fn proxy(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(PROXY.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the standard location");
        text.replace(from, to)
    })
}

/// A case of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    name: &'static str,
    manifests: String,
    /// Server blocks; `@proxy@` stands for what every location has, `@listen@` for the listen line.
    pub(crate) nginx: String,
    /// What stands beside the server blocks.
    pub(crate) nginx_http: String,
    requests: Vec<Sent>,
    compares_body: bool,
    compares_our_kind: bool,
    /// Services whose one endpoint answers every request with these bytes and closes.
    canned: Vec<(&'static str, &'static str)>,
    /// Beside the configuration of nginx, in `@dir@`.
    pub(crate) files: Vec<(String, String)>,
    is_mirrored: bool,
}

/// Begins a case.
pub(crate) fn case(name: &'static str) -> Case {
    Case {
        name,
        manifests: String::new(),
        nginx: String::new(),
        nginx_http: String::new(),
        requests: Vec::new(),
        compares_body: true,
        compares_our_kind: false,
        canned: Vec::new(),
        files: Vec::new(),
        is_mirrored: false,
    }
}

impl Case {
    /// Objects; the Service `web` is there.
    pub(crate) fn manifests(mut self, yaml: impl AsRef<str>) -> Self {
        self.manifests.push_str(yaml.as_ref());
        self
    }

    /// A server block for `host` with these locations.
    pub(crate) fn server(mut self, host: &str, locations: &str) -> Self {
        let _ = writeln!(self.nginx, "server {{ @listen@; server_name {host};\n{locations}\n}}");
        self
    }

    /// What stands beside the server blocks.
    pub(crate) fn http(mut self, text: &str) -> Self {
        self.nginx_http.push_str(text);
        self
    }

    /// A Service `name` that answers with these bytes and closes; `@name@` is its address.
    pub(crate) fn canned(mut self, name: &'static str, answer: &'static str) -> Self {
        self.canned.push((name, answer));
        self
    }

    /// A file `@dir@/<name>` for nginx.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Copies come beside the requests, in any order and with headers of their own.
    pub(crate) fn mirrored(mut self) -> Self {
        self.is_mirrored = true;
        self
    }

    /// A `GET`.
    pub(crate) fn get(self, host: &str, target: &str) -> Self {
        self.with("GET", host, target, &[], "")
    }

    /// A request.
    pub(crate) fn with(
        mut self,
        method: &str,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        let _ = write!(text, "\r\n{body}");
        self.requests.push(Sent { bytes: text.into_bytes(), over: Over::Cleartext });
        self
    }

    /// The last request over TLS.
    pub(crate) fn over_tls(mut self, name: &str) -> Self {
        if let Some(last) = self.requests.last_mut() {
            last.over = Over::Tls(name.to_owned());
        }
        self
    }

    /// The last request over TLS by a client that shows a certificate.
    pub(crate) fn over_tls_as(mut self, name: &str, identity: &Arc<Identity>) -> Self {
        if let Some(last) = self.requests.last_mut() {
            last.over = Over::TlsAs(name.to_owned(), Arc::clone(identity));
        }
        self
    }

    /// The last request over HTTP/2, in TLS.
    pub(crate) fn over_http2(mut self, name: &str) -> Self {
        if let Some(last) = self.requests.last_mut() {
            last.over = Over::Http2(name.to_owned());
        }
        self
    }

    /// The same requests once more, over HTTP/2.
    pub(crate) fn twice(mut self, name: &str) -> Self {
        let again: Vec<Sent> = self
            .requests
            .iter()
            .map(|sent| Sent { bytes: sent.bytes.clone(), over: Over::Http2(name.to_owned()) })
            .collect();
        self.requests.extend(again);
        self
    }

    /// `Content-Type` and `Content-Length` of answers without a backend are compared, too.
    pub(crate) fn whole_head(mut self) -> Self {
        self.compares_our_kind = true;
        self
    }

    /// The text of the answer is not compared, only that there is one.
    pub(crate) fn any_body(mut self) -> Self {
        self.compares_body = false;
        self
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &str) -> Self {
        self.requests.push(Sent { bytes: bytes.as_bytes().to_vec(), over: Over::Cleartext });
        self
    }
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    status: u16,
    headers: Vec<(String, String)>,
    /// Only if a backend answered.
    body: String,
    /// Request line, headers and body at the backend, for each request that came there.
    seen: Vec<String>,
}

/// Runs the cases of a topic and reports all differences at once.
pub(crate) async fn run(cases: Vec<Case>) {
    run_with("", "", cases).await;
}

/// Both proxies before their backends.
pub(crate) struct Pair {
    pub(crate) nginx: Nginx,
    pub(crate) proxy: Instance,
    pub(crate) origin: Echo,
    _raw: Vec<Raw>,
}

/// Starts both with the cases of a topic.
pub(crate) async fn start(config_map: &str, http: &str, cases: &mut [Case]) -> Pair {
    let origin = Echo::start().await;
    let other = Echo::named("other ", Arc::clone(&origin.seen)).await;
    let dead = ingress_tests::origin::refused().await;
    let mut yaml = String::new();
    let mut raw = Vec::new();
    for case in cases.iter_mut() {
        for (name, answer) in &case.canned {
            let backend = ingress_tests::origin::canned(answer).await;
            yaml.push_str(&service(name, &[backend.address]));
            case.nginx = case.nginx.replace(&format!("@{name}@"), &backend.address.to_string());
            raw.push(backend);
        }
        for text in [&mut case.manifests, &mut case.nginx, &mut case.nginx_http] {
            *text = text
                .replace("@origin@", &origin.address.to_string())
                .replace("@dead@", &dead.to_string())
                .replace("@other@", &other.address.to_string());
        }
    }
    let nginx = Nginx::start(cases, http, origin.address, dead).await;
    yaml.push_str(&(service("web", &[origin.address]) + &service("dead", &[dead]) + &service("empty", &[])));
    yaml.push_str(&service("mixed", &[dead, origin.address]));
    yaml.push_str(&service("other", &[other.address]));
    yaml.push_str(config_map);
    for case in cases.iter() {
        yaml.push_str(&case.manifests);
    }
    let proxy = Instance::start(translation(&yaml).expect("manifests").model).await.expect("a proxy");
    Pair { nginx, proxy, origin, _raw: raw }
}

/// The same with a ConfigMap and what it is in the `http` block.
pub(crate) async fn run_with(config_map: &str, http: &str, mut cases: Vec<Case>) {
    let Pair { nginx, proxy, origin, _raw } = start(config_map, http, &mut cases).await;
    let mut differences = Vec::new();
    for case in &cases {
        for request in &case.requests {
            let theirs = outcome([nginx.address, nginx.tls], &origin, request, case, 0).await;
            let count = theirs.seen.len();
            let ours = outcome([proxy.http, proxy.https], &origin, request, case, count).await;
            if theirs != ours {
                let sent: String = String::from_utf8_lossy(&request.bytes).chars().take(300).collect();
                differences.push(format!(
                    "{}: {sent:?} {}\n{}",
                    case.name,
                    request.over,
                    told(&theirs, &ours)
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// What differs.
fn told(theirs: &Outcome, ours: &Outcome) -> String {
    let mut text = String::new();
    let lines = [("nginx", theirs, ours), ("portcullis", ours, theirs)];
    for (name, one, other) in lines {
        let _ = write!(text, "  {name}: {}", one.status);
        for header in one.headers.iter().filter(|header| !other.headers.contains(header)) {
            let _ = write!(text, ", {header:?}");
        }
        if one.body != other.body {
            let _ = write!(
                text,
                ", {} bytes {:?}",
                one.body.len(),
                one.body.chars().take(80).collect::<String>()
            );
        }
        if one.seen != other.seen {
            let _ = write!(text, ", the backend saw {:?}", one.seen);
        }
        text.push('\n');
    }
    text
}

/// What comes of a request; `count` others came of it before, and what is still on its way is waited for.
async fn outcome(
    [plain, tls]: [SocketAddr; 2],
    origin: &Echo,
    request: &Sent,
    case: &Case,
    count: usize,
) -> Outcome {
    let address = if matches!(request.over, Over::Cleartext) { plain } else { tls };
    let before = origin.seen.lock().expect("no panic").len();
    let answer = timeout(PATIENCE, exchange(address, request)).await.expect("an answer in time");
    let _ = timeout(PATIENCE, origin.wait_for(before + count)).await;
    let port = address.port().to_string();
    let normal = |text: &str| text.replace(&format!(":{port}"), ":PORT");
    let mut seen: Vec<String> = origin
        .seen
        .lock()
        .expect("no panic")
        .iter()
        .skip(before)
        .map(|text| normal(&text.replace(&format!("x-forwarded-port: {port}\n"), "x-forwarded-port: PORT\n")))
        .collect();
    if case.is_mirrored {
        seen = seen.iter().map(|text| essence(text)).collect();
        seen.sort();
    }
    let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .lines()
        .next()
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_default();
    let is_proxied = body.contains("echo") || status == 304;
    let mut ignored = vec!["date", "server", "connection", "keep-alive", "transfer-encoding"];
    if !is_proxied && !case.compares_our_kind {
        // The text of our own answers is ours.
        ignored.extend(["content-length", "content-type"]);
    }
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut headers: Vec<(String, String)> = lines
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), normal(value.trim())))
        .filter(|(name, _)| !ignored.contains(&name.as_str()))
        .collect();
    headers.sort();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if seen.is_empty() {
        String::new()
    } else if is_chunked && case.compares_body {
        unchunk(body)
    } else {
        body.to_owned()
    };
    let body = if !case.compares_body { String::new() } else { body };
    let body = if status >= 300 && !body.contains("echo") { String::new() } else { body };
    Outcome { status, headers, body, seen }
}

/// What a copy has in common with its request.
fn essence(seen: &str) -> String {
    let kept = ["host: ", "content-type: ", "body ", "cookie: "];
    let mut lines = seen.lines();
    let line = lines.next().and_then(|line| line.rsplit_once(' ')).map(|(line, _version)| line);
    let rest = lines.filter(|line| kept.iter().any(|name| line.starts_with(name)));
    line.into_iter().chain(rest).collect::<Vec<_>>().join("\n")
}

fn unchunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        if size == 0 || rest.len() < size {
            break;
        }
        body.push_str(&rest[..size]);
        text = rest[size..].trim_start_matches("\r\n");
    }
    body
}
