//! `portcullis backends`: every backend and its endpoints, as JSON like the old kubectl plugin's.

use std::io;

use serde::Serialize;

use super::objects::{self, ObjectsError};
use super::text_table;
use crate::args::objects::{BackendsArgs, ObjectFormat};
use crate::model::backend::{BackendState, EndpointCondition};
use crate::problem::suggest;

/// A backend.
#[derive(Debug, Serialize)]
struct Row {
    /// `<namespace>-<service>-<port>`.
    name: String,
    namespace: String,
    service: String,
    port: String,
    /// There is no such Service or port.
    #[serde(rename = "isMissing")]
    is_missing: bool,
    endpoints: Vec<EndpointRow>,
}

/// An endpoint. The old plugin prints ports as text, and scripts compare them so.
#[derive(Debug, Serialize)]
struct EndpointRow {
    address: String,
    port: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    terminating: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum BackendsError {
    /// There is nothing to look at.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// `--backend`.
    #[error("there is no backend {name}; portcullis backends --list names them{near}")]
    Unknown {
        /// As given.
        name: String,
        /// Which one may be meant.
        near: String,
    },
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command.
pub fn run(args: &BackendsArgs, out: &mut dyn io::Write) -> Result<(), BackendsError> {
    let objects = objects::read(&args.objects)?;
    let mut rows = Vec::new();
    for (id, backend) in &objects.translation.model.backends {
        let name = id.to_string();
        if !objects.shows(&id.namespace) {
            continue;
        }
        let endpoints = backend.endpoints.iter().map(|endpoint| EndpointRow {
            address: endpoint.address.ip().to_string(),
            port: endpoint.address.port().to_string(),
            terminating: endpoint.condition == EndpointCondition::Terminating,
        });
        rows.push(Row {
            name,
            namespace: id.namespace.clone(),
            service: id.service.clone(),
            port: id.port.clone(),
            is_missing: backend.state == BackendState::Missing,
            endpoints: endpoints.collect(),
        });
    }
    if let Some(name) = &args.backend {
        rows = vec![only(rows, name)?];
    }
    if args.list {
        for row in &rows {
            writeln!(out, "{}", row.name)?;
        }
        return Ok(());
    }
    match args.output {
        ObjectFormat::Table => {
            let cells = rows.iter().map(|row| {
                let addresses: Vec<String> =
                    row.endpoints.iter().map(|e| format!("{}:{}", e.address, e.port)).collect();
                vec![row.name.clone(), row.endpoints.len().to_string(), addresses.join(",")]
            });
            text_table::print(out, &["name", "endpoints", "addresses"], &cells.collect::<Vec<_>>())?;
            Ok(())
        }
        // Of one, itself: as the old plugin has it.
        format => match (&args.backend, rows.as_slice()) {
            (Some(_), [row]) => Ok(objects::print(out, format, row)?),
            _ => Ok(objects::print(out, format, &rows)?),
        },
    }
}

fn only(rows: Vec<Row>, name: &str) -> Result<Row, BackendsError> {
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    rows.into_iter().find(|row| row.name == name).ok_or_else(|| {
        let near = suggest(name, names.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        BackendsError::Unknown { name: name.to_owned(), near }
    })
}
