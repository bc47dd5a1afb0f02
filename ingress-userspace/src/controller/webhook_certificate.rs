//! The certificate of the webhook, made and renewed by the controller, so that nothing else needs to be installed.
//!
//! It signs itself and stands in a Secret of our namespace, which the webhook's pods mount; the webhook configuration's
//! `caBundle` names it and, for as long as that one is valid, the one before, since a mounted Secret changes with delay.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::call;
use crate::error_chain::chain;

/// How long a certificate is valid, and how long before its end it is renewed.
const VALID_DAYS: i64 = 365;
const RENEW_DAYS: i64 = 60;
const DAY: i64 = 86_400;
/// How often everything is looked at when nothing failed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Which webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Name of the ValidatingWebhookConfiguration.
    pub configuration: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the Secret.
    pub secret: String,
    /// Namespace of both.
    pub namespace: String,
}

/// What went wrong in one round.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server refused or is away.
    #[error("the API server did not do it")]
    Api(#[from] kube::Error),
    /// No certificate could be made.
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
}

/// Keeps the certificate.
pub struct Keeper {
    client: Client,
    settings: WebhookSettings,
    looked: Option<Instant>,
}

/// PEM texts of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    certificate: String,
    key: String,
    /// The certificate and the one before.
    bundle: String,
}

impl Keeper {
    /// Begins with nothing known.
    pub fn new(client: Client, settings: WebhookSettings) -> Self {
        Self { client, settings, looked: None }
    }

    /// Looks, at most once a minute, and mends what is missing, too old or different.
    pub async fn keep(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        match self.round().await {
            Ok(()) => self.looked = Some(Instant::now()),
            Err(error) => warn!(error = %chain(&error), "the webhook's certificate could not be kept"),
        }
    }

    async fn round(&self) -> Result<(), KeepError> {
        let WebhookSettings { secret: name, namespace, .. } = &self.settings;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = call(api.get_opt(name)).await?;
        let now = jiff::Timestamp::now().as_second();
        let known = found.as_ref().and_then(read);
        let pair = match known {
            Some(pair) if not_after(&pair.certificate) > now + RENEW_DAYS * DAY && self.covers(&pair) => pair,
            before => {
                let pair = self.make(before.as_ref(), now)?;
                let mut secret = found.clone().unwrap_or_default();
                (secret.metadata.name, secret.metadata.namespace) =
                    (Some(name.clone()), Some(namespace.clone()));
                let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
                let parts =
                    [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &pair.bundle)];
                secret.data = Some(parts.map(|(key, text)| (key.to_owned(), bytes(text))).into());
                if found.is_some() {
                    // Carries the resource version that was read: of two replicas one gets a conflict.
                    call(api.replace(name, &PostParams::default(), &secret)).await?;
                } else {
                    secret.type_ = Some("kubernetes.io/tls".to_owned());
                    call(api.create(&PostParams::default(), &secret)).await?;
                }
                info!(secret = name, "the webhook's certificate was made");
                pair
            }
        };
        self.point(&pair).await
    }

    /// Writes the bundle into every webhook of the configuration.
    async fn point(&self, pair: &Pair) -> Result<(), KeepError> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let name = &self.settings.configuration;
        let Some(found) = call(api.get_opt(name)).await? else {
            warn!(configuration = name, "there is no such webhook configuration");
            return Ok(());
        };
        let bundle = ByteString(pair.bundle.clone().into_bytes());
        let webhooks = found.webhooks.unwrap_or_default();
        if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
            return Ok(());
        }
        let changed: Vec<_> = webhooks
            .iter()
            .map(|webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle } }))
            .collect();
        // Another edit in between is a conflict, and the next round sees it.
        let version = found.metadata.resource_version;
        let patch = json!({ "metadata": { "resourceVersion": version }, "webhooks": changed });
        call(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await?;
        info!(configuration = name, "the API server trusts the webhook's certificate");
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let WebhookSettings { service, namespace, .. } = &self.settings;
        vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}")]
    }

    fn covers(&self, pair: &Pair) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pair.certificate.as_bytes()) else { return false };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return false };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
        let has = |wanted: &String| {
            let mut names = names.value.general_names.iter();
            names.any(|name| matches!(name, GeneralName::DNSName(name) if name == wanted))
        };
        self.names().iter().all(has)
    }

    fn make(&self, before: Option<&Pair>, now: i64) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.names())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Portcullis webhook");
        // Clocks of API servers may be behind.
        let at = |second| {
            let (year, month, day) = day(second);
            date_time_ymd(year, month, day)
        };
        params.not_before = at(now - DAY);
        params.not_after = at(now + VALID_DAYS * DAY);
        let certificate = params.self_signed(&key)?.pem();
        let old = before.map(|pair| pair.certificate.as_str()).filter(|old| not_after(old) > now);
        let bundle = format!("{certificate}{}", old.unwrap_or_default());
        Ok(Pair { certificate, key: key.serialize_pem(), bundle })
    }
}

