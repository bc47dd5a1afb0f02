//! Secrets → certificates, and which certificate answers for a host.
//!
//! As ingress-nginx: the oldest Ingress of a host decides; a `spec.tls` entry that lists the host, else one whose
//! certificate covers it. A Secret that is missing, broken or does not cover the host means the default certificate, and
//! the host still counts as having TLS (it is redirected to). Unlike there, a Secret that was good and is broken now keeps
//! what it held. An expired certificate is served. A host that stands only in `spec.tls` adds no route.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::IngressTLS;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Build;
use super::digest::sha256;
use super::pem;
use crate::k8s::cluster::ObjectKey;
use crate::model::certificate::{Certificate, CertificateId, KeyDer};
use crate::model::host::HostPattern;
use crate::problem::{Code, ObjectRef, Severity};

/// Secrets read before. One that is the same object is not read again.
pub(super) type Known = HashMap<ObjectKey, KnownSecret>;

/// What came of a Secret.
#[derive(Debug, Default)]
pub(super) struct KnownSecret {
    /// The object that was read last.
    read: Option<Arc<Secret>>,
    /// The newest certificate that could be used.
    good: Option<Good>,
    /// Why the object read last cannot be used.
    broken: Option<String>,
}

/// A certificate that can be served.
#[derive(Debug)]
struct Good {
    certificate: Arc<Certificate>,
    /// Seconds since 1970.
    not_before: i64,
    /// What is wrong with it all the same.
    remark: Option<&'static str>,
}

/// What to do about a Secret that could not be loaded.
fn fix(build: &Build<'_>, key: &ObjectKey) -> &'static str {
    if build.cluster.secrets.contains_key(key) {
        "correct the Secret"
    } else {
        "create it or correct the name"
    }
}

/// The certificate of `--default-ssl-certificate`.
pub(super) fn default_certificate(build: &mut Build<'_>) -> Option<CertificateId> {
    let key = build.settings.default_certificate.clone()?;
    match load(build, &key) {
        Ok(loaded) => {
            let owner = ObjectRef::flag("--default-ssl-certificate");
            check(build, &loaded, &owner, "secret");
            Some(loaded.id)
        }
        Err(reason) => {
            let message =
                format!("{reason}; a self-signed certificate is served instead; {}", fix(build, &key));
            let owner = ObjectRef::flag("--default-ssl-certificate");
            build.problem(
                &owner,
                (Code::SecretInvalid, Severity::Error),
                ("secret", &key.to_string()),
                message,
            );
            None
        }
    }
}

/// The certificates of one Ingress's `spec.tls`, each entry read once.
pub(super) struct Entries<'a> {
    owner: &'a ObjectRef,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    tls: &'a IngressTLS,
    field: String,
    /// `None`: no Secret is named, or it cannot be used (which is a Problem already).
    certificate: Option<CertificateId>,
}

impl<'a> Entries<'a> {
    /// Reads `spec.tls`.
    pub(super) fn read(build: &mut Build<'_>, owner: &'a ObjectRef, tls: &'a [IngressTLS]) -> Self {
        let mut entries = Vec::with_capacity(tls.len());
        for (index, tls) in tls.iter().enumerate() {
            let field = format!("spec.tls[{index}].secretName");
            let name = tls.secret_name.as_deref().unwrap_or_default();
            let mut certificate = None;
            if !name.is_empty() {
                let key = ObjectKey::new(owner.namespace.clone(), name);
                match load(build, &key) {
                    Ok(loaded) => {
                        check(build, &loaded, owner, &field);
                        certificate = Some(loaded.id);
                    }
                    Err(reason) => {
                        let fix = fix(build, &key);
                        let message = format!("{reason}; the default certificate is served instead; {fix}");
                        let field = field.clone();
                        build.problem(
                            owner,
                            (Code::SecretInvalid, Severity::Warning),
                            (field, name),
                            message,
                        );
                    }
                }
            }
            entries.push(Entry { tls, field, certificate });
        }
        Self { owner, entries }
    }

