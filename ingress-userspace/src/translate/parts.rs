//! Parts of the world that have nothing to do with each other: Ingresses that share a name, and all that comes of them.
//!
//! A part is translated as if it were alone, and kept until one of its Ingresses, an object that they name, or what holds
//! for all changes. So an edit costs what its own hosts cost, and of a large world only one part is held twice at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};

use super::classes::Classes;
use super::slices::Wanted;
use super::view::{Asked, Changed};
use super::{Build, ingress};
use crate::annotation::OWN_PREFIX;
use crate::annotation::alias::SERVER_ALIAS;
use crate::annotation::canary::CANARY;
use crate::annotation::health_check::{UPSTREAM_HEALTH_CHECK_PATH, UPSTREAM_HEALTH_CHECK_TYPE};
use crate::annotation::redirect::FROM_TO_WWW_REDIRECT;
use crate::k8s::cluster::ObjectKey;
use crate::model::Model;
use crate::model::backend::{Backend, BackendId};
use crate::model::certificate::{Authorities, Certificate, CertificateId};
use crate::model::health::HealthCheck;
use crate::model::host::{Host, HostPattern};
use crate::model::policy::client_certificate::{ClientAuth, ClientAuthorities};
use crate::model::policy::password_auth::{UserList, UserListId};
use crate::problem::Problem;

/// What came of the Ingresses of a part. Lists instead of maps: most parts hold one host.
#[derive(Debug)]
pub(super) struct Part {
    /// Its Ingresses, the oldest first.
    members: Vec<Arc<Ingress>>,
    /// Requests that no host takes belong to it.
    has_catch_all: bool,
    /// What else it depends on.
    asked: Asked,
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) backends: Box<[(BackendId, Backend)]>,
    pub(super) wanted: Box<[(BackendId, Wanted)]>,
    pub(super) checks: Box<[(BackendId, HealthCheck)]>,
    pub(super) certificates: Box<[(CertificateId, Arc<Certificate>)]>,
    pub(super) users: Box<[(UserListId, UserList)]>,
    pub(super) authorities: Box<[(String, Authorities)]>,
    pub(super) client_authorities: Box<[(String, ClientAuthorities)]>,
    pub(super) problems: Box<[Problem]>,
    pub(super) refused: Box<[Problem]>,
}

/// The Ingresses of a part that is not translated yet.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    ingresses: Vec<&'a Arc<Ingress>>,
    has_catch_all: bool,
}

