//! The Cluster view that a command looks at: a folder as `run --manifests` reads it, or a cluster, listed once.
//!
//! What is in the way is said on standard error, so that nobody takes an empty answer for a healthy cluster, and standard
//! output stays what programs read.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;

use crate::app::world::{SettingsError, settings, wanted};
use crate::args::PortArgs;
use crate::args::objects::{ObjectArgs, ObjectFormat};
use crate::k8s::client::{ConnectError, Connected, connect_as};
use crate::k8s::cluster::Cluster;
use crate::k8s::folder::Folder;
use crate::k8s::list::{Gap, ListError, list};
use crate::problem::{Code, Problem, Severity};
use crate::translate::{OurIngress, Settings, Translation, references, translate};

/// A cluster that does not answer within this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Objects that cannot be read, by name; of more, their number.
const MOST_TOLD: usize = 5;

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
    /// The API server says no.
    #[error(transparent)]
    List(#[from] ListError),
    /// The API server says nothing.
    #[error(
        "the API server {server} did not list everything within {PATIENCE:?}; is it overloaded, or behind a proxy that holds \
         requests? (kubectl get --raw /readyz)"
    )]
    Slow {
        /// Its address.
        server: String,
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
    /// The folder that was read; `None`: a cluster.
    pub folder: Option<Folder>,
}

impl Objects {
    /// Whether objects of a namespace are shown.
    pub fn shows(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|only| only == namespace)
    }
}

/// Reads the objects and translates them; what could not be read is said on standard error.
pub fn read(args: &ObjectArgs) -> Result<Objects, ObjectsError> {
    let objects = look(args)?;
    // Nobody reads it: nothing is lost.
    let _ = warn(&objects, &mut io::stderr());
    Ok(objects)
}

/// The same, silently: what could not be read is among the Problems.
pub fn look(args: &ObjectArgs) -> Result<Objects, ObjectsError> {
    let ports = PortArgs { http_port: 80, https_port: 443 };
    let settings = Settings { is_serving: false, ..settings(&args.rules, &ports)? };
    let Seen { cluster, gaps, folder, namespace } = match &args.filename {
        Some(path) => {
            let folder = scan(path)?;
            Seen { cluster: folder.cluster(), gaps: Vec::new(), folder: Some(folder), namespace: None }
        }
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(ObjectsError::Runtime)?.block_on(ask(args, &settings))?
        }
    };
    let namespace = if args.all_namespaces { None } else { args.namespace.clone().or(namespace) };
    let mut translation = translate(&cluster, &settings);
    translation.problems.retain(|problem| !is_unseen(problem, &gaps));
    translation.problems.extend(gaps.iter().map(Gap::problem));
    Ok(Objects { cluster, settings, translation, namespace, folder })
}

struct Seen {
    cluster: Cluster,
    gaps: Vec<Gap>,
    folder: Option<Folder>,
    /// Of the context.
    namespace: Option<String>,
}

fn scan(path: &Path) -> Result<Folder, ObjectsError> {
    let unreadable = |source| ObjectsError::Folder { path: path.display().to_string(), source };
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        std::fs::read_dir(path).map_err(unreadable)?;
    } else {
        std::fs::File::open(path).map_err(unreadable)?;
    }
    let mut folder = Folder::new(path);
    folder.scan(&HashSet::new());
    Ok(folder)
}

