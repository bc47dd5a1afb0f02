//! A translation that takes over what it can from the one before gives what one from nothing gives.

use std::sync::Arc;

use ingress_userspace::k8s::cluster::{Cluster, ObjectKey, Objects};
use ingress_userspace::translate::{Reuse, Settings, Translation, translate_with};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceSpec};

use super::{NOW, inputs, world};

/// What was done to a world, and how to do it.
type Change<'a> = (&'a str, Box<dyn Fn(&mut Cluster) + 'a>);

fn anew(cluster: &Cluster, settings: &Settings) -> Translation {
    translate_with(&mut Reuse::default(), cluster, settings, NOW)
}

/// For each object of a kind: a world without it.
fn removals<'a, K>(
    kind: &'a str,
    of: &Objects<K>,
    at: impl Fn(&mut Cluster) -> &mut Objects<K> + Copy + 'a,
) -> Vec<Change<'a>> {
    let removal = |key: &ObjectKey| -> Change<'a> {
        let key = key.clone();
        (kind, Box::new(move |cluster| drop(at(cluster).remove(&key))))
    };
    of.keys().map(removal).collect()
}

/// Goes from each world to a changed one and back, with what the one before left.
#[expect(clippy::unwrap_used, reason = "a broken case fails its test by panicking")]
fn check(changes: impl Fn(&Cluster) -> Vec<Change<'_>>) {
    for input in inputs() {
        let (cluster, settings) = world(&input).unwrap();
        let whole = anew(&cluster, &settings);
        let mut reuse = Reuse::default();
        assert_eq!(translate_with(&mut reuse, &cluster, &settings, NOW), whole, "{}", input.display());
        for (what, change) in changes(&cluster) {
            let mut changed = cluster.clone();
            change(&mut changed);
            let expected = anew(&changed, &settings);
            let found = translate_with(&mut reuse, &changed, &settings, NOW);
            assert_eq!(found, expected, "{}: {what}", input.display());
            let back = translate_with(&mut reuse, &cluster, &settings, NOW);
            assert_eq!(back, whole, "{}: {what} and back", input.display());
        }
    }
}

#[test]
fn endpoints_that_change_alone_are_as_if_read_anew() {
    check(|cluster| {
        let mut changes =
            removals("no slice", &cluster.endpoint_slices, |cluster| &mut cluster.endpoint_slices);
        for (key, slice) in &cluster.endpoint_slices {
            changes.push((
                "no endpoint is ready",
                Box::new(move |cluster| {
                    let mut slice = (**slice).clone();
                    for endpoint in &mut slice.endpoints {
                        endpoint.conditions.get_or_insert_default().ready = Some(false);
                    }
                    cluster.endpoint_slices.insert(key.clone(), Arc::new(slice));
                }),
            ));
            changes.push((
                "an address that is none",
                Box::new(move |cluster| {
                    let mut slice = (**slice).clone();
                    for endpoint in &mut slice.endpoints {
                        endpoint.addresses.push("nowhere".to_owned());
                    }
                    cluster.endpoint_slices.insert(key.clone(), Arc::new(slice));
                }),
            ));
        }
        changes
    });
}

#[test]
fn any_object_that_goes_and_comes_back_is_as_if_read_anew() {
    check(|cluster| {
        let mut changes = removals("no Ingress", &cluster.ingresses, |cluster| &mut cluster.ingresses);
        changes
            .extend(removals("no class", &cluster.ingress_classes, |cluster| &mut cluster.ingress_classes));
        changes.extend(removals("no Service", &cluster.services, |cluster| &mut cluster.services));
        changes.extend(removals("no Secret", &cluster.secrets, |cluster| &mut cluster.secrets));
        changes.extend(removals("no ConfigMap", &cluster.config_maps, |cluster| &mut cluster.config_maps));
        changes.extend(removals("no Namespace", &cluster.namespaces, |cluster| &mut cluster.namespaces));
        changes.extend(removals("no policy", &cluster.edge_policies, |cluster| &mut cluster.edge_policies));
        changes.extend(removals("no pool", &cluster.address_pools, |cluster| &mut cluster.address_pools));
        changes
    });
}

#[test]
fn any_object_that_is_edited_and_edited_back_is_as_if_read_anew() {
    check(|cluster| {
        let mut changes: Vec<Change<'_>> = Vec::new();
        for (key, service) in &cluster.services {
            let edited = |what, edit: fn(&mut ServiceSpec)| -> Change<'_> {
                let mut service = (**service).clone();
                edit(service.spec.get_or_insert_default());
                (
                    what,
                    Box::new(move |cluster| {
                        drop(cluster.services.insert(key.clone(), service.clone().into()))
                    }),
                )
            };
            changes.push(edited("a Service without ports", |spec| spec.ports = None));
            changes.push(edited("a Service with an address", |spec| {
                spec.cluster_ip = Some("10.9.8.7".to_owned())
            }));
            changes.push(edited("a Service elsewhere", |spec| {
                spec.type_ = Some("ExternalName".to_owned());
                spec.external_name = Some("elsewhere.example".to_owned());
            }));
        }
        for (key, map) in &cluster.config_maps {
            let map = ConfigMap { data: None, ..(**map).clone() };
            changes.push((
                "an empty ConfigMap",
                Box::new(move |cluster| drop(cluster.config_maps.insert(key.clone(), map.clone().into()))),
            ));
        }
        for (key, secret) in &cluster.secrets {
            // A broken certificate keeps what was there, which nothing read anew can know.
            let data = secret.data.iter().flatten().filter(|(name, _)| !name.starts_with("tls."));
            let data = data.map(|(name, _)| (name.clone(), ByteString(b"other".to_vec())));
            let kept = secret.data.iter().flatten().filter(|(name, _)| name.starts_with("tls."));
            let data = data.chain(kept.map(|(name, value)| (name.clone(), value.clone()))).collect();
            let secret = Secret { data: Some(data), ..(**secret).clone() };
            changes.push((
                "other contents",
                Box::new(move |cluster| drop(cluster.secrets.insert(key.clone(), secret.clone().into()))),
            ));
        }
        changes
    });
}

/// Names of Services that an Ingress of their namespace may have meant.
#[test]
fn a_service_that_comes_is_suggested_to_who_asked_for_another() {
    let ingress = serde_json::json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"kubernetes.io/ingress.class": "nginx"}},
        "spec": {"defaultBackend": {"service": {"name": "cart", "port": {"number": 80}}}}
    });
    let key = |name: &str| ObjectKey::new("shop", name);
    let mut cluster = Cluster {
        ingresses: [(key("web"), Arc::new(serde_json::from_value(ingress).unwrap_or_default()))].into(),
        ..Cluster::default()
    };
    let mut reuse = Reuse::default();
    let settings = Settings::default();
    translate_with(&mut reuse, &cluster, &settings, NOW);
    cluster.services.insert(key("carts"), Arc::default());
    let found = translate_with(&mut reuse, &cluster, &settings, NOW);
    assert!(found.problems.iter().any(|problem| problem.message.contains("did you mean carts")), "{found:?}");
    assert_eq!(found, anew(&cluster, &settings));
}
