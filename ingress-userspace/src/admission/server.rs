//! HTTPS for reviews: bounded in size, time and number, whoever asks.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::certificate::{Files, Newest};
use super::review::review;
use crate::error_chain::chain;
use crate::k8s::cluster::Cluster;
use crate::translate::Settings;

/// Where the API server asks.
pub const PATH: &str = "/networking/v1/ingresses";
/// Largest review: an object may have 1.5 MiB, and an update carries two.
const MOST_BYTES: usize = 3 << 20;
/// For everything that a connection does before its request is read, and for its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections at once; further ones wait in the queue of the kernel.
const MOST_CONNECTIONS: usize = 256;
/// Reviews at once; further ones are told to come back.
const MOST_REVIEWS: usize = 8;
/// How often the certificate's files are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);

/// The world as it is now; `None`: not known yet.
pub type View = Arc<dyn Fn() -> Option<Cluster> + Send + Sync>;

/// What a review needs.
#[derive(Clone)]
struct Judge {
    view: View,
    settings: Arc<Settings>,
    reviews: Arc<Semaphore>,
}

/// A bound webhook.
pub struct Server {
    listener: TcpListener,
    files: Files,
    newest: Arc<Newest>,
    tls: TlsAcceptor,
    judge: Judge,
}

impl Server {
    /// Binds `port` (0: any free one) on all addresses.
    pub async fn bind(port: u16, files: Files, view: View, settings: Settings) -> anyhow::Result<Self> {
        let newest = Arc::new(Newest::new(files.load()?));
        let resolver = Arc::clone(&newest);
        let config =
            ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(resolver);
        let listener = bind(port).await?;
        info!(address = %listener.local_addr()?, "webhook listens");
        let reviews = Arc::new(Semaphore::new(MOST_REVIEWS));
        let judge = Judge { view, settings: Arc::new(settings), reviews };
        Ok(Self { listener, files, newest, tls: TlsAcceptor::from(Arc::new(config)), judge })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown`, and finishes what it began.
    pub async fn run(self, shutdown: CancellationToken) {
        let (connections, tasks) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), TaskTracker::new());
        let mut look = tokio::time::interval(LOOK_AT_FILES);
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                _ = look.tick() => {
                    self.look_at_files();
                    continue;
                }
                accepted = accept(&self.listener, &connections) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let (tls, judge) = (self.tls.clone(), self.judge.clone());
                    tasks.spawn(async move {
                        if let Err(reason) = serve(stream, tls, judge).await {
                            debug!(reason, "connection of the webhook ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(error = %chain(&error), "the webhook could not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        tasks.close();
        let _ = tokio::time::timeout(DEADLINE, tasks.wait()).await;
    }

    fn look_at_files(&self) {
        match self.files.load() {
            Ok(pair) => {
                if self.newest.replace(pair) {
                    info!("the webhook serves a new certificate");
                }
            }
            Err(error) => warn!(error = %chain(&error), "the webhook keeps its certificate"),
        }
    }
}

async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // A node without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        bound => bound,
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, judge: Judge) -> Result<(), String> {
    let shake = tokio::time::timeout(DEADLINE, tls.accept(stream));
    let stream = shake
        .await
        .map_err(|_elapsed| "handshake deadline".to_owned())?
        .map_err(|error| error.to_string())?;
    let answer = service_fn(move |request| {
        let judge = judge.clone();
        async move { Ok::<_, Infallible>(answer(judge, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(DEADLINE).max_buf_size(64 << 10);
    http.serve_connection(TokioIo::new(stream), answer).await.map_err(|error| error.to_string())
}

async fn answer(judge: Judge, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return text(
            StatusCode::NOT_FOUND,
            "reviews of Ingresses are answered at /networking/v1/ingresses\n",
        );
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "a review is sent by POST\n");
    }
    let Ok(_permit) = judge.reviews.try_acquire() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once\n");
    };
    let body = tokio::time::timeout(DEADLINE, Limited::new(request.into_body(), MOST_BYTES).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 3 MiB\n");
        }
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the body ended early\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
    };
    let (view, settings) = (Arc::clone(&judge.view), Arc::clone(&judge.settings));
    // Translation takes milliseconds of pure work; the runtime has connections to look after.
    let judged = tokio::task::spawn_blocking(move || {
        let cluster = view()?;
        Some(review(&cluster, &settings, &body))
    });
    match judged.await {
        Ok(Some(Ok(answer))) => json(&answer),
        Ok(Some(Err(error))) => text(StatusCode::BAD_REQUEST, &format!("{}\n", chain(&error))),
        Ok(None) => text(StatusCode::SERVICE_UNAVAILABLE, "not every kind was listed yet\n"),
        Err(error) => {
            warn!(error = %chain(&error), "a review failed");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the review failed\n")
        }
    }
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    struct Rig {
        address: SocketAddr,
        tls: TlsConnector,
        shutdown: CancellationToken,
        folder: std::path::PathBuf,
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.shutdown.cancel();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    async fn rig(view: View) -> Rig {
        let made = rcgen::generate_simple_self_signed(vec!["webhook.test".to_owned()]).unwrap();
        let shutdown = CancellationToken::new();
        static FOLDERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("portcullis-webhook-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let server = Server::bind(0, files, view, Settings::default()).await.unwrap();
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), server.address().unwrap().port());
        tokio::spawn(server.run(shutdown.clone()));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config =
            ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        Rig { address, tls: TlsConnector::from(Arc::new(config)), shutdown, folder }
    }

    impl Rig {
        async fn ask(&self, head: &str, body: &[u8]) -> String {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let name = ServerName::try_from("webhook.test").unwrap();
            let mut stream = self.tls.connect(name, stream).await.unwrap();
            let head = format!(
                "{head} HTTP/1.1\r\nHost: webhook.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // A refusal may come before all of it was read.
            let _ = stream.write_all(body).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        }
    }

    fn known() -> View {
        Arc::new(|| Some(Cluster::default()))
    }

    const REVIEW: &str = r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1",
        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}, "operation": "CREATE",
        "object": {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"defaultBackend": {"service": {"name": "web",
        "port": {"number": 80}}}}}}}"#;

    #[tokio::test]
    async fn a_review_is_answered_and_everything_else_is_refused() {
        let rig = rig(known()).await;
        let answer = rig.ask("POST /networking/v1/ingresses?timeout=10s", REVIEW.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""uid":"u-1""#), "{answer}");
        for (head, body, expected) in [
            ("POST /networking/v1/ingresses", "{}", "400"),
            ("POST /networking/v1/ingresses", "hello", "400"),
            ("GET /networking/v1/ingresses", "", "405"),
            ("POST /other", REVIEW, "404"),
        ] {
            let answer = rig.ask(head, body.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{head}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_review_larger_than_three_mebibytes_is_refused() {
        let rig = rig(known()).await;
        let answer = rig.ask("POST /networking/v1/ingresses", &vec![b' '; MOST_BYTES + 1]).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }

    #[tokio::test]
    async fn nobody_is_judged_before_the_world_is_known() {
        let rig = rig(Arc::new(|| None)).await;
        let answer = rig.ask("POST /networking/v1/ingresses", REVIEW.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }

    #[tokio::test]
    async fn a_changed_file_is_served_and_a_broken_one_is_not() {
        let rig = rig(known()).await;
        let files = Files { certificate: rig.folder.join("tls.crt"), key: rig.folder.join("tls.key") };
        let newest = Newest::new(files.load().unwrap());
        let other = rcgen::generate_simple_self_signed(vec!["other.test".to_owned()]).unwrap();
        std::fs::write(&files.certificate, other.cert.pem()).unwrap();
        assert!(files.load().is_err(), "the key is still that of the old one");
        std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        assert!(newest.replace(files.load().unwrap()), "another certificate");
        assert!(!newest.replace(files.load().unwrap()), "the same one");
    }
}
