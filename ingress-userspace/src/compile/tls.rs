//! TLS settings and the hosts of a listener → its TLS configurations. Hosts with equal settings share one.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::model::host::{Host, HostPattern};
use crate::model::tls::{Ciphers, Tls};
use crate::tls::resolver::CertificateTable;
use crate::tls::server::{Sessions, TlsError, TlsTable, config};

/// The table of one listener.
pub(super) fn table<'a>(
    settings: &Tls,
    hosts: impl Iterator<Item = &'a Host>,
    certificates: CertificateTable,
    sessions: &Sessions,
) -> Result<TlsTable, TlsError> {
    let certificates = Arc::new(certificates);
    let mut table = TlsTable::new(settings, Arc::clone(&certificates), sessions)?;
    let mut made: HashMap<&Ciphers, Arc<ServerConfig>> = HashMap::new();
    for host in hosts {
        let Some(ciphers) = &host.ciphers else { continue };
        let config = match made.get(ciphers) {
            Some(config) => Arc::clone(config),
            None => config(settings, ciphers, &certificates, sessions)?,
        };
        made.insert(ciphers, Arc::clone(&config));
        match &host.pattern {
            HostPattern::Exact(name) => table.insert_exact(name, config),
            HostPattern::Wildcard(suffix) => table.insert_wildcard(suffix, config),
            HostPattern::Any => table.set_default(config),
        }
    }
    Ok(table)
}
