//! A model as what differs from the one that the proxy has already, in frames of bounded size.
//!
//! Endpoints change many times a second, and a large model is tens of megabytes: what did not change does not travel.
//! Each connection begins with the empty model, so that a proxy or an agent that starts anew needs no agreement.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::link::messages::ModelVersion;
use crate::model::Model;
use crate::model::backend::{Backend, BackendId};
use crate::model::certificate::{Authorities, Certificate, CertificateId};
use crate::model::edge::Edge;
use crate::model::global::Global;
use crate::model::health::HealthCheck;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::{Listener, ListenerName};
use crate::model::policy::client_certificate::ClientAuthorities;
use crate::model::policy::password_auth::{UserList, UserListId};

/// Hosts of one frame. A host with its routes takes some kilobytes.
const HOSTS: usize = 500;
/// Entries of maps in one frame.
const ENTRIES: usize = 2000;

/// One frame of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ModelPart {
    version: ModelVersion,
    /// With this one the model is complete.
    is_last: bool,
    piece: Piece,
}

/// What a frame changes.
#[derive(Debug, Serialize, Deserialize)]
enum Piece {
    Listeners(Vec<Listener>),
    GoneHosts(Vec<(HostPattern, Vec<ListenerName>)>),
    Hosts(Vec<Arc<Host>>),
    Backends(Changes<BackendId, Backend>),
    Checks(Changes<BackendId, HealthCheck>),
    Certificates(Changes<CertificateId, Arc<Certificate>>),
    Authorities(Changes<String, Authorities>),
    Users(Changes<UserListId, UserList>),
    ClientAuthorities(Changes<String, ClientAuthorities>),
    Edge(Edge),
    Global(Box<Global>),
    /// Only the version.
    Nothing,
}

/// Entries of a map that went, and those that came or changed.
#[derive(Debug, Serialize, Deserialize)]
struct Changes<K, V> {
    gone: Vec<K>,
    new: Vec<(K, V)>,
}

/// What a proxy must be told that has the model `before`.
pub(super) fn parts(version: ModelVersion, before: &Model, after: &Model) -> Vec<ModelPart> {
    // Taken apart without `..`: what a model gains must travel.
    let Model {
        listeners,
        hosts,
        backends,
        checks,
        certificates,
        authorities,
        users,
        client_authorities,
        edge,
        global,
    } = after;
    let mut pieces = Vec::new();
    if *listeners != before.listeners {
        pieces.push(Piece::Listeners(listeners.clone()));
    }
    hosts_of(&before.hosts, hosts, &mut pieces);
    pieces.extend(changes(&before.backends, backends).map(Piece::Backends));
    pieces.extend(changes(&before.checks, checks).map(Piece::Checks));
    pieces.extend(changes(&before.certificates, certificates).map(Piece::Certificates));
    pieces.extend(changes(&before.authorities, authorities).map(Piece::Authorities));
    pieces.extend(changes(&before.users, users).map(Piece::Users));
    pieces.extend(changes(&before.client_authorities, client_authorities).map(Piece::ClientAuthorities));
    if *edge != before.edge {
        // What parses the requests of strangers needs no key of the nodes.
        pieces.push(Piece::Edge(Edge { cluster_key: None, ..edge.clone() }));
    }
    if *global != before.global {
        pieces.push(Piece::Global(Box::new(global.clone())));
    }
    if pieces.is_empty() {
        pieces.push(Piece::Nothing);
    }
    let count = pieces.len();
    let numbered = pieces.into_iter().enumerate();
    numbered.map(|(index, piece)| ModelPart { version, is_last: index + 1 == count, piece }).collect()
}

/// What tells hosts apart.
fn identity(host: &Host) -> (&HostPattern, &[ListenerName]) {
    (&host.pattern, &host.listeners)
}

fn hosts_of(before: &[Arc<Host>], after: &[Arc<Host>], pieces: &mut Vec<Piece>) {
    let known: BTreeMap<_, &Arc<Host>> = before.iter().map(|host| (identity(host), host)).collect();
    let kept: HashSet<_> = after.iter().map(|host| identity(host)).collect();
    let gone = known.keys().filter(|identity| !kept.contains(*identity));
    let gone: Vec<_> = gone.map(|(pattern, listeners)| ((*pattern).clone(), listeners.to_vec())).collect();
    if !gone.is_empty() {
        pieces.push(Piece::GoneHosts(gone));
    }
    let new = after.iter().filter(|host| known.get(&identity(host)) != Some(host));
    let new: Vec<Arc<Host>> = new.map(Arc::clone).collect();
    pieces.extend(new.chunks(HOSTS).map(|chunk| Piece::Hosts(chunk.to_vec())));
}

fn changes<K, V>(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> impl Iterator<Item = Changes<K, V>>
where
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    let gone: Vec<K> = before.keys().filter(|key| !after.contains_key(key)).cloned().collect();
    let new = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let new: Vec<(K, V)> = new.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut chunks: Vec<Changes<K, V>> =
        new.chunks(ENTRIES).map(|chunk| Changes { gone: Vec::new(), new: chunk.to_vec() }).collect();
    if !gone.is_empty() {
        chunks.insert(0, Changes { gone, new: Vec::new() });
    }
    chunks.into_iter()
}