impl Members<'_> {
    /// Whether a part is of the same Ingresses, none of which changed.
    fn are_of(&self, part: &Part) -> bool {
        self.has_catch_all == part.has_catch_all
            && self.ingresses.len() == part.members.len()
            && self.ingresses.iter().zip(&part.members).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// The parts of the translation before, by the address of their oldest Ingress.
#[derive(Debug, Default)]
pub(super) struct Parts(HashMap<usize, Arc<Part>>);

impl Parts {
    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those that depend on something that changed.
    pub(super) fn forget(&mut self, changed: &Changed) {
        self.0.retain(|_, part| !changed.touches(&part.asked));
    }

    /// The part of these Ingresses, if it was there.
    pub(super) fn get(&self, members: &Members<'_>) -> Option<&Arc<Part>> {
        // A part holds its Ingresses, so that no other can have their addresses.
        self.0.get(&address(members.ingresses.first().copied())).filter(|part| members.are_of(part))
    }
}

impl FromIterator<Arc<Part>> for Parts {
    fn from_iter<T: IntoIterator<Item = Arc<Part>>>(parts: T) -> Self {
        Self(parts.into_iter().map(|part| (address(part.members.first()), part)).collect())
    }
}

fn address(ingress: Option<&Arc<Ingress>>) -> usize {
    ingress.map_or(0, |ingress| Arc::as_ptr(ingress).addr())
}

/// Divides Ingresses, which come oldest first, into parts, in the order of their oldest.
pub(super) fn divide<'a>(build: &Build<'_>, ours: &[&'a Arc<Ingress>]) -> Vec<Members<'a>> {
    let suffix = |host: &str| host.strip_prefix("*.").map(str::to_ascii_lowercase);
    let suffixes: BTreeSet<String> =
        ours.iter().flat_map(|ingress| hosts(ingress)).filter_map(suffix).collect();
    let mut groups = Groups::default();
    for (index, ingress) in ours.iter().enumerate() {
        groups.parents.push(index);
        for name in names(build, ingress, &suffixes) {
            groups.join(index, name);
        }
    }
    let of_catch_all = groups.names.get(CATCH_ALL).copied().map(|index| groups.root(index));
    let mut parts: Vec<Members<'a>> = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for (index, ingress) in ours.iter().enumerate() {
        let root = groups.root(index);
        let part = *known.entry(root).or_insert_with(|| {
            parts.push(Members { ingresses: Vec::new(), has_catch_all: of_catch_all == Some(root) });
            parts.len() - 1
        });
        if let Some(part) = parts.get_mut(part) {
            part.ingresses.push(ingress);
        }
    }
    if of_catch_all.is_none() {
        parts.push(Members { ingresses: Vec::new(), has_catch_all: true });
    }
    parts
}

/// The name of requests that no host takes.
const CATCH_ALL: &str = "";

/// Everything of which two Ingresses that share it may get into each other's way. Too much is only slow.
fn names(build: &Build<'_>, ingress: &Ingress, suffixes: &BTreeSet<String>) -> Vec<String> {
    let annotation = |key: &str| {
        let annotations = ingress.metadata.annotations.as_ref()?;
        let keys = [OWN_PREFIX, &build.settings.annotations_prefix].map(|prefix| format!("{prefix}/{key}"));
        keys.iter().find_map(|key| annotations.get(key))
    };
    let mut names: Vec<String> = hosts(ingress).map(str::to_ascii_lowercase).collect();
    let has_default = ingress.spec.as_ref().is_some_and(|spec| spec.default_backend.is_some());
    if names.is_empty() || (has_default && annotation(CANARY.row.key).is_some()) {
        names.push(CATCH_ALL.to_owned());
    }
    // A wildcard host with TLS gives it to the hosts that it covers.
    let covering = names.iter().filter_map(|name| name.split_once('.')).map(|(_, suffix)| suffix);
    let covering: Vec<String> =
        covering.filter(|suffix| suffixes.contains(*suffix)).map(|suffix| format!("*.{suffix}")).collect();
    names.extend(covering);
    if annotation(FROM_TO_WWW_REDIRECT.row.key).is_some() {
        let other =
            |name: &String| name.strip_prefix("www.").map_or_else(|| format!("www.{name}"), str::to_owned);
        let others: Vec<String> = names.iter().map(other).collect();
        names.extend(others);
    }
    if let Some(aliases) = annotation(SERVER_ALIAS.row.key) {
        names.extend(aliases.split(',').map(|alias| alias.trim().to_ascii_lowercase()));
    }
    // The oldest Ingress says how a backend is checked.
    let checks = [&UPSTREAM_HEALTH_CHECK_PATH.row, &UPSTREAM_HEALTH_CHECK_TYPE.row];
    if checks.iter().any(|row| annotation(row.key).is_some()) {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let default = build.settings.default_backend.iter().map(ObjectKey::to_string);
        let services = backends(ingress).filter_map(|backend| backend.service.as_ref());
        let services = services.map(|service| format!("{namespace}/{}", service.name));
        names.extend(services.chain(default).map(|service| format!("Service {service}")));
    }
    names
}

/// The hosts of the rules, as written.
fn hosts(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    rules.map(|rule| rule.host.as_deref().unwrap_or_default())
}

fn backends(ingress: &Ingress) -> impl Iterator<Item = &IngressBackend> {
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let paths = rules.flat_map(|rule| rule.http.iter().flat_map(|http| &http.paths));
    paths.map(|path| &path.backend).chain(spec.and_then(|spec| spec.default_backend.as_ref()))
}

/// Which Ingresses belong together, by their index: disjoint sets, each under its smallest member.
#[derive(Default)]
struct Groups {
    parents: Vec<usize>,
    /// The first Ingress that has a name.
    names: HashMap<String, usize>,
}

impl Groups {
    fn root(&self, mut index: usize) -> usize {
        while let Some(parent) = self.parents.get(index).filter(|parent| **parent != index) {
            index = *parent;
        }
        index
    }

    fn join(&mut self, index: usize, name: String) {
        let first = *self.names.entry(name).or_insert(index);
        let (one, other) = (self.root(index), self.root(first));
        let (root, leaf) = (one.min(other), one.max(other));
        if let Some(parent) = self.parents.get_mut(leaf) {
            *parent = root;
        }
        // Short ways for the next ones: a name with ten thousand Ingresses is no chain of them.
        if let Some(parent) = self.parents.get_mut(index) {
            *parent = root;
        }
    }
}

impl Part {
    /// Translates Ingresses as if there were no others. Hosts that equal those of `before`, which are ordered, keep their
    /// address.
    pub(super) fn translate(
        mut build: Build<'_>,
        classes: &Classes,
        members: &Members<'_>,
        before: &[Arc<Host>],
    ) -> Self {
        let hosts = ingress::hosts(&mut build, classes, &members.ingresses, members.has_catch_all);
        let Build {
            backends,
            wanted,
            checks,
            mut certificates,
            mut users,
            mut authorities,
            mut client_authorities,
            mut problems,
            refused,
            cluster: view,
            ..
        } = build;
        // Keys that nothing uses do not travel.
        let routes = || hosts.iter().flat_map(|host| &host.routes).map(|route| &route.policies);
        let shown = routes().filter_map(|policies| Some(&policies.upstream.tls.certificate.as_ref()?.id));
        let used: BTreeSet<_> =
            hosts.iter().filter_map(|host| host.certificate.as_ref()).chain(shown).collect();
        certificates.retain(|id, _| used.contains(id));
        let used: BTreeSet<_> = routes()
            .filter_map(|policies| Some(&policies.upstream.tls.verify.as_ref()?.authorities))
            .collect();
        authorities.retain(|digest, _| used.contains(digest));
        let used: BTreeSet<_> =
            routes().filter_map(|policies| Some(&policies.password_auth.as_ref()?.users)).collect();
        users.retain(|id, _| used.contains(id));
        let used: BTreeSet<_> = hosts
            .iter()
            .filter_map(|host| match host.client_auth.as_ref()? {
                ClientAuth::Certificate(wanted) => Some(&wanted.trust.authorities),
                ClientAuth::Broken { .. } => None,
            })
            .collect();
        client_authorities.retain(|digest, _| used.contains(digest));
        problems.sort();
        problems.dedup();
        let same = |host: Host| match find(before, &host.pattern) {
            Some(known) if **known == host => Arc::clone(known),
            _ => Arc::new(host),
        };
        Self {
            members: members.ingresses.iter().map(|ingress| Arc::clone(ingress)).collect(),
            has_catch_all: members.has_catch_all,
            asked: view.into_asked(),
            hosts: hosts.into_iter().map(same).collect(),
            backends: backends.into_iter().collect(),
            wanted: wanted.into_iter().collect(),
            checks: checks.into_iter().collect(),
            certificates: certificates.into_iter().collect(),
            users: users.into_iter().collect(),
            authorities: authorities.into_iter().collect(),
            client_authorities: client_authorities.into_iter().collect(),
            problems: problems.into_boxed_slice(),
            refused: refused.into_boxed_slice(),
        }
    }
}

/// The host of this pattern among ordered ones.
fn find<'h>(hosts: &'h [Arc<Host>], pattern: &HostPattern) -> Option<&'h Arc<Host>> {
    let at = hosts.binary_search_by(|host| host.pattern.cmp(pattern)).ok()?;
    hosts.get(at)
}

