//! A real nginx and Portcullis side by side, before the same backend. A case is an Ingress, and the configuration that
//! ingress-nginx makes of it; the same bytes go to both, and what the client and the backend see must be equal.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingress_tests::client::{self, PATIENCE};
use ingress_tests::manifests::{service, translation};
use ingress_tests::proxy::Instance;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What ingress-nginx writes into every location that proxies.
const PROXY: &str = "
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
    nginx: String,
    /// What stands beside the server blocks.
    nginx_http: String,
    requests: Vec<Sent>,
    compares_body: bool,
}

/// A request and how it is sent.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// Over TLS, with this server name.
    tls: Option<String>,
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
        self.requests.push(Sent { bytes: text.into_bytes(), tls: None });
        self
    }

    /// The last request over TLS.
    pub(crate) fn over_tls(mut self, name: &str) -> Self {
        if let Some(last) = self.requests.last_mut() {
            last.tls = Some(name.to_owned());
        }
        self
    }

    /// The text of the answer is not compared, only that there is one.
    pub(crate) fn any_body(mut self) -> Self {
        self.compares_body = false;
        self
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &str) -> Self {
        self.requests.push(Sent { bytes: bytes.as_bytes().to_vec(), tls: None });
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

/// The same with a ConfigMap and what it is in the `http` block.
pub(crate) async fn run_with(config_map: &str, http: &str, mut cases: Vec<Case>) {
    let origin = Echo::start().await;
    for case in &mut cases {
        for text in [&mut case.manifests, &mut case.nginx, &mut case.nginx_http] {
            *text = text.replace("@origin@", &origin.address.to_string());
        }
    }
    let dead = ingress_tests::origin::refused().await;
    let nginx = Nginx::start(&cases, http, origin.address, dead).await;
    let mut yaml = service("web", &[origin.address]) + &service("dead", &[dead]) + &service("empty", &[]);
    yaml.push_str(&service("mixed", &[dead, origin.address]));
    yaml.push_str(config_map);
    for case in &cases {
        yaml.push_str(&case.manifests);
    }
    let proxy = Instance::start(translation(&yaml).expect("manifests").model).await.expect("a proxy");
    let mut differences = Vec::new();
    for case in &cases {
        for request in &case.requests {
            let theirs = outcome([nginx.address, nginx.tls], &origin, request, case).await;
            let ours = outcome([proxy.http, proxy.https], &origin, request, case).await;
            if theirs != ours {
                let line =
                    String::from_utf8_lossy(&request.bytes).lines().next().unwrap_or_default().to_owned();
                differences
                    .push(format!("{}: {line}\n  nginx:      {theirs:?}\n  portcullis: {ours:?}", case.name));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

async fn outcome([plain, tls]: [SocketAddr; 2], origin: &Echo, request: &Sent, case: &Case) -> Outcome {
    let address = if request.tls.is_some() { tls } else { plain };
    let before = origin.seen.lock().expect("no panic").len();
    let answer = timeout(PATIENCE, exchange(address, request)).await.expect("an answer in time");
    let port = address.port().to_string();
    let normal = |text: &str| text.replace(&format!(":{port}"), ":PORT");
    let seen: Vec<String> = origin
        .seen
        .lock()
        .expect("no panic")
        .iter()
        .skip(before)
        .map(|text| normal(&text.replace(&format!("x-forwarded-port: {port}\n"), "x-forwarded-port: PORT\n")))
        .collect();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let ignored = ["date", "server", "connection", "keep-alive", "content-length", "transfer-encoding"];
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut headers: Vec<(String, String)> = lines
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), normal(value.trim())))
        .filter(|(name, _)| !ignored.contains(&name.as_str()))
        // The text of our own answers is ours.
        .filter(|(name, _)| body.contains("echo") || name != "content-type")
        .collect();
    headers.sort();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if seen.is_empty() {
        String::new()
    } else if is_chunked {
        unchunk(body)
    } else {
        body.to_owned()
    };
    let body = if !case.compares_body { String::new() } else { body };
    let body = if status >= 300 && !body.contains("echo") { String::new() } else { body };
    Outcome { status, headers, body, seen }
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

async fn exchange(address: SocketAddr, request: &Sent) -> String {
    match &request.tls {
        None => speak(TcpStream::connect(address).await.expect("a listener"), &request.bytes).await,
        Some(name) => {
            speak(client::tls(address, name, &["http/1.1"]).await.expect("a handshake"), &request.bytes).await
        }
    }
}

async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.expect("a request can be sent");
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A backend that writes down what it saw and answers as `X-Answer` says: `status=302|Location: /x|Set-Cookie: a=b`.
struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                let service = service_fn(move |request| {
                    let log = Arc::clone(&log);
                    async move { Ok::<_, Infallible>(echo(&log, request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }
}

async fn echo(log: &Mutex<Vec<String>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    let mut lines: Vec<String> = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != "connection")
        .map(|(name, value)| match name.as_str() {
            "x-request-id" => "x-request-id: ID\n".to_owned(),
            name => format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())),
        })
        .collect();
    lines.sort();
    text.push_str(&lines.concat());
    let _ =
        write!(text, "body {} bytes {:?}", body.len(), String::from_utf8_lossy(&body[..body.len().min(64)]));
    log.lock().expect("no panic").push(text);
    let mut response = Response::new(Full::new(Bytes::from(format!("echo {}", parts.uri.path()))));
    // The part of an auth service has a script of its own.
    let script = if parts.uri.path().starts_with("/auth") { "x-auth-answer" } else { "x-answer" };
    let script = parts.headers.get(script).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for step in script.split('|').filter(|step| !step.is_empty()) {
        if let Some(millis) = step.strip_prefix("delay=") {
            tokio::time::sleep(Duration::from_millis(millis.parse().expect("a number"))).await;
        } else if let Some(bytes) = step.strip_prefix("bytes=") {
            *response.body_mut() = Full::new(vec![b'x'; bytes.parse().expect("a number")].into());
        } else if let Some(status) = step.strip_prefix("status=") {
            *response.status_mut() = status.parse().expect("a status");
        } else if let Some((name, value)) = step.split_once(": ") {
            let name: http::HeaderName = name.parse().expect("a name");
            response.headers_mut().append(name, value.parse().expect("a value"));
        }
    }
    response
}

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A process of nginx with a folder of its own.
struct Nginx {
    address: SocketAddr,
    tls: SocketAddr,
    process: Child,
    folder: PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master end its worker.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Nginx {
    async fn start(cases: &[Case], http: &str, origin: SocketAddr, dead: SocketAddr) -> Self {
        let tls = ingress_tests::origin::refused().await;
        let address = ingress_tests::origin::refused().await;
        let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("portcullis-parity-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("htpasswd"), "user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n")
            .expect("a file");
        let pair = rcgen::generate_simple_self_signed(vec!["tls.example".to_owned()]).expect("a certificate");
        std::fs::write(folder.join("tls.crt"), pair.cert.pem()).expect("a file");
        std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).expect("a file");
        let conf = configuration(cases, http, &folder, [address, tls], [origin, dead]);
        std::fs::write(folder.join("nginx.conf"), conf).expect("a file");
        let process = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed (cargo xtask setup)");
        let mut nginx = Self { address, tls, process, folder };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            let ended = nginx.process.try_wait().expect("a child");
            assert!(ended.is_none(), "nginx refused the configuration; its error stands above");
            assert!(tokio::time::Instant::now() < deadline, "nginx does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nginx
    }
}

fn configuration(
    cases: &[Case],
    http: &str,
    folder: &std::path::Path,
    [own, tls]: [SocketAddr; 2],
    [origin, dead]: [SocketAddr; 2],
) -> String {
    let dir = folder.display();
    let mut servers = String::new();
    let mut beside = String::new();
    for case in cases {
        servers.push_str(&case.nginx);
        beside.push_str(&case.nginx_http);
    }
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_http_headers_more_filter_module.so;
daemon off; worker_processes 1; pid {dir}/pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  access_log off; server_tokens off; more_clear_headers Server;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  default_type text/html; server_name_in_redirect off; port_in_redirect off;
  client_header_buffer_size 1k; large_client_header_buffers 4 8k; client_body_buffer_size 8k; client_max_body_size 1m;
  underscores_in_headers off; ignore_invalid_headers on; limit_req_status 503; limit_conn_status 503;
  server_names_hash_bucket_size 128; variables_hash_max_size 2048;
  proxy_headers_hash_max_size 1024; proxy_headers_hash_bucket_size 128;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  map $http_x_request_id $req_id {{ default $http_x_request_id; '' $request_id; }}
  upstream origin {{ server {origin}; keepalive 320; }}
  upstream dead {{ server {dead}; }}
  upstream mixed {{ server {dead}; server {origin}; }}
  ssl_certificate {dir}/tls.crt; ssl_certificate_key {dir}/tls.key;
  {http}
  {beside}
  server {{ listen {own} default_server; listen {tls} ssl default_server; location / {{ return 404; }} }}
  {servers}
}}
"
    );
    let text = text
        .replace("@listen@", &format!("listen {own}; listen {tls} ssl"))
        .replace("@dir@", &dir.to_string());
    text.replace("@proxy@", PROXY)
}
