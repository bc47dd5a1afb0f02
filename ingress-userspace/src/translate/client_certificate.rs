//! Secrets with authorities → what a host asks of its clients. A Secret that cannot be used refuses everybody.

use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::Build;
use super::auth::Annotation;
use super::digest::sha256;
use super::hosts::{Draft, Shared};
use super::pem as pem_file;
use crate::annotation::Settings;
use crate::annotation::config_map::Defaults;
use crate::k8s::cluster::ObjectKey;
use crate::model::certificate::CertificateId;
use crate::model::policy::client_certificate::{ClientAuth, ClientAuthorities, ClientCertificate, Trust};
use crate::problem::{Code, ObjectRef, Severity};

/// What an Ingress asks of the clients of its hosts.
pub(super) fn client_auth(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    settings: &Settings,
    defaults: &Defaults,
) -> Option<ClientAuth> {
    let wanted = settings.client_certificate.as_ref()?;
    let broken = || Some(ClientAuth::Broken { reason: format!("annotation {}", wanted.key) });
    let Some(name) = wanted.secret.as_ref().filter(|_| !wanted.is_subject_unreadable) else {
        return broken();
    };
    let at = Annotation { owner, key: &wanted.key };
    let namespace = name.namespace.as_ref().unwrap_or(&owner.namespace);
    let key = ObjectKey::new(namespace.clone(), name.name.clone());
    let read = if *namespace != owner.namespace && !defaults.is_cross_namespace_allowed {
        Err((
            Code::AnnotationInvalid,
            "is in another namespace, which is not allowed; the whole host answers 403; copy it here, or set the \
             ConfigMap key allow-cross-namespace-resources to true"
                .to_owned(),
        ))
    } else {
        match build.cluster.secrets.get(&key) {
            None => Err((
                Code::ReferenceMissing,
                format!(
                    "there is no Secret {key}; the whole host answers 403; create it or correct the name"
                ),
            )),
            Some(secret) => parse(&key, secret).map_err(|reason| {
                let message =
                    format!("Secret {key} {reason}; the whole host answers 403; correct the Secret");
                (Code::SecretInvalid, message)
            }),
        }
    };
    match read {
        Ok((digest, authorities)) => {
            build.client_authorities.entry(digest.clone()).or_insert(authorities);
            let trust = Trust { authorities: digest, requirement: wanted.requirement, depth: wanted.depth };
            Some(ClientAuth::Certificate(ClientCertificate {
                trust,
                error_page: wanted.error_page.clone(),
                is_passed: wanted.is_passed,
                subject: wanted.subject.clone(),
            }))
        }
        Err((code, message)) => {
            at.problem(build, (code, Severity::Error), &wanted.written, message);
            broken()
        }
    }
}

/// Reads `ca.crt` and `ca.crl`.
fn parse(key: &ObjectKey, secret: &Secret) -> Result<(String, ClientAuthorities), String> {
    let part = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
        bytes.filter(|bytes| !bytes.is_empty())
    };
    let pem = part("ca.crt").ok_or("has no ca.crt")?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates
        .map_err(|error| format!("holds a ca.crt that is not PEM: {}", pem_file::fault(&error)))?;
    if certificates.is_empty() {
        return Err("holds a ca.crt without a certificate".to_owned());
    }
    for certificate in &certificates {
        webpki::anchor_from_trusted_cert(certificate)
            .map_err(|error| format!("holds a ca.crt with a certificate that cannot be used ({error})"))?;
    }
    let mut revocations = Vec::new();
    if let Some(pem) = part("ca.crl") {
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            let list =
                list.map_err(|error| format!("holds a ca.crl that is not PEM: {}", pem_file::fault(&error)))?;
            webpki::BorrowedCertRevocationList::from_der(&list)
                .map_err(|error| format!("holds a ca.crl that cannot be used ({error})"))?;
            revocations.push(list.as_ref().to_vec());
        }
        if revocations.is_empty() {
            return Err("holds a ca.crl without a list".to_owned());
        }
    }
    let certificates: Vec<Vec<u8>> = certificates.iter().map(|der| der.to_vec()).collect();
    let mut all = Vec::new();
    for part in certificates.iter().chain([&Vec::new()]).chain(&revocations) {
        all.extend_from_slice(&part.len().to_be_bytes());
        all.extend_from_slice(part);
    }
    let source = CertificateId { namespace: key.namespace.clone(), name: key.name.clone() };
    Ok((sha256(&all), ClientAuthorities { source, certificates, revocations }))
}

/// What a host asks of its clients: the oldest Ingress that says something decides, others are told.
pub(super) fn of_host(build: &mut Build<'_>, shared: &Shared<'_>, draft: &Draft) -> Option<ClientAuth> {
    let owners = draft.owners().into_iter().filter_map(|index| shared.owners.get(index));
    let mut asking = owners.filter_map(|owner| Some((owner, owner.client_auth.as_ref()?)));
    let (winner, decided) = asking.next()?;
    for (loser, other) in asking.filter(|(_, other)| *other != decided) {
        let message = format!(
            "{} comes first (older, or by name) and decides about client certificates of {}; say the same in both{}",
            winner.object,
            draft.shown(),
            if matches!(other, ClientAuth::Broken { .. }) { ", and correct this one" } else { "" }
        );
        let wanted = loser.settings.client_certificate.as_ref();
        let (key, written) = wanted.map(|wanted| (wanted.key.as_str(), wanted.written.as_str())).unzip();
        let at = Annotation { owner: &loser.object, key: key.unwrap_or_default() };
        at.problem(build, (Code::Conflict, Severity::Warning), written.unwrap_or_default(), message);
    }
    Some(decided.clone())
}
