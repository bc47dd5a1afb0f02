//! What becomes of the connection before a request is read: lists, server name, certificate. The tables are those that
//! the proxy looks into.

use std::sync::Arc;

use super::host_of;
use crate::model::Model;
use crate::model::certificate::CertificateId;
use crate::model::host::HostPattern;
use crate::model::listener::{ListenerName, ListenerProtocol};
use crate::snapshot::Snapshot;
use crate::tls::client_certificate::Verdict;
use crate::tls::identity::{ClientIdentity, TlsInfo};

/// The listener for TLS.
pub(super) const HTTPS: &str = "https";

/// How a handshake ends.
pub(super) enum Handshake {
    /// With a certificate of ours.
    Made {
        /// Which, and why.
        certificate: String,
        /// What requests know of it.
        tls: TlsInfo,
    },
    /// At a backend, by the name of its cell.
    Passed {
        /// The backend.
        backend: String,
    },
    /// Not at all, and why.
    Refused(String),
}

/// Makes the handshake of a client that shows no certificate. `name` is the server name, lower case.
pub(super) fn handshake(model: &Model, snapshot: &Snapshot, name: Option<&str>) -> Handshake {
    let Some(table) = snapshot.listener(HTTPS) else {
        return Handshake::Refused("nothing listens for HTTPS".to_owned());
    };
    if let Some(backend) = name.and_then(|name| table.passthrough.backend(name)) {
        return Handshake::Passed { backend: backend.name.clone() };
    }
    let Some(names) = &table.tls else {
        return Handshake::Refused("the settings of TLS cannot be used; connections are closed".to_owned());
    };
    let Some(host) = names.host(name) else {
        let who = name
            .map_or_else(|| "no server name is sent".to_owned(), |name| format!("no host is called {name}"));
        return Handshake::Refused(format!(
            "{who}, and ssl-reject-handshake refuses what has no host (TLS alert unrecognized_name)"
        ));
    };
    let leaf = names.certificate(name).cert.first().map(|der| der.as_ref().to_vec());
    let client = host.judge.as_ref().map(|judge| ClientIdentity {
        judge: Arc::clone(judge),
        verdict: Verdict::None,
        certificate: None,
    });
    let tls = TlsInfo {
        protocol: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        server_name: name.map(Into::into),
        client,
    };
    Handshake::Made { certificate: certificate(model, name, leaf.as_deref()), tls }
}

/// Names the certificate that is shown and says why it is that one.
fn certificate(model: &Model, name: Option<&str>, leaf: Option<&[u8]>) -> String {
    let listener = model.listeners.iter().find(|listener| listener.name.0 == HTTPS);
    let default = listener.and_then(|listener| match &listener.protocol {
        ListenerProtocol::Https { default_certificate } => default_certificate.as_ref(),
        _ => None,
    });
    let host = host_of(model, &ListenerName(HTTPS.to_owned()), name.unwrap_or_default());
    let own = host.and_then(|host| host.certificate.as_ref());
    let is_shown = |id: &&CertificateId| {
        let chain = model.certificates.get(*id).map(|found| &found.chain);
        chain.is_some_and(|chain| chain.first().map(Vec::as_slice) == leaf)
    };
    let who = match (name, host.map(|host| &host.pattern)) {
        (None, _) => "no server name is sent".to_owned(),
        (Some(name), None | Some(HostPattern::Any)) => format!("no host is called {name}"),
        (Some(name), Some(HostPattern::Exact(_))) => format!("host {name}"),
        (Some(name), Some(HostPattern::Wildcard(suffix))) => {
            format!("host *.{suffix}, which {name} is one of")
        }
    };
    let shown = |id: &CertificateId| {
        let names = model.certificates.get(id).map(|found| found.names.join(", ")).unwrap_or_default();
        format!("Secret {}/{} ({names})", id.namespace, id.name)
    };
    match (own, default.filter(is_shown)) {
        (Some(id), _) if is_shown(&id) => format!("{}: {who} has it", shown(id)),
        (Some(id), Some(other)) => {
            format!("{}: the default, for {} of {who} cannot be used", shown(other), shown(id))
        }
        (Some(id), None) => format!("self-signed: {} of {who} cannot be used", shown(id)),
        (None, Some(id)) => format!("{}: the default, for {who}{}", shown(id), without(host.is_some())),
        (None, None) => {
            format!("self-signed: {who}{}, and there is no default certificate", without(host.is_some()))
        }
    }
}

fn without(has_host: bool) -> &'static str {
    if has_host { " without a certificate of its own" } else { "" }
}
