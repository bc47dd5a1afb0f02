//! A client of the API server, by kubeconfig or by the service account of the pod.
//!
//! A watch is silent while nothing changes, and so is one whose server's machine is gone: TCP asks on idle connections, so
//! that a lost one is noticed within a minute, and not when the watch would have ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::BoxError;
use tower::retry::RetryLayer;
use tower::util::{MapErrLayer, option_layer};

/// An idle connection is asked after this time, ...
const KEEPALIVE: Duration = Duration::from_secs(30);
/// ... again in this interval, ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and given up after this many questions without an answer.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and is not acknowledged for this long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file given by `--kubeconfig`.
    #[error("kubeconfig {path} cannot be used")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// Neither KUBECONFIG nor a service account.
    #[error(
        "no cluster is known: give --kubeconfig, set KUBECONFIG, run in a pod, or serve a folder with --manifests"
    )]
    Infer(#[source] kube::config::InferConfigError),
    /// TLS or proxy settings of the configuration.
    #[error("the client of the API server cannot be set up")]
    Client(#[source] kube::Error),
}

/// Connects lazily: an API server that is away is not an error here.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    Ok(connect_as(kubeconfig, None).await?.client)
}

/// A client and what its configuration says.
#[derive(Clone)]
pub struct Connected {
    /// The client.
    pub client: Client,
    /// The namespace that is meant where none is named.
    pub namespace: String,
    /// Where the API server is.
    pub server: String,
}

/// The same by a context of the kubeconfig.
pub async fn connect_as(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Connected, ConnectError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match (kubeconfig, context) {
        (Some(path), _) => {
            let wrap = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
            let file = Kubeconfig::read_from(path).map_err(wrap)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(wrap)?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options)
            .await
            .map_err(|source| ConnectError::Kubeconfig { path: "of this user".into(), source })?,
        (None, None) => Config::infer().await.map_err(ConnectError::Infer)?,
    };
    let (namespace, server) = (config.default_namespace.clone(), config.cluster_url.to_string());
    Ok(Connected { client: client(config).map_err(ConnectError::Client)?, namespace, server })
}

/// As kube builds it, over connections that notice when they are lost. Behind an HTTP proxy, and with credentials of a
/// program, it is kube's own.
fn client(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    // Somebody else's is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer()?)
        .with_layer(&option_layer(config.auth_layer()?))
        .with_layer(&RetryLayer::new(RetryPolicy::server_retry()))
        .with_layer(&config.base_uri_layer());
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn tcp_asks_on_idle_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = client(Config::new(format!("http://{address}").parse().unwrap())).unwrap();
        let asking = tokio::spawn(async move { client.apiserver_version().await });
        let (stream, peer) = listener.accept().await.unwrap();
        // The client's end: what it sent is acknowledged, and the timer that is left is that of keep-alive, 02.
        let is_asking = async {
            loop {
                let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
                let [ours, theirs] = [peer.port(), address.port()].map(|port| format!("0100007F:{port:04X}"));
                let line = sockets.lines().find(|line| line.contains(&format!("{ours} {theirs}")));
                if line.is_some_and(|line| {
                    line.split_whitespace().nth(5).is_some_and(|timer| timer.starts_with("02:"))
                }) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_asking).await.expect("keep-alive");
        drop(stream);
        assert!(asking.await.unwrap().is_err());
    }
}
