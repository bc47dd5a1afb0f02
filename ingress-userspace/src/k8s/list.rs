//! A cluster listed once, for the commands: no watch, and an answer to every refusal.
//!
//! Roles follow a cluster and wait until they may read it; a person who asks a question wants to hear at once what is in the
//! way. What may not be listed everywhere is listed in the one namespace that is asked about; what may not be listed at all
//! is left out and told as a [`Gap`], so that nobody takes silence for a clean answer.

use std::fmt::Debug;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::cluster::{Cluster, ObjectKey, Objects, Origin, key};
use super::reflect::{Wanted, not_installed};
use crate::error_chain::chain;
use crate::problem::{Code, ObjectRef, Problem, Severity};

/// Objects per page.
const PAGE: u32 = 500;

/// What was found.
#[derive(Debug)]
pub struct Listed {
    /// The objects.
    pub cluster: Cluster,
    /// What may not be read.
    pub gaps: Vec<Gap>,
}

/// A right that the user does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// `Secret`, `EndpointSlice`, ...
    pub kind: String,
    /// As `kubectl` names it: `secrets`, `endpointslices.discovery.k8s.io`.
    pub resource: String,
    /// Where it was asked for; `None`: in all namespaces.
    pub namespace: Option<String>,
    /// The only namespace that was read instead; `None`: nothing was.
    pub read: Option<String>,
}

/// Why a cluster cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No answer.
    #[error(
        "the API server {server} cannot be reached ({cause}); is the address right (kubectl config view --minify), and is the \
         server up?"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        cause: String,
    },
    /// 401.
    #[error(
        "the API server {server} does not know this user (401 Unauthorized); log in again, or choose other credentials with \
         --kubeconfig or --context"
    )]
    Unauthorized {
        /// Its address.
        server: String,
    },
    /// 403 for what everything is about.
    #[error(
        "this user may not list ingresses.networking.k8s.io{place}; without them there is nothing to look at. Choose a \
         namespace that may be read with -n, or let an administrator grant the right: {grant}"
    )]
    Forbidden {
        /// Where.
        place: String,
        /// The command.
        grant: String,
    },
    /// Something else.
    #[error("the API server {server} does not list {resource}: {cause}")]
    Failed {
        /// Its address.
        server: String,
        /// What was asked for.
        resource: String,
        /// What it said.
        cause: String,
    },
}

/// Lists what is wanted. `namespace` is the one that is asked about, to fall back to.
pub async fn list(
    client: &Client,
    server: &str,
    wanted: &Wanted,
    namespace: Option<&str>,
) -> Result<Listed, ListError> {
    let mut lister = Lister { client, server, fallback: namespace, gaps: Vec::new(), problems: Vec::new() };
    let all = ListParams::default;
    let only = wanted.namespace.as_deref();
    let ingresses = lister.namespaced::<Ingress>(only, all()).await?;
    if let Some(gap) = lister.gaps.iter().find(|gap| gap.read.is_none()) {
        return Err(ListError::Forbidden { place: gap.place(), grant: gap.grant() });
    }
    let ingress_classes = lister.cluster_wide().await?;
    let mut services = lister.namespaced(only, all()).await?;
    let mut endpoint_slices = lister.namespaced(only, all()).await?;
    // Releases of helm are large, and never what an Ingress names.
    let of_users = || ListParams::default().fields("type!=helm.sh/release.v1");
    let mut secrets = lister.namespaced(only, of_users()).await?;
    let mut config_maps = lister.namespaced(only, all()).await?;
    let elsewhere = |key: &&ObjectKey| only.is_some_and(|only| only != key.namespace);
    for key in wanted.services.iter().filter(elsewhere) {
        services.extend(lister.namespaced(Some(&key.namespace), named(key)).await?);
        let of_service = all().labels(&format!("kubernetes.io/service-name={}", key.name));
        endpoint_slices.extend(lister.namespaced(Some(&key.namespace), of_service).await?);
    }
    for key in wanted.secrets.iter().filter(elsewhere) {
        secrets.extend(lister.namespaced(Some(&key.namespace), named(key)).await?);
    }
    for key in wanted.config_maps.iter().filter(elsewhere) {
        config_maps.extend(lister.namespaced(Some(&key.namespace), all()).await?);
    }
    let namespaces = if wanted.namespaces { lister.cluster_wide().await? } else { Objects::new() };
    let edge_policies = lister.cluster_wide().await?;
    let address_pools = lister.cluster_wide().await?;
    let Lister { mut gaps, problems, .. } = lister;
    gaps.dedup();
    let cluster = Cluster {
        origin: Origin::Api,
        ingresses,
        ingress_classes,
        services,
        endpoint_slices,
        secrets,
        config_maps,
        namespaces,
        nodes: Objects::new(),
        edge_policies,
        address_pools,
        problems,
    };
    Ok(Listed { cluster, gaps })
}

fn named(key: &ObjectKey) -> ListParams {
    ListParams::default().fields(&format!("metadata.name={}", key.name))
}

struct Lister<'a> {
    client: &'a Client,
    server: &'a str,
    fallback: Option<&'a str>,
    gaps: Vec<Gap>,
    problems: Vec<Problem>,
}

/// How a list ended that was answered.
enum Answer<K> {
    Objects(Objects<K>),
    /// 403.
    Refused,
    /// 404: the kind is not installed.
    Unknown,
}

trait Listable: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Listable for K {}

