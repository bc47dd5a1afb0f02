//! A stable text form of the model, secrets redacted: golden files and the admin dump both use it.
//!
//! One line per thing, indented by what it belongs to, in the model's own order; what is absent is not printed. Private keys
//! and chains never are: a certificate shows as its fingerprint.

mod bodies;
mod delivery;
mod exchange;
mod global;
mod limits;
mod pools;

use std::fmt::{self, Write};
use std::time::Duration;

use super::Model;
use super::backend::{Backend, BackendId, BackendState, EndpointCondition, ExternalName};
use super::certificate::{Certificate, CertificateId};
use super::edge::{BanRule, Edge, EdgePolicy, EdgeScope, Per};
use super::host::{Host, HostPattern};
use super::listener::ListenerProtocol;
use super::policy::client_certificate::{ClientAuth, ClientAuthorities, ClientCertificate};
use super::policy::password_auth::{PasswordAuth, User, UserList};
use super::policy::trace::Trace;
use super::policy::upstream::{Upstream, UpstreamProtocol, UpstreamTls, Verify};
use super::policy::{Bandwidth, Policies};
use super::route::{PathMatch, Route, RouteAction};
use super::stream::StreamRoute;
use super::template::{Part, Template, Variable};
use delivery::{write_checks, write_delivery};

/// The model as text.
pub fn render(model: &Model) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_model(&mut text, model);
    text
}

fn write_model(out: &mut String, model: &Model) -> fmt::Result {
    for listener in &model.listeners {
        let protocol = match &listener.protocol {
            ListenerProtocol::Http => "http".to_owned(),
            ListenerProtocol::Tcp(route) => show_stream("tcp", route),
            ListenerProtocol::Udp(route) => show_stream("udp", route),
            ListenerProtocol::Https { default_certificate } => {
                format!("https, default certificate {}", show_certificate(default_certificate.as_ref()))
            }
        };
        writeln!(out, "listener {}: port {}, {protocol}", listener.name.0, listener.port)?;
    }
    for host in &model.hosts {
        write_host(out, host)?;
    }
    for (id, backend) in &model.backends {
        write_backend(out, id, backend)?;
    }
    write_checks(out, &model.checks)?;
    for (id, certificate) in &model.certificates {
        write_certificate(out, id, certificate)?;
    }
    for (digest, authorities) in &model.authorities {
        let source = show_certificate(Some(&authorities.source));
        writeln!(
            out,
            "authorities {source}: {} certificates, sha256 {digest}",
            authorities.certificates.len()
        )?;
    }
    for (digest, authorities) in &model.client_authorities {
        let ClientAuthorities { source, certificates, revocations } = authorities;
        let digest = digest.get(..12).unwrap_or_default();
        let (source, count) = (show_certificate(Some(source)), certificates.len());
        writeln!(
            out,
            "client authorities {digest}: {count} of {source}, {} revocation lists",
            revocations.len()
        )?;
    }
    for (id, list) in &model.users {
        writeln!(out, "users {}/{}: {}, hashes [redacted]", id.namespace, id.name, names(list))?;
    }
    write_edge(out, &model.edge)?;
    global::write(out, &model.global)
}

fn show_stream(protocol: &str, route: &StreamRoute) -> String {
    let StreamRoute { backend, accepts_proxy_protocol, sends_proxy_protocol } = route;
    let accepts = if *accepts_proxy_protocol { ", PROXY header from clients" } else { "" };
    let sends = if *sends_proxy_protocol { ", PROXY header to endpoints" } else { "" };
    format!("{protocol} -> {backend}{accepts}{sends}")
}

fn show_certificate(id: Option<&CertificateId>) -> String {
    id.map_or_else(|| "self-signed".to_owned(), |id| format!("{}/{}", id.namespace, id.name))
}

