//! `portcullis certs`: which certificate serves which host, and until when. Keys are never printed.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::objects::{self, ObjectsError};
use super::text_table;
use crate::args::objects::{CertsArgs, ObjectFormat};
use crate::model::Model;
use crate::model::certificate::{Certificate, CertificateId};
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerProtocol;

/// A host with TLS, or the default.
#[derive(Debug, Serialize)]
struct Row {
    host: String,
    /// `namespace/name`; `self-signed` when no Secret serves.
    secret: String,
    names: Vec<String>,
    expires: String,
    /// SHA-256 of the leaf.
    fingerprint: String,
}

/// Runs the command.
pub fn run(args: &CertsArgs, out: &mut dyn io::Write) -> Result<(), ObjectsError> {
    let objects = objects::read(&args.objects)?;
    let model = &objects.translation.model;
    if let Some(host) = &args.host {
        return one(out, model, host, args.output);
    }
    let default = default_certificate(model);
    let mut rows = vec![row(model, "(default)".to_owned(), default)];
    for host in &model.hosts {
        let is_shown =
            host.routes.is_empty() || host.routes.iter().any(|route| objects.shows(&route.source.namespace));
        if host.certificate.is_some() && is_shown {
            rows.push(row(model, shown(host), host.certificate.as_ref()));
        }
    }
    match args.output {
        ObjectFormat::Table => {
            let cells = rows.iter().map(|row| {
                vec![
                    row.host.clone(),
                    row.secret.clone(),
                    row.names.join(","),
                    row.expires.clone(),
                    row.fingerprint.clone(),
                ]
            });
            let head = ["host", "secret", "names", "expires", "sha256"];
            text_table::print(out, &head, &cells.collect::<Vec<_>>())?;
            Ok(())
        }
        format => objects::print(out, format, &rows),
    }
}

/// What a handshake for a name gets.
fn one(out: &mut dyn io::Write, model: &Model, name: &str, format: ObjectFormat) -> Result<(), ObjectsError> {
    let name = name.to_ascii_lowercase();
    let suffix = name.split_once('.').map(|(_, suffix)| suffix);
    let exact = |host: &&Arc<Host>| matches!(&host.pattern, HostPattern::Exact(exact) if *exact == name);
    let wildcard = |host: &&Arc<Host>| matches!(&host.pattern, HostPattern::Wildcard(wildcard) if Some(wildcard.as_str()) == suffix);
    let any = |host: &&Arc<Host>| host.pattern == HostPattern::Any;
    let found = model.hosts.iter().find(exact);
    let found = found.or_else(|| model.hosts.iter().find(wildcard));
    let found = found.or_else(|| model.hosts.iter().find(any));
    let id = found.and_then(|host| host.certificate.as_ref()).or_else(|| default_certificate(model));
    let row = row(model, name, id);
    if format != ObjectFormat::Table {
        return objects::print(out, format, &row);
    }
    writeln!(
        out,
        "# {} from {}, expires {}, sha256 {}",
        row.names.join(","),
        row.secret,
        row.expires,
        row.fingerprint
    )?;
    for der in id.and_then(|id| model.certificates.get(id)).iter().flat_map(|certificate| &certificate.chain)
    {
        write!(out, "{}", pem::encode(&pem::Pem::new("CERTIFICATE", der.clone())))?;
    }
    Ok(())
}

fn default_certificate(model: &Model) -> Option<&CertificateId> {
    model.listeners.iter().find_map(|listener| match &listener.protocol {
        ListenerProtocol::Https { default_certificate } => default_certificate.as_ref(),
        _ => None,
    })
}

fn row(model: &Model, host: String, id: Option<&CertificateId>) -> Row {
    let certificate = id.and_then(|id| model.certificates.get(id));
    let secret = id.map_or_else(|| "self-signed".to_owned(), |id| format!("{}/{}", id.namespace, id.name));
    Row {
        host,
        secret,
        names: certificate.map(|certificate| certificate.names.clone()).unwrap_or_default(),
        expires: certificate.map(|found| expires(found)).unwrap_or_default(),
        fingerprint: certificate.map(|certificate| certificate.fingerprint.clone()).unwrap_or_default(),
    }
}

fn expires(certificate: &Certificate) -> String {
    jiff::Timestamp::from_second(certificate.not_after)
        .map_or_else(|_| String::new(), |time| time.to_string())
}

fn shown(host: &Host) -> String {
    match &host.pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
        HostPattern::Any => "*".to_owned(),
    }
}
