//! `portcullis conf`: the configuration as it would be served, secrets redacted. What `nginx -T` was for.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::objects::{self, ObjectsError};
use crate::args::objects::ConfArgs;
use crate::model::Model;
use crate::model::host::HostPattern;
use crate::model::render::render;

/// Runs the command.
pub fn run(args: &ConfArgs, out: &mut dyn io::Write) -> Result<(), ObjectsError> {
    let objects = objects::read(&args.objects)?;
    let mut model = Arc::unwrap_or_clone(objects.translation.model);
    if let Some(only) = &objects.namespace {
        for host in &mut model.hosts {
            Arc::make_mut(host).routes.retain(|route| route.source.namespace == *only);
        }
        model.hosts.retain(|host| !host.routes.is_empty());
        model.backends.retain(|id, _| id.namespace == *only);
    }
    if let Some(host) = &args.host {
        keep_host(&mut model, &host.to_ascii_lowercase());
    }
    write!(out, "{}", render(&model))?;
    Ok(())
}

/// Only one host and the backends and certificates that it uses.
fn keep_host(model: &mut Model, name: &str) {
    model.hosts.retain(|host| match &host.pattern {
        HostPattern::Exact(exact) => exact == name,
        HostPattern::Wildcard(suffix) => {
            name == format!("*.{suffix}") || name.split_once('.').is_some_and(|(_, rest)| rest == suffix)
        }
        HostPattern::Any => name == "*" || name.is_empty(),
    });
    let routes = model.hosts.iter().flat_map(|host| &host.routes);
    let used: BTreeSet<_> = routes.flat_map(|route| route.action.backends().cloned()).collect();
    model.backends.retain(|id, _| used.contains(id));
    let used: Vec<_> = model.hosts.iter().filter_map(|host| host.certificate.clone()).collect();
    model.certificates.retain(|id, _| used.contains(id));
}