fn write_host(out: &mut String, host: &Host) -> fmt::Result {
    let pattern = match &host.pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
        HostPattern::Any => "(any)".to_owned(),
    };
    let listeners: Vec<&str> = host.listeners.iter().map(|name| name.0.as_str()).collect();
    write!(out, "host {pattern}: {}", listeners.join(", "))?;
    if let Some(id) = &host.certificate {
        write!(out, ", certificate {}", show_certificate(Some(id)))?;
    }
    if let Some(backend) = &host.passthrough {
        write!(out, ", TLS passed through to {backend}")?;
    }
    if let Some(ciphers) = &host.ciphers {
        let names: Vec<&str> = ciphers.suites.iter().map(|suite| suite.name()).collect();
        let order = if ciphers.is_our_order { "ours" } else { "the client's" };
        write!(out, ", ciphers {} (order: {order})", names.join(":"))?;
    }
    out.push('\n');
    match &host.client_auth {
        None => {}
        Some(ClientAuth::Broken { reason }) => writeln!(out, "  client certificates: all refused, {reason}")?,
        Some(ClientAuth::Certificate(wanted)) => write_client_certificates(out, wanted)?,
    }
    host.routes.iter().try_for_each(|route| write_route(out, route))
}

fn write_client_certificates(out: &mut String, wanted: &ClientCertificate) -> fmt::Result {
    let ClientCertificate { trust, error_page, is_passed, subject } = wanted;
    let digest = trust.authorities.get(..12).unwrap_or_default();
    write!(out, "  client certificates: {:?} of {digest}, depth {}", trust.requirement, trust.depth)?;
    if let Some(subject) = subject {
        write!(out, ", subject {subject}")?;
    }
    if let Some(page) = error_page {
        write!(out, ", else to {page}")?;
    }
    writeln!(out, "{}", if *is_passed { ", passed on" } else { "" })
}

fn write_route(out: &mut String, route: &Route) -> fmt::Result {
    let path = match &route.matches.path {
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Prefix(path) if path.is_empty() => "prefix /".to_owned(),
        PathMatch::Prefix(path) => format!("prefix {path}"),
        PathMatch::Regex(path) => format!("regex {path}"),
    };
    let action = match &route.action {
        RouteAction::Forward { backends, fallback } => {
            let one = backends.len() == 1;
            let shares: Vec<String> = backends
                .iter()
                .map(|share| {
                    if one {
                        share.backend.to_string()
                    } else {
                        format!("{} x{}", share.backend, share.weight)
                    }
                })
                .collect();
            let fallback = fallback.as_ref().map_or_else(String::new, |id| format!(", else {id}"));
            format!("-> {}{fallback}", shares.join(", "))
        }
        RouteAction::Redirect { status, path, form } => {
            format!("redirect {status} to {path}{}", exchange::show_form(*form))
        }
        RouteAction::Respond { status } => format!("respond {status}"),
    };
    let source = match (route.source.namespace.as_str(), route.source.name.as_str()) {
        ("", "") => "the controller".to_owned(),
        (namespace, name) => format!("{namespace}/{name} {}", route.source.path),
    };
    writeln!(out, "  {path} {action}  ({source})")?;
    write_policies(out, &route.policies)
}

