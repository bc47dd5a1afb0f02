//! Stage 3, the intermediate representation: what the cluster asks for, as plain data.
//!
//! It is shaped for Gateway API, of which Ingress is a special case: *listener* → *host* → *route* → *backend* →
//! *endpoints*. No Kubernetes types, no IO, nothing compiled; it crosses the unix socket from agent to proxy as serde
//! data. Maps are ordered, so that equal worlds give equal bytes. Nothing here says how a setting was spelled.

pub mod backend;
pub mod block;
pub mod bodies;
pub mod certificate;
pub mod connections;
pub mod edge;
pub mod global;
pub mod health;
pub mod host;
pub mod listener;
pub mod log;
pub mod policy;
pub mod render;
pub mod route;
pub mod shared_limits;
pub mod stream;
pub mod template;
pub mod tls;
pub mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use backend::{Backend, BackendId};
use certificate::{Authorities, Certificate, CertificateId};
use edge::Edge;
use global::Global;
use health::HealthCheck;
use host::Host;
use listener::Listener;
use policy::client_certificate::ClientAuthorities;
use policy::password_auth::{UserList, UserListId};

/// Everything the data plane does, resolved: no reference in it points outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What is listened on, by order of port. Ingress has two implicit listeners, `http` and `https`.
    pub listeners: Vec<Listener>,
    /// Virtual hosts, ordered by pattern. A pattern stands once per listener set.
    pub hosts: Vec<Arc<Host>>,
    /// Backends that routes refer to.
    pub backends: BTreeMap<BackendId, Backend>,
    /// How backends are checked that are.
    pub checks: BTreeMap<BackendId, HealthCheck>,
    /// Certificates that hosts and listeners refer to.
    pub certificates: BTreeMap<CertificateId, Arc<Certificate>>,
    /// Trusted authorities that policies refer to, by the SHA-256 of their certificates.
    pub authorities: BTreeMap<String, Authorities>,
    /// Authorities that may certify clients, by the SHA-256 of what they are.
    pub client_authorities: BTreeMap<String, ClientAuthorities>,
    /// Lists of users that routes refer to.
    pub users: BTreeMap<UserListId, UserList>,
    /// What the kernel does with packets, and which addresses are ours.
    pub edge: Edge,
    /// What holds for the whole proxy.
    pub global: Global,
}