    /// Whether the Ingress has no TLS section.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The certificate for a host: outer `None` when this Ingress gives it no TLS, inner `None` for the default one.
    pub(super) fn certificate(
        &self,
        build: &mut Build<'_>,
        pattern: &HostPattern,
    ) -> Option<Option<CertificateId>> {
        let name = match pattern {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
            HostPattern::Any => {
                // Without a name there is nothing to compare: the entry that lists no hosts is meant.
                let lists_none = |entry: &&Entry<'_>| entry.tls.hosts.as_ref().is_none_or(Vec::is_empty);
                return self.entries.iter().find(lists_none).map(|entry| entry.certificate.clone());
            }
        };
        let lists = |entry: &&Entry<'_>| {
            entry.tls.hosts.as_deref().unwrap_or_default().iter().any(|host| host.eq_ignore_ascii_case(&name))
        };
        if let Some(entry) = self.entries.iter().find(lists) {
            let certificate = entry.certificate.clone().filter(|id| {
                let covers = covers(build, id, &name);
                if !covers {
                    let names = build.certificates.get(id).map(|found| found.names.join(", ")).unwrap_or_default();
                    let message = format!(
                        "the certificate is for {names} and not for {name}; the default certificate is served for it; \
                         name another Secret or renew the certificate"
                    );
                    let at = (entry.field.clone(), id.name.as_str());
                    build.problem(self.owner, (Code::SecretInvalid, Severity::Warning), at, message);
                }
                covers
            });
            return Some(certificate);
        }
        let covering = self.entries.iter().filter_map(|entry| entry.certificate.clone());
        covering.into_iter().find(|id| covers(build, id, &name)).map(Some)
    }
}

fn covers(build: &Build<'_>, id: &CertificateId, name: &str) -> bool {
    let one_label_up = name.split_once('.').map(|(_, suffix)| format!("*.{suffix}"));
    let names = build.certificates.get(id).map(|found| found.names.as_slice()).unwrap_or_default();
    names.iter().any(|covered| covered == name || Some(covered) == one_label_up.as_ref())
}

/// Reports what is wrong with a certificate that is served.
fn check(build: &mut Build<'_>, loaded: &Loaded, owner: &ObjectRef, field: &str) {
    let Loaded { id, stale, not_before, remark } = loaded;
    let date =
        |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    let mut messages = Vec::new();
    if let Some(reason) = stale {
        messages
            .push(format!("{reason}; the certificate that it held before is served until it is corrected"));
    }
    let not_after = build.certificates.get(id).map_or(i64::MAX, |certificate| certificate.not_after);
    if not_after < build.now {
        let when = date(not_after);
        messages.push(format!("the certificate expired at {when}; it is served nevertheless; renew it"));
    }
    if *not_before > build.now {
        let when = date(*not_before);
        messages.push(format!(
            "the certificate is not valid before {when}; it is served nevertheless; issue one that is valid now, or set \
             the clock of this machine"
        ));
    }
    messages.extend(remark.map(str::to_owned));
    for message in messages {
        build.problem(owner, (Code::SecretInvalid, Severity::Warning), (field, &id.name), message);
    }
}

/// A certificate that is in the model now.
struct Loaded {
    id: CertificateId,
    /// Why the Secret cannot be used any more; the certificate is what it held before.
    stale: Option<String>,
    not_before: i64,
    remark: Option<&'static str>,
}

/// The certificate of a Secret that is not served but shown, in the model.
pub(super) fn load_pair(build: &mut Build<'_>, key: &ObjectKey) -> Result<CertificateId, String> {
    load(build, key).map(|loaded| loaded.id)
}

/// Reads the certificate of a Secret into the model. A Secret that was good and is broken now keeps what it held: an
/// unlucky rotation must not replace a working certificate by a self-signed one. A deleted Secret keeps nothing.
fn load(build: &mut Build<'_>, key: &ObjectKey) -> Result<Loaded, String> {
    let Some(secret) = build.cluster.secrets.get(key) else {
        return Err(format!("there is no Secret {key}"));
    };
    let known = build.known.entry(key.clone()).or_default();
    if !known.read.as_ref().is_some_and(|read| Arc::ptr_eq(read, secret)) {
        known.read = Some(Arc::clone(secret));
        match parse(secret) {
            Ok(good) => (known.good, known.broken) = (Some(good), None),
            Err(reason) => known.broken = Some(format!("Secret {key} {reason}")),
        }
    }
    let id = CertificateId { namespace: key.namespace.clone(), name: key.name.clone() };
    match (&known.good, &known.broken) {
        (Some(Good { certificate, not_before, remark }), stale) => {
            // The OCSP response that a Secret carries is kept only where `enable-ocsp` asks for it.
            let served = if certificate.ocsp.is_some() && !build.is_stapled {
                Arc::new(Certificate { ocsp: None, ..(**certificate).clone() })
            } else {
                Arc::clone(certificate)
            };
            build.certificates.entry(id.clone()).or_insert(served);
            Ok(Loaded { id, stale: stale.clone(), not_before: *not_before, remark: *remark })
        }
        (None, reason) => Err(reason.clone().unwrap_or_default()),
    }
}

