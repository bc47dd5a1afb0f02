//! What one translation leaves to the next.
//!
//! Most changes are of endpoints, and come by the thousand: when nothing else changed, routes are not looked at at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::parts::{Members, Part, Parts};
use super::slices::{self, Resolved, Wanted};
use super::subrequests::is_api_server;
use super::view::{Asked, Changed};
use super::{Settings, Translation, tls};
use crate::k8s::cluster::{Cluster, ObjectKey, Objects};
use crate::model::backend::BackendId;
use crate::model::host::Host;
use crate::problem::Problem;

/// For how long what was translated may be taken over, in seconds: certificates grow old.
const LONGEST: u64 = 3600;

/// What is carried from one translation to the next, so that unchanged objects are not read again.
#[derive(Debug, Default)]
pub struct Reuse {
    pub(super) certificates: tls::Known,
    parts: Parts,
    last: Option<Last>,
}

/// The translation before.
#[derive(Debug)]
struct Last {
    cluster: Cluster,
    settings: Settings,
    /// When the oldest of its parts was translated, in seconds since the epoch.
    since: i64,
    translation: Translation,
    /// What holds for all parts depends on it.
    asked: Asked,
    wanted: BTreeMap<BackendId, Wanted>,
    /// Problems that have nothing to do with endpoints.
    problems: Vec<Problem>,
    /// Those that have.
    of_endpoints: BTreeMap<BackendId, Vec<Problem>>,
}

impl Reuse {
    /// Forgets what does not hold in this world any more, or is too old.
    pub(super) fn forget(&mut self, cluster: &Cluster, settings: &Settings, now: i64) {
        self.certificates.retain(|key, _| cluster.secrets.contains_key(key));
        let last = self.last.as_ref().filter(|last| {
            last.is_like(cluster, settings, now) && !last.changed_services(cluster).iter().any(is_api_server)
        });
        let changed = last.map(|last| (last, Changed::between(&last.cluster, cluster)));
        match changed.filter(|(last, changed)| !changed.touches(&last.asked)) {
            Some((_, changed)) => self.parts.forget(&changed),
            None => self.parts = Parts::default(),
        }
    }

    /// When what is known was translated: with the translation before, or only `now`.
    fn since(&self, now: i64) -> i64 {
        self.last.as_ref().filter(|_| !self.parts.is_empty()).map_or(now, |last| last.since)
    }

    /// What is known of Secrets, and the hosts of the translation before, in order.
    pub(super) fn known(&mut self) -> (&mut tls::Known, &[Arc<Host>]) {
        let hosts = self.last.as_ref().map(|last| last.translation.model.hosts.as_slice());
        (&mut self.certificates, hosts.unwrap_or_default())
    }

    /// The part of these Ingresses, if it is known.
    pub(super) fn part(&self, members: &Members<'_>) -> Option<Arc<Part>> {
        self.parts.get(members).map(Arc::clone)
    }

    /// Completes a translation by the endpoints of what it refers to, and keeps it.
    pub(super) fn complete(
        &mut self,
        mut translation: Translation,
        (wanted, parts, asked): (BTreeMap<BackendId, Wanted>, Vec<Arc<Part>>, Asked),
        (cluster, settings, now): (&Cluster, &Settings, i64),
    ) -> Translation {
        translation.problems.sort();
        translation.problems.dedup();
        let mut last = Last {
            cluster: cluster.clone(),
            settings: settings.clone(),
            since: self.since(now),
            problems: translation.problems.clone(),
            translation,
            asked,
            wanted,
            of_endpoints: BTreeMap::new(),
        };
        let resolved = slices::resolve(cluster, settings, last.wanted.iter());
        let translation = last.take(resolved);
        self.last = Some(last);
        self.parts = parts.into_iter().collect();
        translation
    }

    /// The translation of a world in which nothing changed but EndpointSlices. `None`: something else did.
    pub(super) fn with_endpoints(
        &mut self,
        cluster: &Cluster,
        settings: &Settings,
        now: i64,
    ) -> Option<Translation> {
        let last = self.last.as_mut()?;
        if !last.is_like(cluster, settings, now) || !last.has_same_objects(cluster) {
            return None;
        }
        let changed = last.changed_services(cluster);
        if changed.iter().any(is_api_server) {
            return None;
        }
        last.cluster.endpoint_slices.clone_from(&cluster.endpoint_slices);
        let stale = last.wanted.iter().filter(|(_, wanted)| changed.contains(&wanted.service));
        let resolved = slices::resolve(cluster, settings, stale);
        Some(last.take(resolved))
    }
}

