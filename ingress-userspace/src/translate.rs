//! Stage 3: the Cluster view → the model and the Problems. It never fails: a mistake degrades its own object.
//!
//! Which Ingresses are ours (oldest first), the cluster-wide settings and the packet policies are read at once. Then, for each
//! part of the world that shares a name: the annotations per Ingress, the rules as drafts of hosts, one owner per host and
//! path, certificates, and the finished hosts with the backends that they refer to. Endpoints come last.

mod auth;
mod canary;
mod ciphers;
mod classes;
mod client_certificate;
mod delivery;
mod digest;
mod edge;
mod endpoints;
mod external;
mod external_name;
mod header_maps;
mod health;
mod hosts;
mod ingress;
mod names;
mod parts;
mod passthrough;
mod paths;
pub mod pem;
mod policies;
mod ports;
mod proxy_ssl;
pub mod references;
mod reuse;
mod server_snippet;
mod sessions;
mod settings;
mod shared_limits;
mod slices;
mod streams;
mod subrequests;
mod tls;
mod twins;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use crate::k8s::class::{Ownership, ownership};
use crate::k8s::cluster::{Cluster, ObjectKey, Origin, by_age, reference};
use crate::model::Model;
use crate::model::backend::{Backend, BackendId};
use crate::model::certificate::{Authorities, Certificate, CertificateId};
use crate::model::global::{Global, Subrequests};
use crate::model::health::HealthCheck;
use crate::model::listener::{Listener, ListenerName, ListenerProtocol};
use crate::model::policy::client_certificate::ClientAuthorities;
use crate::model::policy::password_auth::{UserList, UserListId};
use crate::problem::{Code, ObjectRef, Problem, Severity};
use classes::Classes;
use parts::{Part, Whole};
use references::Reference;
pub use reuse::Reuse;
pub use settings::{Proxies, Settings};
use slices::Wanted;
use view::View;

/// What came of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// What to serve.
    pub model: Arc<Model>,
    /// What is wrong, ordered by object, without duplicates.
    pub problems: Vec<Problem>,
    /// The Ingresses that are ours, for status.
    pub ingresses: Arc<[OurIngress]>,
    /// Services that get addresses of pools, or hold some that they should not, ordered.
    pub assignments: Arc<[Assignment]>,
    /// Secrets and ConfigMaps that are named, whether they exist or not.
    pub references: Arc<BTreeSet<Reference>>,
    /// Those of the problems for which ingress-nginx's webhook denies an object.
    pub refused: Vec<Problem>,
}

/// An Ingress that we serve, as far as status needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurIngress {
    /// Which.
    pub object: ObjectRef,
    /// What its status holds now, as [`status_entry`] writes it.
    pub published: Vec<String>,
}

/// What a Service of our load balancer class gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub object: ObjectRef,
    /// Its addresses, IPv4 first; empty: it gets none.
    pub addresses: Vec<IpAddr>,
    /// What its status holds now, as we write it.
    pub published: Vec<IpAddr>,
}

/// What the passes share.
struct Build<'a> {
    cluster: View<'a>,
    settings: &'a Settings,
    backends: BTreeMap<BackendId, Backend>,
    /// Those whose endpoints are found last.
    wanted: BTreeMap<BackendId, Wanted>,
    checks: BTreeMap<BackendId, HealthCheck>,
    certificates: BTreeMap<CertificateId, Arc<Certificate>>,
    users: BTreeMap<UserListId, UserList>,
    authorities: BTreeMap<String, Authorities>,
    client_authorities: BTreeMap<String, ClientAuthorities>,
    known: &'a mut tls::Known,
    /// Seconds since the epoch.
    now: i64,
    /// Which addresses URLs in settings may not name.
    subrequests: Subrequests,
    /// OCSP responses of Secrets are kept.
    is_stapled: bool,
    problems: Vec<Problem>,
    /// Those of them for which admission denies the object.
    refused: Vec<Problem>,
}

