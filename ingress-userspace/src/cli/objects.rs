//! The Cluster view that a command looks at: a folder as `run --manifests` reads it, or a cluster, listed once.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::app::world::{SettingsError, settings, wanted};
use crate::args::PortArgs;
use crate::args::objects::{ObjectArgs, ObjectFormat};
use crate::k8s::client::{ConnectError, connect_as};
use crate::k8s::cluster::Cluster;
use crate::k8s::folder::Folder;
use crate::k8s::reflect::Reflectors;
use crate::translate::{Settings, Translation, translate};

/// A cluster that does not answer within this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a command has nothing to look at, or could not print.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The folder is not there.
    #[error("cannot read {path}")]
    Folder {
        /// The folder or file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A flag.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No cluster is known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Something is not readable.
    #[error(
        "the API server did not list {kinds} within {PATIENCE:?}; is it there, and may this user list them? (kubectl auth can-i list)"
    )]
    NotListed {
        /// What is missing.
        kinds: String,
    },
    /// The runtime.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// JSON.
    #[error("cannot encode the answer")]
    Encode(#[from] serde_json::Error),
    /// YAML.
    #[error("cannot encode the answer as YAML")]
    Yaml(#[from] serde_saphyr::ser_error::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// What a command looks at.
#[derive(Debug)]
pub struct Objects {
    /// The objects.
    pub cluster: Cluster,
    /// What the flags say.
    pub settings: Settings,
    /// What comes of them.
    pub translation: Translation,
    /// The only namespace that is shown; `None`: all.
    pub namespace: Option<String>,
}

impl Objects {
    /// Whether objects of a namespace are shown.
    pub fn shows(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|only| only == namespace)
    }
}

/// Reads the objects and translates them.
pub fn read(args: &ObjectArgs) -> Result<Objects, ObjectsError> {
    let ports = PortArgs { http_port: 80, https_port: 443 };
    let settings = Settings { is_serving: false, ..settings(&args.rules, &ports)? };
    let (cluster, context_namespace) = match &args.filename {
        Some(path) => (folder(path)?, None),
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (cluster, namespace) =
                runtime.map_err(ObjectsError::Runtime)?.block_on(list(args, &settings))?;
            (cluster, Some(namespace))
        }
    };
    let namespace = if args.all_namespaces { None } else { args.namespace.clone().or(context_namespace) };
    let translation = translate(&cluster, &settings);
    Ok(Objects { cluster, settings, translation, namespace })
}

fn folder(path: &Path) -> Result<Cluster, ObjectsError> {
    let unreadable = |source| ObjectsError::Folder { path: path.display().to_string(), source };
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        std::fs::read_dir(path).map_err(unreadable)?;
    }
    let mut folder = Folder::new(path);
    folder.scan(&HashSet::new());
    Ok(folder.cluster())
}

/// Everything is listed, whatever the namespace: Ingresses of a host affect each other across namespaces.
async fn list(args: &ObjectArgs, settings: &Settings) -> Result<(Cluster, String), ObjectsError> {
    let (client, namespace) = connect_as(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let reflectors = Reflectors::start(&client, &wanted(settings));
    let listed = async {
        while !reflectors.is_ready() {
            reflectors.changed().await;
        }
    };
    if tokio::time::timeout(PATIENCE, listed).await.is_err() {
        return Err(ObjectsError::NotListed { kinds: reflectors.waiting().join(", ") });
    }
    Ok((reflectors.cluster(), namespace))
}

/// Prints a value as JSON or YAML.
pub fn print(
    out: &mut dyn io::Write,
    format: ObjectFormat,
    value: &impl serde::Serialize,
) -> Result<(), ObjectsError> {
    match format {
        ObjectFormat::Yaml => write!(out, "{}", serde_saphyr::to_string(value)?)?,
        ObjectFormat::Json | ObjectFormat::Table => {
            writeln!(out, "{}", serde_json::to_string_pretty(value)?)?
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
