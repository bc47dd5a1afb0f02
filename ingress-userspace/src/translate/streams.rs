//! The ConfigMaps of `--tcp-services-configmap` and `--udp-services-configmap` → listeners that carry bytes as they are.
//!
//! An entry is `port: namespace/service:port`, for TCP followed by `:PROXY` for a PROXY header from clients, and another
//! `:PROXY` for one to endpoints. An entry that cannot be read is a Problem of the ConfigMap; the others are served.

use std::collections::BTreeMap;

use ingress_common::tunnel;

use super::Build;
use super::endpoints::{PortRef, stream_backend, udp_backend};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::model::listener::{Listener, ListenerName, ListenerProtocol};
use crate::model::stream::StreamRoute;
use crate::problem::{Code, ObjectRef, Severity};

/// What a ConfigMap is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

/// The listeners of both ConfigMaps, by port.
pub(super) fn listeners(build: &mut Build<'_>) -> Vec<Listener> {
    let tcp = of_config_map(build, build.settings.tcp_services.as_ref(), Kind::Tcp);
    let udp = of_config_map(build, build.settings.udp_services.as_ref(), Kind::Udp);
    tcp.into_iter().chain(udp).collect()
}

fn of_config_map(build: &mut Build<'_>, key: Option<&ObjectKey>, kind: Kind) -> Vec<Listener> {
    let Some(key) = key else { return Vec::new() };
    let Some(object) = build.cluster.config_maps.get(key) else {
        let (name, field) = match kind {
            Kind::Tcp => ("--tcp-services-configmap", "tcp-services-configmap"),
            Kind::Udp => ("--udp-services-configmap", "udp-services-configmap"),
        };
        let message =
            "there is no such ConfigMap, so none of its services is served; create it or correct the flag";
        let at = (field, key.to_string());
        build.problem(
            &ObjectRef::flag(name),
            (Code::ReferenceMissing, Severity::Warning),
            (at.0, &at.1),
            message,
        );
        return Vec::new();
    };
    let owner = reference(&**object);
    let mut found: BTreeMap<u16, Listener> = BTreeMap::new();
    for (written, text) in object.data.iter().flatten() {
        match listener(build, &owner, kind, written, text) {
            Ok(listener) => {
                if let Some(twin) = found.insert(listener.port, listener) {
                    let message =
                        format!("port {} is there twice; the last one counts; remove one", twin.port);
                    let field = format!("data[{written}]");
                    build.problem(&owner, (Code::Conflict, Severity::Warning), (field, text), message);
                }
            }
            Err(reason) => {
                let message = format!("{reason}; it is not served");
                let field = format!("data[{written}]");
                build.problem(&owner, (Code::FieldInvalid, Severity::Error), (field, text), message);
            }
        }
    }
    found.into_values().collect()
}

fn listener(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    kind: Kind,
    written: &str,
    text: &str,
) -> Result<Listener, String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = written.parse::<u16>().ok().filter(|port| *port != 0 && is_number(written));
    let port = port.ok_or("the key is not a port between 1 and 65535; write one")?;
    let taken = [
        (build.settings.http_port, "HTTP (--http-port)"),
        (build.settings.https_port, "HTTPS (--https-port)"),
        (build.settings.healthz_port, "health checks (--healthz-port)"),
    ];
    if let Some((_, what)) = taken.iter().find(|(taken, _)| *taken == port && kind == Kind::Tcp) {
        return Err(format!("the port is that of {what}; choose another"));
    }
    if kind == Kind::Udp && port == tunnel::PORT {
        return Err("by this port nodes send each other packets of pools; choose another".to_owned());
    }
    let shape = "write namespace/service:port, for TCP followed by :PROXY for a header from clients and again for one to endpoints";
    let mut parts = text.trim().split(':');
    let (target, service_port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let key = ObjectKey::parse(target).ok_or_else(|| format!("names no namespace/service; {shape}"))?;
    if service_port.is_empty() {
        return Err(format!("names no port of the Service; {shape}"));
    }
    let mut header = || match parts.next() {
        None | Some("") => Ok(false),
        Some(word) if word.eq_ignore_ascii_case("PROXY") => Ok(true),
        Some(word) => Err(format!("holds {word:?} where only PROXY may stand; {shape}")),
    };
    let (accepts_proxy_protocol, sends_proxy_protocol) = (header()?, header()?);
    if let Some(more) = parts.next() {
        return Err(format!("holds {more:?} after its end; {shape}"));
    }
    let is_elsewhere = build.settings.watch_namespace.as_ref().is_some_and(|only| *only != key.namespace);
    if is_elsewhere {
        return Err("names a Service of a namespace that is not watched (--watch-namespace)".to_owned());
    }
    let field = format!("data[{written}]");
    let reference = PortRef {
        namespace: &key.namespace,
        service: &key.name,
        port: Some(service_port),
        owner,
        field: &field,
    };
    let is_tcp = kind == Kind::Tcp;
    let route = |backend| StreamRoute {
        backend,
        accepts_proxy_protocol: accepts_proxy_protocol && is_tcp,
        sends_proxy_protocol: sends_proxy_protocol && is_tcp,
    };
    let (name, protocol) = match kind {
        Kind::Tcp => ("tcp", ListenerProtocol::Tcp(route(stream_backend(build, &reference)))),
        Kind::Udp => {
            if accepts_proxy_protocol || sends_proxy_protocol {
                let message = "UDP services have no PROXY protocol, so it is served without; remove :PROXY";
                let at = (field.as_str(), text);
                build.problem(owner, (Code::FieldInvalid, Severity::Warning), at, message);
            }
            ("udp", ListenerProtocol::Udp(route(udp_backend(build, &reference))))
        }
    };
    Ok(Listener { name: ListenerName(format!("{name}-{port}")), port, protocol })
}
