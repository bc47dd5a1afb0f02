//! The Redis through which nodes share limits, with its password.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Build;
use crate::annotation::config_map::Defaults;
use crate::annotation::shared_limits::{RATE_LIMIT_REDIS_SECRET, RedisText};
use crate::k8s::cluster::ObjectKey;
use crate::model::shared_limits::{Password, SharedLimits};
use crate::problem::{Code, ObjectRef, Severity};

/// Puts the settings into the model. Without the Secret that they name nothing is shared: each node keeps its own limits.
pub(super) fn cluster(build: &mut Build<'_>, object: &ObjectRef, defaults: &mut Defaults) {
    let Some(RedisText { address, secret, database, is_tls, prefix }) = defaults.redis.clone() else {
        return;
    };
    let (mut user, mut password, mut authorities) = (None, None, None);
    if let Some((namespace, name)) = secret {
        let key = ObjectKey::new(namespace, name);
        let found = build.cluster.secrets.get(&key);
        let text = |field: &str| {
            let bytes = found.and_then(|secret| secret.data.as_ref()).and_then(|data| data.get(field));
            bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        };
        authorities = text("ca.crt").filter(|_| is_tls);
        let reason = match (found, text("password")) {
            (None, _) => Some((Code::ReferenceMissing, "there is no such Secret")),
            (Some(_), None) if authorities.is_none() => {
                Some((Code::SecretInvalid, "the Secret has no text under the key password"))
            }
            (Some(_), _) if !authorities.as_deref().is_none_or(are_authorities) => {
                Some((Code::SecretInvalid, "the Secret has no usable certificates under the key ca.crt"))
            }
            (Some(_), found) => {
                (user, password) = (text("username"), found.map(Password));
                None
            }
        };
        if let Some((code, reason)) = reason {
            let message = format!(
                "{reason}, so limits are not shared and hold per node; create it or correct the name"
            );
            let at = (format!("data[{}]", RATE_LIMIT_REDIS_SECRET.row.key), key.to_string());
            build.problem(object, (code, Severity::Warning), (at.0, &at.1), message);
            return;
        }
    }
    defaults.global.shared_limits =
        Some(SharedLimits { address, database, is_tls, authorities, prefix, user, password });
}

fn are_authorities(pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let (added, ignored) = roots.add_parsable_certificates(certificates.unwrap_or_default());
    added > 0 && ignored == 0
}