impl Lister<'_> {
    async fn namespaced<K>(
        &mut self,
        namespace: Option<&str>,
        params: ListParams,
    ) -> Result<Objects<K>, ListError>
    where
        K: Listable + Resource<Scope = NamespaceResourceScope>,
    {
        let api = |namespace: Option<&str>| match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let everywhere = self.pages(&api(namespace), &params).await?;
        let (Answer::Refused, None, Some(fallback)) = (&everywhere, namespace, self.fallback) else {
            return Ok(self.taken(everywhere, namespace, None));
        };
        match self.pages(&api(Some(fallback)), &params).await? {
            Answer::Objects(objects) => {
                self.gaps.push(gap::<K>(None, Some(fallback)));
                Ok(objects)
            }
            other => Ok(self.taken(other, None, None)),
        }
    }

    async fn cluster_wide<K: Listable>(&mut self) -> Result<Objects<K>, ListError> {
        let answer = self.pages(&Api::all(self.client.clone()), &ListParams::default()).await?;
        Ok(self.taken(answer, None, None))
    }

    fn taken<K: Listable>(
        &mut self,
        answer: Answer<K>,
        namespace: Option<&str>,
        read: Option<&str>,
    ) -> Objects<K> {
        match answer {
            Answer::Objects(objects) => return objects,
            Answer::Refused => self.gaps.push(gap::<K>(namespace, read)),
            Answer::Unknown => self.problems.push(not_installed::<K>()),
        }
        Objects::new()
    }

    async fn pages<K: Listable>(&self, api: &Api<K>, params: &ListParams) -> Result<Answer<K>, ListError> {
        let mut objects = Objects::new();
        let mut page = params.clone().limit(PAGE);
        loop {
            let list = match api.list(&page).await {
                Ok(list) => list,
                Err(kube::Error::Api(status)) => match status.code {
                    // The pages took too long: what was listed is not a state of the cluster, and is asked for at once.
                    410 if page.limit.is_some() => {
                        objects.clear();
                        page = params.clone();
                        continue;
                    }
                    401 => return Err(ListError::Unauthorized { server: self.server.to_owned() }),
                    403 => return Ok(Answer::Refused),
                    404 => return Ok(Answer::Unknown),
                    _ => return Err(self.failed::<K>(format!("{} {}", status.code, status.message))),
                },
                Err(kube::Error::Service(error)) => return Err(self.unreachable(&*error)),
                Err(kube::Error::HyperError(error)) => return Err(self.unreachable(&error)),
                Err(error) => return Err(self.failed::<K>(chain(&error))),
            };
            objects.extend(list.items.into_iter().map(|object| (key(&object), object.into())));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(Answer::Objects(objects)),
            }
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ListError {
        ListError::Unreachable { server: self.server.to_owned(), cause: chain(error) }
    }

    fn failed<K: Listable>(&self, cause: String) -> ListError {
        ListError::Failed { server: self.server.to_owned(), resource: resource::<K>(), cause }
    }
}

fn resource<K: Listable>() -> String {
    match &*K::group(&()) {
        "" => K::plural(&()).into_owned(),
        group => format!("{}.{group}", K::plural(&())),
    }
}

fn gap<K: Listable>(namespace: Option<&str>, read: Option<&str>) -> Gap {
    Gap {
        kind: K::kind(&()).into_owned(),
        resource: resource::<K>(),
        namespace: namespace.map(str::to_owned),
        read: read.map(str::to_owned),
    }
}

impl Gap {
    fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!(" in namespace {namespace}"),
            None => " in all namespaces".to_owned(),
        }
    }

    /// What an administrator types.
    fn grant(&self) -> String {
        let Self { resource, namespace, .. } = self;
        let name = format!("list-{}", resource.split('.').next().unwrap_or_default());
        let (role, place) = match namespace {
            Some(namespace) => ("role", format!(" -n {namespace}")),
            None => ("clusterrole", String::new()),
        };
        format!(
            "kubectl create {role} {name}{place} --verb=list --resource={resource} && kubectl create {role}binding {name}{place} \
             --{role}={name} --user=NAME (kubectl auth whoami says the NAME)"
        )
    }

    /// What cannot be said without it.
    fn unchecked(&self) -> &'static str {
        match self.kind.as_str() {
            "Ingress" => "hosts and paths that Ingresses of other namespaces ask for too",
            "IngressClass" => "which Ingresses are ours by the controller of their class",
            "Service" | "EndpointSlice" => "whether backends exist and have endpoints",
            "Secret" => "certificates, passwords and whether they exist",
            "ConfigMap" => "cluster-wide settings and ConfigMaps that annotations name",
            "Namespace" => "which namespaces the selector takes",
            "EdgePolicy" => "lists and limits of EdgePolicies",
            "AddressPool" => "addresses of AddressPools",
            _ => "what depends on them",
        }
    }

    /// As it is told.
    pub fn problem(&self) -> Problem {
        let Self { kind, resource, read, .. } = self;
        let (place, unchecked, grant) = (self.place(), self.unchecked(), self.grant());
        let known = match read {
            Some(namespace) => format!("only those of namespace {namespace} are known"),
            None => "none are known".to_owned(),
        };
        Problem {
            object: ObjectRef {
                api_version: "authorization.k8s.io/v1".to_owned(),
                kind: "Right".to_owned(),
                namespace: String::new(),
                name: format!("list {resource}"),
                uid: String::new(),
            },
            code: Code::NotPermitted,
            severity: Severity::Warning,
            field: String::new(),
            value: String::new(),
            message: format!(
                "this user may not list {kind} objects{place}: {known}, and this is not checked: {unchecked}. An administrator \
                 grants the right: {grant}"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