/// The policies of a route, a line each.
pub fn policies(policies: &Policies) -> Vec<String> {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_policies(&mut text, policies);
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn write_policies(out: &mut String, policies: &Policies) -> fmt::Result {
    let Policies {
        request_buffer,
        response_buffer,
        deny,
        cors,
        answers,
        https_redirect,
        allow_list,
        deny_list,
        password_auth,
        client_auth: _,
        is_one_enough,
        rate_limit,
        quota,
        connection_limit,
        bandwidth,
        body_limit,
        rewrite,
        headers,
        answer_rewrite,
        timeouts,
        upstream,
        delivery,
        auth_external,
        error_pages,
        mirror,
        is_logged,
        trace,
    } = policies;
    if let Some(deny) = deny {
        writeln!(out, "    deny: {}", deny.reason)?;
    }
    if let Some(cors) = cors {
        exchange::write_cors(out, cors)?;
    }
    for answer in answers {
        exchange::write_answer(out, answer)?;
    }
    if let Some(redirect) = https_redirect {
        let port = redirect.port.map_or_else(String::new, |port| format!(", to port {port}"));
        let slash = if redirect.keeps_slash { ", with the slash" } else { "" };
        let except = redirect.except.join(", ");
        writeln!(out, "    https redirect: {}{port}{slash}, except {except}", redirect.status)?;
    }
    if let Some(list) = deny_list {
        writeln!(out, "    deny sources: {}", join(&list.sources))?;
    }
    if let Some(list) = allow_list {
        writeln!(out, "    allow: {}", join(&list.sources))?;
    }
    limits::write_rates(out, "rate", rate_limit.as_ref())?;
    limits::write_rates(out, "quota", quota.as_ref())?;
    limits::write_connections(out, connection_limit.as_ref())?;
    bodies::write_buffers(out, request_buffer.as_ref(), response_buffer)?;
    if let Some(Bandwidth { bytes_per_second, after }) = bandwidth {
        writeln!(out, "    bandwidth: {bytes_per_second} bytes/s after {after}")?;
    }
    if let Some(auth) = password_auth {
        let PasswordAuth { scheme, realm, users } = auth;
        writeln!(out, "    password: {scheme:?}, realm {realm:?}, users {}/{}", users.namespace, users.name)?;
    }
    if *is_one_enough {
        writeln!(out, "    satisfy: any")?;
    }
    if let Some(Trace { trusts_client, recorded_per_million }) = trace {
        let whose = if *trusts_client { "the client's, else a fresh one" } else { "a fresh one" };
        writeln!(out, "    trace context: {whose}, {recorded_per_million} of a million recorded")?;
    }
    if !is_logged {
        writeln!(out, "    not in the access log")?;
    }
    if let Some(rewrite) = rewrite {
        writeln!(out, "    rewrite: {} to {}", rewrite.pattern, show_target(&rewrite.replacement))?;
    }
    write_upstream(out, upstream)?;
    write_delivery(out, delivery)?;
    exchange::write_headers(out, "    ", headers)?;
    exchange::write_answer_rewrite(out, answer_rewrite)?;
    if let Some(auth) = auth_external {
        writeln!(out, "    auth: {auth}")?;
    }
    if let Some(pages) = error_pages {
        writeln!(out, "    error pages: {pages}")?;
    }
    if let Some(mirror) = mirror {
        writeln!(out, "    mirror: {mirror}")?;
    }
    let body = body_limit.max_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let seconds = |time: Duration| time.as_secs();
    let (connect, send, read) = (seconds(timeouts.connect), seconds(timeouts.send), seconds(timeouts.read));
    writeln!(out, "    body {body}, connect {connect} s, send {send} s, read {read} s")
}

fn write_upstream(out: &mut String, upstream: &Upstream) -> fmt::Result {
    let Upstream { protocol, is_http10, tls } = upstream;
    if *protocol != UpstreamProtocol::default() || *is_http10 {
        let version = if *is_http10 { ", HTTP/1.0" } else { "" };
        writeln!(out, "    upstream: {protocol:?}{version}")?;
    }
    let UpstreamTls { certificate, verify, server_name, has_tls12, has_tls13, ciphers } = tls;
    if *tls == UpstreamTls::default() {
        return Ok(());
    }
    let versions: Vec<&str> = [(has_tls12, "1.2"), (has_tls13, "1.3")]
        .iter()
        .filter(|(is, _)| **is)
        .map(|(_, name)| *name)
        .collect();
    write!(out, "    upstream TLS: versions {}", versions.join(" "))?;
    if let Some(id) = certificate {
        write!(out, ", certificate {} ({})", show_certificate(Some(&id.id)), id.fingerprint)?;
    }
    if let Some(name) = server_name {
        write!(out, ", server name {name}")?;
    }
    if let Some(Verify { authorities, name, depth }) = verify {
        write!(out, ", verified as {name} by {authorities}, depth {depth}")?;
    }
    if !ciphers.is_empty() {
        let names: Vec<&str> = ciphers.iter().map(|suite| suite.name()).collect();
        write!(out, ", ciphers {}", names.join(":"))?;
    }
    out.push('\n');
    Ok(())
}

/// Groups as they are written: `$1`.
fn show_target(target: &Template) -> String {
    let parts = target.0.iter().map(|part| match part {
        Part::Variable(Variable::Group(number)) => format!("${number}"),
        Part::Variable(variable) => format!("${{{}}}", variable.name()),
        Part::Text(text) => text.clone(),
    });
    parts.collect()
}

fn write_backend(out: &mut String, id: &BackendId, backend: &Backend) -> fmt::Result {
    let state = match backend.state {
        BackendState::Resolved => "",
        BackendState::Missing => " missing",
    };
    writeln!(out, "backend {id}:{state}")?;
    if let Some(ExternalName { host, port }) = &backend.external_name {
        writeln!(out, "  looked up: {host}, port {port}")?;
    }
    for endpoint in &backend.endpoints {
        let condition = match endpoint.condition {
            EndpointCondition::Ready => "",
            EndpointCondition::Terminating => " terminating",
        };
        writeln!(out, "  {}{condition}", endpoint.address)?;
    }
    Ok(())
}

fn write_certificate(out: &mut String, id: &CertificateId, certificate: &Certificate) -> fmt::Result {
    let Certificate { chain, key: _, names, not_after, fingerprint, ocsp } = certificate;
    let stapled = if ocsp.is_some() { ", stapled" } else { "" };
    writeln!(
        out,
        "certificate {}/{}: {}, chain of {}, expires {not_after}, sha256 {fingerprint}, key [redacted]{stapled}",
        id.namespace,
        id.name,
        names.join(", "),
        chain.len()
    )
}

fn write_edge(out: &mut String, edge: &Edge) -> fmt::Result {
    pools::write_pools(out, edge)?;
    for EdgePolicy { name, scope, allow, deny, exempt, limits, syn_protection, ban } in &edge.policies {
        let scope = match scope {
            EdgeScope::Cluster => "every served address".to_owned(),
            EdgeScope::Pools(names) => format!("pools {}", names.join(", ")),
            EdgeScope::Targets { pools, addresses } => {
                let pools = pools.iter().map(|pool| format!("pool {pool}"));
                join(&pools.chain(addresses.iter().map(ToString::to_string)).collect::<Vec<_>>())
            }
        };
        writeln!(out, "edge policy {name}: {scope}")?;
        for (list, networks) in [("allow", allow), ("deny", deny), ("exempt", exempt)] {
            if !networks.is_empty() {
                writeln!(out, "  {list}: {}", join(networks))?;
            }
        }
        for limit in limits {
            let per = match limit.per {
                Per::Source => "",
                Per::Address => " per address",
            };
            writeln!(out, "  limit: {} {}{per}, burst {}", limit.per_second, limit.of.unit(), limit.burst)?;
        }
        if let Some(protection) = syn_protection {
            writeln!(out, "  SYN protection: {}", protection.name())?;
        }
        if let Some(BanRule { after, within, lasts, most }) = ban {
            writeln!(
                out,
                "  ban: after {after} drops within {within:?}, for {lasts:?}, at most {most} sources"
            )?;
        }
    }
    Ok(())
}

fn names(list: &UserList) -> String {
    let shown = |user: &User| match user.realm.as_str() {
        "" => user.name.clone(),
        realm => format!("{} ({realm})", user.name),
    };
    list.users.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::certificate::KeyDer;

    #[test]
    fn keys_and_chains_are_not_shown() {
        let certificate = Certificate {
            chain: vec![b"chain-bytes".to_vec()],
            key: KeyDer(b"key-bytes".to_vec()),
            names: vec!["a.example.com".into()],
            not_after: 4_000_000_000,
            fingerprint: "ab".into(),
            ocsp: None,
        };
        let id = CertificateId { namespace: "n".into(), name: "s".into() };
        let model =
            Model { certificates: [(id, std::sync::Arc::new(certificate))].into(), ..Model::default() };
        let text = render(&model);
        assert_eq!(
            text,
            "certificate n/s: a.example.com, chain of 1, expires 4000000000, sha256 ab, key [redacted]\n"
        );
    }
}
