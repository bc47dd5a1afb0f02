//! Copies of referenced Secrets and ConfigMaps in one namespace: how they are named and marked.
//!
//! The controller makes them, agents read nothing else of these kinds. A copy says in annotations of which object it is; the
//! mark, a ConfigMap without origin, says that every copy was made once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cluster::ObjectKey;

/// The label of every copy.
pub const LABEL: &str = "portcullis.dev/copy";
/// Namespace of the original.
pub const NAMESPACE: &str = "portcullis.dev/source-namespace";
/// Name of the original.
pub const NAME: &str = "portcullis.dev/source-name";
/// Name of the mark.
pub const MARK: &str = "portcullis.synced";
/// The `type` of copied Secrets: the checks of the others were passed by the originals.
pub const SECRET_TYPE: &str = "portcullis.dev/copy";
/// Longest name of an object.
const LONGEST: usize = 253;

/// The original that a copy is of.
pub fn origin(meta: &ObjectMeta) -> Option<ObjectKey> {
    let annotations = meta.annotations.as_ref()?;
    Some(ObjectKey::new(annotations.get(NAMESPACE)?, annotations.get(NAME)?))
}

/// Gives what was read of a copy the name of its original.
pub fn restore(meta: &mut ObjectMeta) {
    if let Some(ObjectKey { namespace, name }) = origin(meta) {
        (meta.namespace, meta.name) = (Some(namespace), Some(name));
    }
}

/// The name under which the API server knows a copy whose own was restored.
pub fn stored_name(meta: &ObjectMeta) -> String {
    origin(meta).map_or_else(|| meta.name.clone().unwrap_or_default(), |original| name(&original))
}

/// The name of the copy of an object. Namespaces hold no dot, so that two objects never share one.
pub fn name(original: &ObjectKey) -> String {
    let whole = format!("{}.{}", original.namespace, original.name);
    if whole.len() <= LONGEST && whole != MARK {
        return whole;
    }
    let cut: String = whole.chars().take(LONGEST - 18).collect();
    format!("{}.x{:016x}", cut.trim_end_matches(['.', '-']), fnv(whole.as_bytes()))
}

/// FNV-1a: names must be the same in every release.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The metadata of the copy of an object.
pub fn meta(namespace: &str, original: &ObjectKey) -> ObjectMeta {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ObjectMeta {
        name: Some(name(original)),
        namespace: Some(namespace.to_owned()),
        labels: Some([pair(LABEL, "true")].into()),
        annotations: Some([pair(NAMESPACE, &original.namespace), pair(NAME, &original.name)].into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_leads_back_to_its_original() {
        let original = ObjectKey::new("shop", "web-tls");
        let copy = meta("synced", &original);
        assert_eq!(copy.name.as_deref(), Some("shop.web-tls"));
        assert_eq!(origin(&copy), Some(original));
        let mut read = copy.clone();
        restore(&mut read);
        assert_eq!((read.namespace.as_deref(), read.name.as_deref()), (Some("shop"), Some("web-tls")));
        assert_eq!(stored_name(&read), "shop.web-tls");
        assert_eq!(origin(&ObjectMeta::default()), None);
    }

    #[test]
    fn long_names_stay_names_and_apart() {
        let long = |end: &str| name(&ObjectKey::new("n".repeat(63), format!("{}{end}", "a.".repeat(120))));
        assert!(long("b").len() <= LONGEST && long("b") != long("c"));
        assert_ne!(name(&ObjectKey::new("portcullis", "synced")), MARK);
    }
}