/// All parts together.
pub(super) struct Whole {
    pub(super) model: Model,
    pub(super) wanted: BTreeMap<BackendId, Wanted>,
    pub(super) problems: Vec<Problem>,
    pub(super) refused: Vec<Problem>,
}

impl Whole {
    /// Adds a part. What two parts have in common is equal in both.
    pub(super) fn add(&mut self, part: &Part) {
        // Taken apart without `..`: what a part gains must be added here.
        let Part {
            members: _,
            has_catch_all: _,
            asked: _,
            hosts,
            backends,
            wanted,
            checks,
            certificates,
            users,
            authorities,
            client_authorities,
            problems,
            refused,
        } = part;
        let Self { model, wanted: all_wanted, problems: all_problems, refused: all_refused } = self;
        model.hosts.extend(hosts.iter().map(Arc::clone));
        model.backends.extend(backends.iter().cloned());
        for (id, wanted) in wanted {
            all_wanted.entry(id.clone()).or_insert_with(|| wanted.clone());
        }
        model.checks.extend(checks.iter().cloned());
        model.certificates.extend(certificates.iter().cloned());
        model.users.extend(users.iter().cloned());
        model.authorities.extend(authorities.iter().cloned());
        model.client_authorities.extend(client_authorities.iter().cloned());
        all_problems.extend(problems.iter().cloned());
        all_refused.extend(refused.iter().cloned());
    }
}