/// Everything is listed, whatever the namespace: Ingresses of a host affect each other across namespaces.
async fn ask(args: &ObjectArgs, settings: &Settings) -> Result<Seen, ObjectsError> {
    let Connected { client, namespace, server } =
        connect_as(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let asked = args.namespace.as_deref().unwrap_or(&namespace);
    let wanted = wanted(settings);
    let listed = tokio::time::timeout(PATIENCE, list(&client, &server, &wanted, Some(asked))).await;
    let listed = listed.map_err(|_elapsed| ObjectsError::Slow { server: server.clone() })??;
    Ok(Seen { cluster: listed.cluster, gaps: listed.gaps, folder: None, namespace: Some(namespace) })
}

/// Whether a Problem may come of what this user may not see, and not of the objects.
fn is_unseen(problem: &Problem, gaps: &[Gap]) -> bool {
    let hides = |kinds: &[&str]| {
        gaps.iter().any(|gap| {
            kinds.contains(&gap.kind.as_str()) && gap.read.as_ref() != Some(&problem.object.namespace)
        })
    };
    let is_about_reference =
        || references::annotations().any(|annotation| problem.field.ends_with(&format!("/{annotation}]")));
    match problem.code {
        Code::BackendMissing => hides(&["Service", "EndpointSlice"]),
        Code::SecretInvalid => hides(&["Secret"]),
        Code::ReferenceMissing | Code::AnnotationInvalid => {
            hides(&["Secret", "ConfigMap"]) && is_about_reference()
                || hides(&["IngressClass"]) && problem.field == "spec.ingressClassName"
                || hides(&["ConfigMap"]) && problem.code == Code::ReferenceMissing
        }
        _ => false,
    }
}

/// Says what could not be read, and why there may be nothing to show.
fn warn(objects: &Objects, out: &mut dyn io::Write) -> io::Result<()> {
    let problems = &objects.translation.problems;
    for problem in problems.iter().filter(|problem| problem.code == Code::NotPermitted) {
        writeln!(out, "portcullis: {}", problem.message)?;
    }
    let unread =
        |problem: &&Problem| problem.code == Code::ObjectInvalid && problem.severity == Severity::Error;
    for Problem { object, field, message, .. } in problems.iter().filter(unread).take(MOST_TOLD) {
        writeln!(out, "portcullis: {object} {field}: {message}")?;
    }
    let more = problems.iter().filter(unread).count().saturating_sub(MOST_TOLD);
    if more > 0 {
        writeln!(out, "portcullis: and {more} more that cannot be read; portcullis lint names all")?;
    }
    explain_emptiness(objects, out)
}

/// Says why there is nothing to show, if there is nothing.
pub(super) fn explain_emptiness(objects: &Objects, out: &mut dyn io::Write) -> io::Result<()> {
    let is_ours = |ingress: &&OurIngress| objects.shows(&ingress.object.namespace);
    if objects.translation.ingresses.iter().any(|ingress| is_ours(&ingress)) {
        return Ok(());
    }
    let place = match (&objects.namespace, &objects.folder) {
        (Some(namespace), _) => format!(" in namespace {namespace} (-A: in all)"),
        (None, Some(folder)) => format!(" in {}", folder.root().display()),
        (None, None) => " in the cluster".to_owned(),
    };
    let shown = objects.cluster.ingresses.iter().filter(|(key, _)| objects.shows(&key.namespace));
    let classes: BTreeSet<&str> = shown.clone().filter_map(|(_, ingress)| class(ingress)).collect();
    if shown.count() == 0 {
        return writeln!(out, "portcullis: there is no Ingress{place}");
    }
    let rules = &objects.settings.classes;
    let (controllers, name) = (rules.controllers.join(", "), &rules.name);
    writeln!(
        out,
        "portcullis: no Ingress{place} is of our class; ours are IngressClasses with the controller {controllers}, and the name \
         {name}"
    )?;
    if !classes.is_empty() {
        let classes: Vec<&str> = classes.into_iter().collect();
        writeln!(out, "portcullis: there are Ingresses of the classes {}", classes.join(", "))?;
    }
    writeln!(
        out,
        "portcullis: for those of ingress-nginx write --controller-class k8s.io/ingress-nginx --ingress-class nginx, for those \
         without a class --watch-ingress-without-class"
    )
}

/// The class that an Ingress names.
fn class(ingress: &Arc<Ingress>) -> Option<&str> {
    let annotation =
        || Some(ingress.metadata.annotations.as_ref()?.get("kubernetes.io/ingress.class")?.as_str());
    ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()).or_else(annotation)
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
