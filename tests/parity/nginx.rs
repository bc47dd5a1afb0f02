//! nginx as a process, configured as ingress-nginx configures it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ingress_tests::client::PATIENCE;
use ingress_tests::origin::{Reserved, reserved};
use tokio::net::TcpStream;

use crate::rig::{Case, PROXY};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// A process of nginx with a folder of its own.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// The addresses, before nginx listens and as long as it does.
    _held: [Reserved; 2],
    process: Child,
    pub(crate) folder: PathBuf,
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
    pub(crate) async fn start(cases: &[Case], http: &str, origin: SocketAddr, dead: SocketAddr) -> Self {
        let held = [reserved(), reserved()];
        let [address, tls] = [held[0].address, held[1].address];
        let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("portcullis-parity-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("htpasswd"), "user:$apr1$Vy7bAIIE$QWY09URiq4Rk6RJrcarNI.\n")
            .expect("a file");
        for (name, text) in cases.iter().flat_map(|case| &case.files) {
            std::fs::write(folder.join(name), text).expect("a file");
        }
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
        let mut nginx = Self { address, tls, _held: held, process, folder };
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
  ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {dir}/tls.crt; ssl_certificate_key {dir}/tls.key;
  {http}
  {beside}
  server {{ listen {own} default_server reuseport; listen {tls} ssl http2 default_server reuseport; location / {{ return 404; }} }}
  {servers}
}}
"
    );
    let text = text
        .replace("@listen@", &format!("listen {own}; listen {tls} ssl http2"))
        .replace("@dir@", &dir.to_string());
    text.replace("@proxy@", PROXY)
}