impl<'a> Build<'a> {
    fn new(known: &'a mut tls::Known, cluster: &'a Cluster, settings: &'a Settings, now: i64) -> Self {
        Self {
            cluster: View::new(cluster),
            settings,
            backends: BTreeMap::new(),
            wanted: BTreeMap::new(),
            checks: BTreeMap::new(),
            certificates: BTreeMap::new(),
            users: BTreeMap::new(),
            authorities: BTreeMap::new(),
            client_authorities: BTreeMap::new(),
            known,
            now,
            subrequests: Subrequests::default(),
            is_stapled: false,
            problems: Vec::new(),
            refused: Vec::new(),
        }
    }
}

impl Build<'_> {
    fn problem(
        &mut self,
        object: &ObjectRef,
        what: (Code, Severity),
        at: (impl Into<String>, &str),
        message: impl Into<String>,
    ) {
        self.problems.push(problem(object, what, at, message));
    }
}

fn problem(
    object: &ObjectRef,
    (code, severity): (Code, Severity),
    (field, value): (impl Into<String>, &str),
    message: impl Into<String>,
) -> Problem {
    Problem {
        object: object.clone(),
        code,
        severity,
        field: field.into(),
        value: crate::problem::shorten(value),
        message: message.into(),
    }
}

/// Translates the world once.
pub fn translate(cluster: &Cluster, settings: &Settings) -> Translation {
    translate_with(&mut Reuse::default(), cluster, settings, jiff::Timestamp::now().as_second())
}

/// Translates the world as it is at `now`, in seconds since the epoch.
pub fn translate_with(reuse: &mut Reuse, cluster: &Cluster, settings: &Settings, now: i64) -> Translation {
    if let Some(translation) = reuse.with_endpoints(cluster, settings, now) {
        return translation;
    }
    reuse.forget(cluster, settings, now);
    let mut build = Build::new(&mut reuse.certificates, cluster, settings, now);
    build.problems.clone_from(&cluster.problems);
    let ours = ours(&mut build, cluster);
    let classes = Classes::read(&mut build);
    build.subrequests = subrequests::rules(&build.cluster, &cluster.endpoint_slices, &classes.cluster);
    build.is_stapled = classes.cluster.is_stapled;
    check_published(&mut build);
    let global = Global { subrequests: build.subrequests.clone(), ..classes.cluster.global.clone() };
    let default_certificate = tls::default_certificate(&mut build);
    let mut listeners = vec![
        listener("http", settings.http_port, ListenerProtocol::Http),
        listener("https", settings.https_port, ListenerProtocol::Https { default_certificate }),
    ];
    listeners.extend(streams::listeners(&mut build));
    let (edge, assignments) = edge::edge(&mut build, cluster, &global.blocked, &listeners);
    let members = parts::divide(&build, &ours);
    let Build {
        cluster: view,
        backends,
        wanted,
        certificates,
        subrequests,
        is_stapled,
        problems,
        refused,
        ..
    } = build;
    let asked = view.into_asked();
    let model = Model { listeners, backends, certificates, edge, global, ..Model::default() };
    let mut whole = Whole { model, wanted, problems, refused };
    let mut kept = Vec::with_capacity(members.len());
    for members in &members {
        let part = reuse.part(members).unwrap_or_else(|| {
            let (known, before) = reuse.known();
            let build = Build::new(known, cluster, settings, now);
            let build = Build { subrequests: subrequests.clone(), is_stapled, ..build };
            Arc::new(Part::translate(build, &classes, members, before))
        });
        whole.add(&part);
        kept.push(part);
    }
    let Whole { mut model, wanted, problems, refused } = whole;
    model.hosts.sort_by(|one, other| one.pattern.cmp(&other.pattern));
    let translation = Translation {
        model: Arc::new(model),
        problems,
        ingresses: ours.iter().map(|ingress| our_ingress(ingress)).collect(),
        assignments: assignments.into(),
        references: Arc::new(references::references(cluster, settings, &ours)),
        refused,
    };
    reuse.complete(translation, (wanted, kept, asked), (cluster, settings, now))
}