impl<K: Ord, V> Changes<K, V> {
    fn apply(self, map: &mut BTreeMap<K, V>) {
        for key in &self.gone {
            map.remove(key);
        }
        map.extend(self.new);
    }
}

/// The model of a connection, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Held {
    model: Arc<Model>,
}

impl Held {
    /// Takes a frame; gives the model when it is complete.
    pub(super) fn take(&mut self, part: ModelPart) -> Option<(ModelVersion, Arc<Model>)> {
        if !matches!(part.piece, Piece::Nothing) {
            part.piece.apply(Arc::make_mut(&mut self.model));
        }
        part.is_last.then(|| (part.version, Arc::clone(&self.model)))
    }
}

impl Piece {
    fn apply(self, model: &mut Model) {
        match self {
            Self::Listeners(listeners) => model.listeners = listeners,
            Self::GoneHosts(gone) => {
                let gone: HashSet<_> =
                    gone.iter().map(|(pattern, listeners)| (pattern, listeners.as_slice())).collect();
                model.hosts.retain(|host| !gone.contains(&identity(host)));
            }
            Self::Hosts(new) => {
                let replaced: HashSet<_> = new.iter().map(|host| identity(host)).collect();
                model.hosts.retain(|host| !replaced.contains(&identity(host)));
                model.hosts.extend(new);
                model.hosts.sort_by(|one, other| identity(one).cmp(&identity(other)));
            }
            Self::Backends(changes) => changes.apply(&mut model.backends),
            Self::Checks(changes) => changes.apply(&mut model.checks),
            Self::Certificates(changes) => changes.apply(&mut model.certificates),
            Self::Authorities(changes) => changes.apply(&mut model.authorities),
            Self::Users(changes) => changes.apply(&mut model.users),
            Self::ClientAuthorities(changes) => changes.apply(&mut model.client_authorities),
            Self::Edge(edge) => model.edge = edge,
            Self::Global(global) => model.global = *global,
            Self::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backend::BackendState;
    use crate::model::edge::{ClusterKey, Pool};

    fn host(name: &str, is_secure: bool) -> Arc<Host> {
        Arc::new(Host {
            pattern: HostPattern::Exact(name.to_owned()),
            listeners: vec![ListenerName(if is_secure { "https" } else { "http" }.to_owned())],
            certificate: None,
            ciphers: None,
            client_auth: None,
            passthrough: None,
            routes: Vec::new(),
        })
    }

    fn backend(number: usize) -> (BackendId, Backend) {
        let id =
            BackendId { namespace: "a".to_owned(), service: format!("s{number:05}"), port: "80".to_owned() };
        (id, Backend { state: BackendState::Missing, external_name: None, endpoints: Vec::new() })
    }

    fn sent(held: &mut Held, version: ModelVersion, before: &Model, after: &Model) -> (usize, Arc<Model>) {
        let parts = parts(version, before, after);
        let count = parts.len();
        let mut complete = Vec::new();
        for part in parts {
            let bytes = rmp_serde::to_vec_named(&part).unwrap();
            complete.extend(held.take(rmp_serde::from_slice(&bytes).unwrap()));
        }
        let (told, model) = complete.pop().unwrap();
        assert!(complete.is_empty(), "only the last frame completes a model");
        assert_eq!(told, version);
        (count, model)
    }

    #[test]
    fn the_key_of_the_nodes_stays_with_the_agent() {
        let mut after = Model::default();
        after.edge.pools.push(Pool::new("pool", Vec::new()));
        let told = after.clone();
        after.edge.cluster_key = Some(ClusterKey { current: 1, previous: Some(2), seed: 3 });
        let (_, model) = sent(&mut Held::default(), 1, &Model::default(), &after);
        assert_eq!(*model, told);
    }

    #[test]
    fn every_change_arrives_and_what_is_equal_keeps_its_address() {
        let empty = Model::default();
        let large = Model {
            hosts: (0..1200).map(|number| host(&format!("h{number:05}"), false)).collect(),
            backends: (0..4500).map(backend).collect(),
            ..Model::default()
        };
        let mut held = Held::default();
        let (frames, first) = sent(&mut held, 1, &empty, &large);
        assert_eq!((frames, &*first), (3 + 3, &large), "frames are bounded");

        let mut other = large.clone();
        other.hosts.remove(7);
        if let Some(changed) = other.hosts.get_mut(700) {
            *changed = host("h00701", true);
        }
        other.hosts.push(host("new", true));
        other.backends.remove(&backend(3).0);
        other.backends.insert(backend(9).0, Backend { state: BackendState::Resolved, ..backend(9).1 });
        other.edge.pools.push(Pool::new("pool", Vec::new()));
        let (frames, second) = sent(&mut held, 2, &large, &other);
        assert_eq!((frames, &*second), (5, &other));
        assert!(Arc::ptr_eq(&first.hosts[0], &second.hosts[0]));

        let (frames, third) = sent(&mut held, 3, &other, &other);
        assert_eq!((frames, &*third), (1, &other));
        let (_, last) = sent(&mut held, 4, &other, &empty);
        assert_eq!(*last, empty);
    }
}
