use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::model::backend::{Backend, BackendId, BackendState, Endpoint, EndpointCondition};
use crate::model::host::{Host, HostPattern};
use crate::model::listener::{Listener, ListenerName, ListenerProtocol};
use crate::model::policy::delivery::Delivery;
use crate::model::policy::upstream::Upstream;
use crate::model::policy::{BodyLimit, Policies, ResponseBuffer, Timeouts};
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource, WeightedBackend};
use crate::snapshot::Action;
use crate::snapshot::nonces::Nonces;
use crate::tls::self_signed;

fn compiler() -> Compiler {
    let certificates = Certificates::new(self_signed::generate().unwrap());
    Compiler::new(certificates, Sessions::new().unwrap(), Nonces::new().unwrap())
}

fn model(hosts: &[&str], endpoints: &[&str]) -> Arc<Model> {
    let id = BackendId { namespace: "ns".into(), service: "web".into(), port: "80".into() };
    let second = Duration::from_secs(1);
    let policies = Policies {
        deny: None,
        cors: None,
        answers: Vec::new(),
        https_redirect: None,
        allow_list: None,
        deny_list: None,
        password_auth: None,
        client_auth: None,
        is_one_enough: false,
        rate_limit: None,
        quota: None,
        connection_limit: None,
        bandwidth: None,
        request_buffer: None,
        response_buffer: ResponseBuffer::default(),
        body_limit: BodyLimit { max_bytes: None },
        rewrite: None,
        delivery: Delivery::default(),
        headers: Default::default(),
        answer_rewrite: Default::default(),
        timeouts: Timeouts { connect: second, send: second, read: second },
        upstream: Upstream::default(),
        auth_external: None,
        error_pages: None,
        mirror: None,
        is_logged: true,
        trace: None,
    };
    let host = |name: &&str| Host {
        pattern: HostPattern::Exact((*name).to_owned()),
        listeners: vec![ListenerName("http".into())],
        certificate: None,
        ciphers: None,
        client_auth: None,
        passthrough: None,
        routes: vec![Route {
            source: RouteSource {
                namespace: "ns".into(),
                name: "web".into(),
                host: (*name).to_owned(),
                path: "/".into(),
            },
            matches: RouteMatch { path: PathMatch::Prefix(String::new()) },
            policies: policies.clone(),
            action: RouteAction::Forward {
                backends: vec![WeightedBackend { backend: id.clone(), weight: 1 }],
                fallback: None,
            },
        }],
    };
    let endpoint =
        |text: &&str| Endpoint { address: text.parse().unwrap(), condition: EndpointCondition::Ready };
    let backend = Backend {
        state: BackendState::Resolved,
        external_name: None,
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    Arc::new(Model {
        listeners: vec![Listener {
            name: ListenerName("http".into()),
            port: 80,
            protocol: ListenerProtocol::Http,
        }],
        hosts: hosts.iter().map(host).map(Arc::new).collect(),
        backends: [(id.clone(), backend)].into(),
        ..Model::default()
    })
}

/// The route of a host, and where it goes now.
fn look(snapshot: &Snapshot, host: &str) -> Option<(Arc<crate::snapshot::Route>, Vec<SocketAddr>)> {
    let route = Arc::clone(snapshot.listener("http")?.router.route(host, b"/")?);
    let Action::Forward { targets, .. } = &route.action else { return None };
    let endpoints = targets.first()?.backend.endpoints.pin().usable.iter().map(|e| e.address).collect();
    Some((route, endpoints))
}

#[test]
fn endpoints_change_in_place_even_for_those_who_hold_an_old_snapshot() {
    let mut compiler = compiler();
    let first = compiler.compile(1, &model(&["a"], &["198.18.0.1:80"])).snapshot;
    let second = compiler.compile(2, &model(&["a"], &["198.18.0.2:80"])).snapshot;
    assert_eq!(second.version, 2);
    let (old, _) = look(&first, "a").unwrap();
    let (new, endpoints) = look(&second, "a").unwrap();
    assert!(Arc::ptr_eq(&old, &new));
    assert_eq!(endpoints, ["198.18.0.2:80".parse().unwrap()]);
}

#[test]
fn a_host_that_did_not_change_is_taken_over() {
    let mut compiler = compiler();
    let first = compiler.compile(1, &model(&["a", "b"], &["198.18.0.1:80"])).snapshot;
    let second = compiler.compile(2, &model(&["b", "c"], &["198.18.0.1:80"])).snapshot;
    assert!(look(&second, "a").is_none());
    let (old, new) = (look(&first, "b").unwrap().0, look(&second, "b").unwrap().0);
    assert!(Arc::ptr_eq(&old, &new));
    assert!(look(&second, "c").is_some());
    // And goes on being so when something else changes again.
    let third = compiler.compile(3, &model(&["b"], &["198.18.0.3:80"])).snapshot;
    let (kept, endpoints) = look(&third, "b").unwrap();
    assert!(Arc::ptr_eq(&kept, &new));
    assert_eq!(endpoints, ["198.18.0.3:80".parse().unwrap()]);
}

#[test]
fn a_backend_that_went_away_and_came_back_is_followed_again() {
    let mut compiler = compiler();
    compiler.compile(1, &model(&["a"], &["198.18.0.1:80"]));
    compiler.compile(2, &Arc::new(Model::default()));
    let snapshot = compiler.compile(3, &model(&["a"], &["198.18.0.2:80"])).snapshot;
    compiler.compile(4, &model(&["a"], &["198.18.0.3:80"]));
    assert_eq!(look(&snapshot, "a").unwrap().1, ["198.18.0.3:80".parse().unwrap()]);
}