/// Our Ingresses in the order of [`by_age`].
fn ours<'c>(build: &mut Build<'_>, cluster: &'c Cluster) -> Vec<&'c Arc<Ingress>> {
    let mut ours = Vec::new();
    for (key, ingress) in &cluster.ingresses {
        if !is_watched(cluster, build.settings, &key.namespace) {
            continue;
        }
        match ownership(cluster, &build.settings.classes, ingress) {
            Ownership::Ours if build.settings.is_catch_all_disabled && is_catch_all(ingress) => {
                let message = "takes what no rule of any Ingress takes, which --disable-catch-all forbids, so it is not served; \
                               give it rules with hosts";
                let at = ("spec.defaultBackend", "");
                build.problem(&reference(&**ingress), (Code::FieldUnsupported, Severity::Error), at, message);
            }
            Ownership::Ours => ours.push((key, ingress)),
            Ownership::Foreign => {}
            Ownership::Dangling(class) => {
                let name = &build.settings.classes.name;
                let (severity, message) = match cluster.origin {
                    Origin::Api => (Severity::Error, "create it or correct the name".to_owned()),
                    Origin::Folder => (Severity::Warning, format!("add it, or write {name}")),
                };
                let message =
                    format!("no IngressClass of this name exists, so the Ingress is not served; {message}");
                let at = ("spec.ingressClassName", class.as_str());
                build.problem(&reference(&**ingress), (Code::ReferenceMissing, severity), at, message);
            }
        }
    }
    ours.sort_by(|(one, first), (other, second)| by_age((one, first), (other, second)));
    ours.into_iter().map(|(_, ingress)| ingress).collect()
}

/// Whether the Ingresses of a namespace are looked at.
pub(crate) fn is_watched(cluster: &Cluster, settings: &Settings, namespace: &str) -> bool {
    let none = BTreeMap::new();
    let is_named = settings.watch_namespace.as_ref().is_none_or(|only| only == namespace);
    let is_selected = settings.namespace_selector.as_ref().is_none_or(|selector| {
        let found = cluster.namespaces.get(&ObjectKey::new("", namespace));
        found.is_some_and(|found| selector.matches(found.metadata.labels.as_ref().unwrap_or(&none)))
    });
    is_named && is_selected
}

/// Whether an Ingress has a default backend and no rules.
fn is_catch_all(ingress: &Ingress) -> bool {
    let spec = ingress.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.default_backend.is_some() && spec.rules.as_deref().unwrap_or_default().is_empty()
    })
}

/// A Service that does not exist has no addresses to publish.
fn check_published(build: &mut Build<'_>) {
    let Some(key) = build.settings.published_service.as_ref() else { return };
    if !build.cluster.services.contains_key(key) {
        let message = "there is no such Service, so the status of Ingresses gets no address, and loses the one it has after a \
                       minute; create it or correct the flag";
        let at = ("publish-service", key.to_string());
        let flag = ObjectRef::flag("--publish-service");
        build.problem(&flag, (Code::ReferenceMissing, Severity::Warning), (at.0, &at.1), message);
    }
}

fn our_ingress(ingress: &Ingress) -> OurIngress {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let published = entries
        .iter()
        .filter_map(|entry| status_entry(entry.ip.as_deref(), entry.hostname.as_deref()))
        .collect();
    OurIngress { object: reference(ingress), published }
}

/// An entry of a load balancer's status: the address, the host name, or both with a space between.
pub fn status_entry(ip: Option<&str>, hostname: Option<&str>) -> Option<String> {
    let parts = [ip, hostname].into_iter().flatten().filter(|part| !part.is_empty());
    let entry = parts.collect::<Vec<_>>().join(" ");
    (!entry.is_empty()).then_some(entry)
}

fn listener(name: &str, port: u16, protocol: ListenerProtocol) -> Listener {
    Listener { name: ListenerName(name.to_owned()), port, protocol }
}
