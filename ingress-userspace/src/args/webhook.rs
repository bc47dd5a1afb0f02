//! Flags of the role `webhook`, and of the controller that keeps its certificate.

use std::path::PathBuf;

use clap::Args;

use super::{AdminArgs, LogArgs, SourceArgs};

/// `portcullis webhook`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each field is a group of documented flags")]
pub struct WebhookArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Port for HTTPS, as `:8443` or `8443`; 0: any free one, printed at start.
    #[arg(long, value_name = "PORT", default_value = ":8443", value_parser = webhook_port)]
    pub validating_webhook: u16,
    /// PEM file with its certificate; read again when it changes.
    #[arg(long, value_name = "FILE", default_value = "/etc/portcullis/webhook/tls.crt")]
    pub validating_webhook_certificate: PathBuf,
    /// PEM file with the key of the certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/portcullis/webhook/tls.key")]
    pub validating_webhook_key: PathBuf,
    /// Read ConfigMaps as the controller copied them into this namespace. Secrets are never read.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "manifests")]
    pub sync_namespace: Option<String>,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// ingress-nginx writes an address whose host part is empty.
fn webhook_port(text: &str) -> Result<u16, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    port.parse().map_err(|_invalid| "write a port as :8443".to_owned())
}

/// The webhook's certificate, where the controller makes it.
#[derive(Clone, Debug, Args)]
pub struct WebhookCertificateArgs {
    /// Make and renew the certificate of this ValidatingWebhookConfiguration, and write its `caBundle`.
    #[arg(long, value_name = "NAME", requires_all = ["webhook_service", "webhook_certificate_secret"])]
    pub webhook_configuration: Option<String>,
    /// Service of the webhook, in the namespace of the Lease.
    #[arg(long, value_name = "NAME")]
    pub webhook_service: Option<String>,
    /// Secret for the certificate, in the namespace of the Lease.
    #[arg(long, value_name = "NAME")]
    pub webhook_certificate_secret: Option<String>,
}