/// The day of a moment.
fn day(second: i64) -> (i32, u8, u8) {
    let zoned = jiff::Timestamp::from_second(second).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(zoned.year()), part(zoned.month()), part(zoned.day()))
}

fn read(secret: &Secret) -> Option<Pair> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok().filter(|text| !text.is_empty());
    Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")?, bundle: text("ca.crt")? })
}

/// The end of the first certificate of a PEM text; 0 when there is none.
fn not_after(pem: &str) -> i64 {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return 0 };
    X509Certificate::from_der(&der).map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, StatusCode};
    use serde_json::Value;

    use super::super::testing;
    use super::*;

    fn settings() -> WebhookSettings {
        WebhookSettings {
            configuration: "portcullis".to_owned(),
            service: "portcullis-webhook".to_owned(),
            secret: "portcullis-webhook".to_owned(),
            namespace: "edge".to_owned(),
        }
    }

    /// An API server with the webhook configuration and, once it was written, the Secret.
    fn server(secret: Option<Value>) -> (Client, testing::Log) {
        let secret = Arc::new(Mutex::new(secret));
        testing::client(move |seen| {
            let mut secret = secret.lock().expect("lock");
            match (&seen.method, seen.path.contains("/secrets")) {
                (&Method::GET, true) => match &*secret {
                    Some(secret) => (StatusCode::OK, secret.clone()),
                    None => testing::refuse(StatusCode::NOT_FOUND, "NotFound"),
                },
                (_, true) => {
                    *secret = Some(seen.body.clone());
                    (StatusCode::OK, seen.body.clone())
                }
                (&Method::GET, false) => {
                    let webhooks = json!([{ "name": "validate.portcullis.dev", "admissionReviewVersions": ["v1"],
                        "sideEffects": "None", "clientConfig": {} }]);
                    let meta = json!({ "name": "portcullis", "resourceVersion": "7" });
                    (StatusCode::OK, json!({ "metadata": meta, "webhooks": webhooks }))
                }
                _ => (StatusCode::OK, json!({ "metadata": {} })),
            }
        })
    }

    #[tokio::test]
    async fn a_missing_certificate_is_made_and_the_api_server_told_to_trust_it() {
        let (client, log) = server(None);
        let keeper = Keeper::new(client, settings());
        keeper.round().await.unwrap();
        let seen = log.lock().expect("lock").clone();
        let made: Secret = serde_json::from_value(seen[1].body.clone()).unwrap();
        let pair = read(&made).unwrap();
        assert!(keeper.covers(&pair), "{}", pair.certificate);
        let left = not_after(&pair.certificate) - jiff::Timestamp::now().as_second();
        assert!((364 * DAY..=366 * DAY).contains(&left), "{left} s");
        let last = seen.last().unwrap();
        let bundle = &last.body["webhooks"][0]["clientConfig"]["caBundle"];
        assert_eq!(
            (&last.method, *bundle == json!(ByteString(pair.bundle.into_bytes()))),
            (&Method::PATCH, true)
        );
        keeper.round().await.unwrap();
        let again = log.lock().expect("lock").iter().filter(|seen| seen.path.contains("/secrets")).count();
        assert_eq!(again, 3, "a good one is only read");
    }

    #[tokio::test]
    async fn a_renewed_certificate_keeps_the_trust_in_the_one_before() {
        let (client, _) = server(None);
        let keeper = Keeper::new(client, settings());
        let now = jiff::Timestamp::now().as_second();
        let old = keeper.make(None, now - 320 * DAY).unwrap();
        assert!(not_after(&old.certificate) < now + RENEW_DAYS * DAY, "it is due");
        let new = keeper.make(Some(&old), now).unwrap();
        assert_eq!(new.bundle, format!("{}{}", new.certificate, old.certificate));
        let third = keeper.make(Some(&keeper.make(None, now - 2 * 366 * DAY).unwrap()), now).unwrap();
        assert_eq!(third.bundle, third.certificate, "an expired one is not trusted");
    }
}
