//! Names that no rule has: `server-alias` and `from-to-www-redirect`.

use std::collections::{BTreeMap, BTreeSet};

use super::Build;
use super::hosts::{Draft, Shared};
use super::policies::{self, Owner};
use crate::model::certificate::CertificateId;
use crate::model::host::{Host, HostPattern};
use crate::model::policy::answer::{Answer, Content};
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource};
use crate::problem::{Code, Severity};

/// The annotations that these names come from.
const ALIAS: &str = "server-alias";
const WWW: &str = "from-to-www-redirect";

/// Which other names the Ingresses of a host ask for.
#[derive(Default)]
pub(super) struct Names {
    /// The Ingress, and the names.
    alias: Option<(usize, Vec<String>)>,
    /// The Ingress.
    www: Option<usize>,
}

/// Reads what the Ingresses of a host ask for; the oldest counts.
pub(super) fn asked(build: &mut Build<'_>, owners: &[Owner<'_>], draft: &Draft) -> Names {
    let mut names = Names::default();
    for index in draft.owners() {
        let Some(owner) = owners.get(index) else { continue };
        let aliases = &owner.settings.aliases;
        match &names.alias {
            None if !aliases.is_empty() => names.alias = Some((index, aliases.clone())),
            Some((first, winner)) if !aliases.is_empty() && aliases != winner => {
                let first = owners.get(*first).map(|owner| owner.object.to_string()).unwrap_or_default();
                let message = format!(
                    "{first} comes first (older, or by name) and names the aliases of {}; write them there",
                    draft.shown()
                );
                let at = (owner.field(ALIAS), aliases.join(","));
                build.problem(&owner.object, (Code::Conflict, Severity::Warning), (at.0, &at.1), message);
            }
            _ => {}
        }
        if owner.settings.redirect.is_www && names.www.is_none() {
            names.www = Some(index);
        }
    }
    names
}

/// Adds the hosts of these names.
pub(super) fn add(
    build: &mut Build<'_>,
    shared: &Shared<'_>,
    asked: &BTreeMap<HostPattern, Names>,
    hosts: &mut Vec<Host>,
) {
    let ruled: BTreeSet<HostPattern> = hosts.iter().map(|host| host.pattern.clone()).collect();
    let mut taken: BTreeMap<HostPattern, String> = BTreeMap::new();
    let mut added = Vec::new();
    // The oldest Ingress first, whatever the order of its hosts.
    let mut by_age: Vec<(usize, &HostPattern, &[String])> = asked
        .iter()
        .filter_map(|(pattern, names)| {
            names.alias.as_ref().map(|(index, names)| (*index, pattern, names.as_slice()))
        })
        .collect();
    by_age.sort();
    for (index, pattern, names) in by_age {
        let Some(owner) = shared.owners.get(index) else { continue };
        let Some(host) = hosts.iter().find(|host| host.pattern == *pattern) else { continue };
        for name in names {
            let alias = match name.strip_prefix("*.") {
                Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
                None => HostPattern::Exact(name.clone()),
            };
            if alias == *pattern {
                continue;
            }
            let conflict = if ruled.contains(&alias) {
                Some(format!("{name} is the host of a rule, so it is no alias; remove it here or there"))
            } else {
                taken
                    .get(&alias)
                    .map(|first| format!("{first} has the alias {name} already; remove it there or here"))
            };
            if let Some(message) = conflict {
                let at = (owner.field(ALIAS), name.as_str());
                build.problem(&owner.object, (Code::Conflict, Severity::Warning), at, message);
                continue;
            }
            warn_of_certificate(build, owner, ALIAS, host.certificate.as_ref(), name);
            taken.insert(alias.clone(), owner.object.to_string());
            added.push(Host { pattern: alias, ..host.clone() });
        }
    }
    for (pattern, names) in asked {
        let Some(owner) = names.www.and_then(|index| shared.owners.get(index)) else { continue };
        let HostPattern::Exact(to) = pattern else {
            let message = "needs a host without wildcard, so it does nothing for the others; name the host";
            let at = (owner.field(WWW), "true");
            build.problem(&owner.object, (Code::AnnotationInvalid, Severity::Warning), at, message);
            continue;
        };
        let from = to.strip_prefix("www.").map_or_else(|| format!("www.{to}"), str::to_owned);
        let other = HostPattern::Exact(from.clone());
        if ruled.contains(&other) || taken.contains_key(&other) {
            let message =
                format!("{from} is served itself, so it does not redirect to {to}; remove one of them");
            let at = (owner.field(WWW), "true");
            build.problem(&owner.object, (Code::Conflict, Severity::Warning), at, message);
            continue;
        }
        let Some(host) = hosts.iter().find(|host| host.pattern == *pattern) else { continue };
        let is_covered = warn_of_certificate(build, owner, WWW, host.certificate.as_ref(), &from);
        taken.insert(other.clone(), owner.object.to_string());
        let mut policies = policies::unconfigured(shared.defaults, shared.controller_default.as_ref());
        let status = owner.settings.redirect.status;
        policies.answers = vec![Answer::always(status, Content::Host(to.clone()))];
        let route = Route {
            source: RouteSource {
                namespace: owner.object.namespace.clone(),
                name: owner.object.name.clone(),
                host: from,
                path: "/".into(),
            },
            matches: RouteMatch { path: PathMatch::Prefix(String::new()) },
            policies,
            action: RouteAction::Respond { status: 404 },
        };
        added.push(Host {
            pattern: other,
            certificate: host.certificate.clone().filter(|_| is_covered),
            routes: vec![route],
            ..host.clone()
        });
    }
    hosts.extend(added);
    hosts.sort_by(|one, other| one.pattern.cmp(&other.pattern));
}

/// Whether the certificate of a host covers another name; a Problem if it does not.
fn warn_of_certificate(
    build: &mut Build<'_>,
    owner: &Owner<'_>,
    key: &str,
    certificate: Option<&CertificateId>,
    name: &str,
) -> bool {
    let Some(certificate) = certificate.and_then(|id| build.certificates.get(id)) else { return true };
    let covers = |known: &String| {
        let label = |name: &str| name.split_once('.').map(|(_, suffix)| suffix.to_owned());
        known.eq_ignore_ascii_case(name)
            || known.strip_prefix("*.").is_some_and(|suffix| label(name).as_deref() == Some(suffix))
    };
    if certificate.names.iter().any(covers) {
        return true;
    }
    let message = format!(
        "the certificate of the host does not cover {name}, so clients refuse it over TLS; add the name to it"
    );
    let at = (owner.field(key), name);
    build.problem(&owner.object, (Code::SecretInvalid, Severity::Warning), at, message);
    false
}
