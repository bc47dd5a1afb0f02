//! A client of the API server, by kubeconfig or by the service account of the pod.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

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
    let (client, _) = connect_as(kubeconfig, None).await?;
    Ok(client)
}

/// The same by a context of the kubeconfig; also says which namespace it is for.
pub async fn connect_as(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<(Client, String), ConnectError> {
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
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).map_err(ConnectError::Client)?, namespace))
}
