//! `proxy-ssl-secret` and what goes with it → TLS towards endpoints.
//!
//! What cannot be honoured denies the paths of its Ingress: a certificate that shall be verified is never left unverified.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::digest::sha256;
use super::policies::Owner;
use super::{Build, pem as pem_file, tls};
use crate::annotation::proxy_ssl::ProxySsl;
use crate::k8s::cluster::ObjectKey;
use crate::model::certificate::{Authorities, CertificateId};
use crate::model::policy::upstream::{ClientCertificate, UpstreamProtocol, UpstreamTls, Verify};
use crate::problem::{Code, ObjectRef, Severity};

/// Reads the Secret. An error denies the paths; it is a Problem already.
pub(super) fn resolve(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    asked: &ProxySsl,
    crosses_namespaces: bool,
) -> Result<UpstreamTls, String> {
    read(build, owner, asked, crosses_namespaces).map_err(|reason| {
        let (namespace, name) = &asked.secret;
        let value = format!("{namespace}/{name}");
        let field = format!("metadata.annotations[{}]", asked.key);
        let message = format!("{reason}; the paths of this Ingress answer 503 until it is corrected");
        build.problem(owner, (Code::SecretInvalid, Severity::Error), (field, &value), message);
        format!("annotation {}", asked.key)
    })
}

fn read(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    asked: &ProxySsl,
    crosses_namespaces: bool,
) -> Result<UpstreamTls, String> {
    let (namespace, name) = &asked.secret;
    let key = ObjectKey::new(namespace.clone(), name.clone());
    if *namespace != owner.namespace && !crosses_namespaces {
        return Err("names a Secret of another namespace, which the ConfigMap key allow-cross-namespace-resources does not \
                    allow"
            .to_owned());
    }
    let Some(secret) = build.cluster.secrets.get(&key) else {
        return Err(format!("there is no Secret {key}"));
    };
    let part =
        |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).filter(|part| !part.0.is_empty());
    let (has_pair, ca) = (part("tls.crt").is_some(), part("ca.crt").cloned());
    let certificate = if has_pair {
        let id = tls::load_pair(build, &key)?;
        let fingerprint =
            build.certificates.get(&id).map(|found| found.fingerprint.clone()).unwrap_or_default();
        Some(ClientCertificate { id, fingerprint })
    } else {
        None
    };
    let verify = match (asked.is_verified, &asked.name, ca) {
        (false, _, _) => None,
        // The annotation without a name is a Problem of its own, and denies.
        (true, None, _) => None,
        (true, Some(_), None) => {
            return Err(format!("Secret {key} has no ca.crt, by which proxy-ssl-verify could verify"));
        }
        (true, Some(name), Some(ca)) => Some(Verify {
            authorities: authorities(build, &key, &ca.0)?,
            name: name.clone(),
            depth: asked.depth,
        }),
    };
    Ok(UpstreamTls {
        certificate,
        verify,
        server_name: asked.name.clone().filter(|_| asked.sends_name),
        has_tls12: asked.versions.has_tls12,
        has_tls13: asked.versions.has_tls13,
        ciphers: asked.ciphers.clone(),
    })
}

/// Puts the authorities of a Secret into the model; returns their digest.
fn authorities(build: &mut Build<'_>, key: &ObjectKey, pem: &[u8]) -> Result<String, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| {
        format!("Secret {key} holds a ca.crt that is not PEM: {}", pem_file::fault(&error))
    })?;
    let mut roots = rustls::RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() || unusable > 0 {
        return Err(format!("Secret {key} holds a ca.crt without usable certificates"));
    }
    let certificates: Vec<Vec<u8>> = certificates.iter().map(|part| part.to_vec()).collect();
    let digest = sha256(&certificates.concat());
    let source = CertificateId { namespace: key.namespace.clone(), name: key.name.clone() };
    build.authorities.insert(digest.clone(), Authorities { source, certificates });
    Ok(digest)
}

/// What holds for a whole host: that of its oldest Ingress that has it. Those that say something else are told.
pub(super) fn of_host(
    build: &mut Build<'_>,
    owners: &[Owner<'_>],
    of_paths: impl Iterator<Item = usize>,
    host: &str,
) -> Option<UpstreamTls> {
    let mut indices: Vec<usize> = of_paths.collect();
    indices.sort_unstable();
    indices.dedup();
    let mut decided: Option<&Owner<'_>> = None;
    for owner in indices.into_iter().filter_map(|index| owners.get(index)) {
        let Some(own) = owner.proxy_ssl.as_ref().filter(|_| !owner.settings.proxy_ssl_location_only) else {
            continue;
        };
        match decided {
            None => decided = Some(owner),
            Some(first) if first.proxy_ssl.as_ref() == Some(own) || own.verify.is_some() => {}
            Some(first) => {
                let key =
                    owner.settings.proxy_ssl.as_ref().map(|asked| asked.key.as_str()).unwrap_or_default();
                let message = format!(
                    "{} decides about TLS towards the backends of {host}, since it is older; make both the same, or set the \
                     ConfigMap key proxy-ssl-location-only",
                    first.object
                );
                let at = (format!("metadata.annotations[{key}]"), host);
                build.problem(&owner.object, (Code::Conflict, Severity::Warning), at, message);
            }
        }
    }
    decided.and_then(|owner| owner.proxy_ssl.clone())
}

/// The server name that a snippet sends.
pub(super) fn name_server(owner: Option<&Owner<'_>>, tls: &mut UpstreamTls) {
    let Some(snippet) = owner.and_then(|owner| owner.settings.snippet.upstream_tls.as_ref()) else { return };
    if !(tls.has_tls12 || tls.has_tls13) {
        (tls.has_tls12, tls.has_tls13) = (true, true);
    }
    tls.server_name = snippet.name.clone().filter(|_| snippet.is_named);
}

/// Whether TLS is spoken at all.
pub(super) fn is_spoken(protocol: UpstreamProtocol) -> bool {
    match protocol {
        UpstreamProtocol::Https | UpstreamProtocol::Grpcs | UpstreamProtocol::AutoHttp => true,
        UpstreamProtocol::Http | UpstreamProtocol::Grpc => false,
    }
}
