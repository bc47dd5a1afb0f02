//! `portcullis ingresses`: a row per path of our Ingresses, in the columns of the old kubectl plugin.

use std::io;

use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};
use serde::Serialize;

use super::objects::{self, Objects, ObjectsError};
use super::text_table;
use crate::args::objects::{IngressesArgs, ObjectFormat};
use crate::k8s::cluster::ObjectKey;
use crate::model::backend::BackendId;

/// One path of one Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Row {
    namespace: String,
    name: String,
    host: String,
    path: String,
    addresses: Vec<String>,
    tls: bool,
    service: String,
    port: String,
    /// `None`: there is no such Service or port.
    endpoints: Option<usize>,
}

/// Runs the command.
pub fn run(args: &IngressesArgs, out: &mut dyn io::Write) -> Result<(), ObjectsError> {
    let objects = objects::read(&args.objects)?;
    let mut rows = Vec::new();
    for ours in &*objects.translation.ingresses {
        let key = ObjectKey::new(ours.object.namespace.clone(), ours.object.name.clone());
        if let Some(ingress) = objects.cluster.ingresses.get(&key)
            && objects.shows(&key.namespace)
        {
            rows.extend(rows_of(&objects, &key, ingress));
        }
    }
    rows.retain(|row| args.host.as_ref().is_none_or(|host| *host == row.host));
    rows.sort_by(|a, b| (&a.namespace, &a.name, &a.host).cmp(&(&b.namespace, &b.name, &b.host)));
    match args.output {
        ObjectFormat::Table => table(out, &rows)?,
        format => objects::print(out, format, &rows)?,
    }
    Ok(())
}

fn table(out: &mut dyn io::Write, rows: &[Row]) -> io::Result<()> {
    let head = [
        "namespace",
        "ingress name",
        "host+path",
        "addresses",
        "tls",
        "service",
        "service port",
        "endpoints",
    ];
    let cells = rows.iter().map(|row| {
        let host = if row.host.is_empty() { "*" } else { &row.host };
        vec![
            row.namespace.clone(),
            row.name.clone(),
            format!("{host}{}", row.path),
            row.addresses.join(","),
            if row.tls { "YES" } else { "NO" }.to_owned(),
            row.service.clone(),
            row.port.clone(),
            row.endpoints.map_or_else(|| "N/A".to_owned(), |count| count.to_string()),
        ]
    });
    text_table::print(out, &head, &cells.collect::<Vec<_>>())
}

fn rows_of(objects: &Objects, key: &ObjectKey, ingress: &Ingress) -> Vec<Row> {
    let none = Default::default();
    let spec = ingress.spec.as_ref().unwrap_or(&none);
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let addresses: Vec<String> =
        entries.iter().filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone())).collect();
    let tls = spec.tls.as_deref().unwrap_or_default();
    let row = |host: &str, path: &str, backend: &IngressBackend| {
        let (service, port) = named(backend);
        let id = BackendId { namespace: key.namespace.clone(), service: service.clone(), port: port.clone() };
        let backends = &objects.translation.model.backends;
        let backend = backends.get(&id).or_else(|| backends.get(&id.clone().of_service()));
        Row {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            host: host.to_owned(),
            path: path.to_owned(),
            addresses: addresses.clone(),
            tls: tls.iter().any(|tls| tls.hosts.iter().flatten().any(|listed| listed == host)),
            endpoints: backend
                .filter(|_| {
                    objects
                        .cluster
                        .services
                        .contains_key(&ObjectKey::new(key.namespace.clone(), service.clone()))
                })
                .map(|backend| backend.endpoints.len()),
            service,
            port,
        }
    };
    let mut rows = Vec::new();
    if let Some(backend) = &spec.default_backend {
        rows.push(row("", "", backend));
    }
    for rule in spec.rules.iter().flatten() {
        let host = rule.host.as_deref().unwrap_or_default();
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            rows.push(row(host, path.path.as_deref().unwrap_or("/"), &path.backend));
        }
    }
    rows
}

/// Service and port as the Ingress names them.
fn named(backend: &IngressBackend) -> (String, String) {
    let Some(service) = &backend.service else {
        let shown = backend.resource.as_ref().map(|resource| format!("{}/{}", resource.kind, resource.name));
        return (shown.unwrap_or_default(), String::new());
    };
    let port = service.port.as_ref();
    let number = port.and_then(|port| port.number).map(|number| number.to_string());
    let port = port.and_then(|port| port.name.clone()).filter(|name| !name.is_empty()).or(number);
    (service.name.clone(), port.unwrap_or_default())
}
