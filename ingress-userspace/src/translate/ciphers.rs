//! `ssl-ciphers` and `ssl-prefer-server-ciphers`: for a whole host, as its oldest Ingress says that says something.

use std::collections::BTreeSet;

use super::Build;
use super::hosts::{Draft, Shared};
use super::policies::Owner;
use crate::annotation::tls::{SSL_CIPHERS, SSL_PREFER_SERVER_CIPHERS};
use crate::model::tls::Ciphers;
use crate::problem::{Code, Severity};

/// The ciphers of a host; `None`: those of the whole proxy.
pub(super) fn of_host(build: &mut Build<'_>, shared: &Shared<'_>, draft: &Draft) -> Option<Ciphers> {
    let owners =
        draft.paths.iter().map(|path| path.owner).chain(draft.default.iter().map(|(owner, _)| *owner));
    // Numbered by age.
    let owners: BTreeSet<usize> = owners.collect();
    let owners: Vec<&Owner<'_>> = owners.into_iter().filter_map(|owner| shared.owners.get(owner)).collect();
    let suites = oldest(build, draft, &owners, SSL_CIPHERS.row.key, |owner| {
        owner.settings.ciphers.suites.as_ref().map(|list| list.suites.clone())
    });
    let order = oldest(build, draft, &owners, SSL_PREFER_SERVER_CIPHERS.row.key, |owner| {
        owner.settings.ciphers.is_our_order
    });
    if suites.is_none() && order.is_none() {
        return None;
    }
    let of_all = &shared.defaults.global.tls.ciphers;
    let suites = suites.unwrap_or_else(|| of_all.suites.clone());
    Some(Ciphers { suites, is_our_order: order.unwrap_or(of_all.is_our_order) })
}

fn oldest<T: PartialEq>(
    build: &mut Build<'_>,
    draft: &Draft,
    owners: &[&Owner<'_>],
    key: &str,
    value: impl Fn(&Owner<'_>) -> Option<T>,
) -> Option<T> {
    let mut holders = owners.iter().filter_map(|owner| value(owner).map(|value| (*owner, value)));
    let (first, counts) = holders.next()?;
    for (other, _) in holders.filter(|(_, value)| *value != counts) {
        let (shown, at) = other.written(build, key);
        let message = format!(
            "holds for the whole of {}, where the older Ingress {}/{} says something else, which counts; remove one of them",
            draft.shown(),
            first.object.namespace,
            first.object.name,
        );
        build.problem(&other.object, (Code::Conflict, Severity::Warning), (at, &shown), message);
    }
    Some(counts)
}
