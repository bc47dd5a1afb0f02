//! The objects of one kind, as the API server last said.
//!
//! Objects are compared by what they say and by their UID, never by resource version: a new number alone is no change,
//! and after a restored backup numbers go backwards. An object that says the same keeps its address. A list takes effect
//! as a whole, when it is complete; what it does not name is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use crate::k8s::cluster::{ObjectKey, Objects, key};

/// Reads the objects.
#[derive(Debug)]
pub(super) struct Store<K>(Arc<RwLock<Objects<K>>>);

impl<K> Store<K> {
    /// All objects, ordered by key.
    pub(super) fn state(&self) -> Vec<Arc<K>> {
        let objects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        objects.values().map(Arc::clone).collect()
    }
}

/// Writes the objects; there is one per store.
#[derive(Debug)]
pub(super) struct Writer<K> {
    objects: Arc<RwLock<Objects<K>>>,
    /// What is kept of an object.
    trim: fn(&mut K),
    /// The list that is being read.
    list: Objects<K>,
}

/// An empty store.
pub(super) fn store<K>(trim: fn(&mut K)) -> (Store<K>, Writer<K>) {
    let objects = Arc::new(RwLock::new(BTreeMap::new()));
    (Store(Arc::clone(&objects)), Writer { objects, trim, list: BTreeMap::new() })
}

impl<K: Resource<DynamicType = ()> + PartialEq> Writer<K> {
    /// Takes an event over; whether an object changed.
    pub(super) fn apply(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.list.clear();
                false
            }
            Event::InitApply(object) => {
                let (key, object, _) = self.known(object);
                self.list.insert(key, object);
                false
            }
            Event::InitDone => {
                let list = std::mem::take(&mut self.list);
                let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
                let is_same = objects.len() == list.len()
                    && objects.values().zip(list.values()).all(|(old, new)| Arc::ptr_eq(old, new));
                *objects = list;
                !is_same
            }
            Event::Apply(object) => {
                let (key, object, is_new) = self.known(object);
                self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(key, object);
                is_new
            }
            Event::Delete(mut object) => {
                (self.trim)(&mut object);
                let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
                objects.remove(&key(&object)).is_some()
            }
        }
    }

    /// The object as it is kept: the one of the store if it says the same, else the new one.
    fn known(&self, mut object: K) -> (ObjectKey, Arc<K>, bool) {
        (self.trim)(&mut object);
        object.managed_fields_mut().clear();
        object.meta_mut().resource_version = None;
        let key = key(&object);
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        match objects.get(&key).filter(|old| ***old == object) {
            Some(old) => (key, Arc::clone(old), false),
            None => (key, Arc::new(object), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: &str, value: &str) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "a", "uid": uid, "resourceVersion": version},
            "data": {"key": value},
        }))
        .unwrap()
    }

    fn list(writer: &mut Writer<ConfigMap>, objects: &[ConfigMap]) -> bool {
        writer.apply(Event::Init);
        for object in objects {
            writer.apply(Event::InitApply(object.clone()));
        }
        writer.apply(Event::InitDone)
    }

    #[test]
    fn only_content_and_uid_make_a_change() {
        let (store, mut writer) = store(|_: &mut ConfigMap| {});
        assert!(list(&mut writer, &[object("x", "1", "100", "old"), object("y", "2", "90", "y")]));
        let before = store.state();
        // A newer number, an older number: the same object.
        for version in ["200", "50"] {
            assert!(!writer.apply(Event::Apply(object("x", "1", version, "old"))), "{version}");
            assert!(!list(&mut writer, &[object("x", "1", version, "old"), object("y", "2", version, "y")]));
        }
        assert!(before.iter().zip(store.state()).all(|(old, new)| Arc::ptr_eq(old, &new)));
        assert!(writer.apply(Event::Apply(object("x", "3", "200", "old"))), "made again under its name");
        assert!(writer.apply(Event::Apply(object("x", "3", "100", "new"))), "older number, other content");
        assert_eq!(store.state()[0].data.as_ref().unwrap()["key"], "new");
    }

    #[test]
    fn a_list_replaces_everything_when_it_is_complete_and_not_before() {
        let (store, mut writer) = store(|_: &mut ConfigMap| {});
        list(&mut writer, &[object("x", "1", "9", ""), object("y", "2", "9", "")]);
        writer.apply(Event::Init);
        writer.apply(Event::InitApply(object("z", "3", "9", "")));
        assert_eq!(store.state().len(), 2, "half of a list");
        // The list failed and begins again.
        assert!(list(&mut writer, &[object("y", "2", "3", "")]));
        assert_eq!(store.state().iter().map(|object| object.name_any()).collect::<Vec<_>>(), ["y"]);
        assert!(writer.apply(Event::Delete(object("y", "2", "4", ""))));
        assert!(!writer.apply(Event::Delete(object("y", "2", "4", ""))));
    }
}