impl Last {
    /// Whether what parts do not tell of themselves that they depend on it is the same.
    fn is_like(&self, cluster: &Cluster, settings: &Settings, now: i64) -> bool {
        // Taken apart without `..`: a new kind does not compile until it stands here.
        let Cluster {
            origin,
            ingresses: _,
            ingress_classes,
            services: _,
            endpoint_slices: _,
            secrets: _,
            config_maps: _,
            namespaces,
            nodes,
            edge_policies,
            address_pools,
            problems,
        } = cluster;
        let before = &self.cluster;
        self.settings == *settings
            && now.abs_diff(self.since) <= LONGEST
            && *origin == before.origin
            && is_same(ingress_classes, &before.ingress_classes)
            && is_same(namespaces, &before.namespaces)
            && is_same(nodes, &before.nodes)
            && is_same(edge_policies, &before.edge_policies)
            && is_same(address_pools, &before.address_pools)
            && *problems == before.problems
    }

    /// Whether all objects are the same, beside EndpointSlices and those of [`Self::is_like`].
    fn has_same_objects(&self, cluster: &Cluster) -> bool {
        let before = &self.cluster;
        is_same(&cluster.ingresses, &before.ingresses)
            && is_same(&cluster.services, &before.services)
            && is_same(&cluster.secrets, &before.secrets)
            && is_same(&cluster.config_maps, &before.config_maps)
    }

    /// The Services of which a slice came, went or changed.
    fn changed_services(&self, cluster: &Cluster) -> BTreeSet<ObjectKey> {
        let (before, after) = (&self.cluster.endpoint_slices, &cluster.endpoint_slices);
        let differs = |(key, slice): &(&ObjectKey, &Arc<EndpointSlice>), other: &Objects<EndpointSlice>| {
            other.get(*key).is_none_or(|other| !Arc::ptr_eq(slice, other))
        };
        let gone = before.iter().filter(|entry| differs(entry, after));
        let new = after.iter().filter(|entry| differs(entry, before));
        gone.chain(new).filter_map(|(_, slice)| slices::service_of(slice)).collect()
    }

    /// The translation with these endpoints in place of those of before.
    fn take(&mut self, resolved: Vec<(BackendId, Resolved)>) -> Translation {
        let model = Arc::make_mut(&mut self.translation.model);
        for (id, Resolved { backend, problems }) in resolved {
            if problems.is_empty() {
                self.of_endpoints.remove(&id);
            } else {
                self.of_endpoints.insert(id.clone(), problems);
            }
            model.backends.insert(id, backend);
        }
        if self.of_endpoints.is_empty() {
            self.translation.problems.clone_from(&self.problems);
        } else {
            let all = self.problems.iter().chain(self.of_endpoints.values().flatten());
            // Two ports of a Service have their slices in common.
            let all: BTreeSet<&Problem> = all.collect();
            self.translation.problems = all.into_iter().cloned().collect();
        }
        self.translation.clone()
    }
}

/// Whether the same objects are there. One that changed has another address.
fn is_same<K>(one: &Objects<K>, other: &Objects<K>) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((one, a), (other, b))| Arc::ptr_eq(a, b) && one == other)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::api::networking::v1::Ingress;

    use super::*;
    use crate::problem::Code;
    use crate::translate::translate_with;

    /// 2030-01-01, on which the certificate ends.
    const END: i64 = 1_893_456_000;

    fn ingress(name: &str, edit: usize) -> (ObjectKey, Arc<Ingress>) {
        let ingress = serde_json::json!({
            "metadata": {
                "name": name, "namespace": "shop", "annotations": {"kubernetes.io/ingress.class": "nginx", "edit": edit.to_string()}
            },
            "spec": {
                "tls": [{"hosts": ["old.example"], "secretName": if name == "old" { "old" } else { "" }}],
                "rules": [{"host": format!("{name}.example")}]
            }
        });
        (ObjectKey::new("shop", name), Arc::new(serde_json::from_value(ingress).unwrap()))
    }

    fn secret() -> Secret {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["old.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let parts = [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
        let data = parts.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn a_certificate_that_ends_is_told_although_other_hosts_are_edited_all_the_time() {
        let mut cluster = Cluster {
            ingresses: [ingress("old", 0), ingress("edited", 0)].into(),
            secrets: [(ObjectKey::new("shop", "old"), Arc::new(secret()))].into(),
            ..Cluster::default()
        };
        let mut reuse = Reuse::default();
        let mut is_told = false;
        for (edit, minutes) in (-30_i64..=90).step_by(30).enumerate() {
            let (key, edited) = ingress("edited", edit);
            cluster.ingresses.insert(key, edited);
            let found = translate_with(&mut reuse, &cluster, &Settings::default(), END + minutes * 60);
            is_told = found.problems.iter().any(|problem| problem.code == Code::SecretInvalid);
        }
        assert!(is_told);
    }
}