/// Reads `tls.crt` and `tls.key`. Error texts never quote them.
fn parse(secret: &Secret) -> Result<Good, String> {
    let part = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
        bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| format!("has no {name}"))
    };
    let (certificates, key) = (part("tls.crt")?, part("tls.key")?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let chain = chain.map_err(|error| format!("holds a tls.crt that is not PEM: {}", pem::fault(&error)))?;
    let leaf = chain.first().ok_or("holds a tls.crt without a certificate")?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).ok().ok_or("holds a tls.crt that is not an X.509 certificate")?;
    let key = private_key(key)?;
    let signing = any_supported_type(&key).ok().ok_or(
        "holds a tls.key of a kind that is not supported; there are RSA from 2048 bits, ECDSA with P-256, P-384 and P-521, \
         and Ed25519",
    )?;
    let matches = |part: &CertificateDer<'static>| {
        CertifiedKey::new(vec![part.clone()], Arc::clone(&signing)).keys_match()
    };
    if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = matches(leaf) {
        let is_further_down = chain.iter().any(|part| matches(part).is_ok());
        let hint = if is_further_down { ", but to another one; put that one first" } else { "" };
        return Err(format!(
            "holds a tls.key that does not belong to the first certificate of tls.crt{hint}"
        ));
    }
    let certificate = Arc::new(Certificate {
        names: names(&parsed),
        not_after: parsed.validity().not_after.timestamp(),
        fingerprint: sha256(leaf),
        ocsp: part("tls.ocsp-staple").ok().map(<[u8]>::to_vec),
        key: KeyDer(key.secret_der().to_vec()),
        chain: chain.iter().map(|part| part.to_vec()).collect(),
    });
    let not_before = parsed.validity().not_before.timestamp();
    let remark = (!is_in_order(&chain)).then_some(
        "the certificates of tls.crt are not in order, each followed by the one that signed it; they are served as they are, \
         and some clients refuse that; sort them, or remove what does not belong to the chain",
    );
    Ok(Good { certificate, not_before, remark })
}

/// A key that needs no passphrase.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_error| {
        // PKCS#8 says so in the first line, the older form in a header.
        let is_encrypted = String::from_utf8_lossy(pem).lines().take(4).any(|line| line.contains("ENCRYPTED"));
        if is_encrypted {
            "holds a tls.key that is encrypted, and nobody can be asked for its passphrase; store it decrypted"
        } else {
            "holds a tls.key that is not a PEM private key"
        }
    })
}

/// Whether each certificate is followed by that of its issuer. One that cannot be read is not judged.
fn is_in_order(chain: &[CertificateDer<'_>]) -> bool {
    let names = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some((certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()))
    };
    let names: Option<Vec<_>> = chain.iter().map(names).collect();
    let pairs = names.as_deref().unwrap_or_default().iter();
    pairs.clone().zip(pairs.skip(1)).all(|((_, issuer), (subject, _))| issuer == subject)
}

