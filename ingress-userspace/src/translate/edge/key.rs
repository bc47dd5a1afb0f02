//! The key that the nodes of pools share. It keeps stray packets out of their tunnel, and no more: whoever can send packets
//! from the address of a node can see it, too. So a missing key is made from a text that everyone knows, and told.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;

use super::super::Build;
use super::nodes::copies;
use crate::k8s::cluster::{ObjectKey, Origin, reference};
use crate::k8s::members;
use crate::model::edge::{ClusterKey, Encapsulation, Pool};
use crate::problem::{Code, ObjectRef, Severity};

/// Where a folder has its key, unless a flag says otherwise.
const OF_FOLDER: (&str, &str) = ("default", "portcullis-cluster-key");
/// What a key is made of where none is given.
const KNOWN: &[u8] = b"portcullis: nodes without a key of their own";

/// The key, where several nodes serve a pool.
pub(super) fn cluster_key(build: &mut Build<'_>, pools: &[Pool]) -> Option<ClusterKey> {
    let is_shared = |pool: &&Pool| pool.nodes.len() > 1;
    let first = pools.iter().find(is_shared)?;
    let named = build.settings.cluster_key.clone().or_else(|| match build.cluster.origin {
        Origin::Folder => Some(ObjectKey::new(OF_FOLDER.0, OF_FOLDER.1)),
        Origin::Api => None,
    });
    let made = copies(build.settings).map(members::key_key);
    let keys = named.iter().chain(&made);
    let secret = keys.filter_map(|key| build.cluster.secrets.get(key)).next();
    let found = secret.and_then(|secret| read(build, secret));
    if found.is_none() && pools.iter().filter(is_shared).any(|pool| pool.encapsulation == Encapsulation::Udp)
    {
        let wanted =
            named.map_or_else(|| "the Secret of the controller".to_owned(), |key| format!("Secret {key}"));
        let message = format!(
            "several nodes serve the pool, and {wanted} holds no key for what they send each other, so a key is taken that \
             everyone knows; stray packets of other clusters may be taken for ours; write 16 random hexadecimal digits under \
             `key`"
        );
        let pool = ObjectRef {
            api_version: "portcullis.dev/v1alpha1".to_owned(),
            kind: "AddressPool".to_owned(),
            namespace: String::new(),
            name: first.name.clone(),
            uid: uid(build, &first.name),
        };
        build.problem(&pool, (Code::SecretInvalid, Severity::Warning), ("spec.encapsulation", ""), message);
    }
    let current = derive(KNOWN);
    Some(found.unwrap_or(ClusterKey { current, previous: None, seed: derive(&current.to_be_bytes()) }))
}

fn uid(build: &Build<'_>, pool: &str) -> String {
    let object = build.cluster.address_pools.get(&ObjectKey::new("", pool));
    object.and_then(|object| object.metadata.uid.clone()).unwrap_or_default()
}

/// The key of a Secret.
fn read(build: &mut Build<'_>, secret: &Secret) -> Option<ClusterKey> {
    let current = part(build, secret, "key", "no key is read")?;
    let previous = part(build, secret, "previous", "only the current key is accepted");
    let seed = part(build, secret, "seed", "one made of the key is taken");
    if seed.is_none() && previous.is_some() {
        let message = "there is none beside `previous`: a new key also places flows anew, which moves connections from node to \
                       node; write 16 hexadecimal digits that stay when the key changes";
        let at = ("data[seed]", "");
        build.problem(&reference(secret), (Code::SecretInvalid, Severity::Note), at, message);
    }
    Some(ClusterKey { current, previous, seed: seed.unwrap_or_else(|| derive(&current.to_be_bytes())) })
}

/// One value of the Secret; one that cannot be read is a Problem.
fn part(build: &mut Build<'_>, secret: &Secret, name: &str, outcome: &str) -> Option<u64> {
    let bytes = &secret.data.as_ref()?.get(name)?.0;
    let found = number(bytes);
    if found.is_none() {
        let message = format!(
            "is neither 16 hexadecimal digits nor the base64 form of 8 bytes; {outcome}; `openssl rand -hex 8` makes one"
        );
        let field = format!("data[{name}]");
        build.problem(&reference(secret), (Code::SecretInvalid, Severity::Error), (field, ""), message);
    }
    found
}

/// 16 hexadecimal digits, with or without `0x`; or 8 bytes in base64.
fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return u64::from_str_radix(digits, 16).ok();
    }
    let decoded = STANDARD.decode(text).ok()?;
    decoded.try_into().ok().map(u64::from_be_bytes)
}

/// A number made of bytes, the same on every node.
fn derive(bytes: &[u8]) -> u64 {
    let first = digest(&SHA256, bytes).as_ref().first_chunk().copied();
    first.map(u64::from_be_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_hexadecimal_or_base64() {
        for (text, expected) in [
            ("0102030405060708", Some(0x0102_0304_0506_0708)),
            ("0xFF02030405060708\n", Some(0xff02_0304_0506_0708)),
            ("AQIDBAUGBwg=", Some(0x0102_0304_0506_0708)),
            ("01020304", None),
            ("secret", None),
            ("", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }
}