/// DNS names of the leaf; its common name only when it has no alternative names at all.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = match alternatives {
        Some(alternatives) => {
            let dns = alternatives.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            });
            dns.collect()
        }
        None => {
            let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            common.map(str::to_ascii_lowercase).collect()
        }
    };
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::k8s::cluster::Cluster;
    use crate::translate::{Reuse, Settings, translate_with};

    /// Certificates of these tests are valid then.
    const NOW: i64 = 1_800_000_000;

    fn secret(parts: &[(&str, &str)]) -> Secret {
        let data =
            parts.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_matching_pair_is_read() {
        let (certificate, key) = pair(&["B.example.com", "*.a.example.com"]);
        let read = parse(&secret(&[("tls.crt", &certificate), ("tls.key", &key)])).unwrap().certificate;
        assert_eq!(read.names, ["*.a.example.com", "b.example.com"]);
        assert_eq!(read.fingerprint.len(), 64);
        assert_eq!(format!("{:?}", read.key), "[redacted]");
    }

    #[test]
    fn a_secret_that_breaks_keeps_what_it_held_until_it_is_deleted() {
        let (certificate, key) = pair(&["a.example.com"]);
        let good = secret(&[("tls.crt", &certificate), ("tls.key", &key)]);
        let id = ObjectKey::new("system", "default");
        let settings = Settings { default_certificate: Some(id.clone()), ..Settings::default() };
        let mut reuse = Reuse::default();
        let mut build = |secret: Option<Secret>| {
            let secrets = secret.map(|secret| (id.clone(), Arc::new(secret))).into_iter().collect();
            let cluster = Cluster { secrets, ..Cluster::default() };
            let found = translate_with(&mut reuse, &cluster, &settings, NOW);
            (found.model.certificates.len(), found.problems.len())
        };
        assert_eq!(build(Some(Secret::default())), (0, 1));
        assert_eq!(build(Some(good.clone())), (1, 0));
        assert_eq!(build(Some(Secret::default())), (1, 1));
        assert_eq!(build(Some(good)), (1, 0));
        assert_eq!(build(None), (0, 1));
        assert_eq!(build(Some(Secret::default())), (0, 1));
    }

    #[test]
    fn a_staple_is_sent_only_when_asked_for() {
        let (certificate, key) = pair(&["a.example.com"]);
        let parts = [("tls.crt", certificate.as_str()), ("tls.key", &key), ("tls.ocsp-staple", "response")];
        let (id, config) = (ObjectKey::new("system", "default"), ObjectKey::new("system", "config"));
        let settings = Settings {
            default_certificate: Some(id.clone()),
            config_map: Some(config.clone()),
            ..Settings::default()
        };
        let mut reuse = Reuse::default();
        let mut staple = |asked: &str| {
            let data = Some([("enable-ocsp".to_owned(), asked.to_owned())].into());
            let config_map = ConfigMap { data, ..ConfigMap::default() };
            let cluster = Cluster {
                secrets: [(id.clone(), Arc::new(secret(&parts)))].into(),
                config_maps: [(config.clone(), Arc::new(config_map))].into(),
                ..Cluster::default()
            };
            let found = translate_with(&mut reuse, &cluster, &settings, NOW);
            found.model.certificates.values().next().unwrap().ocsp.clone()
        };
        assert_eq!(staple("true").as_deref(), Some(&b"response"[..]));
        assert_eq!(staple("false"), None);
    }

    #[test]
    fn every_broken_secret_says_why_and_shows_nothing_of_it() {
        let (certificate, key) = pair(&["a.example.com"]);
        let (other_certificate, other_key) = pair(&["a.example.com"]);
        let block = |kind: &str, headers: &str| {
            format!("-----BEGIN {kind}-----\n{headers}aGVsbG8=\n-----END {kind}-----\n")
        };
        let locked = block("ENCRYPTED PRIVATE KEY", "");
        let locked_of_old = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n");
        let cut = &certificate[..certificate.len() / 2];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let rows: [Row<'_>; 9] = [
            ("empty", &[], "has no tls.crt"),
            ("no key", &[("tls.crt", &certificate)], "has no tls.key"),
            ("cut", &[("tls.crt", cut), ("tls.key", &key)], "tls.crt"),
            ("no PEM", &[("tls.crt", "hello"), ("tls.key", &key)], "without a certificate"),
            ("key is no key", &[("tls.crt", &certificate), ("tls.key", "hello")], "not a PEM private key"),
            ("encrypted", &[("tls.crt", &certificate), ("tls.key", &locked)], "passphrase"),
            ("encrypted as of old", &[("tls.crt", &certificate), ("tls.key", &locked_of_old)], "passphrase"),
            (
                "leaf last",
                &[("tls.crt", &(other_certificate + &certificate)), ("tls.key", &key)],
                "put that one first",
            ),
            ("mismatch", &[("tls.crt", &certificate), ("tls.key", &other_key)], "does not belong"),
        ];
        for (name, parts, expected) in rows {
            let reason = parse(&secret(parts)).unwrap_err();
            assert!(reason.contains(expected), "{name}: {reason}");
            assert!(!reason.contains("hello"), "{name}: {reason}");
        }
    }
}
